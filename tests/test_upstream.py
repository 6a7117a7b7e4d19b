"""In front of a backend: a real one in a process of its own, through a real gateway."""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Callable, Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.harness import Backend, Gateway, until
from tests.test_scale import rss_mb

Start = Callable[..., Gateway]


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    running = Backend("tests.backend")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def front(backend: Backend) -> Iterator[Gateway]:
    with Gateway("--upstream", backend.url, "--upstream-idle", "1", "--upstream-tasks", "off") as running:
        running.tasks.mkdir()
        yield running


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_request_comes_as_it_was_sent(front: Gateway, backend: Backend, method: str) -> None:
    body = b"payload" if method not in ("GET", "OPTIONS") else b""
    path = "/api/transactions/import?files=C%3A%5CUsers%5Ca.stack&memo=a+b%20%C3%BC&&x="
    headers = {"X-Own": "1", "Authorization": "Bearer x", "Connection": "keep-alive, X-Secret", "X-Secret": "hop"}
    answer = httpx.request(method, front.url + path, content=body, headers=headers, timeout=10)
    asked = answer.json()
    assert (asked["method"], asked["path"], asked["body"]) == (method, path, body.decode())
    told = asked["headers"]
    assert (told["x-own"], told["authorization"], told["host"]) == ("1", "Bearer x", f"127.0.0.1:{backend.port}")
    assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert told["x-forwarded-host"] == f"127.0.0.1:{front.port}"
    assert "x-secret" not in told
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert "x-hop" not in answer.headers
    assert len(answer.headers.get_list("date")) == 1


@pytest.mark.parametrize("status", [201, 302, 404, 418, 500])
def test_a_status_comes_back_as_it_is(front: Gateway, status: int) -> None:
    assert front.get(f"/any?status={status}").status_code == status


def test_head_has_no_body_and_the_length(front: Gateway) -> None:
    answer = httpx.head(f"{front.url}/kilobyte")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "1024", b"")


@pytest.mark.parametrize("path", ["/api/wallets%2Fa", "/a//b", "/%E4%BD%A0", "/x;y=1", "/api/v1/import"])
def test_a_path_stays_encoded(front: Gateway, path: str) -> None:
    assert front.get(path).json()["path"] == path


def test_what_is_the_gateways_stays_here(front: Gateway) -> None:
    front.write("a", progress=7)
    assert front.get("/api/task?task_id=a").json()["progress"] == 7
    assert front.get("/api%2Ftask?task_id=a").json()["progress"] == 7
    assert front.get("/api/v1/tasks/never").status_code == 404
    assert front.get("/healthz").json() == {"alive": True}


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/api/v1/tasks/a"), ("POST", "/api/v1/tasks"), ("PUT", "/")])
def test_what_would_change_something_is_the_backends(front: Gateway, method: str, path: str) -> None:
    answer = httpx.request(method, front.url + path, timeout=10)
    assert (answer.json()["method"], answer.json()["path"]) == (method, path)


@pytest.mark.parametrize(
    "path", ["/api/v1/tasks/a%2Fb", "/api%2Fv1%2Ftasks%2Fnever", "/%73tatic/x", "/static%2f..%2fx"]
)
def test_no_path_of_the_gateway_gets_past_it(front: Gateway, path: str) -> None:
    answer = front.get(path)
    assert answer.status_code in {400, 404}
    assert "method" not in answer.text


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("x", {"x-forwarded-for": "1.2.3.4, 127.0.0.1", "forwarded": "for=9.9.9.9"}),
        (
            "rfc7239",
            {"x-forwarded-for": "1.2.3.4", "forwarded": 'for=9.9.9.9, for=127.0.0.1;host="localhost:1";proto=http'},
        ),
        ("off", {"x-forwarded-for": "1.2.3.4", "forwarded": "for=9.9.9.9"}),
    ],
)
def test_the_backend_is_told_who_asked_as_it_wants_it(
    start: Start, backend: Backend, how: str, told: dict[str, str]
) -> None:
    one = start("--upstream", backend.url, "--upstream-forwarded", how, "--upstream-host", "*")
    heard = one.get("/any", Host="localhost:1", X_Forwarded_For="1.2.3.4", Forwarded="for=9.9.9.9").json()["headers"]
    assert {name: heard[name] for name in told} == told
    assert heard["host"] == "localhost:1"
    assert ("x-forwarded-proto" in heard) is (how == "x")


@pytest.mark.parametrize("line", ["OPTIONS *", "CONNECT 127.0.0.1:1", "GET @127.0.0.1:1/", "GET .example/", "GET *"])
def test_a_target_that_is_no_path_names_no_other_host(front: Gateway, line: str) -> None:
    with socket.create_connection(("127.0.0.1", front.port), 5) as s:
        s.sendall(f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert s.recv(65_536).startswith(b"HTTP/1.1 400 ")
    assert not [said for said in front.lines if "ERROR" in said]


@pytest.mark.parametrize("path", ["/x/../api/task", "/x/%2e%2e/y", "/./x", "/x/..\\y"])
def test_no_path_is_passed_that_others_read_otherwise(front: Gateway, path: str) -> None:
    with socket.create_connection(("127.0.0.1", front.port), 5) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert s.recv(65_536).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "head",
    [
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "GET /any HTTP/1.1\nHost: localhost\n\n",
        "GET /any HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    ],
)
def test_nothing_is_smuggled(front: Gateway, head: str) -> None:
    """What may be read in two ways is refused, or is one request to both."""
    with socket.create_connection(("127.0.0.1", front.port), 5) as s:
        s.sendall(head.encode())
        s.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: s.recv(65_536), b""))
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer.startswith(b"HTTP/1.1 400 ") or not answer


def test_large_bodies_go_through_in_little_memory(start: Callable[..., Gateway], backend: Backend) -> None:
    front = start("--upstream", backend.url, "--upstream-tasks", "off")
    megabytes = 1_024
    front.get("/large?megabytes=64")
    before, most, seen = rss_mb(front.process.pid), 0.0, 0
    with httpx.stream("GET", f"{front.url}/large?megabytes={megabytes}", timeout=60) as answer:
        for n, part in enumerate(answer.iter_raw(1 << 20)):
            seen += len(part)
            most = max(most, rss_mb(front.process.pid)) if n % 64 == 0 else most
    assert seen == megabytes << 20
    sent = httpx.post(f"{front.url}/count", content=(b"x" * (1 << 20) for _ in range(megabytes)), timeout=60)
    assert sent.json() == megabytes << 20
    assert max(most, rss_mb(front.process.pid)) - before < 40


def test_parts_come_as_they_are_sent(front: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", front.port), 5) as s:
        s.sendall(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        seen = b""
        for part in (b"first", b"other"):
            s.sendall(b"5\r\n" + part + b"\r\n")
            while part not in seen:  # before the next one is sent
                seen += s.recv(65_536)
        assert seen.startswith(b"HTTP/1.1 100 ")


def test_a_client_that_leaves_ends_it_at_the_backend(front: Gateway) -> None:
    with httpx.stream("GET", f"{front.url}/endless") as answer:
        parts = answer.iter_raw()  # one that is let go closes the answer
        assert next(parts).startswith(b"tick")
        assert front.get("/open").json() == 1
    until(lambda: front.get("/open").json() == 0)


def test_a_backend_that_says_nothing(front: Gateway) -> None:
    answer = front.get("/silent")
    assert (answer.status_code, answer.json()) == (504, {"error": "The backend did not answer in time"})


def test_half_an_answer_is_not_taken_for_a_whole(front: Gateway) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        front.get("/half")
    assert not [line for line in front.lines if "ERROR" in line]


def test_a_websocket_goes_through(front: Gateway) -> None:
    with connect(front.url.replace("http", "ws") + "/ws", subprotocols=["chat"]) as talk:  # type: ignore[list-item]
        assert talk.subprotocol == "chat"
        talk.send("hello")
        assert talk.recv(5) == "you said hello"
        talk.send(b"abc")
        assert talk.recv(5) == b"cba"
        talk.send("x" * 1_000_000)
        assert talk.recv(5) == "you said " + "x" * 1_000_000
        talk.send("leave")
        with pytest.raises(ConnectionClosed) as closed:
            talk.recv(5)
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 4001
    with pytest.raises(InvalidStatus) as refused:
        connect(front.url.replace("http", "ws") + "/any?status=403")
    assert refused.value.response.status_code == 403


def test_a_backend_that_is_down_takes_nothing_with_it(start: Start) -> None:
    backend = Backend("tests.backend")
    one = start("--upstream", backend.url)
    one.write("a", progress=1)
    with one.sse("/api/task?task_id=a") as events:
        assert json.loads(next(events).data)["progress"] == 1
        backend.stop()
        down = one.get("/any")
        assert (down.status_code, down.json()) == (502, {"error": "The backend cannot be reached"})
        one.write("a", progress=2)
        while json.loads(next(events).data).get("progress") != 2:
            pass
        backend.start()
        assert one.get("/any").status_code == 200
    backend.stop()


def test_many_at_once(front: Gateway) -> None:
    async def ask() -> list[int]:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(base_url=front.url, limits=limits, timeout=30) as client:
            answers = await asyncio.gather(*[client.get("/kilobyte") for _ in range(500)])
            return [len(answer.content) for answer in answers]

    assert asyncio.run(ask()) == [1024] * 500


def test_sigterm_lets_answers_under_way_end(start: Start, backend: Backend) -> None:
    one = start("--upstream", backend.url, "--grace", "1")
    with httpx.stream("GET", f"{one.url}/endless") as answer:
        parts = answer.iter_raw()
        assert next(parts)
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(5) == 0


def test_clients_that_do_not_read_fill_no_memory(front: Gateway) -> None:
    front.get("/large?megabytes=8")
    before = rss_mb(front.process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            s = stack.enter_context(socket.create_connection(("127.0.0.1", front.port), 5))
            s.sendall(b"GET /large?megabytes=500 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert s.recv(1)
        assert front.get("/large?megabytes=64").status_code == 200  # others go on, and time enough to read ahead in
        assert rss_mb(front.process.pid) - before < 100


def test_a_websocket_client_that_does_not_read_fills_no_memory(front: Gateway) -> None:
    front.get("/large?megabytes=8")
    before = rss_mb(front.process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            s = stack.enter_context(socket.create_connection(("127.0.0.1", front.port), 5))
            s.sendall(
                b"GET /flood HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert s.recv(1_000).startswith(b"HTTP/1.1 101")
        assert front.get("/large?megabytes=64").status_code == 200  # others go on, and time enough to read ahead in
        assert rss_mb(front.process.pid) - before < 100


def test_a_websocket_ends_when_its_backend_does(start: Start) -> None:
    backend = Backend("tests.backend")
    one = start("--upstream", backend.url)
    with connect(one.url.replace("http", "ws") + "/ws") as talk:
        talk.send("hello")
        assert talk.recv(5) == "you said hello"
        backend.stop()
        with pytest.raises(ConnectionClosed) as closed:
            talk.recv(5)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1001
