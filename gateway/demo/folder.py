"""A backend that keeps its tasks in a folder."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gateway.demo.plays import play, play_one


def write(tasks: Path, id: str, task: dict[str, Any]) -> None:
    """Rewrites a task file in place, as the backends do."""
    (tasks / f"{id}.json").write_bytes(msgspec.json.format(msgspec.json.encode(task), indent=2))


async def busy(tasks: Path) -> None:
    """Works for ever, also on `demo-task`: that is there for the lines to try, and mostly runs."""
    keep = partial(write, tasks)

    async def guided() -> None:
        while True:
            await play_one(keep, seconds=30, id="demo-task", fails=False)
            await asyncio.sleep(15)

    async with asyncio.TaskGroup() as group:
        group.create_task(guided())
        group.create_task(play(keep))
