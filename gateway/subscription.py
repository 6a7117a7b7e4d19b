"""One consumer: its place, its filter, and the outlet that its bytes go to."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from gateway.access.grants import EVERYTHING, Grant
from gateway.store import Event
from gateway.wire import Encoding

RESTART, DONE, LAGGED, POLICY = (
    1012,
    1000,
    1013,
    1008,
)  # why an outlet is closed, in WebSocket close codes (RFC 6455, IANA)


NOTHING: Iterator[Event | None] = iter(())


def _nobody() -> None:
    """Stands where nobody waits for an answer."""


class Outlet(Protocol):
    """Where the bytes for one consumer go. `full` says that enough is waiting; `drained` is then called back."""

    full: bool
    drained: Callable[[], None]

    def write(self, block: bytes) -> None: ...
    def close(self, code: int) -> None: ...
    def abort(self) -> None: ...


class Subscription:
    """One consumer's place, filter and outlet.

    `places` holds a place for each task that is wanted; None wants everything, from `place`. `ends` closes it after a
    final state, or after its task has been gone for that many seconds. Of a snapshot, `oldest` leaves out what was
    last written before that time (unix ms). `client` is whose share of the work at a backend is used for it. Of
    everything it is given what `grant` lets it see, and it ends when that does. `answered` is called each time it has
    been given all that it asked for.
    """

    __slots__ = (
        "answered",
        "client",
        "due",
        "encoding",
        "ends",
        "first",
        "grant",
        "live",
        "oldest",
        "outlet",
        "place",
        "places",
        "slot",
        "snapshot",
        "stalled",
        "synced",
        "view",
    )

    def __init__(
        self,
        encoding: Encoding,
        outlet: Outlet,
        *,
        ids: Iterable[str] | None = None,
        ends: float | None = None,
        oldest: int = 0,
        client: str = "",
        grant: Grant = EVERYTHING,
    ) -> None:
        self.encoding = encoding
        self.outlet = outlet
        self.places = None if ids is None else dict.fromkeys(ids, 0)
        self.ends = ends
        self.oldest = oldest
        self.place = 0
        self.snapshot = 0  # up to which offset this is a snapshot: without deletions and old tasks
        self.live = False
        self.synced = False
        self.slot = 0
        self.stalled: int | None = None  # since which beat its outlet is full
        self.first = NOTHING  # states from outside the store's order; None: not yet
        self.due = False  # it waits for its turn to go on
        self.answered: Callable[[], None] = _nobody
        self.client = client
        self.grant = grant
        self.view = grant.view  # one object for as long as it lives: groups go by it

    def move(self, place: int) -> None:
        """It has everything up to there."""
        self.place = place
        if self.places is not None:
            self.places = dict.fromkeys(self.places, place)

    def rewind(self, head: int) -> None:
        """It begins anew, with a snapshot up to there."""
        self.move(0)
        self.snapshot = head
