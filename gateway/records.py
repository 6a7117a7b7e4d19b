"""A change as one gateway tells it to another: one line of JSON with the file's own bytes in it. No I/O."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec

from gateway.store import Event, Kind
from gateway.tasks import MAX_BYTES, NotATaskError, Task, is_name, parse
from gateway.unreadable import UnreadableError

encode = msgspec.json.encode

EPOCH = r"[A-Za-z0-9]{1,64}"
"""What an order is called: it stands in cursors and in the ids of events."""

LATEST = (1 << 43) - 1
"""The last millisecond whose offsets a cursor can hold, in the year 2248."""

LONGEST = 8 * MAX_BYTES
"""Bytes of a record. JSON may need six for one of the file's."""

CHANGES = frozenset({"", Kind.TASK.value, Kind.GONE.value, Kind.INVALID.value})
"""What the events of records are; other lines tell of the stream itself."""

Text = Annotated[str, msgspec.Meta(max_length=1_000)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Record(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is so of one task: `event` is empty for a state, or `gone`, or `invalid`.

    `id` begins with the namespace of its publisher, where it has one, and a colon. `body` is the file's text, of an
    invalid file the last good one where there is one, last written at `updated` (unix ms). `error` says what is wrong.
    """

    id: Text = ""
    event: Text = ""
    error: Text = ""
    updated: Annotated[int, msgspec.Meta(ge=0, le=LATEST)] = 0
    body: Annotated[str, msgspec.Meta(max_length=MAX_BYTES)] = ""

    def task(self, id: str) -> Task | None:
        """The state in it, as that of the task `id`. Raises UnreadableError where there has to be one, and is not."""
        body = self.body.encode()
        if not body and self.event in (Kind.GONE.value, Kind.INVALID.value):
            return None
        if len(body) > MAX_BYTES:
            raise UnreadableError("too large")
        try:
            return parse(id, body, self.updated)
        except NotATaskError as error:
            raise UnreadableError(str(error)) from None


class Line(Record, frozen=True, gc=False):
    """A line of the stream that gateways follow: a record at its place, or news of the stream itself.

    `floor` comes with `synced`: the offset up to which deletions are forgotten.
    """

    cursor: Annotated[str, msgspec.Meta(pattern=rf"^({EPOCH}-[0-9]{{1,19}})?\Z")] = ""
    floor: Offset = 0

    @property
    def kind(self) -> str:
        return self.event or Kind.TASK.value


R = TypeVar("R", bound=Record)

_record = msgspec.json.Decoder(Record).decode
_line = msgspec.json.Decoder(Line).decode


def read(text: bytes, id: str = "") -> Record:
    """That of the task `id`, where one is named. Raises UnreadableError."""
    record = _read(text, _record)
    if id and record.id != id:
        raise UnreadableError("that of another task")
    if record.event not in CHANGES:
        raise UnreadableError("of no kind that is known")
    return record


def read_line(text: bytes) -> Line:
    """Raises UnreadableError; not for news of the stream that nobody knows here."""
    return _read(text, _line)


def _read(text: bytes, decode: Callable[[bytes], R]) -> R:
    if len(text) > LONGEST:
        raise UnreadableError("too large")
    try:
        record = decode(text)
    except RecursionError:
        raise UnreadableError("nested too deep") from None
    except ValueError as error:  # also UnicodeDecodeError
        raise UnreadableError(str(error)) from None
    if record.event in CHANGES and not is_name(record.id):
        raise UnreadableError("of what cannot be a task")
    return record


def record_of(event: Event, space: str = "") -> bytes:
    """An event as a record, its task within the namespace `space` where that is not empty."""
    task = event.shown
    return encode(
        Record(
            id=f"{space}:{event.id}" if space else event.id,
            event="" if event.kind is Kind.TASK else event.kind.value,
            error=event.error,
            updated=min(max(task.updated, 0), LATEST) if task else 0,
            body=task.body.decode() if task else "",
        )
    )
