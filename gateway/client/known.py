"""What is known of one task, and until when it may have no file. No I/O; the clock is the caller's."""

from gateway.client.changes import Change, Gone, Invalid, Lost, Reset, Synced, Task, content
from gateway.client.errors import TaskError, TaskGoneError, TaskUnknownError

PATIENCE = 5.0
"""Seconds that a task may have no file: it may be about to be written."""


class Known:
    """Takes the changes of one task. `deadline` is when it is missed for too long; None while it is not missed."""

    def __init__(self, id: str, patience: float) -> None:
        self.deadline: float | None = None
        self._id, self._patience = id, patience
        self._task: Task | None = None
        self._content = b""
        self._there = False

    def take(self, change: Change, now: float) -> Task | None:
        """The new state that a change brings, if it brings one."""
        match change:
            case Task() | Invalid():
                self._there, self.deadline = True, None
            case Gone():
                self._there = False
                self._miss(now)
            case Reset():
                self._there = False
            case Synced() if not self._there:
                self._miss(now)
            case Lost():
                self.deadline = None  # nobody could tell that a file has come
        return self._news(change) if isinstance(change, Task) else None

    def missed(self) -> TaskError:
        """Why it is given up once the deadline has passed."""
        if self._task:
            return TaskGoneError(f"Task {self._id} was deleted", self._id, self._task)
        return TaskUnknownError(f"There is no task {self._id}", self._id)

    def _miss(self, now: float) -> None:
        if self.deadline is None:
            self.deadline = now + self._patience

    def _news(self, task: Task) -> Task | None:
        """A new connection may tell again what was told."""
        if (said := content(task)) == self._content:
            return None
        self._task, self._content = task, said
        return task
