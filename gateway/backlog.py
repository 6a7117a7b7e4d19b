"""Subscriptions that are behind and wait: for the order to come to their place, or for their turn. No I/O."""

from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count

from gateway.subscription import Subscription

Schedule = Callable[[Callable[[], None]], object]


class Backlog:
    """Has `go_on` called for each when its time has come.

    `call_soon` runs something in the next pass of the loop, `call_later` when others have had more of it.
    """

    def __init__(self, call_soon: Schedule, call_later: Schedule, go_on: Callable[[Subscription], None]) -> None:
        self._call_soon, self._call_later, self._go_on = call_soon, call_later, go_on
        self._ahead: list[tuple[int, int, Subscription]] = []  # by place
        self._arrivals = count()
        self._line: deque[Subscription] = deque()
        self._serving = False

    def park(self, sub: Subscription) -> None:
        """It has seen more than there is here: until the order comes to its place."""
        heappush(self._ahead, (sub.place, next(self._arrivals), sub))

    def release(self, head: int) -> None:
        """The order has come so far."""
        while self._ahead and self._ahead[0][0] <= head:
            self._go_on(heappop(self._ahead)[2])

    def rest(self, sub: Subscription) -> None:
        """What it asked for takes long."""
        if not sub.due:
            sub.due = True
            self._call_later(partial(self._resume, sub))

    def queue(self, sub: Subscription) -> None:
        """Enough was made in this pass of the loop: it is its turn in one of the next."""
        if not sub.due:
            sub.due = True
            self._line.append(sub)

    def serve_soon(self, renew: Callable[[], None], has_room: Callable[[], bool]) -> None:
        """In the next pass `renew` is called, and those in line have their turns as long as it `has_room`."""
        if not self._serving:
            self._serving = True
            self._call_soon(partial(self._serve, renew, has_room))

    def forget(self) -> None:
        """Another order has begun: none of it is ahead of anybody."""
        self._ahead.clear()

    def _serve(self, renew: Callable[[], None], has_room: Callable[[], bool]) -> None:
        self._serving = False
        renew()
        while self._line and has_room():
            self._resume(self._line.popleft())
        if self._line:
            self.serve_soon(renew, has_room)

    def _resume(self, sub: Subscription) -> None:
        sub.due = False
        self._go_on(sub)
