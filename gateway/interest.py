"""Who wants which tasks. No I/O."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from gateway.access.grants import View
from gateway.subscription import Subscription
from gateway.wire import Encoding

Group = tuple[Encoding, View | None]
"""Those who want everything in one encoding, and may see the same of it: they share their bytes."""


class Interest:
    """By the task for those who name theirs; in groups for those who want everything, as long as they are live."""

    def __init__(self) -> None:
        self._by_id: defaultdict[str, dict[Subscription, None]] = defaultdict(dict)
        self._groups: defaultdict[Group, dict[Subscription, None]] = defaultdict(dict)
        self._unfiltered = 0  # who wants everything, live or not

    def is_wanted(self, id: str, *, by_name: bool) -> bool:
        """Whether anybody is subscribed to a task; who wants everything does not count for one wanted `by_name`."""
        return id in self._by_id or (self._unfiltered > 0 and not by_name)

    def clients(self, id: str) -> Iterator[str]:
        """Whom those count for that want this task by its name."""
        return (sub.client for sub in self._by_id.get(id, ()))

    def of(self, id: str) -> Collection[Subscription]:
        """Those who want this task by its name."""
        return self._by_id.get(id, ())

    def groups(self) -> Iterator[tuple[Group, list[Subscription]]]:
        """The live ones who want everything; they may leave meanwhile."""
        return iter([(group, list(subs)) for group, subs in self._groups.items()])

    def add(self, sub: Subscription) -> None:
        self._unfiltered += sub.places is None
        self.add_ids(sub, sub.places or ())

    def remove(self, sub: Subscription) -> None:
        self.leave(sub)
        self._unfiltered -= sub.places is None
        for id in sub.places or ():
            self.drop_id(id, sub)

    def narrow(self, sub: Subscription) -> None:
        """It wants everything no more, but what it will name."""
        self.leave(sub)
        if sub.places is None:
            sub.places = {}
            self._unfiltered -= 1

    def add_ids(self, sub: Subscription, ids: Iterable[str]) -> None:
        for id in ids:
            self._by_id[id][sub] = None

    def drop_id(self, id: str, sub: Subscription) -> None:
        self._by_id[id].pop(sub, None)
        if not self._by_id[id]:
            del self._by_id[id]

    def join(self, sub: Subscription) -> None:
        """It is live, and wants everything."""
        self._groups[sub.encoding, sub.view][sub] = None

    def leave(self, sub: Subscription) -> None:
        group = sub.encoding, sub.view
        if (subs := self._groups.get(group)) is not None:
            subs.pop(sub, None)
            if not subs:
                del self._groups[group]
