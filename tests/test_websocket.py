"""WebSocket over real sockets: the same URLs, the same subscriptions."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.harness import Gateway, flat


@contextlib.contextmanager
def socket(gateway: Gateway, path: str) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{gateway.port}{path}", compression=None) as connection:
        yield connection


def receive(connection: ClientConnection) -> Any:
    return json.loads(connection.recv(5))


def upto(connection: ClientConnection, kind: str) -> list[Any]:
    found = [receive(connection)]
    while found[-1]["type"] != kind:
        found.append(receive(connection))
    return found


@pytest.mark.parametrize("path", ["/api/task?task_id={}", "/api/v1/tasks/{}", "/api/system/tasks?id={}"])
def test_a_single_task_says_what_a_poll_says(gateway: Gateway, name: str, path: str) -> None:
    url = path.format(name)
    gateway.write(name, progress=1)
    with socket(gateway, url) as connection:
        assert receive(connection) == gateway.get(url).json()
        gateway.write(name, progress=2)
        assert receive(connection) == gateway.get(url).json()
        gateway.write(name, "success", 100)
        assert receive(connection) == gateway.get(url).json()
        with pytest.raises(ConnectionClosedOK) as end:
            connection.recv(5)
        assert end.value.rcvd
        assert end.value.rcvd.code == 1000


@pytest.mark.parametrize(
    ("path", "code"), [("/api/task", 400), ("/api/task?task_id=none", 404), ("/api/v1/tasks/..", 404), ("/other", 403)]
)
def test_what_cannot_be_followed_is_refused_before_the_upgrade(gateway: Gateway, path: str, code: int) -> None:
    with pytest.raises(InvalidStatus) as refusal, socket(gateway, path):
        pass
    assert refusal.value.response.status_code == code


def test_a_deleted_task_says_what_a_poll_says_and_closes(gateway: Gateway, name: str) -> None:
    path = gateway.write(name)
    with socket(gateway, f"/api/task?task_id={name}") as connection:
        receive(connection)
        path.unlink()
        assert receive(connection) == {"error": "Task ID not found"}
        with pytest.raises(ConnectionClosedOK):
            connection.recv(5)


def test_the_collection(gateway: Gateway, name: str) -> None:
    path = gateway.write(name, progress=1)
    gateway.get(f"/api/task?task_id={name}")
    with socket(gateway, "/api/v1/tasks") as connection:
        snapshot = upto(connection, "synced")
        mine = next(m for m in snapshot if m.get("task", {}).get("id") == name)
        assert mine["type"] == "task"
        assert mine["cursor"]
        gateway.write(name, progress=2)
        assert receive(connection)["task"]["progress"] == 2
        path.unlink()
        gone = receive(connection)
        assert (gone["type"], gone["id"]) == ("gone", name)
        place = gone["cursor"]
    gateway.write(name, progress=3)
    gateway.get(f"/api/task?task_id={name}")
    with socket(gateway, f"/api/v1/tasks?cursor={place}") as connection:
        first, last = upto(connection, "synced")
        assert first["task"]["progress"] == 3
        assert last["cursor"]


def test_subscribing_by_message(gateway: Gateway, name: str) -> None:
    for n in (1, 2, 3):
        gateway.write(f"{name}-{n}")
    with socket(gateway, "/api/v1/tasks?id=") as connection:
        assert receive(connection)["type"] == "synced"  # nothing is wanted yet
        connection.send(json.dumps({"type": "subscribe", "ids": [f"{name}-1", f"{name}-9"]}))
        snapshot = upto(connection, "synced")
        assert [m["task"]["id"] for m in snapshot[:-1]] == [f"{name}-1"]
        gateway.write(f"{name}-2", progress=9)
        gateway.write(f"{name}-9", progress=9)
        assert receive(connection)["task"]["id"] == f"{name}-9"
        connection.send(json.dumps({"type": "subscribe", "ids": [f"{name}-3"]}))
        assert [m["task"]["id"] for m in upto(connection, "synced")[:-1]] == [f"{name}-3"]
        connection.send(json.dumps({"type": "unsubscribe", "ids": [f"{name}-9"]}))
        connection.send("?")
        assert receive(connection)["type"] == "error"  # so the message before it has been taken
        gateway.write(f"{name}-9", progress=10)
        gateway.write(f"{name}-3", progress=10)
        assert receive(connection)["task"]["id"] == f"{name}-3"


def test_subscribing_with_a_cursor_resumes(gateway: Gateway, name: str) -> None:
    gateway.write(f"{name}-1")
    gateway.write(f"{name}-2")
    with socket(gateway, f"/api/v1/tasks?id={name}-1&id={name}-2") as connection:
        place = upto(connection, "synced")[-1]["cursor"]
    gateway.write(f"{name}-2", progress=60)
    gateway.get(f"/api/task?task_id={name}-2")
    with socket(gateway, "/api/v1/tasks?id=") as connection:
        receive(connection)
        connection.send(json.dumps({"type": "subscribe", "ids": [f"{name}-1", f"{name}-2"], "cursor": place}))
        assert [m["task"]["id"] for m in upto(connection, "synced")[:-1]] == [f"{name}-2"]
        connection.send(json.dumps({"type": "subscribe", "ids": [f"{name}-1"], "cursor": "other-1"}))
        assert [m["type"] for m in upto(connection, "synced")] == ["reset", "task", "synced"]


def test_a_ping_is_answered(gateway: Gateway) -> None:
    """A script cannot see the heartbeats of WebSocket; this it can."""
    with connect(f"{gateway.url.replace('http', 'ws')}/api/v1/tasks?id=") as socket:
        assert json.loads(socket.recv(5))["type"] == "synced"
        socket.send('{"type":"ping"}')
        assert json.loads(socket.recv(5)) == {"type": "pong"}


GARBAGE = [
    ("", "bad_message"),
    ("nonsense", "bad_message"),
    ("[]", "bad_message"),
    ("{}", "bad_message"),
    ("[" * 50_000, "bad_message"),
    ('{"type":"subscribe"}', "bad_ids"),
    ('{"type":"subscribe","ids":"x"}', "bad_message"),
    ('{"type":"subscribe","ids":["../x"]}', "bad_ids"),
    ('{"type":"unsubscribe","ids":["x"]}', "not_subscribed"),
    ('{"type":"dance","ids":[]}', "unknown_type"),
    (b"\xff\xfe\x00", "bad_message"),
    (json.dumps({"type": "subscribe", "ids": [f"t{n}" for n in range(1001)]}), "too_many_ids"),
]


@pytest.mark.parametrize(("message", "code"), GARBAGE, ids=lambda v: str(v)[:20])
def test_garbage_gets_an_error_and_the_stream_goes_on(
    gateway: Gateway, name: str, message: str | bytes, code: str
) -> None:
    with socket(gateway, "/api/v1/tasks") as connection:
        upto(connection, "synced")
        connection.send(message)
        answer = receive(connection)
        assert (answer["type"], answer["code"]) == ("error", code)
        assert answer["message"]
        gateway.write(name)
        assert receive(connection)["task"]["id"] == name


def test_a_message_on_a_single_task_gets_an_error(gateway: Gateway, name: str) -> None:
    gateway.write(name)
    with socket(gateway, f"/api/task?task_id={name}") as connection:
        receive(connection)
        connection.send("hello")
        assert receive(connection)["type"] == "error"


def test_a_message_that_is_too_large_closes_with_1009(gateway: Gateway) -> None:
    if gateway.kind != "gateway":
        pytest.skip("the limit is a setting of the server below")
    with socket(gateway, "/api/v1/tasks") as connection:
        upto(connection, "synced")
        connection.send("x" * 100_000)
        with pytest.raises(ConnectionClosedError) as end:
            connection.recv(5)
        assert end.value.rcvd
        assert end.value.rcvd.code == 1009


def test_a_broken_file(gateway: Gateway, name: str) -> None:
    gateway.write(name, progress=1)
    with (
        socket(gateway, f"/api/v1/tasks?id={name}") as connection,
        socket(gateway, f"/api/task?task_id={name}") as single,
    ):
        upto(connection, "synced")
        receive(single)
        gateway.put(name, b"{")
        assert receive(connection) | {"cursor": ""} == {
            "type": "invalid",
            "cursor": "",
            "id": name,
            "error": "not JSON",
        }
        gateway.put(name, flat(name, progress=2))
        assert receive(connection)["task"]["progress"] == 2
        assert receive(single)["progress"] == 2  # a poll went on showing the last good state
        gateway.put(name, b" " * 70_000)
        assert receive(connection)["error"] == "larger than 64 KB"
        assert receive(single) == {"error": "Invalid task status file size (must be ≤64KB)"}
