"""Hints that something in a folder changed, from watchfiles."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from watchfiles._rust_notify import RustNotify  # documented as "Rust backend direct usage"

QUIET, CALM = 1_000, 4
"""After so many milliseconds without a change, it is looked for so many times more rarely: idling costs less."""


async def watch(folder: Path, step: int, debounce: int, stop: threading.Event) -> AsyncGenerator[list[str], None]:
    """The paths that may have changed, in batches, until `stop` is set.

    Not `watchfiles.awatch`, because its step is one for good: `step` ms while things happen cost 2 % of a core when
    nothing does. Raises OSError or RuntimeError where the folder cannot be watched. It is watched from the first
    `__anext__` on.
    """
    loop, pace = asyncio.get_running_loop(), step
    with (
        RustNotify([str(folder)], False, False, 0, False, False) as watcher,
        ThreadPoolExecutor(1, "watch") as thread,
    ):
        try:
            while not stop.is_set():
                found = await loop.run_in_executor(thread, partial(watcher.watch, debounce, pace, QUIET, stop))
                pace = CALM * step if isinstance(found, str) else step
                if isinstance(found, set):
                    yield [path for _, path in found]
        finally:
            stop.set()  # ends the thread, too
