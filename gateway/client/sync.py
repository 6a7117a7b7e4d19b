"""The client for code without an event loop."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Generator, Iterable
from typing import TypeVar

from gateway.client.changes import Change, Task
from gateway.client.client import INTERVAL, URL, Client
from gateway.client.known import PATIENCE
from gateway.client.remote import SILENCE, Token

Result = TypeVar("Result")


class SyncClient:
    """The twin of Client, which says what parameters, results and errors are.

    Each call runs the async client on an event loop of its own, in the thread that calls, while it waits for what comes
    next. So there is one logic and no thread; a deadline is one for the whole call, where httpx's sync client has but a
    limit for each read; Ctrl-C ends it at once; and many threads may use one client. Whoever takes longer than
    `silence` over a state may be connected anew, and goes on where it was. Where an event loop runs, it raises
    RuntimeError: Client is for there.
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
        self._client = Client(url, token, tls=tls, silence=silence, interval=interval)

    def watch(self, id: str, *, patience: float = PATIENCE) -> Generator[Task, None, None]:
        """Yields each new state of a task, and ends after the final one."""
        return _each(self._client.watch(id, patience=patience))

    def wait(self, id: str, *, timeout: float | None = None, patience: float = PATIENCE) -> Task:
        """The final state of a task that succeeds."""
        with _runner() as runner:
            return runner.run(self._client.wait(id, timeout=timeout, patience=patience))

    def watch_all(
        self, ids: Iterable[str] | None = None, *, recent: str | None = None
    ) -> Generator[Change, None, None]:
        """Yields what changes, for ever: of these tasks, or of all."""
        return _each(self._client.watch_all(ids, recent=recent))


def _each(items: AsyncGenerator[Result, None]) -> Generator[Result, None, None]:
    """The same items. The loop stands still between two of them; what comes meanwhile waits in the socket."""
    with _runner() as runner:  # which closes what is left open
        while (item := runner.run(_next(items))) is not None:
            yield item


async def _next(items: AsyncGenerator[Result, None]) -> Result | None:
    return await anext(items, None)


def _runner() -> asyncio.Runner:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.Runner(loop_factory=asyncio.new_event_loop)  # else it would become the thread's own
    raise RuntimeError("an event loop runs here: use gateway.client.Client")
