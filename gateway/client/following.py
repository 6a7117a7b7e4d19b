"""The collection stream of a gateway, followed for ever: connected again, resumed, and read as fast as lines come.

It is read as NDJSON, not as SSE: a line is cut from bytes and decoded at once, which is 2.3 times as fast here as
httpx-sse (632,000 lines a second against 280,000 on one core), and whoever follows may read lines in a way of his own.
Both say the same, and httpx-sse before 0.4.2 cuts a message at U+2028.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

import httpx
import msgspec

from gateway.client.attempts import FAILURES, Attempts, LostError, may_pass, seconds
from gateway.client.changes import Lost, Reset
from gateway.client.errors import RefusedError
from gateway.client.relay import Tell, relay
from gateway.client.remote import Remote

LONGEST_LINE = 1 << 20
"""Bytes. A task file has at most 64 KB, and so a line not many more."""

_HEADERS = {"Accept": "application/x-ndjson", "Accept-Encoding": "identity"}


class Message(Protocol):
    """What has to be known of a line that was read: its kind (synced, reset or any other), and its cursor or ""."""

    @property
    def kind(self) -> str: ...
    @property
    def cursor(self) -> str: ...


M = TypeVar("M", bound=Message)

Read = Callable[[bytes], M]
Params = Mapping[str, str | Sequence[str]] | None


def follow(remote: Remote, read: Read[M], params: Params = None) -> AsyncGenerator[M | Reset | Lost, None]:
    """Yields each line of the stream at `/api/v1/tasks?{params}` as `read` reads it, for ever.

    A connection that starts anew instead of resuming begins with a Reset; one that ended is told by a Lost, and after
    a while that is jittered and grows, or that the gateway has asked for, another is made. `read` may raise
    msgspec.MsgspecError. Raises RefusedError where trying again is of no use.
    """
    return relay(partial(_follow, remote, read, params))


async def _follow(remote: Remote, read: Read[M], params: Params, tell: Tell[M | Reset | Lost]) -> None:
    place, attempts = Place(), Attempts(remote)
    async with remote.http() as http:
        while True:
            headers = _HEADERS | await remote.headers() | place.headers
            attempts.begin()
            try:
                async with http.stream("GET", f"{remote.url}/api/v1/tasks", params=params, headers=headers) as response:
                    await _check(response)
                    attempts.stand()
                    if place.begin():
                        await tell([Reset()])
                    await _listen(response, read, place, attempts, tell)
                raise LostError("the gateway ended the stream")
            except FAILURES as error:
                lost, pause = attempts.fail(error)
            await tell([lost])
            await asyncio.sleep(pause)


async def _listen(
    response: httpx.Response, read: Read[M], place: "Place", attempts: Attempts, tell: Tell[M | Reset | Lost]
) -> None:
    """Tells what one connection says, until it ends."""
    lines = Lines()
    async for block in response.aiter_bytes():
        attempts.hear()
        messages: list[M] = []
        try:
            for line in lines.of(block):
                messages.append(read(line))
                if place.take(messages[-1]):
                    attempts.succeed()
        finally:
            await tell(messages)  # also those before a line that cannot be read


class Lines:
    """Cuts blocks of bytes into lines, whatever the blocks. Only a newline ends one: httpx's own end at U+2028, too."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, block: bytes) -> list[bytes]:
        """The lines that end in this block, without the empty ones. Raises LostError where one does not come to an
        end."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            raise LostError("a line is longer than any that a gateway sends")
        return [line for line in lines if line]


class Place:
    """Where to resume: after the last cursor. A place inside a snapshot is none to resume from."""

    def __init__(self) -> None:
        self._cursor = ""
        self._whole = False

    @property
    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self._cursor} if self._cursor else {}

    def begin(self) -> bool:
        """Whether the connection that stands now starts anew."""
        self._whole = bool(self._cursor)
        return not self._whole

    def take(self, message: Message) -> bool:
        """Whether this is the end of what was to be caught up on."""
        synced = message.kind == "synced"
        if message.kind == "reset":
            self._cursor, self._whole = "", False
        elif synced:
            self._whole = True
        if self._whole and message.cursor:
            self._cursor = message.cursor
        return synced


class _Refusal(msgspec.Struct):
    error: str = ""


async def _check(response: httpx.Response) -> None:
    """Raises LostError where the gateway refuses for now, RefusedError where it always will."""
    status, kind = response.status_code, response.headers.get("content-type", "")
    if status == 200 and kind.startswith("application/x-ndjson"):
        return
    where = f"{response.url.copy_with(query=None, userinfo=b'')} answered"
    if status == 200:
        raise RefusedError(f"{where} with {kind or 'nothing'} instead of a stream: it is no gateway", status)
    said = f"{status} {_reason(await body_of(response)) or response.reason_phrase}".strip()
    if may_pass(status):
        raise LostError(f"it answered {said}", seconds(response.headers.get("retry-after", "")))
    raise RefusedError(f"{where} {said}", status)


async def body_of(response: httpx.Response) -> bytes:
    """A body, or so much of it that it is seen to be too large."""
    body = b""
    async for part in response.aiter_bytes():
        body += part
        if len(body) > LONGEST_LINE:
            break
    return body


def _reason(body: bytes) -> str:
    """The sentence in a gateway's refusal."""
    try:
        return msgspec.json.decode(body, type=_Refusal).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
