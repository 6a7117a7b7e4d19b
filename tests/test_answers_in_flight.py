"""Answers that are not taken: what they hold is counted and bounded, and who takes nothing is cut off in the end."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.harness import Gateway, until
from tests.test_scale import rss_mb

Start = Callable[..., Gateway]

DATA = "x" * 60_000
MB = 1 << 20


@pytest.fixture
def many(start: Start) -> Gateway:
    """A gateway with 100 tasks of 60 KB each."""
    one = start("--write-deadline", "3")
    for n in range(100):
        one.write(f"t{n}", data=DATA)
    until(lambda: len(names(one.get("/api/v1/tasks?limit=100").json())) == 100)
    return one


def names(page: dict[str, dict[str, list[dict[str, object]]]]) -> list[object]:
    return [task["id"] for task in page["payload"]["tasks"]]


@contextmanager
def stalled(one: Gateway, path: str, *headers: str) -> Iterator[socket.socket]:
    """A client that asks, and takes nothing of the answer."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        s.connect(("127.0.0.1", one.port))
        lines = "".join(f"{header}\r\n" for header in headers)
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        yield s


def connections(one: Gateway) -> int:
    """Sockets that its process holds."""
    return sum(str(file.readlink()).startswith("socket:") for file in Path(f"/proc/{one.process.pid}/fd").iterdir())


def taken(s: socket.socket) -> int:
    """Reads until the other side has ended: how many bytes there were."""
    s.settimeout(30)
    size = 0
    with suppress(ConnectionError):
        while part := s.recv(65_536):
            size += len(part)
    return size


def test_a_large_page_is_whole_however_it_is_taken(many: Gateway) -> None:
    page = many.get("/api/v1/tasks?limit=100")
    tasks = page.json()["payload"]["tasks"]
    assert sorted(task["id"] for task in tasks) == sorted(f"t{n}" for n in range(100))
    assert [task["updated"] for task in tasks] == sorted((task["updated"] for task in tasks), reverse=True)
    assert all(task["data"] == DATA for task in tasks)
    assert many.get("/api/v1/tasks?limit=100", If_None_Match=page.headers["etag"]).status_code == 304
    assert many.get("/api/v1/tasks?limit=100", If_None_Match="*").status_code == 304
    head = httpx.head(f"{many.url}/api/v1/tasks?limit=100")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", page.headers["etag"])
    rest: list[object] = []
    place: str | None = ""
    while place is not None:
        part = many.get(f"/api/v1/tasks?limit=30&after={place}" if place else "/api/v1/tasks?limit=30").json()[
            "payload"
        ]
        rest += [task["id"] for task in part["tasks"]]
        place = part["next"]
    assert rest == [task["id"] for task in tasks]


def test_what_is_gone_when_its_turn_comes_is_left_out(many: Gateway) -> None:
    with stalled(many, "/api/v1/tasks?limit=100") as s:
        s.settimeout(30)
        answer = bytearray(s.recv(4_096))
        for n in range(50):
            (many.tasks / f"t{n}.json").unlink()
        until(lambda: len(names(many.get("/api/v1/tasks?limit=100").json())) == 50)
        while not answer.endswith(b"\r\n0\r\n\r\n"):
            answer += s.recv(65_536)
    body, rest = bytearray(), bytes(answer.partition(b"\r\n\r\n")[2])
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    shown = names(json.loads(body))
    assert {f"t{n}" for n in range(50, 100)} <= set(shown)
    assert len(shown) < 100


def test_pages_that_nobody_takes_hold_little(many: Gateway) -> None:
    before = rss_mb(many.process.pid)
    with ExitStack() as stack:
        for _ in range(60):  # 360 MB in all
            stack.enter_context(stalled(many, "/api/v1/tasks?limit=100"))
        assert many.get("/api/task?task_id=t1").status_code == 200
        until(lambda: "t1" in names(many.get("/api/v1/tasks?limit=100").json()))
        assert rss_mb(many.process.pid) < before + 60


def test_what_waits_is_bounded_and_single_polls_are_refused_last(start: Start) -> None:
    one = start("--max-unsent", str(2 * MB), "--head-deadline", "60")
    for n in range(40):
        one.write(f"t{n}", data=DATA)
    until(lambda: len(names(one.get("/api/v1/tasks?limit=100").json())) == 40)
    with ExitStack() as stack:

        def waits(path: str) -> int:
            stack.enter_context(stalled(one, path))
            return one.get(path).status_code

        until(lambda: waits("/api/v1/tasks?limit=100") == 503)
        refusal = one.get("/api/v1/tasks?limit=100")
        assert refusal.headers["retry-after"] == "5"
        assert "error" in refusal.json()
        assert one.get("/api/task?task_id=t1").status_code == 200
        until(lambda: waits("/api/task?task_id=t1") == 503)
        assert one.get("/api/v1/tasks/t1").json()["payload"]["status"] == "error"
        assert one.get("/healthz").status_code == 200
        with one.sse("/api/task?task_id=t1") as events:
            assert json.loads(next(events).data)["data"] == DATA
    until(lambda: one.get("/api/v1/tasks?limit=100").status_code == 200)  # they have left


def test_an_address_has_a_share_of_what_may_wait(start: Start) -> None:
    one = start("--max-unsent-per-address", str(MB), "--trusted-proxy", "127.0.0.1")
    for n in range(40):
        one.write(f"t{n}", data=DATA)
    crowd = "X-Forwarded-For: 192.0.2.1"
    with ExitStack() as stack:

        def waits() -> int:
            stack.enter_context(stalled(one, "/api/task?task_id=t1", crowd))
            return one.get("/api/task?task_id=t1", X_Forwarded_For="192.0.2.1").status_code

        until(lambda: waits() == 503)
        assert one.get("/api/task?task_id=t1", X_Forwarded_For="192.0.2.2").status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/tasks?limit=100", "/api/task?task_id=t1"])
def test_who_takes_nothing_of_an_answer_is_cut_off(many: Gateway, path: str) -> None:
    before = connections(many)
    with ExitStack() as stack:
        clients = [stack.enter_context(stalled(many, path)) for _ in range(3)]
        until(lambda: connections(many) >= before + 3)
        until(lambda: connections(many) <= before, 30)
        assert all(taken(client) < len(DATA) for client in clients)  # or the rest would have come with the reading


def test_a_slow_reader_gets_all(many: Gateway) -> None:
    with stalled(many, "/api/v1/tasks?limit=100", "Connection: close") as s:
        s.settimeout(30)
        size = 0
        while part := s.recv(50_000):
            size += len(part)
        assert size > 100 * len(DATA)
