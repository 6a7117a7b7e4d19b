"""What subscriptions that catch up are given: pages, each made once for all who are at the same place. No I/O."""

from typing import NamedTuple

from gateway.access.grants import View
from gateway.cache import Cache
from gateway.store import Event, Kind, Store
from gateway.subscription import Subscription
from gateway.wire import Encoding

PAGE = 64 * 1024
"""About how many bytes a subscription that catches up is given at once."""

KEPT = 8 << 20
"""Bytes of pages that are kept for others: a stampede asks for the same ones."""


PASS, MADE = 16, 8
"""What may be handed out in one pass of the loop: a page that was made for it counts for so many that were there."""


class Page(NamedTuple):
    """What comes next, and the place after it; `conflated` events were made needless by newer ones of their tasks."""

    block: bytes
    end: int
    events: int
    conflated: int


class Pages:
    """The pages that were made since anything was published."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made: Cache[tuple[Encoding, View | None, int, int], Page] = Cache(KEPT)
        self.tidy = self._made.tidy
        self.forget = self._made.clear
        """The store has changed."""
        self._left = PASS

    def renew(self) -> None:
        """Another pass of the loop begins."""
        self._left = PASS

    def has_room(self) -> bool:
        """Whether more may be handed out in this pass."""
        return self._left > 0

    def next(self, sub: Subscription) -> Page:
        """The next page for a subscription that wants everything."""
        snapshot = sub.snapshot if sub.place < sub.snapshot else 0
        view = sub.view
        key = (sub.encoding, view, sub.place, snapshot)
        if not sub.oldest and (known := self._made.get(key)):
            self._left -= 1
            return known
        self._left -= MADE
        events = self._store.since(sub.place, PAGE)
        end = events[-1].offset if events else self._store.head
        shown = [
            e
            for e in events
            if e.offset > snapshot or (e.kind is not Kind.GONE and not _older(e, sub.oldest)) or sub.encoding.copies
        ]
        shown = shown if view is None else [e for e in shown if view.sees(e.id)]
        skipped = 0 if snapshot else self._store.count(sub.place, end) - len(events)
        page = Page(sub.encoding.block(shown, self._store.epoch), end, len(shown), skipped)
        if not sub.oldest:
            self._made.put(key, page, len(page.block) + 300)
        return page


def _older(event: Event, oldest: int) -> bool:
    return event.task is not None and event.task.updated < oldest
