"""How a task is shown: bodies that the documented clients can read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import FLAT, ITEM, SYSTEM, V1
from gateway.tasks import parse
from tests.test_tasks import json_values


def shown(dialect: object, **members: object) -> dict[str, object]:
    task = parse("id", json.dumps(members).encode(), 1234)
    payload: dict[str, object] = json.loads(dialect.body(task))  # type: ignore[attr-defined]
    return payload.get("payload", payload)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("status", "progress", "word"),
    [
        ("pending", 0, "running"), ("running", 50, "running"), ("success", 100, "completed"),
        ("completed", 100, "completed"), ("success", 99, "running"), ("error", 3, "error"), ("failed", 3, "error"),
        ("CANCELLED", 3, "error"), ("Success", None, "completed"), ("never-seen", 100, "running"), (None, 1, "running"),
    ],
)  # fmt: skip
def test_v1_shows_its_three_words_only(status: object, progress: object, word: str) -> None:
    assert shown(V1, status=status, progress=progress)["status"] == word


def test_v1_data_only_when_completed() -> None:
    assert shown(V1, status="running", data={"a": 1})["data"] is None
    assert shown(V1, status="error", data={"a": 1})["data"] is None
    assert shown(V1, status="success", data={"a": 1})["data"] == {"a": 1}
    assert shown(V1, status="success", data="OK")["data"] == "OK"
    assert shown(V1, status="success", data=None)["data"] == {}
    assert shown(V1, status="success")["data"] == {}


def test_v1_a_completed_task_without_progress_is_at_100() -> None:
    assert shown(V1, status="success")["progress"] == 100
    assert shown(V1, status="running")["progress"] == 0


def test_the_real_error_text_is_in_the_message() -> None:
    assert shown(V1, status="error", message="Error Occured", data={"message": "no network"})["message"] == "no network"
    assert shown(V1, status="error", message="Error Occured", data="x")["message"] == "Error Occured"
    assert shown(V1, status="error", message="told", data={"message": "other"})["message"] == "told"
    assert shown(SYSTEM, status="failed", data={"message": "no network"})["message"] == "no network"
    assert shown(V1, status="running", message=None)["message"] == ""
    assert shown(V1, status="running", message={"a": 1})["message"] == '{"a":1}'


def test_what_the_real_backend_adds_is_kept() -> None:
    payload = shown(V1, status="running", started=5, finished=0)
    assert (payload["started"], payload["finished"]) == (5, 0)


def test_system_keeps_status_and_data() -> None:
    payload = shown(SYSTEM, status="running", progress=5, data={"a": 1})
    assert (payload["status"], payload["data"]) == ("running", {"a": 1})


def test_an_item_has_updated_and_data_as_the_file() -> None:
    item = shown(ITEM, status="running", progress=5, data={"a": 1})
    assert (item["updated"], item["data"], item["status"]) == (1234, {"a": 1}, "running")


def test_flat_on_a_line_is_the_same_json() -> None:
    task = parse("x", b'{\n "a": 1e2,\n "b": 123456789012345678901234567890}', 0)
    assert FLAT.body(task) == task.body
    assert FLAT.line(task) == b'{"a":1e2,"b":123456789012345678901234567890}'


@given(
    st.dictionaries(
        st.sampled_from(["status", "progress", "message", "data", "payload", "started", "finished"]), json_values
    )
)
def test_every_body_is_what_a_typed_client_can_decode(document: dict[str, object]) -> None:
    task = parse("id", json.dumps(document).encode(), 0)
    for dialect in (V1, SYSTEM):
        line = dialect.body(task)
        assert b"\n" not in line
        body = json.loads(line)
        payload = body["payload"]
        assert body["status"] == "success"
        assert payload["id"] == "id"
        assert type(payload["progress"]) is int
        assert 0 <= payload["progress"] <= 100
        assert isinstance(payload["message"], str)
        assert isinstance(payload["status"], str)
        if dialect is V1:
            assert payload["status"] in {"running", "completed", "error"}
            assert payload["status"] == "completed" or payload["data"] is None
