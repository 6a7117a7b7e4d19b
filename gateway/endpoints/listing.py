"""Polls of the collection: which tasks one lists, and their states, made as they are taken where they are many."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import msgspec

from gateway.access.grants import View
from gateway.cache import Cache
from gateway.dialects import ITEM, v1_status
from gateway.engine import Engine
from gateway.slices import Slice
from gateway.store import Event
from gateway.tasks import Task

MOST_READ = 2_000
"""So many tasks a poll looks through for those of a status; its `next` goes on from there."""

SMALL = 64 * 1024
"""Bytes of states that are sent in one piece, and held until then."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a poll asks for: the tasks of `ids` that are in a `status`, or the next `limit` of all after a place."""

    ids: tuple[str, ...] | None
    status: str | None
    limit: int
    after: tuple[int, str] | None
    view: View | None

    def sees(self, id: str) -> bool:
        return self.view is None or self.view.sees(id)

    def has(self, task: Task) -> bool:
        """Whether a task is in the status, said in the words of v1 or in the file's own."""
        return self.status is None or self.status.lower() in (v1_status(task), task.status.lower())


@dataclass(frozen=True, slots=True)
class Page:
    """What a listing shows: the tasks `ids` in order; `tasks` are their states where these are small.

    `tag` names what they say; `tail` is what stands behind the tasks: `next`, where the next page starts.
    """

    listing: Listing
    ids: tuple[str, ...]
    tasks: tuple[Task, ...] | None
    tag: str
    tail: bytes

    def concerns(self, event: Event) -> bool:
        """Whether the page may be another one after an event."""
        if event.id in self.ids:
            return True
        return self.listing.after is None and event.shown is not None and self.listing.has(event.shown)


class Lister:
    """Makes pages. One that others have just made of the same states is theirs, too."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = asyncio.Lock()
        self._made: Cache[tuple[Listing, str], Page] = engine.cache(1 << 20)

    async def page(self, listing: Listing) -> Page:
        """The page as it is now."""
        return await self._make(listing, look=True)

    async def after_event(self, listing: Listing) -> Page:
        """The page after an event of which many may have heard: made once for all of them."""
        async with self._lock:
            key = listing, self._engine.store.cursor(self._engine.store.head)
            page = self._made.get(key)
            if not page:
                page = await self._make(listing, look=False)
                self._made.put(key, page, 1_000 + 100 * len(page.ids) + sum([len(t.line) for t in page.tasks or ()]))
            return page

    async def pieces(self, page: Page) -> AsyncIterator[bytes]:
        """The body, a task at a time, each as it is when its turn comes; what is gone by then is left out."""
        current, before = Slice(), b'{"status":"success","payload":{"tasks":['
        for id in page.ids:
            event = self._engine.look(id)
            if event and event.shown:
                yield before + ITEM.body(event.shown)
                before = b","
            current = await current.yield_if_over()
        yield (b"" if before == b"," else before) + page.tail

    async def _make(self, listing: Listing, *, look: bool) -> Page:
        tasks, next = await (self._named(listing) if listing.ids is not None else self._newest(listing, look=look))
        stale = self._engine.replica.stale if self._engine.replica else None
        tail = b'],"next":%b%b}}' % (
            msgspec.json.encode(next),
            b"" if stale is None else b',"stale":%b' % msgspec.json.encode(stale),
        )
        return tasks.page(listing, tail)

    async def _named(self, listing: Listing) -> tuple["_Shown", None]:
        rows: list[tuple[int, str]] = []
        shown, current = _Shown(), Slice()
        for id in listing.ids or ():
            event = self._engine.find(id)
            if event and event.shown and listing.sees(event.id) and listing.has(event.shown):
                rows.append((event.shown.updated, event.id))
                shown.add(event.shown)
            current = await current.yield_if_over()
        return shown.in_order([id for _, id in sorted(rows, reverse=True)]), None

    async def _newest(self, listing: Listing, *, look: bool) -> tuple["_Shown", str | None]:
        """The next tasks, newest first, and where the page after them starts."""
        most = MOST_READ if listing.status or listing.view else listing.limit
        rows = await self._engine.newest(most + 1, listing.after, look=look)
        shown, current = _Shown(), Slice()
        for count, (place, id) in enumerate(rows[:most], 1):
            sees = listing.sees(id)
            event = self._engine.look(id) if sees else None
            if event and event.shown and listing.has(event.shown):
                shown.add(event.shown)
            if len(shown) == listing.limit or count == most:
                # tells no name that may not be seen
                return shown, f"{place}-{id if sees else ''}" if count < len(rows) else None
            current = await current.yield_if_over()
        return shown, None


class _Shown:
    """The states that a page shows: held as long as they are small, else only what names them."""

    def __init__(self) -> None:
        self._tags: dict[str, bytes] = {}  # what is said of each task, by id
        self._tasks: dict[str, Task] | None = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._tags)

    def add(self, task: Task) -> None:
        self._tags[task.id] = b"%b %d %b\n" % (task.tag.encode(), task.updated, task.id.encode())
        self._bytes += len(task.line)
        if self._tasks is not None:
            self._tasks[task.id] = task
            if self._bytes > SMALL:
                self._tasks = None

    def in_order(self, ids: Iterable[str]) -> "_Shown":
        self._tags = {id: self._tags[id] for id in ids}
        return self

    def page(self, listing: Listing, tail: bytes) -> Page:
        said = hashlib.blake2b(b"".join(self._tags.values()), digest_size=12)
        said.update(tail)
        tasks = None if self._tasks is None else tuple([self._tasks[id] for id in self._tags])
        return Page(listing, tuple(self._tags), tasks, said.hexdigest(), tail)


def body_of(page: Page) -> bytes:
    """The whole body of a page whose tasks are held."""
    items = b",".join([ITEM.body(task) for task in page.tasks or ()])
    return b'{"status":"success","payload":{"tasks":[%b%b' % (items, page.tail)
