"""Follows a task with the Python client:  python client.py [TASK_ID [BASE_URL]]

Exits with 0 when it succeeded, 1 when it failed, 3 when there is no such task.
"""

import asyncio
import sys

from gateway.client import Client, TaskGoneError, TaskUnknownError


async def main(id: str = "demo-task", base: str = "http://localhost:8080") -> int:
    try:
        async for task in Client(base).watch(id):
            print(f"{task.progress}% {task.message}", flush=True)
    except (TaskUnknownError, TaskGoneError) as error:
        print(error, file=sys.stderr)
        return 3
    if not task.succeeded:
        print(f"Failed: {task.message}", file=sys.stderr)
        return 1
    return 0


sys.exit(asyncio.run(main(*sys.argv[1:])))
