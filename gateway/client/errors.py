"""Why a task cannot be followed to its success. A connection that fails is none of these: it is made again."""

from gateway.client.changes import Task


class ClientError(Exception):
    """The root of all of them; its text is one sentence."""


class RefusedError(ClientError):
    """What will not pass by itself: no address, a token that is not taken, a server that is none of ours.

    `status` is the HTTP status of the answer, 0 where there was none.
    """

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class TaskError(ClientError):
    """A task did not come to its success. `id` is as it was asked for, `task` the last state that was seen, if any."""

    def __init__(self, reason: str, id: str = "", task: Task | None = None) -> None:
        super().__init__(reason)
        self.id, self.task = id, task


class TaskFailedError(TaskError):
    """It ended in `error`; the text is the task's own message."""


class TaskGoneError(TaskError):
    """Its file was deleted, and did not come again."""


class TaskUnknownError(TaskError):
    """There is no such task, or none that this token may see."""


class TaskTimeoutError(TaskError, TimeoutError):
    """It did not end in the time that was given."""
