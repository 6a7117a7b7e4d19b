"""Which unknown ids are polled: nobody knows whether there ever will be such tasks. No I/O, no clock."""

from collections import Counter, OrderedDict
from collections.abc import Collection

from gateway.sources.turns import Turns

Names = tuple[str, ...]
"""The spellings of one id."""


class Places:
    """`each` for one client, and `most` in all, or one for each client where there are more of those.

    What finds no place, and is wanted for longer, waits in line for one.
    """

    def __init__(self, each: int, most: int) -> None:
        self._each, self._most = each, most
        self._held: dict[Names, str] = {}  # whose place an id has
        self._count: Counter[str] = Counter()
        self.line: Turns[Names] = Turns()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, names: Names) -> bool:
        return names in self._held

    def take(self, names: Names, clients: Collection[str]) -> bool:
        """Whether an id has a place, from now on or already."""
        if names in self._held:
            return True
        client = min(clients, key=self._count.__getitem__, default="")
        if not self.has_room(client):
            return False
        self._held[names] = client
        self._count[client] += 1
        self.line.drop(names)
        return True

    def give_back(self, names: Names) -> bool:
        """Whether there was one to give back."""
        client = self._held.pop(names, None)
        if client is None:
            return False
        self._count[client] -= 1
        if not self._count[client]:
            del self._count[client]
        return True

    def is_contested(self, names: Names) -> bool:
        """Whether somebody waits who could have this place."""
        client = self._held.get(names)
        return client is not None and bool(self.line.length(client) or (len(self) >= self._most and self.line))

    def next(self) -> tuple[str, Names] | None:
        """Takes who is next out of the line, if there is a place for him."""
        return self.line.take(self.has_room)

    def has_room(self, client: str) -> bool:
        return not self.has_its_share(client) and (len(self) < self._most or not self._count[client])

    def has_its_share(self, client: str) -> bool:
        return self._count[client] >= self._each


class Absent:
    """Ids that the backend has just said that it does not know, each until a time; the oldest are forgotten first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._until: OrderedDict[str, float] = OrderedDict()  # by each spelling

    def add(self, names: Names, until: float) -> None:
        for name in names:
            self._until[name] = until
            self._until.move_to_end(name)
        while len(self._until) > self._most:
            self._until.popitem(last=False)

    def wait(self, names: Names, now: float) -> float:
        """Seconds for which an id is known not to be there."""
        return max(0.0, max(self._until.get(name, now) for name in names) - now)
