"""Limits, over real sockets: who is over one is told, and polls go on."""

import contextlib
import json
import select
import socket
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gateway.hub import Hub
from gateway.limits import Limits, Refusal, Seat, peer_of
from gateway.settings import Settings
from gateway.store import Store
from tests.harness import Gateway, until


def test_streams_over_the_limit_are_refused_and_polls_are_not(start: Callable[..., Gateway]) -> None:
    one = start("--max-streams", "2")
    one.write("a")
    with one.sse("/api/v1/tasks") as first, one.sse("/api/task?task_id=a") as second:
        assert next(first)
        assert next(second)
        for path in ("/api/v1/tasks", "/api/task?task_id=a"):
            response = one.get(path, Accept="text/event-stream")
            assert response.status_code == 503
            assert response.headers["retry-after"] == "5"
            assert response.json() == {"error": "Too many streams are open"}
        assert one.get("/api/task?task_id=a&wait=5").status_code == 503
        assert one.get("/api/v1/tasks/a", Accept="application/x-ndjson").json()["payload"]["status"] == "error"
        with pytest.raises(InvalidStatus) as refusal, connect(f"ws://127.0.0.1:{one.port}/api/v1/tasks"):
            pass
        assert refusal.value.response.status_code == 503
        assert one.get("/api/task?task_id=a").status_code == 200
    with one.sse("/api/task?task_id=a") as again:
        assert next(again)


def test_an_address_has_its_own_limit_but_this_machine(tmp_path: Path) -> None:
    settings = Settings(data_path=tmp_path, max_streams_per_address=1)
    limits = Limits(settings, Hub(Store(), lambda _call: None))

    def admit(address: str | None) -> Seat | Refusal:
        return limits.admit({"client": (address, 5) if address else None})

    seat = admit("192.0.2.1")
    assert isinstance(seat, Seat)
    refusal = admit("192.0.2.1")
    assert isinstance(refusal, Refusal)
    assert refusal.status == 429
    assert limits.refused == {"address": 1}
    for other in ("192.0.2.2", "::1", "127.0.0.9", None):
        with cast("Seat", admit(other)), cast("Seat", admit(other)) if other != "192.0.2.2" else nullcontext():
            pass
    seat.leave()
    seat.leave()
    assert isinstance(admit("192.0.2.1"), Seat)
    assert limits.seats.used == 1


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("not:an:address", "not:an:address"),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_network_of_one_client_is_one_address(address: str, counted_as: str) -> None:
    assert peer_of({"client": (address, 5)}) == counted_as


HANDSHAKE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
WAYS = {
    "sse": b"Accept: text/event-stream\r\n",
    "ndjson": b"Accept: application/x-ndjson\r\n",
    "long-poll": b"Prefer: wait=60\r\n",
    "websocket": HANDSHAKE,
}


def ask(one: Gateway, path: str, *lines: bytes) -> socket.socket:
    s = socket.create_connection(("127.0.0.1", one.port), 20)
    s.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (path.encode(), b"".join(lines)))
    return s


@pytest.mark.parametrize("path", ["/api/task?task_id=a", "/api/v1/tasks", "/api/task?task_id=none"])
@pytest.mark.parametrize("way", WAYS)
def test_a_limit_holds_when_all_come_at_once(start: Callable[..., Gateway], way: str, path: str) -> None:
    one = start("--max-streams", "5", "--task-wait", "60")
    one.write("a")
    lines = WAYS[way]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ask(one, path, lines)) for _ in range(40)]
        refused = [c for c in clients if readable(c) and c.recv(12).endswith(b"503")]
        assert len(refused) == 35
        assert one.get("/api/task?task_id=a").status_code == 200
    until(lambda: ask_again(one))  # however they left, their places are free


def readable(client: socket.socket) -> bool:
    """Whether it is answered before a poll that is asked after it."""
    return bool(select.select([client], [], [], 1)[0])


def ask_again(one: Gateway) -> bool:
    with ask(one, "/api/v1/tasks", WAYS["sse"]) as s:
        return s.recv(12).endswith(b"200")


@pytest.mark.parametrize("way", WAYS)
def test_the_limit_of_an_address_holds_too_for_whom_a_proxy_names(start: Callable[..., Gateway], way: str) -> None:
    one = start("--max-streams-per-address", "3", "--trusted-proxy", "127.0.0.1")
    one.write("a")
    crowd, other = b"X-Forwarded-For: 2001:db8::%x\r\n", b"X-Forwarded-For: 2001:db8:0:1::1\r\n"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ask(one, "/api/v1/tasks", WAYS[way], crowd % n)) for n in range(1, 21)]
        refused = [c for c in clients if readable(c) and c.recv(12).endswith(b"429")]
        assert len(refused) == 17  # one network of IPv6 is one client
        with ask(one, "/api/v1/tasks", WAYS["sse"], other) as s:
            assert s.recv(12).endswith(b"200")


def test_messages_over_the_rate_get_one_error_a_second(start: Callable[..., Gateway]) -> None:
    one = start("--max-messages", "5")
    with connect(f"ws://127.0.0.1:{one.port}/api/v1/tasks?id=") as connection:
        assert "synced" in str(connection.recv(5))
        for _ in range(200):
            connection.send(json.dumps({"type": "subscribe", "ids": []}))
        codes = []
        with contextlib.suppress(TimeoutError):
            while True:
                codes.append(json.loads(connection.recv(0.5))["type"])
    assert 1 <= codes.count("error") <= 2
    assert codes.count("synced") <= 10


def test_the_other_limits_are_settings(start: Callable[..., Gateway]) -> None:
    one = start("--max-ids", "2", "--max-message", "200", "--longest-wait", "1")
    assert one.get("/api/v1/tasks?id=a&id=b&id=c").status_code == 400
    one.write("a")
    started = time.monotonic()
    assert one.get("/api/task?task_id=a&wait=50").status_code == 200
    assert time.monotonic() - started < 5
    with connect(f"ws://127.0.0.1:{one.port}/api/v1/tasks?id=") as connection:
        connection.recv(5)
        connection.send(json.dumps({"type": "subscribe", "ids": ["a", "b", "c"]}))
        assert json.loads(connection.recv(5))["code"] == "too_many_ids"
        connection.send("x" * 300)
        with contextlib.suppress(Exception):
            connection.recv(5)
        assert connection.close_code == 1009


def raw(one: Gateway, *parts: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", one.port), 20) as s:
        for part in parts:
            s.sendall(part)
        return b"".join(iter(lambda: s.recv(65_536), b""))


def test_a_slow_head_is_cut_off_and_a_quick_one_after_it_is_served(start: Callable[..., Gateway]) -> None:
    one = start("--head-deadline", "0.5")
    for parts in ((), (b"GET /api/task HTTP/1.1\r\nHost:",), (b"G",)):
        started = time.monotonic()
        answer = raw(one, *parts)
        assert answer.startswith(b"HTTP/1.1 408")
        assert 0.4 < time.monotonic() - started < 5
    whole = b"GET /api/task HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(one, whole, whole[:20]).endswith(
        b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    one.write("a")
    with one.sse("/api/v1/tasks") as events:  # the deadline is the head's, not the stream's
        assert next(events)
        until, n = time.monotonic() + 1, 0
        while time.monotonic() < until:
            one.write("a", progress=(n := n + 1))
            while f'"progress":{min(n, 100)},' not in next(events).data:
                pass
    assert one.get("/api/task?task_id=a&wait=2").status_code == 200


def test_a_head_of_a_megabyte_is_refused(start: Callable[..., Gateway]) -> None:
    one = start()
    head = b"GET /api/task?task_id=a HTTP/1.1\r\nHost: localhost\r\nX-Large: "
    with socket.create_connection(("127.0.0.1", one.port), 10) as s:
        with contextlib.suppress(ConnectionError):
            s.sendall(head + b"x" * 1_000_000)
        with contextlib.suppress(ConnectionError):
            assert s.recv(100).startswith(b"HTTP/1.1 431")
    assert httpx.get(f"{one.url}/api/task?task_id=a", headers={"X-Large": "x" * 50_000}).status_code == 404
