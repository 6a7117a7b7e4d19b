"""Tasks as a backend works on them: imports, authentications and fixes as the documents show them, some failing."""

import asyncio
import random
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any

Data = Callable[[str, int], dict[str, Any]]

Keep = Callable[[str, dict[str, Any]], None]
"""Where a backend keeps the state of a task: by its id, as the flat document shows it."""


def _import(id: str, done: int) -> dict[str, Any]:
    pown = {"bank": done // 8, "fracked": done // 50, "counterfeit": 0, "limbo": 0, "errors": 0, "suspect": 0}
    return {"total_processed": done // 7, "already_exists": 0, "pown_results": pown, "receipt_id": id}


def _authenticate(id: str, done: int) -> dict[str, Any]:
    raida = {"average_time_ms": 1234, "timeouts": 0, "errors": done // 80}
    return {
        "operation": "authenticate", "coins_processed": done // 8, "coins_authenticated": done // 10,
        "coins_fracked": done // 50, "coins_counterfeit": 0, "raida_responses": raida, "receipt_id": id,
    }  # fmt: skip


def _fix(id: str, done: int) -> dict[str, Any]:
    return {
        "operation": "fix", "rounds_completed": done // 33, "coins_healed": done // 33,
        "coins_still_fracked": 4 - done // 33, "coins_lost": 0, "receipt_id": id,
    }  # fmt: skip


PLAYS: dict[str, tuple[list[str], str, Data]] = {
    "import": (
        ["Unpacking coin files...", "Authenticating coins with RAIDA servers...", "Grading coins..."],
        "Import, authentication, and grading complete",
        _import,
    ),
    "authenticate": (
        ["Authenticating coins with RAIDA servers...", "Grading coins..."],
        "Authentication and grading complete",
        _authenticate,
    ),
    "fix": (
        ["Finding fracked coins...", "Healing round 1...", "Healing round 2...", "Healing round 3..."],
        "Healing complete - 3 coins fully recovered, 1 remains fracked",
        _fix,
    ),
}

FAILURES = ("RAIDA network unreachable", "Coin file is corrupt", "Not enough RAIDA servers responded")


def new_id() -> str:
    """An id as the backends make them: a time stamp with a suffix, or now and then a GUID."""
    if random.random() < 0.2:
        return str(uuid.uuid4())
    return time.strftime("%b-%d-%y_%I-%M-%S-%p-") + secrets.token_hex(2)


async def play_one(keep: Keep, *, seconds: float, id: str | None = None, fails: bool | None = None) -> str:
    """Plays one task from start to end, and returns its id. Each state is given to `keep`."""
    id = id or new_id()
    messages, last, data = PLAYS[random.choice(list(PLAYS))]
    breaks = random.randint(15, 85) if (random.random() < 0.15 if fails is None else fails) else 101

    def tell(status: str, progress: int, message: str) -> None:
        keep(
            id,
            {"status": status, "task_id": id, "progress": progress, "message": message, "data": data(id, progress)},
        )

    progress = 0
    tell("pending", 0, "Waiting for a free worker...")
    await asyncio.sleep(min(0.5, seconds / 10))
    while progress < 100:
        if progress >= breaks:
            tell("error", progress, random.choice(FAILURES))
            return id
        tell("running", progress, messages[progress * len(messages) // 100])
        await asyncio.sleep(seconds / 40 * random.uniform(0.5, 1.5))
        progress += random.randint(1, 4)
    tell("success", 100, last)
    return id


async def play(keep: Keep, at_once: int = 5) -> None:
    """Plays tasks for ever, about `at_once` of them at any time."""

    async def one_after_another(delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            await play_one(keep, seconds=random.uniform(6, 30))
            await asyncio.sleep(random.uniform(0.5, 4))

    async with asyncio.TaskGroup() as group:
        for number in range(at_once):
            group.create_task(one_after_another(number * 1.3))
