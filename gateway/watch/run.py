"""Where the watching comes together: stream, display, commands, signals and the exit code."""

import asyncio
import io
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from functools import partial
from types import FrameType

from gateway.watch.commands import Commands
from gateway.watch.display import Bars, Display, Json, Lines
from gateway.watch.stream import News, State, follow
from gateway.watch.watched import Watched

TICK = 0.125
"""Seconds between two looks at the clock: bars are drawn at most so often."""

Stream = Callable[[Iterable[str]], AsyncGenerator[News, None]]
"""What there is to be told of tasks, or of all."""


def watch(url: str, ids: list[str], *, token: str = "", as_json: bool = False, command: str = "") -> int:
    """Watches until all of `ids` have ended, or for ever. Returns the exit code: 0 when all succeeded, 1 when one
    failed, 3 when one is unknown and none failed, 128 and the signal's number when it was ended by one.

    Raises WatchError for what will not pass by itself, OutputError where stdout cannot be written to.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a console of an old code page shows what it can
    display = Json() if as_json else Bars(url, follows_all=not ids) if _can_draw() else Lines()
    return asyncio.run(_until_signalled(partial(follow, url, token=token), ids, display, command))


def _can_draw() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


async def _until_signalled(stream: Stream, ids: list[str], display: Display, command: str) -> int:
    loop, watching = asyncio.get_running_loop(), asyncio.create_task(_watch(stream, ids, display, command))
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
        loop.call_soon_threadsafe(watching.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)  # a loop's own handlers are not to be had on Windows
    try:
        return await watching
    except asyncio.CancelledError:
        return 128 + received[0]


async def _watch(stream: Stream, ids: list[str], display: Display, command: str) -> int:
    commands = Commands(command, display) if command else None
    ended: Callable[[State], None] = commands.run if commands else lambda _: None
    watched = Watched(ids, display, ended)
    with display:
        working = [asyncio.create_task(_read(stream, watched)), asyncio.create_task(_tick(watched, display))]
        try:
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            working[0].cancel()
            if commands:
                await commands.finished()
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            if commands:
                await commands.end()
    return watched.code


async def _read(stream: Stream, watched: Watched) -> None:
    async with aclosing(stream(watched.ids)) as following:
        async for news in following:
            watched.take(news, time.monotonic())
            if watched.done:
                return


async def _tick(watched: Watched, display: Display) -> None:
    while not watched.done:
        now = time.monotonic()
        watched.expire(now)
        display.refresh(now)
        await asyncio.sleep(TICK)
