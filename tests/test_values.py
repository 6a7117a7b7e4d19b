"""What a broker or another gateway says, whatever its bytes: it is read, or it is unreadable, and nothing else."""

import contextlib
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.broker import values
from gateway.broker.pulses import SILENCE, Pulses
from gateway.records import LONGEST, Line, read, read_line, record_of
from gateway.store import Event, Kind
from gateway.tasks import MAX_BYTES, is_name
from gateway.unreadable import NAMED, Unreadable, UnreadableError
from tests.test_store import task

DEEP = b'{"x":' + b"[" * 100_000
ENTRIES = st.from_regex(rb"\A[0-9]{1,25}-[0-9]{1,25}\Z") | st.binary(max_size=30)
TEXTS = st.text(max_size=20) | st.sampled_from(["a", "shop:a", "../a", "a:b:c", "", "x" * 300])
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**30, -1, 2**63, "1"])
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXTS,
        "event": st.sampled_from(["", "task", "gone", "invalid", "synced", "heartbeat", "x"]) | TEXTS,
        "error": TEXTS,
        "updated": NUMBERS,
        "floor": NUMBERS,
        "body": TEXTS | st.sampled_from(['{"status":"running"}', "[]", '{"a":"\\ud800"}', "{" * 9_999]),
        "cursor": TEXTS | st.from_regex(r"\A[^\n]{0,9}-[0-9]{0,25}\Z"),
    },
).map(lambda record: json.dumps(record).encode()) | st.binary(max_size=200)


@given(ENTRIES, st.binary(max_size=30), RECORDS)
@example(b"1-1", b"a:evil", b"notjson")
@example(b"garbage", b"", b"{}")
@example(b"9" * 5_000 + b"-1", b"\xff", DEEP)
def test_anything_in_redis_is_read_or_unreadable(entry: bytes, field: bytes, record: bytes) -> None:
    with contextlib.suppress(UnreadableError):
        assert 0 <= values.offset_of(entry) < 10**19
        assert b"%d-%d" % divmod(values.offset_of(entry), 1 << values.SEQUENCE) == re.sub(rb"\b0+(?=\d)", b"", entry)
    with contextlib.suppress(UnreadableError):
        assert re.fullmatch("[A-Za-z0-9]*", values.epoch_of(field))
    with contextlib.suppress(UnreadableError):
        assert 0 <= values.floor_of(field) < 1 << 63
    with contextlib.suppress(UnreadableError):
        values.head_of(field)
    with contextlib.suppress(UnreadableError):
        values.previous_of({b"p": entry, b"r": record})
    with contextlib.suppress(UnreadableError):
        values.previous_of({field: entry})
        assert field == b"p"
    with contextlib.suppress(UnreadableError):
        told = values.told_of(field, entry + b" " + record[:20])
        assert told.pulse.isdigit()
    with contextlib.suppress(UnreadableError):
        row = values.row_of(field, entry + b" " + record)
        assert (row.entry, row.record, is_name(row.id)) == (entry, record, True)
        assert values.offset_of(row.entry) > 0


@given(RECORDS)
@example(DEEP)
@example(b"x" * (LONGEST + 1))
@example(b'{"id":"a","updated":%b}' % (b"9" * 5_000))
@example(json.dumps({"id": "a", "body": '{"x":' + "[" * 60_000}).encode())
@example(json.dumps({"id": "a", "body": '"' + "é" * (MAX_BYTES // 2) + '"'}, ensure_ascii=False).encode())
def test_any_record_and_any_line_is_read_or_unreadable(text: bytes) -> None:
    for reads in (read, read_line):
        with contextlib.suppress(UnreadableError):
            record = reads(text)
            if isinstance(record, Line):
                assert re.fullmatch(r"([A-Za-z0-9]+-[0-9]{1,19})?", record.cursor)
            if isinstance(record, Line) and record.kind not in ("task", "gone", "invalid"):
                continue
            assert is_name(record.id)
            assert 0 <= record.updated < 2**43
            if found := record.task("a"):
                assert read(record_of(Event(1, Kind.TASK, "a", found))).task("a") == found


def test_what_a_gateway_writes_is_read() -> None:
    event = Event(4, Kind.TASK, "a", task("a", progress=3))
    assert values.row_of(b"shop:a", b"17-3 " + record_of(event, "shop")).id == "shop:a"
    assert values.offset_of(b"17-3") == (17 << 20) + 3
    assert values.told_of(b"", b"e0 17") == ("", "e0", b"17")
    assert (values.epoch_of(None), values.head_of(None), values.floor_of(None)) == ("", b"0-0", 0)
    assert read_line(b'{"event":"heartbeat"}').kind == "heartbeat"


@pytest.mark.parametrize("cursor", ["e-1\n", 'e"-1', "e@-1", "-1", "e-", "e--1", "é-1", "e-" + "9" * 20, "e-\u0661"])
def test_a_cursor_that_would_break_others(cursor: str) -> None:
    with pytest.raises(UnreadableError):
        read_line(json.dumps({"event": "synced", "cursor": cursor}).encode())


def test_what_is_read_again_counts_once_and_a_flood_is_named_no_more(caplog: pytest.LogCaptureFixture) -> None:
    unreadable = Unreadable()
    for n in range(3 * NAMED):
        for _ in range(2 if n < NAMED else 1):
            unreadable.add(f"record {n} \n", UnreadableError("x" * 9_999))
    assert unreadable.count == 3 * NAMED
    assert len(caplog.records) == NAMED + 1
    assert max(len(record.getMessage()) for record in caplog.records) < 400


# Pulses


def test_who_was_not_seen_to_beat_may_be_dead() -> None:
    pulses = Pulses()
    pulses.hear({"a": b"1", "b": b"1"}, 0)
    assert (pulses.all_beat, pulses.silent(0)) == (False, [])
    pulses.hear({"a": b"2", "b": b"1"}, 1)
    assert not pulses.all_beat
    pulses.hear({"a": b"3", "b": b"2"}, 2)
    assert (pulses.all_beat, pulses.silent(2)) == (True, [])
    pulses.hear({"a": b"4", "b": b"2"}, 2 + SILENCE + 0.1)
    assert (pulses.all_beat, pulses.silent(2 + SILENCE + 0.1)) == (True, ["b"])
    pulses.hear({"a": b"4"}, 7)  # it is no longer there
    assert pulses.silent(7) == []


def test_a_clock_that_goes_back_is_still_a_pulse() -> None:
    pulses = Pulses()
    for second, pulse in enumerate((b"100", b"7", b"6", b"100")):
        pulses.hear({"a": pulse}, second)
    assert (pulses.all_beat, pulses.silent(3)) == (True, [])
