"""A backend without a Tasks folder: one poll of the gateway's becomes push for any number. Real ones, in processes."""

import asyncio
import contextlib
import gzip
import json
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.harness import Backend, Gateway, require, until

Start = Callable[..., Gateway]

ROOT = Path(__file__).parents[1]

FAST = ("--upstream-interval", "0.05")
SLOW = ("--upstream-interval", "30")
DATA = {"coins": 3}

URLS = {"flat": "/api/task?task_id={}", "v1": "/api/v1/tasks/{}", "system": "/api/system/tasks?task_id={}"}


class Tasks(Backend):
    """The played backend, and what a test tells it."""

    def __init__(self, *options: str) -> None:
        super().__init__("tests.taskbackend", *options)
        self.imports = "/api/v1/import" if "v1" in options else "/api/transactions/import"

    def put(self, id: str, status: str = "running", progress: float = 0, **more: Any) -> None:
        more = {"status": status, "progress": progress, **more}
        httpx.put(f"{self.url}/-/tasks/{id}", json=more).raise_for_status()

    def forget(self, id: str) -> None:
        httpx.delete(f"{self.url}/-/tasks/{id}").raise_for_status()

    def instead(self, answer: dict[str, Any] | None) -> None:
        """What every poll is answered with, until told otherwise."""
        httpx.put(f"{self.url}/-/instead", content=json.dumps(answer)).raise_for_status()

    def hold(self, held: bool = True) -> None:
        """No poll is answered, until told otherwise."""
        httpx.put(f"{self.url}/-/hold", json=held).raise_for_status()

    def asked(self) -> dict[str, Any]:
        asked: dict[str, Any] = httpx.get(f"{self.url}/-/asked").json()
        return asked

    def polls(self, id: str) -> int:
        return int(self.asked()["polls"].get(id, 0))


@pytest.fixture
def v1() -> Iterator[Tasks]:
    running = Tasks("--dialect", "v1")
    yield running
    running.stop()


@pytest.fixture(params=["flat", "v1", "system"])
def any_backend(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    running = Tasks("--dialect", request.param)
    yield running
    running.stop()


@pytest.fixture
def id() -> str:
    return str(uuid.uuid4())


def before(start: Start, backend: Tasks, *options: str, folder: bool = False) -> Gateway:
    return start("--upstream", backend.url, *options, folder=folder)


def data_of(events: Iterator[Any]) -> Iterator[dict[str, Any]]:
    """The states of a stream, without its control events."""
    return (json.loads(event.data) for event in events if event.event == "message")


# Whatever the backend speaks, every URL answers


def test_each_dialect_is_found_out_and_shown_at_every_url(start: Start, any_backend: Tasks) -> None:
    one = before(start, any_backend, *FAST)
    for id in ("Jan-27-26_01-44-55-AM-706d", str(uuid.uuid4())):
        any_backend.put(id, "success", 100, message="Done", data=DATA)
        flat = one.get(URLS["flat"].format(id)).json()
        assert flat == {"status": "success", "task_id": id, "progress": 100, "message": "Done", "data": DATA}
        payload = {"id": id, "status": "completed", "progress": 100, "message": "Done", "data": DATA}
        assert one.get(URLS["v1"].format(id)).json() == {"status": "success", "payload": payload}
        system = {"status": "success", "payload": {**payload, "status": "success"}}
        assert one.get(URLS["system"].format(id)).json() == system
        assert one.get(f"/api/v1/tasks?id={id}").json()["payload"]["tasks"][0]["status"] == "completed"


@pytest.mark.parametrize("dialect", ["flat", "v1", "system"])
def test_a_dialect_that_is_named_is_the_only_one_asked(start: Start, dialect: str, id: str) -> None:
    backend = Tasks("--dialect", dialect)
    one = before(start, backend, "--upstream-tasks", dialect)
    backend.put(id, progress=5)
    assert one.get(URLS["v1"].format(id)).json()["payload"]["progress"] == 5
    assert backend.asked()["statuses"] == {"200": 1}
    backend.stop()


def test_a_task_that_nobody_knows(start: Start, any_backend: Tasks, id: str) -> None:
    one = before(start, any_backend, "--task-wait", "0.1")
    flat, v1, system = (one.get(URLS[dialect].format(id)) for dialect in ("flat", "v1", "system"))
    assert (flat.status_code, flat.json()) == (404, {"error": "Task ID not found"})
    assert (v1.status_code, v1.json()["payload"]["code"]) == (404, 4105)
    assert (system.status_code, system.json()["payload"]["code"]) == (404, 4105)
    stream = one.get(URLS["v1"].format(id), Accept="text/event-stream")
    assert stream.status_code == 404
    assert any_backend.polls(id) <= 3  # of the first of them only, until the dialect was found out


@pytest.mark.parametrize("given", ["{dashed}", "{plain}", "{upper}"])
def test_a_guid_in_any_spelling_is_one_task(start: Start, v1: Tasks, given: str, id: str) -> None:
    one = before(start, v1, *SLOW)
    v1.put(id, progress=5)
    spelled = given.format(dashed=id, plain=id.replace("-", ""), upper=id.upper())
    for _ in range(3):
        assert one.get(URLS["v1"].format(spelled)).json()["payload"]["id"] == id
    assert one.get(URLS["v1"].format(id)).json()["payload"]["id"] == id
    assert v1.polls(id) == 1


# One poll for all


def test_pollers_cost_the_backend_one(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *SLOW)
    v1.put(id, progress=5)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: one.get(URLS["v1"].format(id)).json()["payload"]["progress"], range(200)))
    assert answers == [5] * 200
    assert v1.polls(id) == 1


def test_a_poll_sees_what_is_older_than_the_interval(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, "--upstream-interval", "0.2")
    v1.put(id, progress=5)
    assert one.get(URLS["v1"].format(id)).json()["payload"]["progress"] == 5
    v1.put(id, progress=6)
    until(lambda: bool(one.get(URLS["v1"].format(id)).json()["payload"]["progress"] == 6))


def test_a_thousand_subscribers_are_one_poller(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, "--upstream-interval", "1")
    v1.put(id, progress=1)

    async def follow() -> int:
        """Its last progress."""
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        head = f"GET /api/v1/tasks/{id} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        writer.write(head.encode())
        seen = 0
        while line := await reader.readline():
            if line.startswith(b'data: {"status"'):
                seen = json.loads(line[6:])["payload"]["progress"]
                shown[seen] = shown.get(seen, 0) + 1
        writer.close()
        return seen

    async def everybody() -> list[int]:
        following = [asyncio.create_task(follow()) for _ in range(1_000)]
        async with httpx.AsyncClient() as client:
            for state in ({"progress": 50}, {"status": "success", "progress": 100, "data": DATA}):
                before = dict(shown)
                while len(shown) == len(before) or shown[max(shown)] < 1_000:
                    await asyncio.sleep(0.01)
                await client.put(f"{v1.url}/-/tasks/{id}", json=state)
        return await asyncio.gather(*following)

    shown: dict[int, int] = {}
    assert asyncio.run(everybody()) == [100] * 1_000
    assert v1.polls(id) <= 12  # three states, a second or less between two polls


def test_no_more_polls_at_once_than_allowed(start: Start, v1: Tasks) -> None:
    one = before(start, v1, "--upstream-polls", "4")
    ids = [str(uuid.uuid4()) for _ in range(60)]
    for id in ids:
        v1.put(id, progress=7)
    page = one.get("/api/v1/tasks?" + "&".join(f"id={id}" for id in ids)).json()
    assert [item["progress"] for item in page["payload"]["tasks"]] == [7] * 60
    assert v1.asked()["at_once"] <= 4


def test_a_task_is_polled_no_more_once_it_is_final(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST)
    v1.put(id, "success", 100, data=DATA)
    with one.sse(f"/api/v1/tasks/{id}") as events:
        assert [state["payload"]["status"] for state in data_of(events)] == ["completed"]
    asked = v1.polls(id)
    assert one.get(URLS["v1"].format(id)).json()["payload"]["data"] == DATA
    assert one.get(f"/api/v1/tasks?id={id}").json()["payload"]["tasks"][0]["data"] == DATA
    assert v1.polls(id) == asked


def test_a_task_is_polled_no_more_when_nobody_wants_it(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST)

    def polled() -> int:
        return int(one.get("/readyz").json()["checks"]["backend"]["detail"].split()[0])

    v1.put(id, progress=5)
    assert one.get(URLS["v1"].format(id)).status_code == 200
    assert polled() == 1
    until(lambda: polled() == 0)
    v1.put(id, progress=6)
    with one.ndjson("/api/v1/tasks") as lines:  # a dashboard wants all that runs
        assert any(line.get("task", {}).get("progress") == 6 for line in lines)
        assert polled() == 1
    until(lambda: polled() == 0)


def test_retry_after_is_obeyed(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST)
    payload = {"id": id, "status": "running", "progress": 3, "message": "", "data": None}
    body = json.dumps({"status": "success", "payload": payload})
    v1.instead({"status": 200, "headers": {"Retry-After": "60"}, "body": body})
    assert one.get(URLS["v1"].format(id)).json()["payload"]["progress"] == 3
    asked = v1.asked()["statuses"]
    v1.instead({"status": 500})
    with one.sse(f"/api/v1/tasks/{id}") as events:
        assert next(data_of(events))["payload"]["progress"] == 3
    for _ in range(20):
        assert one.get(URLS["v1"].format(id)).json()["payload"]["progress"] == 3
    assert v1.asked()["statuses"] == asked


def test_not_modified_is_understood(start: Start, id: str) -> None:
    backend = Tasks("--dialect", "v1", "--etags")
    one = before(start, backend, *FAST)
    backend.put(id, progress=3)
    with one.sse(f"/api/v1/tasks/{id}") as events:
        states = data_of(events)
        assert next(states)["payload"]["progress"] == 3
        until(lambda: backend.asked()["statuses"].get("304", 0) > 2)
        backend.put(id, "success", 100, data=None)  # looks unfinished, and is confirmed by a 304
        assert next(states)["payload"]["status"] == "completed"
    assert backend.asked()["statuses"]["200"] <= 2 + 1
    backend.stop()


# What the backend gets wrong


def test_no_state_is_pushed_that_is_taken_back(start: Start, v1: Tasks) -> None:
    """Progress goes above 100, and the status comes before the data."""
    one = before(start, v1, *FAST)
    with ThreadPoolExecutor() as pool, one.ndjson("/api/v1/tasks") as lines:
        id = httpx.post(f"{one.url}/api/v1/import").json()["payload"]["id"]

        def poll() -> list[dict[str, Any]]:
            seen = [one.get(URLS["v1"].format(id)).json()["payload"]]
            while seen[-1]["status"] == "running":
                seen.append(one.get(URLS["v1"].format(id)).json()["payload"])
            return seen

        polling = pool.submit(poll)
        pushed = []
        for line in lines:
            if task := line.get("task"):
                pushed.append(task)
                if task["status"] != "running":
                    break
    for seen in (pushed, polling.result()):
        assert [task["progress"] for task in seen] == sorted(task["progress"] for task in seen)
        assert max(task["progress"] for task in seen) == 100
        assert [task["status"] for task in seen if task["status"] != "running"] == ["completed"]
        assert seen[-1]["data"]["total_processed"] == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": 500, "body": "oops"}, "The backend answered 500"),
        ({"status": 200, "body": "<html>"}, "The backend sent what is not JSON"),
        ({"status": 200, "body": '{"a": 1}'}, "The backend said: no status"),
        ({"status": 200, "body": "x" * 70_000}, "The backend sent more than 64 KB"),
        ({"status": 302, "headers": {"Location": "/login"}}, "The backend answered 302"),
    ],
)
def test_an_answer_that_is_no_state_is_said_after_a_while(
    start: Start, v1: Tasks, id: str, answer: dict[str, Any], reason: str
) -> None:
    one = before(start, v1, *FAST)
    v1.put(id, progress=5)
    with one.sse(f"/api/v1/tasks/{id}") as events:
        assert json.loads(next(events).data)["payload"]["progress"] == 5
        v1.instead(answer)
        told = next(event for event in events if event.event not in {"message", "synced"})
        assert (told.event, json.loads(told.data)) == ("invalid", {"id": id, "error": reason})
        assert one.get(URLS["v1"].format(id)).json()["payload"]["progress"] == 5  # the last good state
        v1.instead(None)
        v1.put(id, "success", 100, data=DATA)
        assert [state["payload"]["status"] for state in data_of(events)][-1] == "completed"


def test_a_backend_that_is_down_and_comes_back(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST)
    v1.put(id, progress=5)
    with one.sse(f"/api/v1/tasks/{id}") as events:
        assert json.loads(next(events).data)["payload"]["progress"] == 5
        v1.stop()
        told = next(event for event in events if event.event not in {"message", "synced"})
        assert json.loads(told.data)["error"] == "The backend cannot be reached"
        ready = one.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["backend"]["ok"]) == (503, False)
        assert one.get(URLS["v1"].format(id)).json()["payload"]["progress"] == 5
        other = one.get(URLS["v1"].format(uuid.uuid4()))
        assert (other.status_code, other.json()["payload"]["message"]) == (502, "The backend cannot be reached")
        v1.start()
        v1.put(id, "success", 100, data=DATA)
        assert [state["payload"]["status"] for state in data_of(events)][-1] == "completed"
    assert one.get("/readyz").status_code == 200


def test_a_task_that_the_backend_forgets_is_gone(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST, "--task-wait", "1")
    v1.put(id, progress=5)
    with one.ndjson(f"/api/v1/tasks?id={id}") as lines:
        assert any(line.get("task", {}).get("progress") == 5 for line in lines)
        v1.forget(id)
        assert next(line for line in lines if "event" in line and line["event"] != "synced")["event"] == "gone"
        assert one.get(URLS["v1"].format(id)).status_code == 404
        v1.put(id, progress=6)
        assert next(lines)["task"]["progress"] == 6


# Who asks, and how


def test_a_stream_waits_for_a_task_to_come(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST)
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(one.get, f"/api/v1/tasks/{id}", Accept="text/event-stream")
        until(lambda: v1.polls(id) > 1)
        v1.put(id, "success", 100, data=DATA)
        assert '"completed"' in poll.result().text


def test_a_long_poll_answers_at_the_next_change(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST)
    v1.put(id, progress=5)
    tag = one.get(URLS["v1"].format(id)).headers["etag"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(one.get, f"/api/v1/tasks/{id}?wait=10", If_None_Match=tag)
        v1.put(id, progress=6)
        assert waiting.result().json()["payload"]["progress"] == 6


def test_a_websocket_can_ask_for_one_by_message(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST)
    v1.put(id, progress=5)
    with connect(f"ws://127.0.0.1:{one.port}/api/v1/tasks?id=") as talk:
        talk.send(json.dumps({"type": "subscribe", "ids": [id]}))
        messages = (json.loads(message) for message in talk)
        assert next(m for m in messages if m["type"] == "task")["task"]["progress"] == 5
        v1.put(id, progress=6)
        assert next(m for m in messages if m["type"] == "task")["task"]["progress"] == 6


def test_a_single_task_resumes_by_its_tag_after_a_restart(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST)
    v1.put(id, "success", 100, data=DATA)
    with one.sse(f"/api/v1/tasks/{id}") as events:
        last = next(events).id
    one.stop()
    one.start()
    again = one.get(f"/api/v1/tasks/{id}", Accept="text/event-stream", Last_Event_ID=last)
    assert again.status_code == 204


def test_what_has_a_file_is_not_polled(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST, folder=True)
    one.write(id, progress=1)
    v1.put(id, progress=99)
    assert one.get(URLS["flat"].format(id)).json()["progress"] == 1
    with one.sse(f"/api/task?task_id={id}") as events:
        assert next(data_of(events))["progress"] == 1
        one.write(id, "success", 100)
        assert next(data_of(events))["status"] == "success"
    assert v1.polls(id) == 0


def test_a_file_that_comes_takes_a_polled_task_over(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, *FAST, folder=True)
    v1.put(id, progress=5)
    with one.sse(f"/api/v1/tasks/{id}") as events:
        states = data_of(events)
        assert next(states)["payload"]["progress"] == 5
        one.write(id, progress=20)
        assert next(states)["payload"]["progress"] == 20
        v1.put(id, progress=10)
        one.write(id, "success", 100)
        assert [state["payload"]["progress"] for state in states] == [100]


def test_polling_can_be_off(start: Start, v1: Tasks, id: str) -> None:
    one = before(start, v1, "--upstream-tasks", "off", folder=True)
    v1.put(id, progress=5)
    assert one.get(URLS["v1"].format(id)).status_code == 404
    assert v1.polls(id) == 0


# Replies that start a task


def test_a_started_task_is_pending_before_its_file(start: Start, any_backend: Tasks) -> None:
    one = before(start, any_backend, "--upstream-tasks", "off", folder=True)
    one.tasks.mkdir()
    with one.ndjson("/api/v1/tasks") as lines:
        reply = httpx.get(one.url + any_backend.imports, timeout=10).json()
        id = reply.get("task_id") or reply["payload"]["id"]
        shown = next(line["task"] for line in lines if "task" in line)
        assert (shown["id"], shown["status"], shown["progress"]) == (id, "running", 0)
        assert one.get(URLS["flat"].format(id)).json()["status"] == "pending"
        one.write(id, progress=30)
        assert next(lines)["task"]["progress"] == 30


def test_a_started_task_that_never_comes_is_gone(start: Start, v1: Tasks) -> None:
    one = before(start, v1, *FAST, "--upstream-tasks", "off", folder=True)
    with one.ndjson("/api/v1/tasks") as lines:
        id = httpx.post(f"{one.url}/api/v1/import").json()["payload"]["id"]
        seen = [next(lines) for _ in range(3)]
    assert [line.get("event") or line["task"]["id"] for line in seen] == ["synced", id, "gone"]


def reply(one: Gateway, body: bytes, **query: Any) -> httpx.Response:
    params = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in query.items()}}
    return httpx.post(f"{one.url}/-/reply", params=params, content=body, timeout=10)


@pytest.mark.parametrize("own", ["http://127.0.0.1:{port}", "http://localhost:{port}"])
@pytest.mark.parametrize("more", [{}, {"parts": "1"}])
def test_its_url_leads_to_the_gateway(start: Start, v1: Tasks, own: str, more: dict[str, str]) -> None:
    one = before(start, v1)
    path = "/api/system/tasks?task_id=Jan-27-26_01-44-55-AM-706d"
    body = {"status": "success", "task_id": "Jan-27-26_01-44-55-AM-706d", "url": own.format(port=v1.port) + path}
    text = json.dumps(body, indent=3).encode()
    led = text.replace(own.format(port=v1.port).encode(), one.url.encode())
    assert reply(one, text, **more).content == led
    packed = reply(one, gzip.compress(text), Content_Encoding="gzip", **more)
    assert (packed.content, packed.headers.get("content-encoding")) == (led, None)


def test_redirections_to_the_backend_stay_here(start: Start, v1: Tasks) -> None:
    one = before(start, v1)
    moved = reply(one, b"", status=302, Location=f"{v1.url}/wallets?a=b")
    assert moved.headers["location"] == f"{one.url}/wallets?a=b"
    away = reply(one, b"", status=302, Location="https://example.com/x")
    assert away.headers["location"] == "https://example.com/x"


def test_a_slow_reply_is_not_held_back(start: Start) -> None:
    """A JSON body that comes in its own time is passed on as it comes."""
    backend = Backend("tests.backend")
    one = start("--upstream", backend.url)
    with socket.create_connection(("127.0.0.1", one.port), 5) as s:
        s.sendall(b"POST /echo?json HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        s.sendall(b'8\r\n{"task_i\r\n')
        seen = b""
        while b'{"task_i' not in seen:
            seen += s.recv(65_536)
        s.sendall(b'a\r\nd": "abc"}\r\n0\r\n\r\n')
        while b'd": "abc"}' not in seen:
            seen += s.recv(65_536)
    backend.stop()


# Front ends that start a task and wait for it


@pytest.mark.parametrize("options", [["flat"], ["system"], ["v1"], ["flat", "with its folder"]], ids=" ".join)
def test_the_import_example(start: Start, tmp_path: Path, options: list[str]) -> None:
    with backend_of(options, tmp_path) as (backend, folder):
        one = start("--upstream", backend.url, folder=folder, data=tmp_path)
        argv = [require("node"), str(ROOT / "examples/import.mjs"), one.url, "a.stack"]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == "100% Import, authentication, and grading complete"


@pytest.mark.parametrize("options", [["flat"], ["system"], ["flat", "with its folder"]], ids=" ".join)
def test_the_flat_documents_own_import_and_wait(start: Start, tmp_path: Path, options: list[str]) -> None:
    with backend_of(options, tmp_path) as (backend, folder):
        one = start("--upstream", backend.url, folder=folder, data=tmp_path)
        script = documented("002_14f082bed8a98dff.txt", "JavaScript (fetch)\n", "cURL\n")
        said = node(script.replace("http://localhost:8080", one.url), tmp_path)
    assert "Import started with task ID: " in said
    assert said.splitlines()[-3:] == ["Imported 2 files", "Bank: 2 coins", "Fracked: 0 coins"]


def test_the_v1_documents_own_poller(start: Start, v1: Tasks, tmp_path: Path) -> None:
    one = before(start, v1)
    id = httpx.post(f"{one.url}/api/v1/import").json()["payload"]["id"]
    script = documented("000_d56a3b045c81d682.txt", "JavaScript Example\n", "cURL Example")
    script = script.replace("http://localhost:8006", one.url).replace("bdc8e99d-dd8a-40e9-8840-f9f8eef16c71", id)
    said = node(script, tmp_path)
    assert "Task finished successfully! {" in said
    assert "total_processed: 2" in said


@contextlib.contextmanager
def backend_of(options: list[str], data: Path) -> Iterator[tuple[Tasks, bool]]:
    """A backend of a dialect, with a Tasks folder or without."""
    (data / "Tasks").mkdir()
    folder = len(options) > 1
    running = Tasks("--dialect", options[0], *(["--tasks", str(data / "Tasks")] if folder else []))
    try:
        yield running, folder
    finally:
        running.stop()


def documented(file: str, begin: str, end: str) -> str:
    """A sample as it stands in a document, where the documents are beside the project."""
    document = ROOT.parent / "shared/contract" / file
    if not document.is_file():
        pytest.skip(f"{document} is not here")
    return document.read_text().split(begin, 1)[1].split(end, 1)[0]


def node(script: str, folder: Path) -> str:
    source = folder / "sample.mjs"
    source.write_text(script)
    return subprocess.run([require("node"), source], capture_output=True, text=True, timeout=50, check=True).stdout
