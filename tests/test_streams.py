"""SSE and NDJSON over real sockets: the same URLs, pushed."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent

from tests.harness import Gateway, flat


def upto(events: Iterator[ServerSentEvent], kind: str) -> list[ServerSentEvent]:
    """What comes before the next event of that kind, and that event."""
    found = []
    for event in events:
        found.append(event)
        if event.event == kind:
            return found
    raise AssertionError(f"the stream ended without {kind}")


def test_a_single_task_from_its_state_to_its_end(gateway: Gateway, name: str) -> None:
    gateway.write(name, progress=10)
    with gateway.sse(f"/api/task?task_id={name}") as events:
        first = next(events)
        assert first.event == "message"
        assert json.loads(first.data) == gateway.get(f"/api/task?task_id={name}").json()
        assert next(events).event == "synced"
        gateway.write(name, progress=20)
        assert json.loads(next(events).data)["progress"] == 20
        gateway.write(name, "success", 100)
        last = next(events)
        assert json.loads(last.data)["status"] == "success"
        assert list(events) == []  # it ends after the final state
    assert f'"{last.id}"' == gateway.get(f"/api/task?task_id={name}").headers["etag"]


def test_resuming_a_single_task_by_its_tag(gateway: Gateway, name: str) -> None:
    gateway.write(name, progress=10)
    with gateway.sse(f"/api/task?task_id={name}") as events:
        seen = next(events)
    with gateway.sse(f"/api/task?task_id={name}", Last_Event_ID=seen.id) as events:
        assert next(events).event == "synced"  # nothing that the client has already
        gateway.write(name, progress=11)
        assert json.loads(next(events).data)["progress"] == 11
    with gateway.sse(f"/api/task?task_id={name}&cursor={seen.id}") as events:
        assert json.loads(next(events).data)["progress"] == 11  # it changed meanwhile


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_an_event_source_that_has_the_final_state_is_stopped_by_204(gateway: Gateway, name: str, accept: str) -> None:
    gateway.write(name, "error", 40)
    with gateway.sse(f"/api/task?task_id={name}") as events:
        (only,) = list(events)
    response = gateway.get(f"/api/task?task_id={name}", Accept=accept, Last_Event_ID=only.id)
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize(
    ("path", "pick"),
    [
        ("/api/transactions/task?task_id={}", lambda body: body["progress"]),
        ("/api/v1/tasks/{}", lambda body: body["payload"]["progress"]),
        ("/get-task-status/{}", lambda body: body["payload"]["progress"]),
        ("/api/v1/task/{}", lambda body: body["payload"]["progress"]),
        ("/api/system/tasks?id={}", lambda body: body["payload"]["progress"]),
    ],
)
def test_each_url_streams_what_it_polls(gateway: Gateway, name: str, path: str, pick: Callable[[Any], int]) -> None:
    url = path.format(name)
    gateway.write(name, progress=30)
    with gateway.sse(url) as events:
        assert json.loads(next(events).data) == gateway.get(url).json()
        upto_synced = next(events)
        assert upto_synced.event == "synced"
        gateway.write(name, progress=31)
        assert pick(json.loads(next(events).data)) == 31


def test_first_bytes_and_headers_of_a_stream(gateway: Gateway, name: str) -> None:
    gateway.write(name)
    with httpx.stream("GET", f"{gateway.url}/api/task?task_id={name}", headers={"Accept": "text/event-stream"}) as r:
        assert r.status_code == 200
        assert r.headers["content-type"].startswith("text/event-stream")
        assert r.headers["cache-control"] == "no-store"
        assert r.headers["x-accel-buffering"] == "no"
        assert r.headers["vary"] == "Accept, Origin"
        lines = r.iter_lines()
        assert next(lines).startswith("retry: ")
        assert any(line.startswith(":") for line in lines)  # a heartbeat, within a second here


def test_a_task_without_a_file_is_waited_for(gateway: Gateway, name: str) -> None:
    started = time.monotonic()
    response = gateway.get(f"/api/task?task_id={name}", Accept="text/event-stream")
    assert (response.status_code, response.json()) == (404, {"error": "Task ID not found"})
    assert time.monotonic() - started >= 1  # --task-wait 1
    path = f"/api/v1/tasks/{name}"
    with httpx.Client(timeout=10) as client:
        request = client.build_request("GET", gateway.url + path, headers={"Accept": "application/x-ndjson"})
        timer = threading.Timer(0.3, gateway.write, [name, "success", 100])
        timer.start()
        answer = client.send(request)
        timer.join()
    assert next(json.loads(line) for line in answer.text.splitlines() if line)["task"]["payload"]["progress"] == 100


@pytest.mark.parametrize("bad", ["..", "a/b", ".x", "%00"])
def test_a_stream_of_what_is_no_id_is_refused_at_once(gateway: Gateway, bad: str) -> None:
    started = time.monotonic()
    assert gateway.get(f"/api/task?task_id={bad}", Accept="text/event-stream").status_code == 404
    assert time.monotonic() - started < 0.9


def test_a_task_that_is_deleted_is_gone_and_its_stream_ends(gateway: Gateway, name: str) -> None:
    path = gateway.write(name)
    with gateway.sse(f"/api/task?task_id={name}") as events:
        upto(events, "synced")
        path.unlink()
        gone = next(events)
        assert (gone.event, json.loads(gone.data)) == ("gone", {"id": name})
        assert list(events) == []  # after --task-wait


def test_a_task_that_comes_back_goes_on(gateway: Gateway, name: str) -> None:
    path = gateway.write(name)
    with gateway.sse(f"/api/task?task_id={name}") as events:
        upto(events, "synced")
        path.unlink()
        assert next(events).event == "gone"
        gateway.write(name, progress=77)
        assert json.loads(next(events).data)["progress"] == 77
        gateway.write(name, "success", 100)
        assert json.loads(next(events).data)["progress"] == 100


def test_a_file_that_stays_broken_is_invalid_once(gateway: Gateway, name: str) -> None:
    gateway.write(name, progress=5)
    with gateway.sse(f"/api/task?task_id={name}") as events:
        upto(events, "synced")
        gateway.put(name, b'{"status": "run')
        invalid = next(events)
        assert invalid.event == "invalid"
        assert json.loads(invalid.data) == {"id": name, "error": "not JSON"}
        gateway.write(name, progress=6)
        assert json.loads(next(events).data)["progress"] == 6


def test_a_torn_write_is_never_seen(gateway: Gateway, name: str) -> None:
    gateway.write(name, progress=1)
    with gateway.sse(f"/api/task?task_id={name}") as events:
        upto(events, "synced")
        whole = flat(name, progress=2)
        gateway.put(name, whole[: len(whole) // 2])
        time.sleep(0.1)  # longer than a few of the tries
        gateway.put(name, whole)
        assert json.loads(next(events).data)["progress"] == 2


def test_the_collection_snapshot_then_live(gateway: Gateway, name: str) -> None:
    gateway.write(f"{name}-1", progress=1)
    gateway.write(f"{name}-2", progress=2)
    gateway.get(f"/api/v1/tasks?id={name}-1&id={name}-2")  # a poll sees what the watcher may not have seen yet
    with gateway.sse("/api/v1/tasks") as events:
        snapshot = upto(events, "synced")
        mine = [json.loads(e.data) for e in snapshot if name in e.data]
        assert sorted(item["id"] for item in mine) == [f"{name}-1", f"{name}-2"]
        assert set(mine[0]) == {"id", "status", "progress", "message", "data", "updated"}
        assert snapshot[-1].id == json.loads(snapshot[-1].data)["cursor"]
        path = gateway.write(f"{name}-1", "error", 3, message="over")
        item = json.loads(next(events).data)
        assert (item["id"], item["status"], item["message"]) == (f"{name}-1", "error", "over")
        path.unlink()
        gone = next(events)
        assert (gone.event, json.loads(gone.data)) == ("gone", {"id": f"{name}-1"})
        assert gone.id


def test_resuming_the_collection_replays_what_was_missed(gateway: Gateway, name: str) -> None:
    with gateway.sse("/api/v1/tasks") as events:
        place = upto(events, "synced")[-1].id
    for progress in range(5):
        gateway.write(f"{name}-a", progress=progress)
    gateway.write(f"{name}-b", progress=9)
    gateway.write(f"{name}-c").unlink()
    assert gateway.get(f"/api/v1/tasks?id={name}-a&id={name}-b&id={name}-c").status_code == 200
    with gateway.sse("/api/v1/tasks", Last_Event_ID=place) as events:
        missed = [json.loads(e.data) for e in upto(events, "synced")[:-1] if e.event == "message"]
    assert {item["id"]: item["progress"] for item in missed if item["id"].startswith(name)} == {
        f"{name}-a": 4,
        f"{name}-b": 9,
    }


@pytest.mark.parametrize("cursor", ["nonsense", "0123456789ab-5", "-", "x" * 5000, "⁴-⁴"])
def test_an_unknown_cursor_is_a_reset_and_a_snapshot(gateway: Gateway, name: str, cursor: str) -> None:
    gateway.write(name)
    gateway.get(f"/api/task?task_id={name}")
    with gateway.sse(f"/api/v1/tasks?cursor={cursor}") as events:
        assert next(events).event == "reset"
        assert name in "".join(e.data for e in upto(events, "synced"))


def test_a_cursor_of_before_a_restart_is_a_reset(start: Callable[..., Gateway], name: str) -> None:
    one = start()
    one.write(name)
    one.get(f"/api/task?task_id={name}")
    with one.sse("/api/v1/tasks") as events:
        place = upto(events, "synced")[-1].id
    one.stop()
    one.start()
    with one.sse("/api/v1/tasks", Last_Event_ID=place) as events:
        assert next(events).event == "reset"
        assert json.loads(next(events).data)["id"] == name


def test_a_tag_of_before_a_restart_resumes(start: Callable[..., Gateway], name: str) -> None:
    one = start()
    one.write(name)
    with one.sse(f"/api/task?task_id={name}") as events:
        tag = next(events).id
    one.stop()
    one.start()
    with one.sse(f"/api/task?task_id={name}", Last_Event_ID=tag) as events:
        assert next(events).event == "synced"


def test_some_tasks_by_id(gateway: Gateway, name: str) -> None:
    gateway.write(f"{name}-1")
    gateway.write(f"{name}-2")
    with gateway.sse(f"/api/v1/tasks?id={name}-1&id={name}-3") as events:
        snapshot = upto(events, "synced")
        assert [json.loads(e.data)["id"] for e in snapshot[:-1]] == [f"{name}-1"]
        gateway.write(f"{name}-2", progress=1)
        gateway.write(f"{name}-3", progress=2)
        assert json.loads(next(events).data)["id"] == f"{name}-3"  # it had no file when the stream began


def test_recent_narrows_the_snapshot_and_old_tasks_come_when_they_change(
    start: Callable[..., Gateway], name: str
) -> None:
    one = start()
    now = time.time()
    for id, age in (("old", 90_000), ("hours", 7_200), ("new", 5)):
        os.utime(one.write(id), (now - age, now - age))
    one.stop()
    one.start()
    with one.sse("/api/v1/tasks") as events:
        assert [json.loads(e.data)["id"] for e in upto(events, "synced")[:-1]] == ["hours", "new"]
        one.write("old", progress=51)
        assert json.loads(next(events).data)["id"] == "old"
    with one.sse("/api/v1/tasks?recent=1h") as events:
        assert [json.loads(e.data)["id"] for e in upto(events, "synced")[:-1]] == ["new", "old"]


def test_old_tasks_stay_reachable(start: Callable[..., Gateway]) -> None:
    one = start()
    os.utime(one.write("old", progress=42), (1_000_000_000, 1_000_000_000))
    os.utime(one.write("older", "success", 100), (900_000_000, 900_000_000))
    one.stop()
    one.start()
    assert one.get("/api/task?task_id=old").json()["progress"] == 42
    assert [t["id"] for t in one.get("/api/v1/tasks").json()["payload"]["tasks"]] == ["old", "older"]
    with one.sse("/api/task?task_id=older") as events:
        assert [json.loads(e.data)["status"] for e in events] == ["success"]
    with one.sse("/api/v1/tasks?id=old") as events:
        assert json.loads(next(events).data)["id"] == "old"
        assert next(events).event == "synced"
        one.write("old", progress=43)
        assert json.loads(next(events).data)["progress"] == 43


def test_ndjson_says_the_same(gateway: Gateway, name: str) -> None:
    path = gateway.write(name, progress=1)
    gateway.get(f"/api/task?task_id={name}")
    with gateway.ndjson("/api/v1/tasks") as lines:
        snapshot = []
        for line in lines:
            if line.get("event") == "synced":
                break
            snapshot.append(line)
        assert name in {line["task"]["id"] for line in snapshot if "task" in line}
        gateway.write(name, progress=2)
        line = next(lines)
        assert (line["task"]["progress"], line["task"]["id"]) == (2, name)
        assert "-" in line["cursor"]
        path.unlink()
        line = next(lines)
        assert (line["event"], line["id"]) == ("gone", name)


def test_ndjson_of_one_task_is_its_dialect(gateway: Gateway, name: str) -> None:
    gateway.write(name, "success", 100)
    with gateway.ndjson(f"/api/v1/tasks/{name}") as lines:
        (line,) = list(lines)
    polled = gateway.get(f"/api/v1/tasks/{name}")
    assert line == {"cursor": polled.headers["etag"].strip('"'), "task": polled.json()}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/event-stream", "text/event-stream"),
        ("TEXT/Event-Stream;q=0.5, */*", "text/event-stream"),
        ("application/x-ndjson, text/event-stream", "text/event-stream"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("*/*", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/event-stream;q=0", "application/json"),
        ("", "application/json"),
    ],
)
def test_the_accept_header_decides(gateway: Gateway, name: str, accept: str, kind: str) -> None:
    gateway.write(name, "success", 100)
    response = gateway.get(f"/api/task?task_id={name}", Accept=accept)
    assert response.headers["content-type"].startswith(kind)


def test_caught_up_subscribers_get_every_change(gateway: Gateway, name: str) -> None:
    gateway.write(name, progress=0)
    with gateway.sse(f"/api/task?task_id={name}") as events, gateway.sse("/api/v1/tasks") as every:
        upto(events, "synced")
        upto(every, "synced")
        for progress in range(1, 60):
            gateway.write(name, progress=progress)
            assert json.loads(next(events).data)["progress"] == progress
            assert json.loads(next(every).data)["progress"] == progress


def test_many_tasks_in_a_snapshot(start: Callable[..., Gateway]) -> None:
    one = start()
    for n in range(3_000):
        one.write(f"t{n}", message="x" * 200)
    one.stop()
    one.start()
    with one.sse("/api/v1/tasks") as events:
        ids = [json.loads(e.data)["id"] for e in upto(events, "synced")[:-1]]
    assert sorted(set(ids)) == sorted(f"t{n}" for n in range(3_000))
