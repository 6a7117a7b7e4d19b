"""The shapes of everything that is read and answered, as types; JSON Schemas are made from them.

The answers themselves are put together from bytes, because that is fast: tests hold them against these types.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.client.changes import Task
from gateway.endpoints.collection import Ask
from gateway.records import Record

Percent = Annotated[int, Meta(ge=0, le=100)]
Cursor = Annotated[str, Meta(pattern=r"^[^-]+-\d{1,19}$", description="A place in the order of changes; opaque.")]
Milliseconds = Annotated[int, Meta(description="Unix milliseconds.")]
Moment = Annotated[Any, Meta(description="As the file has it.")]


class TaskFile(Struct):
    """A task file, `[data_path]/Tasks/<task_id>.json`, as backends should write it (flat document)."""

    status: Literal["pending", "running", "success", "completed", "error", "failed", "cancelled"]
    progress: Annotated[float, Meta(ge=0, le=100)]
    message: str
    data: dict[str, Any] | str | None = None
    task_id: str | UnsetType = UNSET
    started: Moment | UnsetType = UNSET
    finished: Moment | UnsetType = UNSET


class FlatTask(Struct):
    """The file's own bytes, whatever members it has."""

    status: Any | UnsetType = UNSET
    progress: Any | UnsetType = UNSET
    message: Any | UnsetType = UNSET
    data: Any | UnsetType = UNSET


class V1Payload(Struct):
    """`data` is there only once it is completed."""

    id: str
    status: Literal["running", "completed", "error"]
    progress: Percent
    message: str
    data: Any
    started: Moment | UnsetType = UNSET
    finished: Moment | UnsetType = UNSET


class V1Task(Struct):
    status: Literal["success"]
    payload: V1Payload


class SystemPayload(Struct):
    """With the file's own status and data."""

    id: str
    status: str
    progress: Percent
    message: str
    data: Any
    started: Moment | UnsetType = UNSET
    finished: Moment | UnsetType = UNSET


class SystemTask(Struct):
    status: Literal["success"]
    payload: SystemPayload


class PagePayload(Struct):
    """Newest first. `next` is the `after` of the page that follows. `stale` is said by edges: that it may be old."""

    tasks: list[Task]
    next: str | None
    stale: bool | UnsetType = UNSET


class Page(Struct):
    status: Literal["success"]
    payload: PagePayload


class FlatFailure(Struct):
    error: str


class EnvelopeFailurePayload(Struct):
    """`code` is 4105 for a task that does not exist, else the HTTP status."""

    id: str
    status: Literal["error"]
    progress: int
    message: str
    data: None
    code: int
    details: None


class EnvelopeFailure(Struct):
    """Ends every documented poller."""

    status: Literal["error"]
    payload: EnvelopeFailurePayload


class Alive(Struct):
    alive: bool


class Check(Struct):
    ok: bool
    detail: str


class Ready(Struct):
    """Each reason by its name: folder, watcher, reconciliation, backend, source, broker, loop."""

    ready: bool
    checks: dict[str, Check]


class Ticket(Struct):
    """Good once, as `?ticket=`, within `expires_in` seconds."""

    ticket: str
    expires_in: int


# What streams say beside tasks: the data of SSE events of that name


class Gone(Struct):
    """The file was deleted."""

    id: str


class Invalid(Struct):
    """The file cannot be shown; the last good state stays."""

    id: str
    error: str


class Synced(Struct):
    """All there was has been said: live from here."""

    cursor: Cursor


class Nothing(Struct):
    """The event's name says it all."""


# NDJSON: the same, one line each


class TaskLine(Struct):
    cursor: Cursor
    task: Task


class GoneLine(Struct):
    cursor: Cursor
    event: Literal["gone"]
    id: str


class InvalidLine(Struct):
    cursor: Cursor
    event: Literal["invalid"]
    id: str
    error: str


class SyncedLine(Struct):
    cursor: Cursor
    event: Literal["synced"]


class NoticeLine(Struct):
    """`reset`: forget what you hold, a snapshot follows. `stale`, `fresh`: an edge may be behind, or no more."""

    event: Literal["reset", "stale", "fresh"]


class FileLine(Record, frozen=True, kw_only=True):
    """What another gateway is told (`?files`): the file's own text."""

    cursor: Cursor


class OwnTaskLine(Struct):
    """Of the stream of a single task: what a poll of the same URL answers, and the id to resume with."""

    cursor: str
    task: Any


class OwnNoticeLine(Struct):
    event: Literal["synced", "gone", "invalid", "reset"]
    id: str | UnsetType = UNSET
    error: str | UnsetType = UNSET


# WebSocket: the same, a message each


class TaskMessage(Struct, tag_field="type", tag="task"):
    cursor: Cursor
    task: Task


class GoneMessage(Struct, tag_field="type", tag="gone"):
    cursor: Cursor
    id: str


class InvalidMessage(Struct, tag_field="type", tag="invalid"):
    cursor: Cursor
    id: str
    error: str


class SyncedMessage(Struct, tag_field="type", tag="synced"):
    cursor: Cursor


class ResetMessage(Struct, tag_field="type", tag="reset"):
    """Forget what you hold, a snapshot follows."""


class StaleMessage(Struct, tag_field="type", tag="stale"):
    """An edge cannot reach its source."""


class FreshMessage(Struct, tag_field="type", tag="fresh"):
    """It is up to date again."""


class PongMessage(Struct, tag_field="type", tag="pong"):
    """The answer to a `ping`."""


class ErrorMessage(Struct, tag_field="type", tag="error"):
    """The client's message was not understood; the connection stays."""

    code: str
    message: str


POLLS = (FlatTask, V1Task, SystemTask, Page, FlatFailure, EnvelopeFailure, Alive, Ready, Ticket)
SSE = (Gone, Invalid, Synced, Nothing)
NDJSON = (TaskLine, GoneLine, InvalidLine, SyncedLine, NoticeLine, FileLine)
OWN = (OwnTaskLine, OwnNoticeLine)
MESSAGES = (
    TaskMessage,
    GoneMessage,
    InvalidMessage,
    SyncedMessage,
    ResetMessage,
    StaleMessage,
    FreshMessage,
    PongMessage,
    ErrorMessage,
)
ALL: tuple[type, ...] = (TaskFile, Task, *POLLS, *SSE, *NDJSON, *OWN, *MESSAGES, Ask)


def components(template: str = "#/components/schemas/{name}") -> dict[str, Any]:
    """The JSON Schemas (2020-12) of all of them by name; they refer to each other by `template`."""
    return msgspec.json.schema_components(ALL, ref_template=template)[1]
