"""The subscriptions, and how events reach them. No I/O, nothing awaited; publishing never waits for anybody.

A subscription is *live* when its outlet has been given everything up to the hub's head: a pass of events then costs
one shared block of bytes and one write for each. One whose outlet is full is *behind*: it keeps its place, and when
the outlet has drained it asks the store for what came after that place, newest state of each task (conflation).
"""

from collections.abc import Collection, Iterable
from functools import partial
from itertools import chain
from operator import attrgetter

from gateway.backlog import Backlog, Schedule
from gateway.interest import Interest
from gateway.pages import Pages
from gateway.roster import Roster
from gateway.store import Event, Kind, Store
from gateway.subscription import DONE, LAGGED, NOTHING, POLICY, RESTART, Subscription
from gateway.wire import Encoding

TIDY = 10
"""Beats after which pages that nobody asked for are forgotten."""


class Hub:
    """Hands events to subscriptions, in passes: everything published since the last pass goes out in one write."""

    def __init__(
        self,
        store: Store,
        call_soon: Schedule,
        call_later: Schedule | None = None,
        *,
        heartbeat: int = 15,
        write_deadline: int = 60,
    ) -> None:
        self._store = store
        self._call_soon = call_soon
        self._pending: list[Event] = []
        self._roster = Roster(heartbeat)
        self._interest = Interest()
        self._backlog = Backlog(call_soon, call_later or call_soon, self._resume)
        self._stale = False
        self._pages = Pages(store)
        self.write_deadline = write_deadline
        self.closed = False
        self.transports = self._roster.transports
        self.is_wanted, self.clients = self._interest.is_wanted, self._interest.clients
        self.has_room_for = self._interest.has_room_for
        self.published = self.delivered = self.conflated = self.resets = self.bytes = self.expired = 0

    def __len__(self) -> int:
        return len(self._roster)

    # Coming and going

    def subscribe(self, sub: Subscription, cursor: str | None = None, first: Iterable[Event | None] = ()) -> None:
        """Starts a subscription: from `cursor` if what came after it is known, else with a snapshot.

        `first` are states from outside the store's order that it is given before anything else. They are asked for one
        by one, as its outlet takes them; a None among them lets others have their turn.
        """
        self.flush()
        sub.outlet.drained = partial(self._drained, sub)
        sub.outlet.write(sub.encoding.hello())
        sub.first = iter(first)
        self._roster.add(sub)
        self._interest.add(sub)
        if cursor is None:
            sub.rewind(self._store.head)
        elif (place := self._store.place(cursor)) is None:
            self._reset(sub)
        else:
            sub.move(place)
        self._go_on(sub)
        if self.closed:
            self._close(sub, RESTART)

    def unsubscribe(self, sub: Subscription) -> None:
        """Forgets a subscription; one that is not known any more is no error."""
        if not self._roster.remove(sub):
            return
        self._interest.remove(sub)
        sub.live = False
        sub.first = NOTHING
        sub.answered()

    def want(self, sub: Subscription, ids: Collection[str], cursor: str | None, first: Iterable[Event | None]) -> None:
        """Adds tasks to what a subscription wants; one that had everything is narrowed to them, and one that is over
        wants nothing any more."""
        self.flush()
        if sub not in self._roster:
            return
        if sub.live and sub.places is not None:
            sub.move(self._store.head)
        self._interest.narrow(sub)
        sub.live, sub.synced = False, False
        place = self._store.place(cursor) if cursor else 0
        if place is None:
            sub.outlet.write(sub.encoding.reset())
        assert sub.places is not None
        sub.places.update(dict.fromkeys(ids, place or 0))
        sub.place = max(sub.place, place or 0)
        self._interest.add_ids(sub, ids)
        sub.first = chain(sub.first, first)
        self._go_on(sub)

    def unwant(self, sub: Subscription, ids: Iterable[str]) -> None:
        for id in ids:
            if sub.places and sub.places.pop(id, None) is not None:
                self._interest.drop_id(id, sub)

    # Publishing

    def publish(self, event: Event) -> None:
        self.published += 1
        if not self._pending:
            self._call_soon(self.flush)
        self._pending.append(event)

    def flush(self) -> None:
        """One pass: gives all live subscriptions what was published since the last."""
        self._pass_on()
        self._backlog.release(self._store.head)

    def _pass_on(self) -> None:
        events, self._pending = self._pending, []
        if not events:
            return
        self._pages.forget()
        for encoding, subs, shown in self._interest.concerned(events):
            self._give_all(subs, encoding.block(shown, self._store.epoch), len(shown))
        wanted: dict[Subscription, list[Event]] = {}
        for event in events:
            for sub in self._interest.of(event.id):
                if sub.live:
                    wanted.setdefault(sub, []).append(event)
        blocks: dict[tuple[Encoding, tuple[int, ...]], bytes] = {}
        for sub, own in wanted.items():
            key = (sub.encoding, tuple([event.offset for event in own]))
            if key not in blocks:
                blocks[key] = sub.encoding.block(own, self._store.epoch)
            self._give(sub, own, blocks[key])
            if sub.live and sub.outlet.full:
                self._fall_behind(sub)

    def _give_all(self, subs: list[Subscription], block: bytes, events: int) -> None:
        """The hot path: the same bytes to everybody who wants everything."""
        self.delivered += events * len(subs)
        self.bytes += len(block) * len(subs)
        for sub in subs:
            sub.outlet.write(block)
            if sub.outlet.full:
                self._fall_behind(sub)

    def _give(self, sub: Subscription, events: list[Event], block: bytes | None = None) -> None:
        """Writes events to a filtered subscription, and ends it where the last one says so."""
        if not events:
            return
        block = sub.encoding.block(events, self._store.epoch) if block is None else block
        self.delivered += len(events)
        self.bytes += len(block)
        sub.outlet.write(block)
        if sub.ends is None:
            return
        last = events[-1]
        if last.task and last.task.final:
            self._close(sub, DONE)
        elif last.kind is Kind.GONE:
            self._roster.doom(sub, sub.ends)
        else:
            self._roster.pardon(sub)

    # Places

    def _reset(self, sub: Subscription) -> None:
        self.resets += 1
        sub.synced = False
        sub.outlet.write(sub.encoding.reset())
        sub.rewind(self._store.head)

    def _fall_behind(self, sub: Subscription) -> None:
        sub.live = False
        self._interest.leave(sub)
        sub.move(self._store.head)

    def _drained(self, sub: Subscription) -> None:
        """Its outlet has room again: the client has taken something."""
        sub.stalled = None
        self._resume(sub)

    def _resume(self, sub: Subscription) -> None:
        self._pass_on()
        self._go_on(sub)

    def _go_on(self, sub: Subscription) -> None:
        """Gives what comes next, as long as the outlet takes it, and makes the subscription live at its end."""
        if sub.live or sub not in self._roster:
            return
        if sub.place > self._store.head:
            self._backlog.park(sub)
            return
        if not self._give_first(sub):
            return
        self._pass_on()  # what was looked at may have been news to others, too
        if not (self._catch_up(sub) if sub.places is None else self._catch_up_own(sub)):
            return
        if not sub.synced:
            sub.synced = True
            sub.outlet.write(sub.encoding.synced(self._store.cursor(self._store.head), self._store.floor))
            if self._stale:
                sub.outlet.write(sub.encoding.notice("stale"))
            sub.answered()
        if sub.ends is not None and self._has_all(sub):
            self._close(sub, DONE)
            return
        sub.live = True
        if sub.places is None:
            self._interest.join(sub)

    def _give_first(self, sub: Subscription) -> bool:
        """The states from outside the store's order. True when there is no more."""
        while not sub.outlet.full:
            try:
                event = next(sub.first)
            except StopIteration:
                return True
            if event:
                self._give(sub, [event])
                if sub not in self._roster:
                    return False
            else:
                self._backlog.rest(sub)
                return False
        return False

    def _catch_up(self, sub: Subscription) -> bool:
        """Everything after `place`. True when there is no more."""
        while not sub.outlet.full:
            if 0 < sub.place < self._store.floor and sub.snapshot < self._store.floor:
                self._reset(sub)  # what it missed is forgotten
            if sub.place == self._store.head:
                return True
            self._backlog.serve_soon(self._pages.renew, self._pages.has_room)
            if not self._pages.has_room():
                self._backlog.queue(sub)
                return False
            page = self._pages.next(sub)
            self.delivered += page.events
            self.conflated += page.conflated
            self.bytes += len(page.block)
            sub.place = page.end
            sub.outlet.write(page.block)
        return False

    def _catch_up_own(self, sub: Subscription) -> bool:
        """What came of each wanted task after its place. True when there is no more."""
        missed: list[Event] = []
        for id, place in (sub.places or {}).items():
            news = [e for e in self._store.of(id) if e.offset > place and (place or e.kind is not Kind.GONE)]
            if 0 < place < self._store.floor and not news and not self._store.get(id):
                self._close(sub, LAGGED)  # forgotten while it was behind: it comes back and reads the file
                return False
            missed += news
        for event in sorted(missed, key=attrgetter("offset")):
            if sub.outlet.full:
                return False
            if sub.places is not None:
                sub.places[event.id] = event.offset
            self._give(sub, [event])
            if sub not in self._roster:
                return False
        return True

    def _has_all(self, sub: Subscription) -> bool:
        """Whether it was told at another edge that its tasks are final."""
        found = [self._store.get(id) for id in sub.places or ()]
        return self._store.copied and all(e and e.task and e.task.final and e.offset <= sub.place for e in found)

    # What all have to know

    def restart(self) -> None:
        """The store's order is another one: all begin anew."""
        self._pending.clear()
        self._pages.forget()
        self._backlog.forget()
        for sub in self._roster:
            sub.live = False
            self._interest.leave(sub)
            self._reset(sub)
        for sub in self._roster:
            if sub.ends is not None:
                self._give(sub, [Event(0, Kind.GONE, id) for id in sub.places or () if not self._store.of(id)])
            self._go_on(sub)

    def set_stale(self, stale: bool) -> None:
        """Whether what is told may be old: those who follow the collection are to know."""
        if stale == self._stale:
            return
        self._stale = stale
        for sub in self._roster:
            if sub.synced:
                sub.outlet.write(sub.encoding.notice("stale" if stale else "fresh"))

    # Time

    def beat(self) -> None:
        """Call once a second: a heartbeat for those whose turn it is, an end for those whose task stays away or who
        take nothing any more."""
        if self._roster.now % TIDY == 0:
            self._pages.tidy()
        for sub in self._roster.turn():
            if not sub.outlet.full:
                sub.stalled = None
                if sub.encoding.heartbeat:
                    sub.outlet.write(sub.encoding.heartbeat)
            elif sub.stalled is None:
                sub.stalled = self._roster.now
            elif self._roster.now - sub.stalled >= self.write_deadline:
                self.expired += 1
                self.unsubscribe(sub)
                sub.outlet.abort()
        for sub in self._roster.given_up():
            self._close(sub, DONE)

    def end_grants(self, now: float, revoked: frozenset[str]) -> None:
        """Ends the subscriptions whose grant has ended by `now` (unix seconds), or is `revoked`."""
        for sub in self._roster.without_grant(now, revoked):
            self._close(sub, POLICY)

    def close(self) -> None:
        """Tells everybody to come back, at spread times, and lets nobody in any more."""
        self.flush()
        self.closed = True
        for sub in self._roster:
            sub.outlet.write(sub.encoding.farewell())
            self._close(sub, RESTART)

    def _close(self, sub: Subscription, code: int) -> None:
        self.unsubscribe(sub)
        sub.outlet.close(code)
