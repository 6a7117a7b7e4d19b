"""The newest state of each task, in the order of the last change: its own compacted log. No I/O, nothing awaited."""

import enum
import secrets
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from operator import attrgetter

import msgspec

from gateway.tasks import Task

TOMBSTONES = 10_000
"""How many deletions are remembered; who resumes from before the oldest of them starts anew."""


OVERHEAD = 500
"""Bytes of an event beside its texts."""


class Kind(enum.Enum):
    TASK = "task"
    GONE = "gone"
    INVALID = "invalid"


class Event(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One thing that became true of one task. `offset` is its place in the store's order, 0 for one that has none.

    A TASK has its `task`. An INVALID says in `error` why the file that is there now cannot be shown, and has the
    last good state, where polls go on showing it, in `still`.
    """

    offset: int
    kind: Kind
    id: str
    task: Task | None = None
    error: str = ""
    still: Task | None = None

    @property
    def shown(self) -> Task | None:
        """What a poll answers with, if it shows a task."""
        return self.task or self.still

    @property
    def settled(self) -> bool:
        """False for a file that was never whole so far and is being tried again."""
        return self.kind is not Kind.INVALID or self.offset > 0 or self.still is not None


class Store:
    """States in order. Every method decides at once and tells by its result whether anything changed.

    Holds at most `limit` tasks, as many that are `INVALID`, and of them all about `max_bytes` of memory; the longest
    unchanged give way. An `INVALID` stands beside the last good state of its task until a whole file or a deletion
    takes it away.

    A `copied` one keeps another's order: its changes come with the offsets that they have there (`at`, ascending), and
    a cursor may be from somebody who is further on.
    """

    def __init__(
        self, *, limit: int = 10_000, max_bytes: int = 128 << 20, epoch: str | None = None, copied: bool = False
    ) -> None:
        self.copied = copied
        self._limit = limit
        self._max_bytes = max_bytes
        self.restart(epoch or secrets.token_hex(6))

    def restart(self, epoch: str, floor: int = 0) -> None:
        """Forgets everything: another order begins, of which nothing is known up to `floor`."""
        self.epoch = epoch
        self.head = self.floor = floor
        self._bytes = 0
        self._tasks: OrderedDict[str, Event] = OrderedDict()
        self._faults: OrderedDict[str, Event] = OrderedDict()
        self._gone: OrderedDict[str, Event] = OrderedDict()
        self._log: list[Event | None] = []  # None where a newer event of the task has come
        self._offsets: list[int] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._tasks)

    # What is

    def get(self, id: str) -> Event | None:
        """The last good state of a task."""
        return self._tasks.get(id)

    def fault(self, id: str) -> Event | None:
        """What is wrong with the task's file, if anything is."""
        return self._faults.get(id)

    def faults(self) -> Iterable[Event]:
        """All that is wrong with files."""
        return self._faults.values()

    def of(self, id: str) -> list[Event]:
        """Everything there is to say of one task, in order."""
        found = (self._tasks.get(id), self._faults.get(id), self._gone.get(id))
        return sorted((e for e in found if e), key=attrgetter("offset"))

    def since(self, offset: int, max_bytes: int = 1 << 62) -> list[Event]:
        """What came after `offset`, newest state of each task, in order; about `max_bytes` of it, at least one."""
        found, size = [], 0
        for position in range(bisect_right(self._offsets, offset), len(self._log)):
            if event := self._log[position]:
                found.append(event)
                size += 64 + (len(event.task.line) if event.task else 0)
                if size >= max_bytes:
                    break
        return found

    def count(self, after: int, upto: int) -> int:
        """How many changes there were after one offset and up to another; where they are copied, at least."""
        if not self.copied:
            return upto - after
        return bisect_right(self._offsets, upto) - bisect_right(self._offsets, after)

    def newest_first(self) -> Iterator[Event]:
        return reversed(self._tasks.values())

    def ids(self) -> set[str]:
        return self._tasks.keys() | self._faults.keys()

    # Cursors

    def cursor(self, offset: int) -> str:
        return f"{self.epoch}-{offset}"

    def place(self, cursor: str) -> int | None:
        """The offset a cursor stands for; None if what came after it is no longer known."""
        epoch, _, offset = cursor.rpartition("-")
        if epoch != self.epoch or not (offset.isascii() and offset.isdecimal()) or len(offset) > 19:
            return None
        return int(offset) if self.floor <= int(offset) <= self.head or self._is_ahead(int(offset)) else None

    def _is_ahead(self, offset: int) -> bool:
        return self.copied and offset > self.head

    # What changes

    def put(self, task: Task, *, at: int = 0) -> Event | None:
        """A whole state was read. None if it says nothing new."""
        before, fault = self._tasks.get(task.id), self._faults.pop(task.id, None)
        if before and before.task and before.task.tag == task.tag and not fault:
            return None
        self._retire(self._tasks.pop(task.id, None))
        self._retire(fault)
        self._retire(self._gone.pop(task.id, None))
        event = self._append(Event(at or self.head + 1, Kind.TASK, task.id, task))
        self._tasks[task.id] = event
        self._make_room()
        return event

    def invalidate(self, id: str, error: str, *, still: Task | None = None, at: int = 0) -> Event | None:
        """The file is there and cannot be shown. None if that was known."""
        before = self._faults.get(id)
        if before and before.error == error:
            return None
        self._retire(self._faults.pop(id, None))
        self._retire(self._gone.pop(id, None))
        event = self._faults[id] = self._append(Event(at or self.head + 1, Kind.INVALID, id, error=error, still=still))
        self._make_room()
        return event

    def remove(self, id: str, *, at: int = 0) -> Event:
        """The file was deleted."""
        for kept in (self._tasks, self._faults, self._gone):
            self._retire(kept.pop(id, None))
        event = self._gone[id] = self._append(Event(at or self.head + 1, Kind.GONE, id))
        if len(self._gone) > TOMBSTONES:
            self._forget(self._gone)
        return event

    def advance(self, offset: int) -> None:
        """All is known up to `offset`, also where that was no news."""
        self.head = max(self.head, offset)

    def prune(self, before: int) -> None:
        """Forgets the tasks at the far end of the order that were last written before that time (unix ms)."""
        while self._tasks:
            oldest = next(iter(self._tasks.values()))
            if oldest.task is None or oldest.task.updated >= before:
                return
            self._forget(self._tasks)

    def _append(self, event: Event) -> Event:
        self.head = event.offset
        self._log.append(event)
        self._offsets.append(event.offset)
        self._bytes += size_of(event)
        return event

    def _retire(self, event: Event | None) -> None:
        """Takes an event out of the order: a newer one says it all."""
        if not event:
            return
        self._log[bisect_left(self._offsets, event.offset)] = None
        self._bytes -= size_of(event)
        self._dead += 1
        if self._dead > 64 + len(self._log) // 2:
            self._log = [e for e in self._log if e]
            self._offsets = [e.offset for e in self._log if e]
            self._dead = 0

    def _make_room(self) -> None:
        """Forgets what is over the bounds; what was told last stays."""
        while len(self._tasks) > self._limit:
            self._forget(self._tasks)
        while len(self._faults) > self._limit:
            self._forget(self._faults)
        while self._bytes > self._max_bytes and len(self._tasks) + len(self._faults) > 1:
            self._forget(min(filter(None, (self._tasks, self._faults)), key=_oldest))

    def _forget(self, kept: OrderedDict[str, Event]) -> None:
        """Drops the oldest; who was not told of it yet can no longer be served from here on, only anew."""
        _, event = kept.popitem(last=False)
        self._retire(event)
        self.floor = max(self.floor, event.offset)


def _oldest(kept: OrderedDict[str, Event]) -> int:
    return next(iter(kept.values())).offset


def size_of(event: Event) -> int:
    """About how many bytes an event holds; its task's line is often its body."""
    task = event.shown
    size = OVERHEAD + 2 * len(event.id) + len(event.error)
    if task:
        size += len(task.body) + (len(task.line) if task.line is not task.body else 0)
    return size
