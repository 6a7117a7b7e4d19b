"""Who wants which tasks. No I/O."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from gateway.access.grants import View
from gateway.store import Event
from gateway.subscription import Subscription
from gateway.views import Views
from gateway.wire import Encoding

Group = dict[Encoding, dict[Subscription, None]]
"""Those who want everything and may see the same of it, by their encoding: they share their bytes."""


class Interest:
    """By the task for those who name theirs; in groups for those who want everything, as long as they are live."""

    def __init__(self) -> None:
        self._by_id: defaultdict[str, dict[Subscription, None]] = defaultdict(dict)
        self._groups: defaultdict[View | None, Group] = defaultdict(lambda: defaultdict(dict))
        self._views = Views()
        self._unfiltered = 0  # who wants everything, live or not

    def is_wanted(self, id: str, *, by_name: bool) -> bool:
        """Whether anybody is subscribed to a task; who wants everything does not count for one wanted `by_name`."""
        return id in self._by_id or (self._unfiltered > 0 and not by_name)

    def has_room_for(self, view: View | None) -> bool:
        """Whether one more subscription to everything that a view sees can be served."""
        return view is None or self._views.has_room_for(view)

    def clients(self, id: str) -> Iterator[str]:
        """Whom those count for that want this task by its name."""
        return (sub.client for sub in self._by_id.get(id, ()))

    def of(self, id: str) -> Collection[Subscription]:
        """Those who want this task by its name."""
        return self._by_id.get(id, ())

    def concerned(self, events: list[Event]) -> Iterator[tuple[Encoding, list[Subscription], list[Event]]]:
        """The live ones who want everything, with what they may see of it; they may leave meanwhile."""
        shown: dict[View | None, list[Event]] = {None: events}
        for event in events:
            for view in self._views.seeing(event.id):
                shown.setdefault(view, []).append(event)
        for seen_by, own in shown.items():
            for encoding, subs in list(self._groups.get(seen_by, {}).items()):
                yield encoding, list(subs), own

    def add(self, sub: Subscription) -> None:
        if sub.places is None:
            self._unfiltered += 1
            if sub.view:
                self._views.add(sub.view)
        self.add_ids(sub, sub.places or ())

    def remove(self, sub: Subscription) -> None:
        self.narrow(sub)
        for id in sub.places or ():
            self.drop_id(id, sub)

    def narrow(self, sub: Subscription) -> None:
        """It wants everything no more, but what it will name."""
        self.leave(sub)
        if sub.places is None:
            sub.places = {}
            self._unfiltered -= 1
            if sub.view:
                self._views.remove(sub.view)

    def add_ids(self, sub: Subscription, ids: Iterable[str]) -> None:
        for id in ids:
            self._by_id[id][sub] = None

    def drop_id(self, id: str, sub: Subscription) -> None:
        self._by_id[id].pop(sub, None)
        if not self._by_id[id]:
            del self._by_id[id]

    def join(self, sub: Subscription) -> None:
        """It is live, and wants everything."""
        self._groups[sub.view][sub.encoding][sub] = None

    def leave(self, sub: Subscription) -> None:
        group = self._groups.get(sub.view, {})
        if (subs := group.get(sub.encoding)) is not None:
            subs.pop(sub, None)
            if not subs:
                del group[sub.encoding]
            if not group:
                del self._groups[sub.view]
