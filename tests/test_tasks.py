"""What a task file is: ids, parsing, final states."""

import json
import string
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tasks import NotATaskError, is_id, parse, spellings

if sys.version_info >= (3, 13):
    from ntpath import isreserved

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "id", ["Jan-31-25_03-45-12-PM", "Apr-22-26_06-12-11-pm-81af", "a", "task 1", "größe", "a.b", "x" * 200]
)
def test_safe_names_are_ids(id: str) -> None:
    assert is_id(id)


@pytest.mark.parametrize(
    "id",
    ["", ".", "..", ".a", "a/b", "a\\b", "a\0b", "a:b", "a*", "a?", '"', "a\n", "\x7f", " a", "a ", "a.", "con", "COM1",
     "lpt9.x", "CONIN$", "conout$", "com¹", "LPT³", "nul .x", "aux  .tar.gz", "x" * 201, "ü" * 126, "\ud800"],
)  # fmt: skip
def test_unsafe_names_are_not(id: str) -> None:
    assert not is_id(id)


if sys.version_info >= (3, 13):  # those before do not know what Windows reserves
    PARTS = ["CON", "prn", "AUX", "NUL", "CONIN$", "conout$", "COM1", "com¹", "LPT³", "lpt0", "CLOCK$", " ", ".", "x"]

    @given(st.lists(st.sampled_from(PARTS), max_size=4).map("".join) | st.text(max_size=20))
    def test_no_name_that_windows_reserves_is_an_id(text: str) -> None:
        assert not (is_id(text) and (isreserved(text) or isreserved(f"{text}.json")))


@given(st.text(max_size=300))
def test_an_id_never_leaves_its_folder(text: str) -> None:
    if is_id(text):
        assert not set(text) & set('/\\\0:<>|?*"')
        assert text not in {".", ".."}
        assert len(f"{text}.json".encode()) <= 255


@given(st.text(alphabet=string.hexdigits, min_size=32, max_size=32))
def test_every_spelling_of_a_guid_finds_every_other(digits: str) -> None:
    dashed = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    for one in (digits, dashed, digits.upper(), dashed.lower()):
        assert spellings(one)[0] == one
        assert {digits.lower(), digits.upper(), dashed.lower(), dashed.upper()} <= set(spellings(one))
        assert all(map(is_id, spellings(one)))


def test_time_stamps_in_either_case() -> None:
    assert spellings("jan-27-26_01-44-55-am-706D") == (
        "jan-27-26_01-44-55-am-706D",
        "Jan-27-26_01-44-55-AM-706d",
        "Jan-27-26_01-44-55-AM-706D",
        "Jan-27-26_01-44-55-am-706d",
        "Jan-27-26_01-44-55-am-706D",
    )
    assert spellings("Any-Other") == ("Any-Other",)


@pytest.mark.parametrize(
    ("status", "progress", "final"),
    [
        ("success", 100, True), ("SUCCESS", 100, True), ("completed", 100, True), ("success", 99, False),
        ("success", "99", False), ("success", "100", True), ("success", None, True), ("success", 99.5, False),
        ("success", 150, True), ("error", 0, True), ("Failed", 40, True), ("cancelled", None, True),
        ("running", 100, False), ("pending", 0, False), ("novel", 100, False), ("", None, False), (7, 100, False),
        (" success ", 100, True), (None, 100, False),
    ],
)  # fmt: skip
def test_which_states_are_final(status: object, progress: object, final: bool) -> None:
    assert parse("x", json.dumps({"status": status, "progress": progress}).encode(), 0).final is final


def test_an_envelope_is_read_through() -> None:
    inner = {"id": "other", "status": "completed", "progress": 100, "message": "m", "data": "OK"}
    task = parse("mine", json.dumps({"status": "success", "payload": inner}).encode(), 5)
    assert (task.id, task.status, task.progress, task.final, task.updated) == ("mine", "completed", 100, True, 5)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"), (b" \n", "empty"), (b"{", "not JSON"), (b'{"a":1}x', "not JSON"), (b"[1]", "not a JSON object"),
        (b'"x"', "not a JSON object"), (b"\xff", "not UTF-8"), (b'{"data":"\xff"}', "not UTF-8"),
        (b'{"a":NaN}', "not JSON"), (b'{"a":"\n"}', "not JSON"), (b'{"a":' * 1_000_000, "nested too deep"),
    ],
)  # fmt: skip
def test_what_is_no_task_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(NotATaskError, match=f"^{reason}$"):
        parse("x", body, 0)


@given(st.dictionaries(st.sampled_from(["status", "progress", "message", "data", "payload", "other"]), json_values))
def test_any_object_is_a_task_on_one_line(document: dict[str, object]) -> None:
    body = json.dumps(document, indent=2).encode()
    task = parse("x", body, 0)
    assert task.body == body
    assert b"\n" not in task.line
    assert b"\r" not in task.line
    assert json.loads(task.line) == document


@given(st.dictionaries(st.text(max_size=4), json_values, min_size=1), st.data())
def test_no_prefix_of_a_file_is_a_task(document: dict[str, object], data: st.DataObject) -> None:
    body = json.dumps(document).encode()
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(NotATaskError):
        parse("x", body[:cut], 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_task_or_not_and_nothing_else(body: bytes) -> None:
    try:
        task = parse("x", body, 0)
    except NotATaskError:
        return
    json.loads(task.line)
