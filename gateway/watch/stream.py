"""The stream as it is watched at a terminal: what each line says, beside the line itself. `gateway.client` reads it."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from gateway.client.changes import Lost, Reset
from gateway.client.errors import ClientError
from gateway.client.following import follow as follow_lines
from gateway.client.remote import SILENCE, Remote


class WatchError(Exception):
    """What will not pass by itself, as one sentence."""


@dataclass(frozen=True, slots=True)
class State:
    """One state of one task. `updated` is in unix milliseconds, `json` the task as the gateway said it."""

    id: str
    status: str
    progress: float
    message: str
    updated: int
    json: bytes

    @property
    def final(self) -> bool:
        return self.status in ("completed", "error")


@dataclass(frozen=True, slots=True)
class News:
    """What the stream says. `kind` is task, synced, gone, invalid or reset; or lost, when the connection is.

    `line` is what the gateway said, empty where it did not; `text` is why a file is invalid, or a connection lost.
    """

    kind: str
    line: bytes = b""
    cursor: str = ""
    id: str = ""
    text: str = ""
    state: State | None = None


class _Line(msgspec.Struct):
    cursor: str = ""
    event: str = ""
    id: str = ""
    error: str = ""
    task: msgspec.Raw = msgspec.Raw()


class _Task(msgspec.Struct):
    id: str
    status: str
    progress: float
    message: str
    updated: int


_line = msgspec.json.Decoder(_Line).decode
_task = msgspec.json.Decoder(_Task).decode


def news_of(line: bytes) -> News:
    """Reads one line. Raises msgspec.MsgspecError where it is none of the gateway's."""
    said = _line(line)
    if said.event:
        return News(said.event, line, said.cursor, said.id, said.error)
    task, json = _task(said.task), bytes(said.task)
    state = State(task.id, task.status, task.progress, task.message, task.updated, json)
    return News("task", line, said.cursor, task.id, state=state)


async def follow(
    url: str, ids: Iterable[str] = (), *, token: str = "", silence: float = SILENCE
) -> AsyncGenerator[News, None]:
    """Yields what the gateway at `url` says of these tasks, or of all, for ever: reconnects, and resumes.

    Raises WatchError where trying again is of no use.
    """
    try:
        remote = Remote(url, token=token, silence=silence)
        async with aclosing(follow_lines(remote, news_of, {"id": list(ids)})) as stream:
            async for said in stream:
                match said:
                    case News():
                        yield said
                    case Reset():
                        yield News("reset")
                    case Lost():
                        yield News("lost", text=said.reason)
    except ClientError as error:
        raise WatchError(str(error)) from None
