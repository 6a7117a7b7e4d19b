"""Who is subscribed, and whose turn it is. No I/O; time passes by `turn`, once a second."""

from collections import Counter
from collections.abc import Iterator

from gateway.access.grants import EVERYTHING
from gateway.subscription import Subscription


class Roster:
    """The subscriptions, spread over `seconds` slots: each comes to its turn once in so many seconds."""

    def __init__(self, seconds: int) -> None:
        self.now = 0  # in turns
        self._slots: list[dict[Subscription, None]] = [{} for _ in range(seconds)]
        self._limited: dict[Subscription, None] = {}  # whose grant can end
        self._doomed: dict[Subscription, float] = {}  # when they are given up

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def __contains__(self, sub: Subscription) -> bool:
        return sub in self._slots[sub.slot]

    def __iter__(self) -> Iterator[Subscription]:
        """All there are now; they may leave meanwhile."""
        return iter([sub for slot in self._slots for sub in slot])

    def transports(self) -> Counter[str]:
        """How many there are, by transport."""
        return Counter(sub.encoding.transport for sub in self)

    def add(self, sub: Subscription) -> None:
        sub.slot = min(range(len(self._slots)), key=lambda n: len(self._slots[n]))
        self._slots[sub.slot][sub] = None
        if sub.grant is not EVERYTHING:
            self._limited[sub] = None

    def remove(self, sub: Subscription) -> bool:
        """False where it is not known any more."""
        if sub not in self:
            return False
        del self._slots[sub.slot][sub]
        self._limited.pop(sub, None)
        self._doomed.pop(sub, None)
        return True

    def turn(self) -> list[Subscription]:
        """A second is over: those whose turn it is."""
        self.now += 1
        return list(self._slots[self.now % len(self._slots)])

    def doom(self, sub: Subscription, seconds: float) -> None:
        """It is given up after so many seconds, unless it is pardoned."""
        self._doomed[sub] = self.now + max(1.0, seconds)

    def pardon(self, sub: Subscription) -> None:
        self._doomed.pop(sub, None)

    def given_up(self) -> list[Subscription]:
        return [sub for sub, deadline in self._doomed.items() if self.now >= deadline]

    def without_grant(self, now: float, revoked: frozenset[str]) -> list[Subscription]:
        """Those whose grant has ended by `now` (unix seconds), or is `revoked`."""
        return [sub for sub in self._limited if sub.grant.until <= now or sub.grant.is_in(revoked)]
