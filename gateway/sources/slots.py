"""The places at the backend's door: who is asked for next, where more want to know than it should be asked at once."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from gateway.sources.turns import Turns

PATIENCE = 8
"""So many known tasks in a row go before an unknown id that waits."""

BURST = 20.0
"""Seconds for which the allowance of unknown ids is saved up: a page that opens asks for all of its tasks at once."""

Item = TypeVar("Item", bound=Hashable)


class Allowance:
    """`rate` a second, and what was not used of late on top. No clock."""

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(1.0, BURST * rate)
        self._left, self._at = self._most, 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next one is allowed; 0 where it is."""
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._left >= 1 else (1 - self._left) / self._rate

    def spend(self) -> None:
        self._left -= 1


class Order(Generic[Item]):
    """Which of those that wait may ask: `most` at once, known tasks before unknown ids, and in each kind its clients
    by turns. Unknown ids have half of the slots, `rate` a second, and one turn after `PATIENCE` others. No clock.
    """

    def __init__(self, most: int, rate: float) -> None:
        self._most = {True: most, False: max(1, most // 2)}
        self._busy: Counter[bool] = Counter()
        self._in_a_row = 0
        self._allowance = Allowance(rate)
        self.known: Turns[Item] = Turns()
        self.unknown: Turns[Item] = Turns()

    def put(self, item: Item, clients: Iterable[str], *, known: bool) -> None:
        (self.known if known else self.unknown).put(item, clients)

    def drop(self, item: Item) -> None:
        self.known.drop(item)
        self.unknown.drop(item)

    def __contains__(self, item: object) -> bool:
        return item in self.known or item in self.unknown

    def take(self, now: float) -> Item | None:
        """The next one that may ask; it is asking until it is `done`."""
        unknown = self._could_ask() and not self._allowance.wait(now)
        if self._busy.total() >= self._most[True] or not (unknown or self.known):
            return None
        known = bool(self.known) and not (unknown and self._in_a_row >= PATIENCE)
        self._in_a_row = self._in_a_row + 1 if known and self.unknown else 0
        if not known:
            self._allowance.spend()
        taken = (self.known if known else self.unknown).take()
        assert taken
        self._busy[known] += 1
        return taken[1]

    def done(self, *, known: bool) -> None:
        self._busy[known] -= 1

    def pause(self, now: float) -> float:
        """Seconds until there is something to take again, where nothing but the rate is in the way; else 0."""
        return self._allowance.wait(now) if self._could_ask() else 0.0

    def _could_ask(self) -> bool:
        return bool(self.unknown) and self._busy[False] < self._most[False]


class Turn:
    """Somebody who asks again and again, one request at a time: for a `known` task or not, and for which `clients`."""

    def __init__(self, clients: Callable[[], Collection[str]]) -> None:
        self.clients = clients
        self.known = False
        self.since = 0.0
        self.comes: asyncio.Future[None]


class Slots:
    """Lets so many ask at once, in order."""

    def __init__(self, most: int, rate: float) -> None:
        self._order: Order[Turn] = Order(most, rate)
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def held(self, turn: Turn) -> AsyncIterator[None]:
        """Waits for a turn and holds a slot within."""
        turn.since, turn.comes = time.monotonic(), asyncio.get_running_loop().create_future()
        known = turn.known
        self._order.put(turn, turn.clients(), known=known)
        self._give()
        try:
            await turn.comes
            yield
        finally:
            if turn in self._order:
                self._order.drop(turn)
            else:
                self._order.done(known=known)
            self._give()

    def share(self, turn: Turn, clients: Collection[str]) -> None:
        """These wait for it, too, and may have to wait less long."""
        for known, line in ((True, self._order.known), (False, self._order.unknown)):
            if turn in line and clients:
                self._order.put(turn, clients, known=known)

    def waiting(self, *, known: bool) -> tuple[int, float]:
        """How many wait, and for how many seconds the first of them does."""
        line = self._order.known if known else self._order.unknown
        oldest = line.oldest
        return len(line), time.monotonic() - oldest.since if oldest else 0.0

    def _give(self) -> None:
        while turn := self._order.take(time.monotonic()):
            if not turn.comes.done():  # who was cancelled gives it back
                turn.comes.set_result(None)
        pause = self._order.pause(time.monotonic())
        if pause and not self._timer:
            self._timer = asyncio.get_running_loop().call_later(pause, self._later)

    def _later(self) -> None:
        self._timer = None
        self._give()
