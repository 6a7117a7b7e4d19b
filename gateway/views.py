"""Which of many views see a task: looked up by its id, not asked one after the other. No I/O."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from gateway.access.grants import View
from gateway.tasks import spellings

MOST_NAMES, MOST_SEARCHED = 200_000, 1_000
"""Ids and globs of all views; views with a glob that begins with a wildcard, which have to be asked for each change
(6 µs each)."""


class Views:
    """Views by the ids that they name and by the beginnings of their globs; each counted as often as it is added."""

    def __init__(self) -> None:
        self._users: Counter[View] = Counter()
        self._by_id: defaultdict[str, dict[View, None]] = defaultdict(dict)
        self._by_beginning: defaultdict[str, dict[View, None]] = defaultdict(dict)
        self._lengths: Counter[int] = Counter()  # of the beginnings that there are
        self._names = 0

    def has_room_for(self, view: View) -> bool:
        """Whether one more can be looked up within a few milliseconds a change, and a bounded memory."""
        if view in self._users:
            return True
        fits = self._names + len(view.ids) + len(view.beginnings) <= MOST_NAMES
        return fits and ("" not in view.beginnings or len(self._by_beginning.get("", ())) < MOST_SEARCHED)

    def add(self, view: View) -> None:
        self._users[view] += 1
        if self._users[view] > 1:
            return
        self._names += len(view.ids) + len(view.beginnings)
        for id in view.ids:
            self._by_id[id][view] = None
        for beginning in view.beginnings:
            if beginning not in self._by_beginning:
                self._lengths[len(beginning)] += 1
            self._by_beginning[beginning][view] = None

    def remove(self, view: View) -> None:
        self._users[view] -= 1
        if self._users[view]:
            return
        del self._users[view]
        self._names -= len(view.ids) + len(view.beginnings)
        for id in view.ids:
            _drop(self._by_id, id, view)
        for beginning in view.beginnings:
            if _drop(self._by_beginning, beginning, view):
                self._lengths[len(beginning)] -= 1
                if not self._lengths[len(beginning)]:
                    del self._lengths[len(beginning)]

    def seeing(self, id: str) -> Iterator[View]:
        """The views that see a task, each once."""
        if not self._users:
            return iter(())
        found = dict(self._by_id.get(id, {}))
        for name in spellings(id):
            for length in self._lengths:
                for view in self._by_beginning.get(name[:length], ()) if length <= len(name) else ():
                    if view not in found and view.sees(id):
                        found[view] = None
        return iter(found)


def _drop(index: defaultdict[str, dict[View, None]], name: str, view: View) -> bool:
    """Whether it was the last one of that name."""
    index[name].pop(view, None)
    if index[name]:
        return False
    del index[name]
    return True
