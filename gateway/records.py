"""A change as one gateway tells it to another: one line of JSON with the file's own bytes in it. No I/O."""

from typing import Annotated

import msgspec

from gateway.store import Event, Kind
from gateway.tasks import Task, parse

encode = msgspec.json.encode


class Record(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is so of one task: `event` is empty for a state, or `gone`, or `invalid`.

    `id` begins with the namespace of its publisher, where it has one, and a colon. `body` is the file's text, of an
    invalid file the last good one where there is one, last written at `updated` (unix ms). `error` says what is wrong.
    """

    id: str = ""
    event: str = ""
    error: str = ""
    updated: int = 0
    body: str = ""

    def task(self, id: str) -> Task | None:
        """The state in it, as that of the task `id`. Raises NotATaskError."""
        return parse(id, self.body.encode(), self.updated) if self.body else None


class Line(Record, frozen=True, gc=False):
    """A line of the stream that gateways follow: a record at its place, or news of the stream itself.

    `floor` comes with `synced`: the offset up to which deletions are forgotten.
    """

    cursor: Annotated[str, msgspec.Meta(pattern=r"^([^-]+-\d{1,19})?$")] = ""
    floor: int = 0

    @property
    def kind(self) -> str:
        return self.event or "task"


read = msgspec.json.Decoder(Record).decode
"""Raises msgspec.MsgspecError."""

read_line = msgspec.json.Decoder(Line).decode
"""Raises msgspec.MsgspecError."""


def record_of(event: Event, space: str = "") -> bytes:
    """An event as a record, its task within the namespace `space` where that is not empty."""
    task = event.shown
    return encode(
        Record(
            id=f"{space}:{event.id}" if space else event.id,
            event="" if event.kind is Kind.TASK else event.kind.value,
            error=event.error,
            updated=task.updated if task else 0,
            body=task.body.decode() if task else "",
        )
    )
