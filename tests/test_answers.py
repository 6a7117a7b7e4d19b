"""What a backend's answers and replies are read as: pure, without a backend."""

import gzip
import json
import zlib
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from gateway.dialects import FLAT, SYSTEM, V1
from gateway.sources.answers import AnswerError, NotHereError, is_unfinished, order_for, pending, read, url_of
from gateway.sources.pace import FASTEST, LONGEST, SLOWEST, Pace
from gateway.tasks import parse
from gateway.upstream.kickoff import MOST, Home, KickOff, plain
from gateway.upstream.kickoff import read as read_reply

GUID = "bdc8e99d-dd8a-40e9-8840-f9f8eef16c71"
STAMP = "Jan-27-26_01-44-55-AM-706d"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-200, 200) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(["status", "payload", "error", "task_id", "id", "progress", "message", "data", "url", "code"])
replies = st.recursive(
    st.dictionaries(members, json_values, max_size=6),
    lambda inner: st.dictionaries(members, inner | json_values, max_size=6),
    max_leaves=4,
)


def v1(**payload: Any) -> bytes:
    given = {"id": GUID, "status": "running", "progress": 1, "message": "", "data": None, **payload}
    return json.dumps({"status": "success", "payload": given}).encode()


# Answers


@pytest.mark.parametrize(
    ("dialect", "status", "body"),
    [
        ("v1", 200, b'{"payload":{"code":4105,"message":"Task does not exist","details":null},"status":"error"}'),
        ("v1", 404, V1.failure("", 404, GUID)),
        ("system", 404, SYSTEM.failure("", 404, GUID)),
        ("flat", 404, FLAT.failure("Task ID not found", 404, GUID)),
        ("flat", 200, b'{"error": "Task ID not found"}'),
    ],
)
def test_a_task_that_does_not_exist(dialect: str, status: int, body: bytes) -> None:
    assert read(dialect, GUID, status, body) is None


@pytest.mark.parametrize(
    ("status", "body", "error", "reason"),
    [
        (404, b"404 page not found", NotHereError, "has no such URL"),
        (404, b'{"detail":"Not Found"}', NotHereError, "has no such URL"),
        (200, b"<html>", NotHereError, "sent what is not JSON"),
        (200, b"[]", NotHereError, "sent what is not JSON"),
        (200, b'{"status":"error","payload":{"message":"Broken"}}', NotHereError, "said: Broken"),
        (200, b"\xff\xfe{}", NotHereError, "sent what is not JSON"),
        (200, b"[" * 60_000, NotHereError, "sent what is not JSON"),
        (500, b'{"error":"Invalid task status file size (must be \xe2\x89\xa464KB)"}', AnswerError, "answered 500"),
        (401, b"", AnswerError, "answered 401"),
        (200, b" " * 65_537, AnswerError, "sent more than 64 KB"),
    ],
)
def test_what_is_no_state(status: int, body: bytes, error: type[AnswerError], reason: str) -> None:
    with pytest.raises(error) as raised:
        read("v1", GUID, status, body)
    assert str(raised.value) == f"The backend {reason}"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"progress": 120}, ("running", 100)),
        ({"progress": -3}, ("running", 0)),
        ({"progress": 12.7}, ("running", 12)),
        ({"progress": None}, ("running", 0)),
        ({"progress": "45"}, ("running", 45)),
        ({"status": "completed", "progress": 130}, ("success", 100)),
        ({"status": "completed", "progress": None}, ("success", 100)),
        (
            {"status": "completed", "progress": 60},
            ("success", 60),
        ),  # not final yet
        ({"status": "error", "progress": 40, "message": "No"}, ("error", 40)),
        ({"status": "failed", "message": "No"}, ("failed", 1)),
    ],
)
def test_v1_is_kept_as_a_file_would_have_it(said: dict[str, Any], shown: tuple[str, int]) -> None:
    task = read("v1", GUID, 200, v1(**said))
    assert task
    flat = json.loads(FLAT.body(task))
    assert (flat["status"], flat["progress"]) == shown
    assert task.final == (shown[0] in {"error", "failed"} or shown == ("success", 100))


def test_the_same_answer_has_the_same_tag_whenever_it_comes() -> None:
    first, again = (read("v1", GUID, 200, v1(progress=5)) for _ in range(2))
    assert first
    assert again
    assert first.tag == again.tag


def test_what_goes_through_v1_comes_out_as_it_was() -> None:
    body = v1(status="completed", progress=100, message="Done", data={"a": [1]}, started=1_700_000_000, finished=1)
    task = read("v1", GUID, 200, body)
    assert task
    assert json.loads(V1.body(task)) == json.loads(body)
    assert task.updated == 1_000  # the backend says when it ended


def test_the_backends_own_spelling_counts_and_no_other_id() -> None:
    task, other = (read("v1", GUID.upper(), 200, v1(id=id)) for id in (GUID, "another"))
    assert task
    assert task.id == GUID
    assert other
    assert other.id == GUID.upper()


@pytest.mark.parametrize(
    ("payload", "unfinished"),
    [
        ({"status": "completed", "progress": 100, "data": None}, True),
        ({"status": "completed", "progress": 100, "data": "OK"}, False),
        ({"status": "completed", "progress": 60, "data": None}, False),
        ({"status": "error", "message": ""}, True),
        ({"status": "error", "message": "No"}, False),
        ({"status": "running"}, False),
    ],
)
def test_which_final_states_look_unfinished(payload: dict[str, Any], unfinished: bool) -> None:
    task = read("v1", GUID, 200, v1(**payload))
    assert task
    assert is_unfinished(task) is unfinished


@given(st.sampled_from(["v1", "flat", "system"]), st.sampled_from([200, 404, 500]), replies | json_values)
def test_any_json_is_read_or_refused(dialect: str, status: int, value: Any) -> None:
    task = None
    with suppress(AnswerError):
        task = read(dialect, GUID, status, json.dumps(value).encode())
    if task:
        for shown in (FLAT, V1, SYSTEM):
            json.loads(shown.body(task))
        assert parse(task.id, task.body, task.updated) == task


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(AnswerError):
        read("v1", GUID, 200, body)


def test_pending_is_not_final_in_any_dialect() -> None:
    task = pending(STAMP)
    assert (task.status, task.final) == ("pending", False)
    assert json.loads(V1.body(task))["payload"]["status"] == "running"


def test_where_a_task_is_asked_for() -> None:
    assert url_of("flat", "a b&c=/ü") == "/api/task?task_id=a%20b%26c%3D%2F%C3%BC"
    assert order_for(GUID)[0] == order_for(GUID.replace("-", ""))[0] == "v1"
    assert order_for(STAMP)[0] == "flat"


# Pace


@given(st.floats(0.05, 60), st.lists(st.sampled_from(["changed", "unchanged", "failed"]), max_size=40))
def test_the_pace_stays_within_its_bounds(interval: float, happenings: list[str]) -> None:
    pace = Pace(interval)
    for happened in happenings:
        getattr(pace, happened)()
        most = LONGEST if happened == "failed" else SLOWEST
        assert FASTEST * interval * 0.9 <= pace.wait() <= most * interval * 1.1


def test_the_pace_follows_what_happens() -> None:
    pace = Pace(1)
    assert 0.9 <= pace.wait() <= 1.1
    waits = []
    for _ in range(6):
        pace.unchanged()
        waits.append(pace._seconds)
    assert waits == sorted(waits)
    assert waits[-1] == SLOWEST
    for _ in range(6):
        pace.changed()
    assert pace._seconds == FASTEST


def test_who_wants_to_be_left_alone_is() -> None:
    pace = Pace(1)
    pace.told(20)
    assert pace.patient
    assert pace.wait() == 20
    pace.told(1e9)
    assert pace.wait() == 2 * LONGEST
    pace.unchanged()
    assert pace.wait() < 2


def test_a_backend_that_fails_is_asked_ever_more_seldom() -> None:
    pace = Pace(1)
    waits = []
    for _ in range(8):
        pace.failed()
        waits.append(pace.wait())
    assert [wait // 0.9 >= 2**n for n, wait in enumerate(waits[:4], 1)] == [True] * 4
    assert waits[-1] >= LONGEST * 0.9
    assert pace.patient


# Replies that start a task

HOME = Home(URL("http://10.0.0.1:8081/coins"), "api.example")
OWN = "http://gateway:8080"


def started(reply: Any) -> KickOff | None:
    return read_reply(json.dumps(reply).encode(), HOME, OWN)


@pytest.mark.parametrize(
    ("reply", "id"),
    [
        ({"status": "success", "task_id": STAMP}, STAMP),
        ({"status": "success", "task_id": "any-name"}, "any-name"),
        ({"status": "success", "payload": {"id": GUID}}, GUID),
        ({"status": "success", "payload": {"id": "x1", "status": "running"}}, "x1"),
        ({"status": "success", "payload": {"task_id": STAMP}}, STAMP),
        ({"status": "success", "payload": {"id": "a-wallet", "name": "Default"}}, None),
        ({"status": "error", "task_id": STAMP}, None),
        ({"payload": {"code": 4105, "message": "Task does not exist"}, "status": "error"}, None),
        ({"task_id": "../../etc/passwd"}, None),
        ({"task_id": 5}, None),
        ({"transactions": [{"task_id": STAMP}]}, None),
        ([{"task_id": STAMP}], None),
    ],
)
def test_which_task_a_reply_starts(reply: Any, id: str | None) -> None:
    found = started(reply)
    assert (found and found.id) == id
    if found:
        assert json.loads(found.body) == reply


@pytest.mark.parametrize(
    ("url", "led"),
    [
        ("http://10.0.0.1:8081/coins/api/system/tasks?task_id=a%20b", f"{OWN}/api/system/tasks?task_id=a%20b"),
        ("http://api.example/coins/t#end", f"{OWN}/t#end"),
        ("https://api.example/coins/t", f"{OWN}/t"),
        ("http://10.0.0.1:8081/other", "http://10.0.0.1:8081/other"),
        ("http://10.0.0.1:9/coins/t", "http://10.0.0.1:9/coins/t"),
        ("http://evil/coins/t", "http://evil/coins/t"),
        ("/coins/t", "/coins/t"),
        ("file:///coins", "file:///coins"),
        ("http://[", "http://["),
    ],
)
def test_which_urls_lead_to_the_gateway(url: str, led: str) -> None:
    assert HOME.left(url, OWN) == led
    for reply in ({"task_id": STAMP, "url": url}, {"payload": {"id": GUID, "url": url}}):
        found = started(reply)
        assert found
        assert led in json.loads(found.body, object_hook=lambda o: o.get("url") or o.get("payload"))


def test_a_backend_on_this_machine_has_several_names() -> None:
    home = Home(URL("http://127.0.0.1:8081"), "127.0.0.1:8081")
    assert home.left("http://localhost:8081/a", OWN) == f"{OWN}/a"
    assert home.left("http://localhost:8080/a", OWN) == "http://localhost:8080/a"


@given(replies)
def test_any_reply_is_understood_or_let_be(reply: Any) -> None:
    found = started(reply)
    if found:
        json.loads(found.body)


@given(st.binary(max_size=60))
def test_any_reply_of_bytes_is_let_be(body: bytes) -> None:
    read_reply(b'{"task_id":' + body, HOME, OWN)


@given(st.binary(max_size=500))
def test_encodings_are_undone(body: bytes) -> None:
    assert plain(gzip.compress(body), b"gzip") == plain(zlib.compress(body), b"deflate") == plain(body, b"") == body
    assert plain(body, b"br") is None
    plain(body, b"gzip")


def test_a_bomb_is_not_undone() -> None:
    assert plain(gzip.compress(b" " * (MOST + 1)), b"gzip") is None
    assert msgspec.json.decode(plain(gzip.compress(b" " * (MOST - 2) + b"{}"), b"gzip") or b"") == {}
