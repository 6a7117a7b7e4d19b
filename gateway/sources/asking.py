"""Asking a backend for a task: one HTTP request at a time for each, in the dialect that it speaks."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp
from yarl import URL

from gateway.sources.answers import AnswerError, NotHereError, order_for, read, url_of
from gateway.sources.slots import Slots, Turn
from gateway.tasks import MAX_BYTES, Task

DEADLINE = 10.0
"""Intervals within which an answer must have come."""


class Answer(NamedTuple):
    """What the backend said: a state, that it is `unchanged`, or neither where it does not know the task.

    `etag` is the validator of the state, `retry_after` the seconds that the backend wants to be left alone.
    """

    task: Task | None = None
    unchanged: bool = False
    etag: str = ""
    retry_after: float = 0


class UnreachableError(AnswerError):
    """No answer at all."""


class Asking:
    """Asks at `base` while `running`, as `slots` let it. `dialect` is auto, the one to ask in, or off."""

    def __init__(self, base: str, dialect: str, slots: Slots, *, host: str, connect: float, interval: float) -> None:
        self._base = base.rstrip("/")
        self._dialect = "" if dialect == "auto" else dialect
        self._spoken: dict[tuple[str, ...], str] = {}  # by kind of id, what the backend has answered in
        self.slots = slots
        self._headers = {"Host": host} if host else {}
        self._timeout = aiohttp.ClientTimeout(total=DEADLINE * interval, sock_connect=connect)
        self._session: aiohttp.ClientSession
        self.error: AnswerError | None = None
        """Why there was no answer to the last poll, if there was none."""
        self.outcomes: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": "task-gateway", **self._headers},
            timeout=self._timeout,
        ) as self._session:
            yield

    async def ask(self, names: Sequence[str], etag: str, turn: Turn) -> Answer:
        """Asks under each of a task's names, until the backend knows one, once it is its turn. Raises AnswerError."""
        if self._dialect == "off":
            return Answer()
        async with self.slots.held(turn):
            return await self._ask(names, etag)

    async def _ask(self, names: Sequence[str], etag: str) -> Answer:
        kind = order_for(names[0])
        spoken = self._dialect or self._spoken.get(kind)
        if not spoken:
            return await self._find_out(kind, names)
        try:
            return await self._under(spoken, names, etag)
        except NotHereError as error:
            if error.status != 404:
                raise
            self._spoken.pop(kind, None)  # if another kind of backend has taken its place, that is found out
            return Answer(retry_after=error.retry_after)

    async def _find_out(self, kind: tuple[str, ...], names: Sequence[str]) -> Answer:
        """Tries the dialects, until the backend answers in one as is documented."""
        wrong: AnswerError | None = None
        for dialect in kind:
            try:
                answer = await self._under(dialect, names)
            except NotHereError:
                continue
            except UnreachableError:
                raise
            except AnswerError as error:
                wrong = error
            else:
                self._spoken[kind] = dialect
                return answer
        if wrong:
            raise wrong
        return Answer()

    async def _under(self, dialect: str, names: Sequence[str], etag: str = "") -> Answer:
        wait = 0.0
        for name in names:
            answer = await self._get(dialect, name, etag)
            if answer.task or answer.unchanged:
                return answer
            wait = max(wait, answer.retry_after)
        return Answer(retry_after=wait)

    async def _get(self, dialect: str, name: str, etag: str) -> Answer:
        url = URL(self._base + url_of(dialect, name), encoded=True)
        wait = 0.0
        try:
            headers = {"If-None-Match": etag} if etag else None
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                wait = _retry_after(response.headers.get("Retry-After", ""))
                self.outcomes[str(response.status)] += 1
                self.error = None
                if response.status == 304 and etag:
                    return Answer(unchanged=True, etag=etag, retry_after=wait)
                task = read(dialect, name, response.status, await _body(response))
                return Answer(task, etag=response.headers.get("ETag", ""), retry_after=wait)
        except AnswerError as error:
            error.retry_after = wait
            raise
        except TimeoutError:
            self.error = UnreachableError("did not answer in time", status=504)
        except aiohttp.ClientError:
            self.error = UnreachableError("cannot be reached")
        self.outcomes["none"] += 1
        raise self.error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """A body, or so much of it that it is seen to be too large."""
    body = b""
    async for part in response.content.iter_any():
        body += part
        if len(body) > MAX_BYTES:
            break
    return body


def _retry_after(text: str) -> float:
    """Seconds, from a number of them or a date (RFC 9110, 10.2.3); 0 for neither."""
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
