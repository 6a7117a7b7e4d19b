"""Long-polls over real sockets: an answer when there is news."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from tests.harness import Gateway, until
from tests.test_operations import figures


@pytest.fixture
def later() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def waits(gateway: Gateway, later: ThreadPoolExecutor, path: str, **headers: str) -> Future[httpx.Response]:
    """A request under way that is not answered yet."""
    answer = later.submit(gateway.get, path, **headers)
    with pytest.raises(TimeoutError):
        answer.result(0.2)
    return answer


@pytest.mark.parametrize("way", ["?wait", "Prefer"])
def test_it_answers_at_the_next_change(gateway: Gateway, name: str, later: ThreadPoolExecutor, way: str) -> None:
    gateway.write(name, progress=1)
    tag = gateway.get(f"/api/task?task_id={name}").headers["etag"]
    path, headers = f"/api/task?task_id={name}", {"If_None_Match": tag}
    if way == "?wait":
        path += "&wait=9"
    else:
        headers["Prefer"] = "respond-async, wait=9"
    answer = waits(gateway, later, path, **headers)
    gateway.write(name, progress=2)
    response = answer.result(2)
    assert (response.status_code, response.json()["progress"]) == (200, 2)
    assert response.headers["etag"] != tag


def test_it_answers_at_once_what_the_client_does_not_have(gateway: Gateway, name: str) -> None:
    gateway.write(name, progress=1)
    started = time.monotonic()
    assert gateway.get(f"/api/task?task_id={name}&wait=9", If_None_Match='"other"').status_code == 200
    assert time.monotonic() - started < 2


def test_a_final_state_answers_at_once(gateway: Gateway, name: str) -> None:
    gateway.write(name, "success", 100)
    first = gateway.get(f"/api/v1/tasks/{name}?wait=9")
    assert first.json()["payload"]["status"] == "completed"
    again = gateway.get(f"/api/v1/tasks/{name}?wait=9", If_None_Match=first.headers["etag"])
    assert again.status_code == 304


def test_the_end_of_the_wait(gateway: Gateway, name: str) -> None:
    gateway.write(name, progress=1)
    plain = gateway.get(f"/api/task?task_id={name}&wait=1")
    assert (plain.status_code, plain.json()["progress"]) == (200, 1)
    known = gateway.get(f"/api/task?task_id={name}&wait=1", If_None_Match=plain.headers["etag"])
    assert (known.status_code, known.content) == (304, b"")
    assert gateway.get(f"/api/task?task_id={name}-none&wait=1").status_code == 404
    assert gateway.get("/api/task?wait=1").status_code == 400
    assert gateway.get("/api/task?task_id=..&wait=30").status_code == 404


def test_it_waits_for_a_task_without_a_file(gateway: Gateway, name: str, later: ThreadPoolExecutor) -> None:
    answer = waits(gateway, later, f"/api/task?task_id={name}&wait=9")
    gateway.write(name, progress=7)
    assert answer.result(2).json()["progress"] == 7


def test_the_collection_answers_when_any_task_changes(gateway: Gateway, name: str, later: ThreadPoolExecutor) -> None:
    tag = gateway.get("/api/v1/tasks").headers["etag"]
    answer = waits(gateway, later, "/api/v1/tasks?wait=9", If_None_Match=tag)
    gateway.write(name)
    assert name in answer.result(2).text


def test_shutdown_answers_those_who_wait(start: Callable[..., Gateway], name: str, later: ThreadPoolExecutor) -> None:
    one = start()
    one.write(name)
    answer = waits(one, later, f"/api/task?task_id={name}&wait=50")
    until(lambda: figures(one).get("gateway_subscribers/long-poll", 0) == 1)
    threading.Thread(target=one.stop).start()
    assert answer.result(3).status_code == 200


@pytest.mark.parametrize("path", ["/api/task?task_id=left&wait=50", "/api/v1/tasks?wait=50"])
def test_a_client_that_leaves_waits_no_longer(gateway: Gateway, path: str) -> None:
    gateway.write("left")
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as s:
        s.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        until(lambda: figures(gateway).get("gateway_subscribers/long-poll", 0) > 0)
    until(lambda: figures(gateway).get("gateway_subscribers/long-poll", 0) == 0)
