"""The direct path: what is left of a request, slow readers, and clients that leave, over real sockets."""

import asyncio
import gc
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from gateway.app import create_app
from gateway.direct import Socket, Stream
from gateway.server import Server
from gateway.settings import Settings
from gateway.sockets import listen
from tests.harness import Gateway, flat, until
from tests.test_scale import rss_mb

ACCEPT = "Accept: text/event-stream\r\n"
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def alive(*kinds: type) -> list[str]:
    gc.collect()
    return [type(found).__name__ for found in gc.get_objects() if isinstance(found, kinds)]


@pytest.mark.parametrize(("headers", "kind"), [(ACCEPT, Stream), (UPGRADE, Socket)], ids=["sse", "ws"])
def test_nothing_is_left_of_the_request(tmp_path: Path, headers: str, kind: type) -> None:
    (tmp_path / "Tasks").mkdir()
    settings = Settings(data_path=tmp_path)

    async def scenario() -> None:
        app, sockets = create_app(settings), listen(["127.0.0.1:0"])
        server = Server(app, settings)
        serving = asyncio.create_task(server.serve(sockets))
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        writer.write(f"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        await reader.readuntil(b"synced")
        assert alive(HttpToolsProtocol, RequestResponseCycle, WebSocketsSansIOProtocol) == []
        assert alive(kind) == [kind.__name__]
        assert len(app.engine.hub) == 1
        (tmp_path / "Tasks" / "a.json").write_bytes(flat("a"))
        await reader.readuntil(b'"id":"a"')
        writer.close()
        async with asyncio.timeout(5):
            while len(app.engine.hub) or server.server_state.connections:
                await asyncio.sleep(0.01)
        del reader, writer
        assert alive(kind) == []
        server.should_exit = True
        await serving

    asyncio.run(scenario())


def test_a_client_that_sends_on_after_its_request_is_not_answered(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a")
    with socket.create_connection(("127.0.0.1", one.port), 5) as s:
        request = b"GET /api/task?task_id=a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        s.sendall(request)
        assert s.recv(65_536).startswith(b"HTTP/1.1 200")
        s.sendall(b"garbage" * 1_000 + request)
        one.write("a", progress=51)
        while b'"progress":51' not in s.recv(65_536):
            pass  # by then it has read the rest, too: what is closed with something unread is reset
        one.write("a", "success", 100)
        rest = b"".join(iter(lambda: s.recv(65_536), b""))
        assert b'"success"' in rest
        assert b"HTTP/1.1" not in rest
        assert rest.endswith(b"0\r\n\r\n")


def test_pipelined_requests_are_answered_while_the_connection_stays(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a")
    poll, stream = (f"GET /api/task?task_id=a HTTP/1.1\r\nHost: localhost\r\n{more}\r\n" for more in ("", ACCEPT))
    with socket.create_connection(("127.0.0.1", one.port), 5) as s:
        for count in (3, 4):
            s.sendall(poll.encode() * count)
            seen = b""
            while seen.count(b'"data": {}\n}') < count:
                seen += s.recv(65_536)
            assert seen.count(b"HTTP/1.1 200 OK") == count
        s.sendall((poll + stream + poll).encode())  # nothing comes after a stream
        one.write("a", "success", 100)
        rest = b"".join(iter(lambda: s.recv(65_536), b""))
    assert rest.count(b"HTTP/1.1") == 2
    assert rest.endswith(b"0\r\n\r\n")
    assert not [line for line in one.lines if "ERROR" in line]


def test_pipelined_polls_are_answered_in_order(start: Callable[..., Gateway]) -> None:
    one = start()
    for n in range(20):
        one.write(f"t{n}", progress=n)
    with socket.create_connection(("127.0.0.1", one.port), 5) as s:
        requests = [f"GET /api/v1/tasks/t{n} HTTP/1.1\r\nHost: localhost\r\n" for n in range(20)]
        s.sendall("\r\n".join(requests).encode() + b"Connection: close\r\n\r\n")
        answer = b"".join(iter(lambda: s.recv(65_536), b""))
    bodies = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert [body["payload"]["progress"] for body in bodies] == list(range(20))


@pytest.mark.parametrize("upgrade", [False, True], ids=["sse", "ws"])
def test_a_reader_that_stalls_costs_nothing_and_ends_right(gateway: Gateway, name: str, upgrade: bool) -> None:
    """Conflation over a real socket: 90 MB of states go by, the stalled one gets the newest of each."""
    ids = [f"{name}-{n}" for n in range(3)]
    for id in ids:
        gateway.write(id)
    query = "&".join(f"id={id}" for id in ids)
    headers = UPGRADE if upgrade else ACCEPT
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        s.settimeout(20)
        s.connect(("127.0.0.1", gateway.port))
        s.sendall(f"GET /api/v1/tasks?{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        received = b""
        while b"synced" not in received:
            received += s.recv(65_536)
        with gateway.sse(f"/api/v1/tasks?{query}") as events:
            while next(events).event != "synced":
                pass
            before = rss_mb(gateway.process.pid)
            for n in range(500):
                for id in ids:
                    gateway.write(id, progress=n % 100, message="x" * 60_000, sequence=n)
                    assert next(events)  # this one keeps up
            grown = rss_mb(gateway.process.pid) - before
            for id in ids:
                gateway.write(id, "success", 100)
        until(lambda: all(gateway.get(f"/api/v1/tasks/{id}").json()["payload"]["status"] == "completed" for id in ids))
        received = b""
        while received.count(b'"status":"completed"') < 3:
            part = s.recv(1 << 20)
            assert part
            received += part
    assert grown < 40
    assert received.count(b'"id":') < 1_000
    for id in ids:
        assert received.rindex(f'"id":"{id}","status":"completed"'.encode())
