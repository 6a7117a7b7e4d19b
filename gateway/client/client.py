"""The client: tasks of a gateway, followed in a few words."""

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from gateway.client.changes import Change, Lost, Reset, Task, change_of, read_line
from gateway.client.errors import RefusedError, TaskFailedError, TaskTimeoutError
from gateway.client.following import follow
from gateway.client.known import PATIENCE, Known
from gateway.client.remote import SILENCE, Remote, Token

URL = "http://localhost:8080"

INTERVAL = 1.0
"""Seconds between two polls; quicker while a task changes, slower while it does not."""

_log = logging.getLogger("gateway.client")


class Client:
    """A gateway; or a backend without streams, of which single tasks are polled.

    It holds no connection, so there is nothing to close: each call makes its own, and closes it when it ends, is
    cancelled, or is no longer iterated. For many tasks, `watch_all` with their `ids` needs one connection, `watch` one
    for each.

    `token` is a bearer token, or a function that gives one, async or not: it is called for each new connection. `tls`
    says which certificates are trusted. A connection is given up after `silence` seconds without a byte, which should
    be two heartbeats of the gateway; polls are `interval` seconds apart. Raises RefusedError where the URL is none.
    """

    def __init__(
        self,
        url: str = URL,
        token: Token | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        silence: float = SILENCE,
        interval: float = INTERVAL,
    ) -> None:
        self._remote = Remote(url, token=token, tls=tls, silence=silence)
        self._interval = interval

    async def watch(self, id: str, *, patience: float = PATIENCE) -> AsyncGenerator[Task, None]:
        """Yields each new state of a task, and ends after the final one. What was told is not told again, whatever
        becomes of the connection. Whoever takes long over them is told fewer of those between.

        Raises TaskUnknownError or TaskGoneError where it has no file for `patience` seconds, and RefusedError where
        neither a stream nor a poll is to be had. While the gateway cannot be reached it is tried again, for ever.
        """
        known, clock = Known(id, patience), asyncio.get_running_loop().time
        async with aclosing(self._changes(id)) as changes:
            while True:
                try:
                    async with asyncio.timeout_at(known.deadline) as limit:
                        change = await anext(changes)
                except TimeoutError:
                    if not limit.expired():
                        raise
                    raise known.missed() from None
                if task := known.take(change, clock()):
                    yield task
                    if task.final:
                        return

    async def wait(
        self,
        id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - its error has the last state
        patience: float = PATIENCE,
    ) -> Task:
        """The final state of a task that succeeds.

        Raises TaskFailedError where it does not, TaskTimeoutError after `timeout` seconds, and what `watch` raises.
        """
        last: Task | None = None
        try:
            async with asyncio.timeout(timeout) as limit, aclosing(self.watch(id, patience=patience)) as states:
                async for state in states:
                    last = state
        except TimeoutError:
            if not limit.expired():
                raise
            raise TaskTimeoutError(f"Task {id} did not end within {timeout:g} s", id, last) from None
        assert last
        if not last.succeeded:
            raise TaskFailedError(last.message, id, last)
        return last

    async def watch_all(
        self, ids: Iterable[str] | None = None, *, recent: str | None = None
    ) -> AsyncGenerator[Change, None]:
        """Yields what changes, for ever: of these tasks, or of all.

        It begins with a Reset, a Task for each that there is, and Synced; then comes each change as it happens: Task,
        Gone or Invalid. After a Lost it goes on where it was, or with a Reset and all there is. `recent`, such as
        `"1h"`, leaves older tasks out of the beginning. Raises RefusedError where there is no stream.
        """
        params = {} if ids is None else {"id": list(ids) or [""]}  # an id that is none: without, it would be all
        if recent is not None:
            params["recent"] = [recent]
        async with aclosing(follow(self._remote, read_line, params)) as stream:
            async for said in stream:
                change = said if isinstance(said, (Reset, Lost)) else change_of(said)
                if change:
                    yield change

    async def _changes(self, id: str) -> AsyncGenerator[Change, None]:
        """What is said of one task, for ever: by the stream; by polls for a while where none is to be had, or where one
        stands and nothing comes, as behind a proxy that holds it back."""
        polling = None
        while True:
            refused: RefusedError | None = None
            try:
                async with aclosing(self.watch_all([id])) as stream:
                    async for change in stream:
                        self._note(change)
                        yield change
                        if isinstance(change, Lost) and change.silent:
                            break
            except RefusedError as error:
                if error.status in (0, 401, 403, 421):  # no address, or not for us
                    raise
                refused = error
            if polling is None:
                from gateway.client.polling import Polling  # noqa: PLC0415 - most never poll, and it takes long to load

                polling = Polling(self._remote, id, self._interval)
            async with aclosing(polling.changes(refused)) as polls:
                async for change in polls:
                    self._note(change)
                    yield change

    def _note(self, change: Change) -> None:
        if isinstance(change, Lost):
            _log.info("Trying %s again: %s", self._remote.shown, change.reason)
