"""Follows tasks from Python: each new state as it is written, through restarts, until the final one.

    async for task in Client("http://localhost:8080").watch(id):
        print(task.progress, task.message)

    task = await Client(url, token).wait(id, timeout=600)      # or SyncClient(url, token).wait(id)

    async for change in Client(url).watch_all():
        match change:
            case Task(): tasks[change.id] = change
            case Gone(): tasks.pop(change.id, None)
            case Reset(): tasks.clear()

Every error is a ClientError.
"""

from gateway.client.changes import Change, Gone, Invalid, Lost, Reset, Synced, Task
from gateway.client.client import Client
from gateway.client.errors import (
    ClientError,
    RefusedError,
    TaskError,
    TaskFailedError,
    TaskGoneError,
    TaskTimeoutError,
    TaskUnknownError,
)
from gateway.client.sync import SyncClient

__all__ = [
    "Change",
    "Client",
    "ClientError",
    "Gone",
    "Invalid",
    "Lost",
    "RefusedError",
    "Reset",
    "SyncClient",
    "Synced",
    "Task",
    "TaskError",
    "TaskFailedError",
    "TaskGoneError",
    "TaskTimeoutError",
    "TaskUnknownError",
]
