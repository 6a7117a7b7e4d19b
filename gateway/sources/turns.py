"""Whose turn it is where many wait for little. No I/O, no clock."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


def _anybody(_client: str) -> bool:
    return True


class Turns(Generic[Item]):
    """A line for each client. Clients take turns; what one waits for is taken in the order in which it came.

    So nobody waits longer than for one item of each other client, for each of his own that came before. What several
    clients want stands in the line of each that it was put into, and is taken once.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[str, OrderedDict[Item, None]] = OrderedDict()  # whose turn is next stands first
        self._clients: OrderedDict[Item, list[str]] = OrderedDict()  # whose lines it stands in; the oldest first

    def __len__(self) -> int:
        return len(self._clients)

    def __contains__(self, item: object) -> bool:
        return item in self._clients

    @property
    def oldest(self) -> Item | None:
        return next(iter(self._clients), None)

    def length(self, client: str) -> int:
        return len(self._lines.get(client, ()))

    def put(self, item: Item, clients: Iterable[str]) -> None:
        """Puts an item into the shortest of these clients' lines."""
        client = min(clients, key=self.length, default="")
        line = self._lines.setdefault(client, OrderedDict())
        if item not in line:
            line[item] = None
            self._clients.setdefault(item, []).append(client)

    def take(self, may: Callable[[str], bool] = _anybody) -> tuple[str, Item] | None:
        """The next item, and the client whose turn it is; those that may not are passed over, and lose no turn."""
        client = next(filter(may, self._lines), None)
        if client is None:
            return None
        item = next(iter(self._lines[client]))
        self._lines.move_to_end(client)
        self.drop(item)
        return client, item

    def drop(self, item: Item) -> None:
        """Nobody waits for it any more; one that is not there is no error."""
        for client in self._clients.pop(item, ()):
            line = self._lines[client]
            del line[item]
            if not line:
                del self._lines[client]

    def keep(self, is_wanted: Callable[[Item], bool]) -> None:
        """Drops what is not wanted any more."""
        for item in [item for item in self._clients if not is_wanted(item)]:
            self.drop(item)
