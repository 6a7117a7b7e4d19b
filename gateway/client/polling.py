"""Where there is no stream: one task is polled at the documented URLs, in whichever dialect the server speaks."""

import asyncio
import time
from collections.abc import AsyncGenerator
from enum import Enum
from functools import partial

import httpx
import msgspec

from gateway.client.attempts import FAILURES, Attempts, LostError, may_pass, seconds
from gateway.client.changes import Change, Gone, Task, content
from gateway.client.errors import RefusedError
from gateway.client.following import body_of
from gateway.client.relay import Tell, relay
from gateway.client.remote import Remote
from gateway.dialects import item
from gateway.sources.answers import AnswerError, NotHereError, order_for, read, url_of
from gateway.sources.pace import Pace
from gateway.tasks import fold, spellings

AGAIN = 60.0
"""Seconds after which a stream is asked for once more."""

CONFIRM = 0.5
"""Seconds, but at least an interval, until a final state that looks unfinished is asked for once more."""


class Same(Enum):
    """What an answer says that says nothing new."""

    SAME = "same"


class _Page(msgspec.Struct):
    tasks: list[Task]


class _Collection(msgspec.Struct):
    payload: _Page


class Polling:
    """Polls for one task: first at the collection, which a gateway has even where its streams do not get through."""

    def __init__(self, remote: Remote, id: str, interval: float) -> None:
        self._remote, self._id, self._interval = remote, id, interval
        self._dialects = ("item", *order_for(id))
        self._spoken = ""  # the dialect in which the server has answered as is documented
        self._etag = ""
        self._content = b""
        self._doubted = b""  # a final state that was seen once, and looked unfinished

    def changes(self, refused: RefusedError | None) -> AsyncGenerator[Change, None]:
        """What the polls of one minute bring: a Task where it changed, Gone at each that does not find it, Lost at each
        that fails.

        `refused` says why there is no stream; it is raised where no documented URL answers, either.
        """
        return relay(partial(self._poll, refused))

    async def _poll(self, refused: RefusedError | None, tell: Tell[Change]) -> None:
        pace, attempts = Pace(self._interval), Attempts(self._remote)
        until = time.monotonic() + AGAIN
        async with self._remote.http() as http:
            while time.monotonic() < until:
                headers = await self._remote.headers()
                attempts.begin()
                try:
                    change, pause = self._take(await self._ask(http, headers, refused), pace)
                    attempts.stand()
                    attempts.succeed()
                except FAILURES as error:
                    change, pause = attempts.fail(error)
                if change:
                    await tell([change])
                await asyncio.sleep(pause)

    def _take(self, answer: Task | Same | None, pace: Pace) -> tuple[Change | None, float]:
        """What an answer says, and how many seconds to wait until the next."""
        if answer is None:
            self._etag, self._content, self._doubted = "", b"", b""
            pace.unchanged()
            return Gone(self._id), pace.wait()
        if answer is Same.SAME:
            pace.unchanged()
            return None, pace.wait()
        said = content(answer)
        if _is_unfinished(answer) and said != self._doubted:
            self._doubted, self._etag = said, ""
            return None, max(CONFIRM, self._interval)
        change = said != self._content
        self._content = said
        (pace.changed if change else pace.unchanged)()
        return answer if change else None, pace.wait()

    async def _ask(
        self, http: httpx.AsyncClient, headers: dict[str, str], refused: RefusedError | None
    ) -> Task | Same | None:
        """Asks in the dialect that is spoken, or finds it out."""
        if self._spoken:
            try:
                return await self._get(http, self._spoken, headers)
            except NotHereError as error:
                if error.status == 404:
                    return None
                raise LostError(str(error)) from None
        wrong: Exception | None = refused
        for dialect in self._dialects:
            try:
                answer = await self._get(http, dialect, headers)
            except NotHereError:
                continue
            except LostError as error:
                wrong = error
            else:
                self._spoken = dialect
                return answer
        raise wrong or LostError("no URL of a task answers")

    async def _get(self, http: httpx.AsyncClient, dialect: str, headers: dict[str, str]) -> Task | Same | None:
        """One poll. Raises NotHereError where there is no such URL, LostError where it fails for now."""
        params = {"id": self._id} if dialect == "item" else None
        path = "/api/v1/tasks" if dialect == "item" else url_of(dialect, self._id)
        known = {"If-None-Match": self._etag} if self._etag else {}
        async with http.stream(
            "GET", self._remote.url + path, params=params, headers={"Accept": "application/json"} | headers | known
        ) as response:
            body = await body_of(response)
        if response.status_code == 304 and known:
            return Same.SAME
        if response.status_code in (401, 403):
            raise RefusedError(f"{self._remote.shown} answered {response.status_code}", response.status_code)
        try:
            task = self._item(response, body) if dialect == "item" else self._shown(dialect, response, body)
        except NotHereError:
            raise
        except AnswerError as error:
            if response.status_code != 200 and not may_pass(response.status_code):
                raise NotHereError(f"answered {response.status_code}") from None
            raise LostError(str(error), seconds(response.headers.get("retry-after", ""))) from None
        self._etag = response.headers.get("etag", "")
        return task

    def _item(self, response: httpx.Response, body: bytes) -> Task | None:
        """The collection's own answer. Another server's list of tasks is none."""
        if may_pass(response.status_code):
            raise AnswerError(f"answered {response.status_code}")
        try:
            tasks = msgspec.json.decode(body, type=_Collection).payload.tasks if response.status_code == 200 else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            tasks = None
        found = [task for task in tasks or () if fold(task.id) in map(fold, spellings(self._id))]
        if tasks is None or (tasks and not found):
            raise NotHereError("has no collection of tasks")
        return found[0] if found else None

    def _shown(self, dialect: str, response: httpx.Response, body: bytes) -> Task | None:
        task = read(dialect, self._id, response.status_code, body)
        return msgspec.json.decode(item(task), type=Task) if task else None


def _is_unfinished(task: Task) -> bool:
    """Whether the rest of a final state may still be being written: the Go backend sets the status of a task before
    its data."""
    return task.data is None if task.succeeded else task.final and not task.message
