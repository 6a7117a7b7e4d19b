"""Random mixes on one connection: requests, bodies, upgrades, frames, floods, stalls, ends.

Whatever comes, memory stays below that of an idle gateway and a constant for each connection, others are answered, and
nothing that went wrong is in the log. `FULL=1` tries many more mixes, and shrinks what it finds.
"""

import atexit
import contextlib
import os
import socket
import struct
import time
from typing import Literal, NamedTuple

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.flood.clients import frame, handshake, head
from tests.harness import Gateway
from tests.test_http2 import PREFACE
from tests.test_http2 import frame as frame2
from tests.test_scale import rss_mb

FULL = os.environ.get("FULL") == "1"

SPARE = 24
"""Megabytes for one connection, and for what the allocator keeps of those before it."""

FLOOD, STANDSTILL = 2 << 20, 0.3
"""Bytes of a flood at most, and seconds after which one that nobody takes is over."""

PATHS = (
    "/", "/healthz", "/api/v1/tasks", "/api/v1/tasks?id=", "/api/v1/tasks?id=a&id=large", "/api/v1/tasks?wait=1",
    "/api/v1/tasks?limit=1000&status=zzz", "/api/task?task_id=large", "/api/task?task_id=a&wait=1", "/api/task",
    "/api/v1/tasks/none", "/static/gateway.js", "/metrics", "/nowhere",
)  # fmt: skip
LINES = (
    "Accept: text/event-stream", "Accept: application/x-ndjson", "Connection: close", "Connection: keep-alive",
    "Expect: 100-continue", "Upgrade: h2c", "Last-Event-ID: 0-1", 'If-None-Match: "x"', "Cookie: a=" + "x" * 9_000,
    "Host: evil.example", "X-Long: " + "x" * 70_000,
)  # fmt: skip


class Step(NamedTuple):
    """`say` data (again and again, up to `amount` bytes), `hear` or `stall` for so many seconds, or an end."""

    what: Literal["say", "hear", "stall", "half-close", "reset"]
    data: bytes = b""
    amount: float = 0


class Connection:
    """One connection to the gateway; `lasts` until the gateway closes it, or a step does."""

    def __init__(self, one: Gateway) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.socket.connect(("127.0.0.1", one.port))
        self.lasts = True

    def take(self, step: Step) -> None:
        match step.what:
            case "say":
                self.say(step.data, step.amount)
            case "hear":
                self.hear(step.amount)
            case "stall":
                time.sleep(step.amount)
            case "half-close":
                self.half_close()
            case "reset":
                self.reset()

    def say(self, data: bytes, most: float = 0) -> None:
        """Says it once, or again and again up to so many bytes; leaves off where it is not taken."""
        self.socket.settimeout(0.05)
        size, view = max(len(data), most), memoryview(data)
        sent, taken = 0, time.monotonic()
        while sent < size and time.monotonic() < taken + STANDSTILL and self.lasts:
            with contextlib.suppress(TimeoutError):
                try:
                    sent += self.socket.send(view[sent % len(data) :])
                except OSError:
                    self.lasts = False
                taken = time.monotonic()

    def hear(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.lasts and time.monotonic() < end:
            self.socket.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                try:
                    self.lasts = bool(self.socket.recv(65_536))
                except OSError:
                    self.lasts = False

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.lasts = False


# What is said


def body(parts: tuple[str, str, bytes, bool]) -> bytes:
    """A request with a body, or with part of it."""
    method, path, content, chunked = parts
    if chunked:
        return head(path, "Transfer-Encoding: chunked", method=method) + b"%x\r\n%b\r\n" % (len(content) or 1, content)
    return head(path, f"Content-Length: {len(content) + 3}", method=method) + content


def cut(parts: tuple[bytes, int, bytes]) -> bytes:
    """Something with something odd in its midst."""
    whole, at, odd = parts
    at %= len(whole) + 1
    return whole[:at] + odd + whole[at:]


paths = st.sampled_from(PATHS)
lines = st.lists(st.sampled_from(LINES), max_size=2)
short = st.binary(max_size=130)
ids = ",".join(['"large"'] * 900)
messages = st.sampled_from(
    [b"{}", b'{"type":"subscribe","ids":["a","large"]}', b'{"type":"subscribe","ids":[%b]}' % ids.encode(),
     b'{"type":"unsubscribe","ids":["a"]}', b'{"type":"ping"}', b"[" * 60_000, b"x" * 70_000, b"\xff"]
)  # fmt: skip
requests = st.builds(lambda path, more, times: head(path, *more) * times, paths, lines, st.integers(1, 20))
bodies = st.tuples(st.sampled_from(["GET", "POST", "HEAD"]), paths, short, st.booleans()).map(body)
upgrades = st.builds(lambda path, more: handshake(path, *more), paths, lines)
frames = st.one_of(
    st.builds(
        lambda opcode, payload, fin, reserved: frame(opcode, payload, fin=fin, reserved=reserved),
        st.integers(0, 15), short, st.booleans(), st.sampled_from([0, 0, 0, 0, 1, 4]),
    ),
    st.builds(frame, st.sampled_from([1, 2]), messages),
    st.sampled_from([frame(8, b"\x03\xe8"), frame(9, b"p" * 125), frame(1, fin=False), frame(0, fin=False)]),
)  # fmt: skip
frames2 = st.one_of(
    st.builds(frame2, st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), short),
    st.builds(lambda n: frame2(1, 5, 2 * n + 1, b"\x82\x84\x86\x41\x09localhost"), st.integers(0, 9)),
    st.sampled_from([frame2(4, 0, 0), frame2(6, 0, 0, b"12345678"), frame2(8, 0, 0, b"\0\0\x10\0")]),
    st.sampled_from([frame2(4, 0, 0, struct.pack("!HI", 4, 0)), frame2(3, 0, 1, b"\0\0\0\x08")]),
)

http1 = st.one_of(requests, bodies)
broken = st.builds(lambda *parts: cut(parts), st.one_of(http1, upgrades), st.integers(0, 500), short)

stalls = st.sampled_from([Step("stall", amount=seconds) for seconds in (0, 0.05, 0.3)])
hears = st.sampled_from([Step("hear", amount=seconds) for seconds in (0.01, 0.1)])
ends = st.sampled_from([Step("half-close"), Step("reset")])


def said(what: st.SearchStrategy[bytes]) -> st.SearchStrategy[Step]:
    return st.builds(Step, st.just("say"), what.filter(bool), st.sampled_from([0, 0, FLOOD]))


def mix(begins: st.SearchStrategy[bytes], goes_on: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[Step]]:
    steps = st.lists(st.one_of(said(goes_on), said(goes_on), stalls, hears, ends), min_size=1, max_size=8)
    return st.builds(lambda data, others: [Step("say", data), *others], begins, steps)


mixes = st.one_of(
    mix(http1, st.one_of(http1, http1, broken)),
    mix(http1, st.one_of(http1, upgrades, frames)),
    mix(upgrades, frames),
    mix(upgrades, st.one_of(frames, frames, short)),
    mix(st.just(PREFACE), frames2),
    mix(broken, st.one_of(http1, frames, frames2)),
)

# What stays so


class Shared:
    """One gateway for all mixes; another after one that was too much for it."""

    def __init__(self) -> None:
        self._one: Gateway | None = None
        self._base = 0.0

    def gateway(self) -> Gateway:
        if self._one is None:
            self._one = Gateway("--http2", "--head-deadline", "3", "--write-deadline", "3", "--task-wait", "0.5")
            self._one.write("a")
            self._one.write("large", message="x" * 60_000)
            for path in (*PATHS, *PATHS):
                self._one.get(path)
            self._base = rss_mb(self._one.process.pid)
        return self._one

    def check(self) -> None:
        one = self.gateway()
        assert one.process.poll() is None
        assert one.get("/healthz").status_code == 200
        assert one.get("/api/task?task_id=a").status_code == 200
        wrong = [n for n, line in enumerate(one.lines) if "Traceback" in line or "ERROR" in line]
        assert not wrong, "".join(one.lines[wrong[0] : wrong[0] + 80])
        grown = rss_mb(one.process.pid) - self._base
        assert grown <= SPARE, f"memory grew by {grown:.0f} MB"

    def end(self) -> None:
        if self._one:
            with contextlib.suppress(Exception):  # it may have hung: then the test has said why
                self._one.close()
        self._one = None


shared = Shared()
atexit.register(shared.end)


@pytest.mark.timeout(3_600 if FULL else 200)
@settings(
    max_examples=3_000 if FULL else 120,
    phases=[Phase.generate, Phase.shrink] if FULL else [Phase.generate],
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
@given(mixes)
def test_any_mix_on_one_connection(steps: list[Step]) -> None:
    connection = Connection(shared.gateway())
    try:
        for step in steps:
            if connection.lasts:
                connection.take(step)
        shared.check()  # while it is still there
        connection.socket.close()
        shared.check()
    except (AssertionError, httpx.HTTPError):
        shared.end()
        raise
    finally:
        connection.socket.close()
