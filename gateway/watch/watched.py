"""What is known of the watched tasks, and when there is nothing left to wait for. No I/O; the clock is the caller's."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from gateway.tasks import fold, spellings
from gateway.watch.display import Display
from gateway.watch.stream import News, State

PATIENCE = 5.0
"""Seconds that a task without a file is waited for: it may be about to be written."""

REMEMBERED = 100_000
"""How many ends are remembered, so that a snapshot that tells them again is no news."""


class Watched:
    """Takes the news, and tells a display what they mean. Without `ids` it watches every task, for ever.

    `ended` is called with each final state, once. Those that a first snapshot of all tasks holds are only counted. A
    task keeps the id it was given by, whichever of its spellings the file has.
    """

    def __init__(self, ids: Iterable[str], display: Display, ended: Callable[[State], None]) -> None:
        self._names: dict[str, str] = {}  # the file names a given id may stand for, and that id
        for id in ids:
            names = spellings(id)
            if not any(name in self._names for name in names):
                self._names |= dict.fromkeys(names, id)
        self._folded = {fold(name): id for name, id in self._names.items()}  # of a folder that takes them for one
        self.ids = list(dict.fromkeys(self._names.values()))
        self._display, self._ended = display, ended
        self._states: dict[str, str] = {}  # running, invalid; of the given ids also completed, error, unknown
        self._stale: set[str] = set()  # known before a reset, and not told again since
        self._missing: dict[str, float] = {}  # since when a given id has no file
        self._ends: dict[str, int] = {}
        self._first = True

    @property
    def done(self) -> bool:
        return bool(self.ids) and all(self._states.get(id) in ("completed", "error", "unknown") for id in self.ids)

    @property
    def code(self) -> int:
        """The exit code: 1 when a task failed; else 3 when one is unknown; else 0."""
        states = self._states.values()
        return 1 if "error" in states else 3 if "unknown" in states else 0

    def take(self, news: News, now: float) -> None:
        self._display.news(news)
        key = self._names.get(news.id) or self._folded.get(fold(news.id), news.id)
        match news.kind:
            case "task" if news.state:
                self._present(key)
                self._take_state(key, replace(news.state, id=key), now)
            case "invalid":
                self._present(key)
                if self._states.get(key) not in ("completed", "error"):
                    self._states[key] = "invalid"
                    self._display.invalid(key, news.text)
            case "gone":
                self._leave(key, now)
            case "reset":
                self._stale = {key for key, state in self._states.items() if state in ("running", "invalid")}
            case "synced":
                self._sync(now)
            case "lost":
                self._missing.clear()  # nobody could tell that a file has come
                self._display.lost(news.text)

    def expire(self, now: float) -> None:
        """Gives up those that had no file for long enough."""
        for id, since in list(self._missing.items()):
            if now - since >= PATIENCE:
                del self._missing[id]
                self._states[id] = "unknown"
                self._display.left(id, "unknown")

    def _present(self, key: str) -> None:
        self._missing.pop(key, None)
        self._stale.discard(key)

    def _take_state(self, key: str, state: State, now: float) -> None:
        if not state.final:
            self._states[key] = "running"
            self._display.running(state, now)
            return
        if self.ids:
            self._states[key] = state.status
        else:
            self._states.pop(key, None)
        if self._ends.pop(key, None) == state.updated:  # told again
            self._display.drop(key)
        elif self._first and not self.ids:
            self._display.ended_before += 1
        else:
            self._display.ended(state, now)
            self._ended(state)
        self._ends[key] = state.updated
        if len(self._ends) > REMEMBERED:
            del self._ends[next(iter(self._ends))]

    def _leave(self, key: str, now: float) -> None:
        """A file was deleted. What had ended stays as it ended."""
        self._stale.discard(key)
        if self._states.get(key) not in ("running", "invalid"):
            return
        del self._states[key]
        self._display.left(key, "gone")
        if key in self.ids:
            self._missing[key] = now

    def _sync(self, now: float) -> None:
        for key in list(self._stale):
            self._leave(key, now)
        self._first = False
        for id in self.ids:
            if id not in self._states:
                self._missing.setdefault(id, now)
        self._display.synced(list(self._missing))
