"""The gateway's stream of tasks as a client reads it: events in, reconnections made."""

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

import httpx
import msgspec

SILENCE = 35.0
"""Seconds without a byte after which a connection is dead: two heartbeats and a margin."""

CONNECT = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
LONGEST_RETRY_AFTER = 300.0


class WatchError(Exception):
    """What will not pass by itself, as one sentence."""


class LostError(Exception):
    """A connection that ended, or was refused for now. `pause` is how many seconds the gateway asks to stay away."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


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

    Each connection that starts anew instead of resuming begins with a `reset`. Raises WatchError where trying again
    is of no use.
    """
    if "://" not in url:
        url = f"http://{url}"
    url, params = f"{url.rstrip('/')}/api/v1/tasks", {"id": list(ids)}
    cursor, failures, reached = "", 0, False
    timeout = httpx.Timeout(CONNECT, read=silence, pool=None)
    headers = {"Authorization": f"Bearer {token}"} if token else None
    async with httpx.AsyncClient(timeout=timeout, params=params, headers=headers, follow_redirects=True) as client:
        while True:
            try:
                async with aclosing(_connection(client, url, cursor)) as connection:
                    whole = bool(cursor)  # a place inside a snapshot is none to resume from
                    async for news in connection:
                        reached = True
                        if news.kind == "reset":
                            cursor, whole = "", False
                        elif news.kind == "synced":
                            whole, failures = True, 0
                        cursor = news.cursor if whole and news.cursor else cursor
                        yield news
                raise LostError("the gateway ended the stream")
            except (LostError, httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError) as error:
                lost = _lost(error, url, reached=reached, silence=silence)
            yield News("lost", text=str(lost))
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures, 10)) * random.uniform(0.5, 1)
            failures += 1
            await asyncio.sleep(pause + lost.pause)


async def _connection(client: httpx.AsyncClient, url: str, cursor: str) -> AsyncGenerator[News, None]:
    """One connection, until it ends."""
    headers = {"Accept": "application/x-ndjson", "Accept-Encoding": "identity"}
    if cursor:
        headers["Last-Event-ID"] = cursor
    async with client.stream("GET", url, headers=headers) as response:
        await _check(response)
        if not cursor:
            yield News("reset")
        rest = b""
        async for block in response.aiter_bytes():  # httpx's own lines end at U+2028, too
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if line:
                    yield news_of(line)


async def _check(response: httpx.Response) -> None:
    """Raises LostError where the gateway refuses for now, WatchError where it always will."""
    status, kind = response.status_code, response.headers.get("content-type", "")
    if status == 200 and kind.startswith("application/x-ndjson"):
        return
    where = f"{response.url.copy_with(query=None)} answered"
    if status == 200:
        raise WatchError(f"{where} with {kind or 'nothing'} instead of a stream: it is no gateway")
    said = f"{status} {_reason(await response.aread()) or response.reason_phrase}".strip()
    if status >= 500 or status in (408, 425, 429):
        raise LostError(f"it answered {said}", _seconds(response.headers.get("retry-after", "")))
    raise WatchError(f"{where} {said}")


def _reason(body: bytes) -> str:
    """The sentence in a gateway's refusal."""
    try:
        return _line(body).error
    except msgspec.MsgspecError:
        return ""


def _seconds(retry_after: str) -> float:
    """The Retry-After header where it says seconds; a date is left to the usual pauses."""
    return min(float(retry_after), LONGEST_RETRY_AFTER) if retry_after.isascii() and retry_after.isdecimal() else 0.0


def _lost(error: Exception, url: str, *, reached: bool, silence: float) -> LostError:
    """Why a connection is lost. Raises WatchError where the next one would be, too.

    A name that cannot be found, or a certificate, may be a passing trouble once the gateway was reached.
    """
    if isinstance(error, LostError):
        return error
    if isinstance(error, httpx.ReadTimeout):
        return LostError(f"nothing came for {silence:g} s")
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects)):
        raise WatchError(f"{url} cannot be asked: {error}") from None
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, (socket.gaierror, ssl.SSLError)) and not reached:
            raise WatchError(f"{url} cannot be reached: {cause.strerror or cause}") from None
        cause = cause.__cause__ or cause.__context__
    return LostError(str(error) or type(error).__name__)
