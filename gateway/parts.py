"""What runs as long as the process does: a part that fails is started again, and what cannot be ends the process."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

log = logging.getLogger("gateway.parts")

Body = Callable[[], Coroutine[Any, Any, None]]
"""What a part does until it is cancelled. It can be begun again wherever it failed; if it returns, its work is done."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds until a part is started again, at first and in the end."""

WELL = 3.0
"""Seconds that a part has to run until it counts as well again."""


def pause(failures: int) -> float:
    """Seconds until what has failed before, so often in a row, is started again: they grow, and are spread."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1)


class Parts:
    """Keeps the parts of one process running. A shortage of memory, threads or descriptors so passes by itself."""

    def __init__(self) -> None:
        self.restarts: Counter[str] = Counter()
        """Of each part, also those that never failed."""
        self.down: dict[str, str] = {}
        """The parts that failed and have not run well since, each with the kind of its failure."""
        self.failure = ""
        """Why the process has to end; empty while it has not."""

    @asynccontextmanager
    async def running(self, name: str, body: Body) -> AsyncIterator[asyncio.Task[None]]:
        """Runs a part, and cancels it at the end."""
        self.restarts.setdefault(name, 0)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run(name, body))
            try:
                yield task
            finally:
                task.cancel()

    def fail(self, reason: str) -> None:
        """The process cannot do its work any more, and has to end."""
        before, self.failure = self.failure, reason
        if not before:
            log.critical("the process ends: %s", reason)

    async def _run(self, name: str, body: Body) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            well = loop.call_later(WELL, self._is_well, name)
            try:
                await body()
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled():
                    raise
                failures = failures + 1 if name in self.down else 0
                self._failed(name, error)
            else:
                return self._is_well(name)
            finally:
                well.cancel()
            await asyncio.sleep(pause(failures))
            self.restarts[name] += 1

    def _failed(self, name: str, error: BaseException) -> None:
        if name not in self.down:  # else it has been said
            log.error("%s failed, and is started again until it runs well", name, exc_info=error)
        self.down[name] = kind_of(error)

    def _is_well(self, name: str) -> None:
        if self.down.pop(name, ""):
            log.info("%s runs well again", name)


def kind_of(error: BaseException) -> str:
    """The name of an error's type: no text of an error is for everybody's eyes."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__


def is_cancelled() -> bool:
    """Whether this task is to end; a CancelledError may also come from something else that was cancelled in it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
