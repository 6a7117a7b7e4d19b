"""Faults that must cost nothing but time. Real servers, files and sockets; `FULL=1` runs them at their full size."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.harness import Gateway, flat, free_port, require, until
from tests.soak import Soak
from tests.test_operations import figures
from tests.test_scale import rss_mb

FULL = os.environ.get("FULL") == "1"
SSE = b"GET %b HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"


def descriptors(one: Gateway) -> int:
    return len(list(Path(f"/proc/{one.process.pid}/fd").iterdir()))


def synced(one: Gateway, path: str = "/api/v1/tasks", **options: int) -> socket.socket:
    """A raw subscription, read up to where it is live."""
    s = socket.socket()
    for name, value in options.items():
        s.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    s.settimeout(20)
    s.connect(("127.0.0.1", one.port))
    s.sendall(SSE % path.encode())
    seen = b""
    while b"event: synced" not in seen:
        part = s.recv(1 << 16)
        assert part, seen
        seen += part
    return s


def test_an_overflow_of_the_watchers_queue(start: Callable[..., Gateway]) -> None:
    """The kernel drops hints once its queue is full; nobody is told. Fifty thousand writes while the gateway sleeps."""
    one = start("--reconcile", "1")
    ids = [f"t{n}" for n in range(1_000)]
    for id in ids:
        one.write(id, progress=0)
    with one.sse("/api/v1/tasks") as events:
        while next(events).event != "synced":
            pass
        one.process.send_signal(signal.SIGSTOP)
        for n in range(50):
            for id in ids:
                one.write(id, progress=n + 1)
        one.process.send_signal(signal.SIGCONT)
        held: dict[str, int] = {}
        while len(held) < len(ids) or set(held.values()) != {50}:
            event = next(events)
            if event.event == "message":
                item = json.loads(event.data)
                held[item["id"]] = item["progress"]
    assert figures(one)["gateway_events_total"] >= 1_000


@pytest.mark.timeout(120)
def test_twenty_kills_lose_nothing() -> None:
    """Five kinds of clients follow each task through `kill -9` and SIGTERM; each must see its end."""

    async def scenario() -> Soak:
        soak = Soak(kill_every=0.7)
        assert await soak.run(0.4, kills=20) == 0, soak.wrong
        return soak

    soak = asyncio.run(scenario())
    assert soak.kills >= 20
    assert soak.lost == 0


@pytest.mark.timeout(120)
def test_sigterm_with_a_thousand_streams(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a")
    one.get("/api/task?task_id=a")
    streams = [synced(one) for _ in range(1_000)]
    with ThreadPoolExecutor(101) as pool:
        waiting = [pool.submit(one.get, "/api/task?task_id=a&wait=50") for _ in range(100)]
        until(lambda: figures(one).get("gateway_subscribers/long-poll", 0) == 100)
        began = time.monotonic()
        one.process.send_signal(signal.SIGTERM)
        assert {answer.result(10).status_code for answer in waiting} == {200}
    retries = set()
    for s in streams:
        with s:
            last = b"".join(iter(lambda s=s: s.recv(1 << 16), b""))  # type: ignore[misc]
        assert last.endswith(b"0\r\n\r\n")
        retries.add(last[last.index(b"retry: ") :])
    assert one.process.wait(10) == 0
    assert time.monotonic() - began < 5
    assert len(retries) > 300  # spread, so that they do not all come back at once
    with pytest.raises(httpx.ConnectError):
        one.get("/")


def test_a_second_signal_ends_it_at_once(start: Callable[..., Gateway]) -> None:
    one = start("--grace", "30")
    one.write("a", message="x" * 60_000)
    one.get("/api/task?task_id=a")
    stalled = synced(one, SO_RCVBUF=4096)
    for n in range(300):  # more than the kernel takes: its last words cannot be said
        one.write("a", progress=n, message="x" * 60_000)
        one.get("/api/task?task_id=a")
    one.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        one.process.wait(1)
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(2) == 0
    stalled.close()


def crowd(one: Gateway, ids: list[str], *, count: int, rate: int, seconds: float) -> tuple[dict[str, float], float]:
    """What `count` subscribers of everything saw of `rate` changes a second, and the most memory meanwhile (MB)."""
    plan = {"port": one.port, "count": count, "path": "/api/v1/tasks", "transport": "sse"}
    with subprocess.Popen(
        [sys.executable, "-m", "gateway.bench.subscribers", json.dumps(plan)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as subscribers:
        assert subscribers.stdin
        assert subscribers.stdout
        assert subscribers.stdout.readline()
        subscribers.stdin.write("\n")
        subscribers.stdin.flush()
        began, n, most = time.monotonic(), 0, 0.0
        while (now := time.monotonic() - began) < seconds:
            while n < now * rate:
                one.write(ids[n % len(ids)], progress=n % 100, data={"ts": time.time_ns(), "pad": "x" * 1_900})
                n += 1
            most = max(most, rss_mb(one.process.pid))
            time.sleep(0.002)
        subscribers.stdin.close()
        seen: dict[str, float] = json.loads(subscribers.stdout.readline())
        return {"written": n, **seen}, most


@pytest.mark.timeout(300)
def test_half_of_the_readers_stall(start: Callable[..., Gateway]) -> None:
    """Memory stays flat, the others are served, and the stalled ones end right when they read again."""
    half, seconds, rate = (500, 59, 1_000) if FULL else (100, 4, 300)
    one = start()
    ids = [f"t{n}" for n in range(50)]
    for id in ids:
        one.write(id)
    until(lambda: figures(one)["gateway_watching"] == 1)  # the folder has just come
    alone, _ = crowd(one, ids, count=half, rate=rate, seconds=min(seconds, 10))
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(synced(one, SO_RCVBUF=65_536)) for _ in range(half)]
        before = rss_mb(one.process.pid)
        beside, most = crowd(one, ids, count=half, rate=rate, seconds=seconds)
        print(f"memory {before:.0f} to {most:.0f} MB\nwithout stalled ones: {alone}\nwith them: {beside}")
        assert most - before < 60
        assert beside["events"] > 0.9 * beside["written"] * half
        for id in ids:
            one.write(id, "success", 100)
        one.write("last")
        began, waits = time.monotonic(), []
        with ThreadPoolExecutor(len(stalled)) as pool:  # all read again at once
            for ends in pool.map(lambda s: read_until(s, b'"id":"last"'), stalled):
                waits.append(time.monotonic() - began)
                assert ends.count(b'"status":"completed"') == len(ids)
        print(f"the stalled ones were up to date after {max(waits):.2f} s")


def read_until(s: socket.socket, end: bytes) -> bytes:
    seen = b""
    while end not in seen:
        part = s.recv(1 << 20)
        assert part
        seen += part
    return seen


def test_when_descriptors_are_used_up_others_are_served_later(start: Callable[..., Gateway]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    one = start()
    one.write("a")
    resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (40, hard))
    held = [socket.create_connection(("127.0.0.1", one.port), 5) for _ in range(100)]
    one.write("a", progress=60)
    for s in held:
        s.close()
    until(lambda: descriptors(one) < 35)
    assert one.get("/api/task?task_id=a").json()["progress"] == 60
    with one.sse("/api/task?task_id=a") as events:
        assert json.loads(next(events).data)["progress"] == 60
    assert soft


@pytest.mark.timeout(300)
def test_coming_and_going_leaves_nothing(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a")
    one.get("/api/task?task_id=a")
    answered = [
        b"GET /api/task?task_id=a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        SSE % b"/api/v1/tasks",
        SSE % b"/api/task?task_id=a",
        b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"\x16\x03\x01\x02\x00 not http at all",
    ]
    left_alone = [
        *answered,
        b"",
        b"GET /api/task?task",
        SSE % b"/api/task?task_id=nowhere",
        b"GET /api/task?task_id=a&wait=50 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]

    def storm(count: int) -> None:
        for n in range(count):
            with socket.create_connection(("127.0.0.1", one.port), 20) as s:
                if n % 2:
                    s.sendall(left_alone[n // 2 % len(left_alone)])
                else:
                    s.sendall(answered[n // 2 % len(answered)])
                    s.recv(1)

    def quiet() -> bool:
        subscribers = [value for name, value in figures(one).items() if name.startswith("gateway_subscribers")]
        return not any(subscribers) and descriptors(one) <= idle + 1

    until(lambda: figures(one)["gateway_watching"] == 1)  # it has opened what it needs
    idle = descriptors(one)
    storm(2_000)
    until(quiet)
    before = rss_mb(one.process.pid)
    storm(100_000 if FULL else 5_000)
    until(quiet)
    grown = rss_mb(one.process.pid) - before
    print(f"grown by {grown:.1f} MB")
    assert grown < 3


def test_a_stalled_loop_goes_on_and_says_so(start: Callable[..., Gateway]) -> None:
    one = start("--heartbeat", "1")
    one.write("a")
    with one.sse("/api/v1/tasks") as events:
        while next(events).event != "synced":
            pass
        until(lambda: one.get("/readyz").status_code == 200)
        one.process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        one.write("a", progress=61)
        one.process.send_signal(signal.SIGCONT)
        assert one.get("/readyz").json()["checks"]["loop"]["ok"] is False
        assert json.loads(next(events).data)["progress"] == 61
        until(lambda: one.get("/readyz").status_code == 200)
        one.write("a", progress=62)
        assert json.loads(next(events).data)["progress"] == 62


def test_deleted_and_created_again_within_a_millisecond(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a")
    with one.sse("/api/v1/tasks") as events:
        while next(events).event != "synced":
            pass
        for n in range(200):
            (one.tasks / "a.json").unlink()
            one.write("a", progress=n % 100, message=str(n))
            if n % 10 == 0:
                (one.tasks / "b.json").write_bytes(flat("b", message=str(n)))
                (one.tasks / "b.json").rename(one.tasks / "a.json")
        held: dict[str, str] = {}
        while held.get("a") != "199" or "b" in held:
            event = next(events)
            if event.event == "message":
                item = json.loads(event.data)
                held[item["id"]] = item["message"]
            elif event.event == "gone":
                held.pop(json.loads(event.data)["id"], None)


def test_a_read_only_mount(start: Callable[..., Gateway], tmp_path: Path) -> None:
    real, mounted = tmp_path / "real", tmp_path / "mounted"
    (real / "Tasks").mkdir(parents=True)
    mounted.mkdir()
    for argv in (["mount", "--bind", str(real), str(mounted)], ["mount", "-o", "remount,bind,ro", str(mounted)]):
        if subprocess.run(argv, capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
    try:
        one = start(data=mounted)
        with one.sse("/api/v1/tasks") as events:
            assert next(events).event == "synced"
            (real / "Tasks" / "a.json").write_bytes(flat("a", progress=9))
            assert json.loads(next(events).data)["progress"] == 9
        until(lambda: one.get("/readyz").status_code == 200)
        one.close()
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


@pytest.mark.parametrize("shift", [-3_600, 3_600])
def test_a_writer_whose_clock_is_off(start: Callable[..., Gateway], shift: int) -> None:
    one = start()
    with one.sse("/api/v1/tasks") as events:
        assert next(events).event == "synced"
        for n in range(30):
            path = one.write("a", progress=n)
            os.utime(path, (time.time() + shift, time.time() + shift))
            while json.loads(next(events).data)["progress"] != n:
                pass
            assert one.get("/api/task?task_id=a").json()["progress"] == n


def test_a_client_that_vanished_is_let_go(start: Callable[..., Gateway]) -> None:
    """Half-open: it neither reads nor closes nor acknowledges, as behind a pulled cable (a route into nothing)."""
    ip, there = require("ip"), ["ip", "netns", "exec", "gateway-test"]
    steps = """netns add gateway-test
        link add gateway-test type veth peer name eth0 netns gateway-test
        addr add 10.213.77.1/30 dev gateway-test
        link set gateway-test up
        -n gateway-test addr add 10.213.77.2/30 dev eth0
        -n gateway-test link set eth0 up"""
    try:
        for step in steps.splitlines():
            if subprocess.run([ip, *step.split()], capture_output=True, check=False).returncode:
                pytest.skip("no network can be made here")
        port = free_port()
        one = start("--bind", f"10.213.77.1:{port}", "--allow-anonymous", "--heartbeat", "1", "--write-deadline", "2")
        curl = [
            *there,
            require("curl"),
            "-sN",
            "-H",
            "Accept: text/event-stream",
            f"http://10.213.77.1:{port}/api/v1/tasks",
        ]
        with subprocess.Popen(curl, stdout=subprocess.PIPE) as client:
            assert client.stdout
            assert b"synced" in b"".join(client.stdout.readline() for _ in range(2))
            assert figures(one)["gateway_subscribers/sse"] == 1
            subprocess.run([*there, ip, "route", "add", "blackhole", "10.213.77.1/32"], check=True)
            until(lambda: not figures(one).get("gateway_subscribers/sse"), 20)
            client.kill()
    finally:
        subprocess.run([ip, "netns", "del", "gateway-test"], capture_output=True, check=False)
