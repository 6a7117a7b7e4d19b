"""Hints that something in a folder changed, from watchfiles."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing
from functools import partial
from pathlib import Path

from watchfiles._rust_notify import RustNotify  # documented as "Rust backend direct usage"

QUIET, CALM = 1_000, 4
"""After so many milliseconds without a change, it is looked for so many times more rarely: idling costs less."""


class WatchError(Exception):
    """There is no watcher here, or its limits are used up; the text says why."""


async def watch(
    folder: Path, step: int, debounce: int, stop: threading.Event, thread: Executor
) -> AsyncGenerator[list[str], None]:
    """The paths that may have changed, in batches, until `stop` is set. They are waited for in `thread`.

    Not `watchfiles.awatch`, because its step is one for good: `step` ms while things happen cost 2 % of a core when
    nothing does. Raises FileNotFoundError where there is no folder, WatchError where it cannot be watched. It is
    watched from the first `__anext__` on.
    """
    try:
        async with aclosing(_watch(folder, step, debounce, stop, thread)) as hints:
            async for paths in hints:
                yield paths
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError) as error:
        raise WatchError(str(error)) from error


async def _watch(
    folder: Path, step: int, debounce: int, stop: threading.Event, thread: Executor
) -> AsyncGenerator[list[str], None]:
    loop, pace = asyncio.get_running_loop(), step
    with RustNotify([str(folder)], False, False, 0, False, False) as watcher:
        try:
            while not stop.is_set():
                found = await loop.run_in_executor(thread, partial(watcher.watch, debounce, pace, QUIET, stop))
                pace = CALM * step if isinstance(found, str) else step
                if isinstance(found, set):
                    yield [path for _, path in found]
        finally:
            stop.set()  # ends what the thread does, too
