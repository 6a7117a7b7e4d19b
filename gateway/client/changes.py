"""What a gateway says of tasks: one type for each thing, read from lines of NDJSON. No I/O."""

from typing import Any, ClassVar, Literal

import msgspec


class Task(msgspec.Struct, frozen=True):
    """One state of one task: an item of `/api/v1/tasks`.

    `progress` is 0 to 100. `updated` is when its file was written, in unix milliseconds; of a backend that is polled,
    when the state was seen. `data` is as the file has it; of a backend in the v1 dialect only once it is completed.
    """

    id: str
    status: Literal["running", "completed", "error"]
    progress: int
    message: str
    updated: int
    data: Any = None
    started: Any = None
    finished: Any = None

    @property
    def final(self) -> bool:
        return self.status != "running"

    @property
    def succeeded(self) -> bool:
        return self.status == "completed"


class Gone(msgspec.Struct, frozen=True):
    """The file of this task was deleted."""

    id: str


class Invalid(msgspec.Struct, frozen=True):
    """The file cannot be shown now. The last good state stays, and the next one is a Task."""

    id: str
    error: str


class Synced(msgspec.Struct, frozen=True):
    """All there was has been said: live from here."""


class Reset(msgspec.Struct, frozen=True):
    """What is known is to be forgotten: a snapshot follows."""

    kind: ClassVar = "reset"


class Lost(msgspec.Struct, frozen=True):
    """The connection is, and is being made again. `silent`: it stood, and not a byte ever came."""

    kind: ClassVar = "lost"
    reason: str
    silent: bool = False


Change = Task | Gone | Invalid | Synced | Reset | Lost


class Line(msgspec.Struct):
    """One line of the collection's stream: of `kind` task, synced, reset, gone or invalid."""

    kind: str = msgspec.field(name="event", default="task")
    cursor: str = ""
    id: str = ""
    error: str = ""
    task: Task | None = None


read_line = msgspec.json.Decoder(Line).decode
"""Reads one line. Raises msgspec.MsgspecError where it is none of the gateway's."""


def change_of(line: Line) -> Change | None:
    """What a line says; None where it says what this client has no word for."""
    match line.kind:
        case "task":
            return line.task
        case "gone":
            return Gone(line.id)
        case "invalid":
            return Invalid(line.id, line.error)
        case "synced":
            return Synced()
        case "reset":
            return Reset()
    return None


def content(task: Task) -> bytes:
    """What a task says, whenever it was written: a state that says the same is no new one."""
    return msgspec.json.encode(msgspec.structs.replace(task, updated=0))
