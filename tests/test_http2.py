"""HTTP/2 beside HTTP/1.1 on one port: curl, a client that behaves badly, and a browser."""

import contextlib
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser
from websockets.sync.client import connect

from gateway.settings import Settings
from tests.harness import Backend, Gateway, free_port, require, until
from tests.http2client import Client
from tests.test_access import SECRET, token
from tests.test_operations import figures
from tests.test_scale import rss_mb
from tests.test_transport import make_certificate

Start = Callable[..., Gateway]

PRIOR, SECURE = "--http2-prior-knowledge", "--http2"


@pytest.fixture(scope="module")
def plain() -> Iterator[Gateway]:
    with Gateway("--http2", "--task-wait", "1", "--heartbeat", "1") as running:
        running.tasks.mkdir()
        yield running


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder, "localhost")
    with Gateway("--http2", "--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")) as running:
        running.tasks.mkdir()
        yield running


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    running = Backend("tests.backend")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def front(backend: Backend) -> Iterator[Gateway]:
    options = ["--upstream", backend.url, "--upstream-tasks", "off", "--write-deadline", "1", "--grace", "1"]
    with Gateway("--http2", *options) as running:
        yield running


def curl(one: Gateway, path: str, *options: str, how: str = PRIOR) -> tuple[str, str, dict[str, str], str]:
    """The HTTP version, the status, the headers and the body."""
    url = f"{'https' if how == SECURE else 'http'}://127.0.0.1:{one.port}{path}"
    argv = [require("curl"), "-sk", "--max-time", "5", how, "-D", "/dev/stderr", *options, url]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    first, *lines = done.stderr.strip().splitlines()
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    return first.split()[0], first.split()[1], headers, done.stdout


def subscribers(one: Gateway) -> float:
    return sum(value for name, value in figures(one).items() if name.startswith("gateway_subscribers"))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)


# What is asked for in the usual ways


@pytest.mark.parametrize("how", [PRIOR, SECURE])
def test_polls_by_curl(plain: Gateway, secure: Gateway, name: str, how: str) -> None:
    one = secure if how == SECURE else plain
    one.write(name, progress=42)
    path = f"/api/task?task_id={name}"
    version, status, headers, body = curl(one, path, how=how)
    assert (version, status, json.loads(body)["progress"]) == ("HTTP/2", "200", 42)
    assert (headers["content-type"], headers["vary"]) == ("application/json", "Accept, Origin")
    again = curl(one, path, "-H", f"If-None-Match: {headers['etag']}", how=how)
    assert (again[1], again[3]) == ("304", "")
    _, status, head, body = curl(one, path, "--head", how=how)
    assert (status, head["content-length"]) == ("200", headers["content-length"])
    assert curl(one, "/api/task?task_id=none", how=how)[1] == "404"
    assert curl(one, path, "-d", "x", how=how)[1] == "405"
    assert curl(one, "/", how=how)[3].startswith("<!doctype html>")


@pytest.mark.parametrize("how", [PRIOR, SECURE])
def test_streams_by_curl(plain: Gateway, secure: Gateway, name: str, how: str) -> None:
    one = secure if how == SECURE else plain
    one.write(name, "success", progress=100)
    version, status, headers, body = curl(one, f"/api/v1/tasks/{name}", "-H", "Accept: text/event-stream", how=how)
    assert (version, status) == ("HTTP/2", "200")
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    lines = body.splitlines()
    assert lines[0].startswith("retry: ")
    assert any(line.startswith("data: ") and '"success"' in line for line in lines)
    *_, body = curl(one, f"/api/v1/tasks/{name}", "-H", "Accept: application/x-ndjson", how=how)
    assert [json.loads(line)["task"]["payload"]["status"] for line in body.splitlines() if line] == ["completed"]


def test_http_1_clients_see_no_difference(plain: Gateway, secure: Gateway, name: str) -> None:
    plain.write(name)
    answer = plain.get(f"/api/task?task_id={name}")
    assert (answer.http_version, answer.status_code) == ("HTTP/1.1", 200)
    with plain.sse(f"/api/task?task_id={name}") as events:
        assert next(events).event == "message"
    with connect(f"ws://127.0.0.1:{plain.port}/api/v1/tasks?id={name}") as talking:
        assert json.loads(talking.recv(5))["type"] == "task"
    offered = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    options = [part for header in offered for part in ("-H", header)]
    assert curl(plain, "/healthz", *options, how="--http1.1")[:2] == ("HTTP/1.1", "200")  # no upgrade in the midst
    old = httpx.get(f"https://127.0.0.1:{secure.port}/healthz", verify=False)
    assert (old.http_version, old.status_code) == ("HTTP/1.1", 200)
    with socket.create_connection(("127.0.0.1", plain.port), 5) as raw:
        for part in (b"P", b"OST /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"):  # begins as a preface does
            raw.sendall(part)
            time.sleep(0.05)
        assert raw.recv(100).startswith(b"HTTP/1.1 405")


def test_a_hundred_streams_on_one_connection(plain: Gateway, name: str) -> None:
    plain.write(name, progress=1)
    with Client(plain) as client:
        streams = [client.sse(f"/api/v1/tasks?id={name}") for _ in range(100)]
        client.read(lambda: all(b"synced" in client.bodies[s] for s in streams))
        assert subscribers(plain) == 100
        plain.write(name, progress=77)
        client.read(lambda: all(b'"progress":77' in client.bodies[s] for s in streams))
        assert client.answer(client.ask(f"/api/task?task_id={name}"))[0] == "200"
        for stream in streams[:50]:
            client.reset(stream)
        until(lambda: subscribers(plain) == 50)
        plain.write(name, progress=78)
        client.read(lambda: all(b'"progress":78' in client.bodies[s] for s in streams[50:]))
        client.read(lambda: any(client.bodies[s].endswith(b":\n") for s in streams[50:]))  # a heartbeat
    until(lambda: subscribers(plain) == 0)


def test_long_polls_come_at_the_change_and_end_with_their_stream(plain: Gateway, name: str) -> None:
    plain.write(name, progress=1)
    with Client(plain) as client:
        waiting, leaving = (client.ask(f"/api/task?task_id={name}&wait=30") for _ in range(2))
        until(lambda: subscribers(plain) == 2)
        client.reset(leaving)
        until(lambda: subscribers(plain) == 1)
        plain.write(name, progress=2)
        status, body = client.answer(waiting)
        assert (status, json.loads(body)["progress"]) == ("200", 2)
    until(lambda: subscribers(plain) == 0)


def test_a_connection_is_replaced_before_its_parser_takes_it_for_a_flood(plain: Gateway, name: str) -> None:
    plain.write(name, progress=1)
    with Client(plain) as asking, Client(plain) as leaving:
        lasting = [client.sse(f"/api/v1/tasks?id={name}") for client in (asking, leaving)]
        for client, stream in zip((asking, leaving), lasting, strict=True):
            client.read(lambda: b"synced" in client.bodies[stream])  # noqa: B023
        asked = 0
        while asking.goodbye is None:  # zttp's limit is 4,096
            streams = [asking.ask(f"/api/task?task_id={name}") for _ in range(50)]
            asking.read(lambda: asking.ended.issuperset(streams))  # noqa: B023
            asked += len(streams)
        assert 2_600 < asked < 3_600
        assert asking.goodbye == 0
        for _ in range(4):  # its limit is 256; 120 that are open when the goodbye comes
            streams = [leaving.sse(f"/api/v1/tasks?id={name}") for _ in range(60)]
            for stream in streams:
                leaving.reset(stream)
        leaving.read(lambda: leaving.goodbye == 0)
        plain.write(name, progress=2)
        for client, stream in zip((asking, leaving), lasting, strict=True):
            client.read(lambda: b'"progress":2' in client.bodies[stream])  # noqa: B023
    until(lambda: subscribers(plain) == 0)


# Who may


def test_the_gate_asks_for_the_same(start: Start) -> None:
    one = start("--http2", env={"GATEWAY_AUTH_SECRET": SECRET})
    one.write("a")
    path, bearer = "/api/task?task_id=a", ("authorization", f"Bearer {token()}")
    with Client(one) as client:
        assert client.answer(client.ask(path))[0] == "401"
        assert client.answer(client.ask(path, bearer))[0] == "200"
        crumbs = [("cookie", "a=1"), ("cookie", f"gateway_token={token()}"), ("cookie", "b=2")]
        assert client.answer(client.ask(path, *crumbs))[0] == "200"  # each cookie in a field of its own
        for origin, trusted in (("https://evil.example", False), ("http://localhost:3000", True)):
            stream = client.ask(path, bearer, ("origin", origin))
            client.answer(stream)
            assert (client.heads[stream].get("access-control-allow-origin") == origin) is trusted
        assert client.answer(client.ask(path, *crumbs, ("origin", "https://evil.example")))[0] == "401"
        client.authority = "evil.example"
        assert client.answer(client.ask(path, bearer))[0] == "421"
        double = client.ask(path, bearer, ("host", "localhost"))
        client.read(lambda: double in client.resets)


@pytest.mark.parametrize("target", ["http://localhost/healthz", "*", "/a b", "/\u00fc", "/api/task?task_id=\u00fc"])
def test_a_target_that_is_no_path_is_refused_alone(plain: Gateway, target: str) -> None:
    with Client(plain) as client:
        stream = client.ask(target)
        client.read(lambda: client.resets.get(stream) == 1)
        tunnel = client.ask("/", method="CONNECT")
        client.read(lambda: tunnel in client.resets)
        assert client.answer(client.ask("/healthz"))[0] == "200"


# Limits


def test_streams_over_the_limit_are_refused_and_polls_are_not(start: Start) -> None:
    one = start("--http2", "--max-streams", "2")
    one.write("a")
    with Client(one) as client:
        held = [client.sse("/api/v1/tasks") for _ in range(2)]
        client.read(lambda: all(client.bodies[s] for s in held))
        status, body = client.answer(client.sse("/api/v1/tasks"))
        assert (status, json.loads(body)) == ("503", {"error": "Too many streams are open"})
        assert client.answer(client.ask("/api/task?task_id=a"))[0] == "200"
        client.reset(held[0])
        until(lambda: subscribers(one) == 1)
        again = client.sse("/api/v1/tasks")
        client.read(lambda: client.bodies[again])


def test_a_large_head_is_refused_alone_and_a_huge_one_with_its_connection(start: Start) -> None:
    one = start("--http2", "--max-head", "2000")
    with Client(one) as client:
        assert client.answer(client.ask("/healthz", ("x-large", "x" * 3000)))[0] == "431"
        assert client.answer(client.ask("/healthz", ("x-large", "x" * 1000)))[0] == "200"
        client.ask("/healthz", *[(f"x-{n}", "x" * 2000) for n in range(100)])
        client.read(lambda: client.closed)


def test_who_asks_for_nothing_is_sent_away_whatever_else_is_said(start: Start) -> None:
    one = start("--http2", "--head-deadline", "0.6")
    one.write("a")
    half = frame(1, 1, 1, b"\x82")  # HEADERS, to be continued
    for said in (b"", frame(6, 0, 0, b"12345678"), half):
        with socket.create_connection(("127.0.0.1", one.port), 5) as raw:
            started = time.monotonic()
            raw.sendall(PREFACE + said)
            raw.settimeout(0.2)
            while True:
                try:
                    if not raw.recv(65_536):
                        break
                except TimeoutError:
                    assert time.monotonic() - started < 5
                    if said is not half:
                        raw.sendall(said)
            assert time.monotonic() - started > 0.5
    with socket.create_connection(("127.0.0.1", one.port), 5) as raw:
        raw.sendall(PREFACE[:10])
        assert raw.recv(100).startswith(b"HTTP/1.1 408")
    with Client(one) as client:
        stream = client.sse("/api/v1/tasks")
        client.read(lambda: b"synced" in client.bodies[stream])
        time.sleep(1)  # the deadline is the head's, not the stream's
        one.write("a", progress=3)
        client.read(lambda: b'"progress":3' in client.bodies[stream])


def test_a_stalled_stream_holds_up_no_other_and_is_ended(start: Start) -> None:
    one = start("--http2", "--write-deadline", "3", "--heartbeat", "1")
    one.write("a")
    before = rss_mb(one.process.pid)
    with Client(one, window=4_000) as client:
        stalled = client.sse("/api/v1/tasks")
        client.stalled.add(stalled)
        lively = client.sse("/api/v1/tasks")
        client.read(lambda: all(client.bodies[s] for s in (stalled, lively)))
        large = "x" * 50_000
        n, end = 0, time.monotonic() + 2
        while time.monotonic() < end:
            n += 1
            one.write("a", message=f"{n}-{large}")
            client.read(lambda: f'"message":"{n}-'.encode() in client.bodies[lively])  # noqa: B023
            client.bodies[lively].clear()
        assert n > 40
        assert len(client.bodies[stalled]) <= 4_000
        assert rss_mb(one.process.pid) - before < 20
        client.read(lambda: client.resets.get(stalled) == 8)
        assert subscribers(one) == 1
        one.write("a", message="last")
        client.read(lambda: b'"message":"last"' in client.bodies[lively])


def test_a_slow_stream_gets_the_newest_state_when_it_reads_again(plain: Gateway, name: str) -> None:
    with Client(plain, window=4_000) as client:
        slow = client.sse(f"/api/v1/tasks?id={name}")
        client.stalled.add(slow)
        for n in range(1, 101):
            plain.write(name, progress=n, message="x" * 1_000)
            until(lambda: json.loads(plain.get(f"/api/task?task_id={name}").text)["progress"] == n)  # noqa: B023
        client.stalled.clear()
        client.wire.increment_flow_control_window(1 << 20, slow)
        client.flush()
        client.read(lambda: b'"progress":100' in client.bodies[slow])
        told = client.bodies[slow].count(b'data: {"id"')
        assert told < 60  # what was missed between is left out


def test_a_connection_that_reads_nothing_is_closed(start: Start) -> None:
    one = start("--http2", "--write-deadline", "2")
    before = rss_mb(one.process.pid)
    with Client(one, window=1 << 30) as client:
        streams = [client.sse("/api/v1/tasks") for _ in range(20)]
        client.read(lambda: all(b"synced" in client.bodies[s] for s in streams))
        n = 0

        def gone() -> bool:
            nonlocal n
            n += 1
            one.write("a", progress=n, message="x" * 60_000)
            time.sleep(0.01)
            return subscribers(one) == 0

        until(gone, 20)
        assert rss_mb(one.process.pid) - before < 30


def test_an_answer_that_is_not_taken_is_held_back_and_cut(front: Gateway, backend: Backend) -> None:
    one = front
    before = rss_mb(one.process.pid)
    with Client(one) as client:
        large = [client.ask("/large?megabytes=100") for _ in range(4)]
        client.stalled.update(large)
        client.read(lambda: all(len(client.bodies[s]) > 60_000 for s in large))
        assert client.answer(client.ask("/kilobyte")) == ("200", b"m" * 1024)
        client.read(lambda: all(client.resets.get(s) == 8 for s in large))
        assert rss_mb(one.process.pid) - before < 20
        whole = client.ask("/large?megabytes=3")
        assert client.answer(whole) == ("200", b"m" * (3 << 20))
        half = client.ask("/half")
        client.read(lambda: half in client.resets)
        assert client.bodies[half] == b"half"
        endless = client.ask("/endless")
        client.read(lambda: client.bodies[endless])
        client.reset(endless)
        until(lambda: httpx.get(f"{backend.url}/open").json() == 0)


def test_what_is_sent_to_a_backend_arrives(front: Gateway, backend: Backend, tmp_path: Path) -> None:
    one = front
    (tmp_path / "large").write_bytes(b"z" * 3_000_000)
    *_, size = curl(one, "/count", "--data-binary", f"@{tmp_path / 'large'}")
    assert size == "3000000"
    *_, size = curl(one, "/count", "-T", str(tmp_path / "large"), "-H", "Content-Length:")
    assert size == "3000000"
    asked = json.loads(curl(one, "/x?a=%20b", "-X", "DELETE", "-H", "Cookie: a=1")[3])
    assert (asked["method"], asked["path"], asked["headers"]["cookie"]) == ("DELETE", "/x?a=%20b", "a=1")
    assert asked["headers"]["host"] == f"127.0.0.1:{backend.port}"


def test_a_body_that_nobody_takes_holds_up_its_connection_for_a_while_only(front: Gateway) -> None:
    with Client(front) as client:
        upload = client.ask("/silent", method="POST", ends=False)
        with contextlib.suppress(TimeoutError):
            while True:
                client.read(lambda: client.wire.local_flow_control_window(upload), 0.5)
                client.wire.send_data(upload, b"x" * min(client.wire.local_flow_control_window(upload), 16_384))
                client.flush()
        poll = client.ask("/healthz")
        assert poll not in client.ended
        assert client.answer(poll)[0] == "200"
        assert client.resets[upload] == 8


# What does no harm


FLOODS = {
    "no preface": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    "no settings": PREFACE[:24] + b"GET / HTTP/1.1\r\n\r\n",
    "a frame that is too large": PREFACE + frame(0, 0, 1, b"x" * 20_000),
    "data on no stream": PREFACE + frame(0, 0, 1, b"x"),
    "headers that cannot be read": PREFACE + frame(1, 5, 1, b"\xff" * 20),
    "a window that overflows": PREFACE + frame(8, 0, 0, struct.pack("!I", 0x7FFFFFFF)),
    "resets": PREFACE
    + b"".join(frame(1, 5, n, b"\x82\x84\x86\x41\x01a") + frame(3, 0, n, b"\0\0\0\x08") for n in range(1, 20_000, 2)),
    "continuations": PREFACE + frame(1, 1, 1, b"\x82") + frame(9, 0, 1, b"\0" * 16_000) * 200,
    "goodbye": PREFACE + frame(7, 0, 0, b"\0" * 8),
}


@pytest.mark.parametrize("said", FLOODS.values(), ids=FLOODS.keys())
def test_bad_connections_are_closed_and_the_others_go_on(plain: Gateway, said: bytes, name: str) -> None:
    plain.write(name, progress=1)
    with Client(plain) as other:
        stream = other.sse(f"/api/v1/tasks?id={name}")
        other.read(lambda: b"synced" in other.bodies[stream])
        with socket.create_connection(("127.0.0.1", plain.port), 10) as raw:
            try:
                raw.sendall(said)
                while raw.recv(65_536):
                    pass
            except ConnectionError:
                pass
        plain.write(name, progress=2)
        other.read(lambda: b'"progress":2' in other.bodies[stream])
    assert not [line for line in plain.lines if "Traceback" in line]
    until(lambda: subscribers(plain) == 0)


def test_pings_whose_answers_nobody_reads_are_not_kept(start: Start) -> None:
    one = start("--http2")
    before = rss_mb(one.process.pid)
    with socket.create_connection(("127.0.0.1", one.port), 5) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        raw.settimeout(1)
        sent = 0
        raw.sendall(PREFACE)
        with contextlib.suppress(TimeoutError):  # it is not read any more
            while sent < 200 << 20:
                sent += raw.send(frame(6, 0, 0, b"12345678") * 4_000)
        assert sent < 200 << 20
        assert rss_mb(one.process.pid) - before < 20
        assert one.get("/healthz").status_code == 200


def test_streams_are_told_at_the_end_and_it_does_not_wait_for_who_stalls(start: Start) -> None:
    one = start("--http2", "--grace", "2")
    one.write("a", message="x" * 9_000)
    with Client(one, window=4_000) as client, Client(one) as other:
        stalled = client.sse("/api/v1/tasks")
        client.stalled.add(stalled)
        streams = [client.sse("/api/v1/tasks") for _ in range(50)]
        client.read(lambda: all(b"synced" in client.bodies[s] for s in streams))
        waiting = [one.ask("/api/task?task_id=a&wait=30") for one in (client, other)]
        until(lambda: subscribers(one) == 53)
        started = time.monotonic()
        one.process.terminate()
        client.read(lambda: {*streams, waiting[0]} <= client.ended)
        assert all(b"retry: " in client.bodies[stream] for stream in streams)
        assert client.bodies[waiting[0]].endswith(b"}")
        other.read(lambda: other.closed)
        assert waiting[1] in other.ended
        assert other.goodbye == 0
        assert one.process.wait(10) == 0
    assert 1.5 < time.monotonic() - started < 4  # as long as the grace, for the one that stalls


# A browser


SUBSCRIBE = """async ([id, n]) => {
  const sources = Array.from({ length: n }, () => new EventSource(`/api/v1/tasks?id=${id}`));
  await Promise.all(sources.map((s) => new Promise((resolve) => s.addEventListener("synced", resolve))));
  window.seen = Promise.all(sources.map((s) => new Promise((resolve) => (s.onmessage = (e) => resolve(e.data)))));
  window.leave = () => sources.forEach((s) => s.close());
  const poll = await (await fetch("/healthz", { cache: "no-store" })).json();
  const entry = performance.getEntriesByType("resource").find((e) => e.name.endsWith("/healthz"));
  return [poll.alive, entry.nextHopProtocol, performance.getEntriesByType("navigation")[0].nextHopProtocol];
}"""

COME_AND_GO = """async ([id, n]) => {
  const open = () => new Promise((resolve, reject) => {
    const source = new EventSource(`/api/v1/tasks?id=${id}`);
    source.addEventListener("synced", () => resolve(source));
    source.onerror = () => source.readyState === EventSource.CLOSED && reject(new Error("lost"));
  });
  const lasting = await open();
  let lost = 0;
  lasting.onerror = () => lost++;
  for (let i = 0; i < n; i += 10) for (const s of await Promise.all(Array.from({ length: 10 }, open))) s.close();
  window.told = new Promise((resolve) => (lasting.onmessage = (e) => resolve([JSON.parse(e.data).progress, lost])));
}"""

CONVERSE = """(id) => new Promise((resolve) => {
  const socket = new WebSocket(`wss://${location.host}/api/v1/tasks?id=${id}`);
  socket.onmessage = ({ data }) => (socket.close(), resolve(JSON.parse(data).type));
  socket.onerror = () => resolve("failed");
})"""


def test_twenty_event_sources_and_a_web_socket_in_a_browser(secure: Gateway, browser: Browser, name: str) -> None:
    secure.write(name, progress=1)
    context: Any = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(f"https://127.0.0.1:{secure.port}/static/gateway.js")
    assert page.evaluate(SUBSCRIBE, [name, 20]) == [True, "h2", "h2"]
    secure.write(name, progress=64)
    assert [json.loads(data)["progress"] for data in page.evaluate("window.seen")] == [64] * 20
    assert page.evaluate(CONVERSE, name) == "task"  # over a connection of its own, as HTTP/1.1
    page.evaluate("window.leave()")
    assert page.evaluate("fetch('/healthz').then((r) => r.status)") == 200
    context.close()


def test_a_page_that_opens_and_closes_hundreds_loses_none(secure: Gateway, browser: Browser, name: str) -> None:
    secure.write(name, progress=1)
    context: Any = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(f"https://127.0.0.1:{secure.port}/static/gateway.js")
    page.evaluate(COME_AND_GO, [name, 400])
    secure.write(name, progress=65)
    assert page.evaluate("window.told") == [65, 0]
    context.close()


# Where it is not there


def test_a_gateway_without_the_extra_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide = "import sys; sys.modules['zttp'] = None; from gateway.cli import main; main()"
    argv = [sys.executable, "-c", hide, "serve", "--data-path", str(tmp_path), "--bind", f"127.0.0.1:{free_port()}"]
    done = subprocess.run([*argv, "--http2"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--http2 (GATEWAY_HTTP2): needs zttp: pip install 'task-gateway[http2]'" in " ".join(done.stderr.split())
    monkeypatch.delenv("GATEWAY_HTTP2", raising=False)
    assert Settings(data_path=tmp_path).http2 is False


def test_without_the_option_it_is_not_spoken(start: Start) -> None:
    one = start()
    with socket.create_connection(("127.0.0.1", one.port), 5) as raw:
        raw.sendall(PREFACE)
        assert raw.recv(100).startswith(b"HTTP/1.1 ")
