"""Work that is done beside whoever hears of it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

AHEAD = 16
"""So many pieces of work are done ahead of who takes them: with one, each would be awaited."""

Tell = Callable[[Sequence[Item]], Awaitable[None]]
"""Waits where too much was told that has not been taken."""


async def relay(work: Callable[[Tell[Item]], Awaitable[None]]) -> AsyncGenerator[Item, None]:
    """Yields what `work` tells, and ends when it does, or with what it raises.

    The work, and with it a connection, is a task's and not this generator's. Generators that are left half-way are all
    closed at once when a loop shuts down; nested ones that then have to await an end get in each other's way. So here
    nothing is awaited: the task is cancelled, and closes what it has.
    """
    told: asyncio.Queue[Sequence[Item] | Exception | None] = asyncio.Queue(AHEAD)

    async def run() -> None:
        try:
            await work(told.put)
        except Exception as error:
            await told.put(error)
        else:
            await told.put(None)

    task = asyncio.create_task(run())
    try:
        while (items := await told.get()) is not None:
            if isinstance(items, Exception):
                raise items
            for item in items:
                yield item
    finally:
        task.cancel()
