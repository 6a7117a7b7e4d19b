"""Budgets for clients, counted where they are admitted: streams first, large answers next, single polls last."""

import time
from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from starlette.types import Scope

from gateway.access.grants import View, grant_of
from gateway.hub import Hub
from gateway.settings import Settings


class Refusal(NamedTuple):
    """Why a client is not served now: an HTTP status, a sentence for people, and the seconds to stay away for."""

    status: int
    sentence: str
    wait: float = 0


class Seat:
    """A place among the streams and long-polls, from the moment of admission until its client has left.

    As a context it is given back at the end, unless it was `handed_on` to whoever learns that the client leaves.
    """

    __slots__ = ("_limits", "_peer", "handed_on")

    def __init__(self, limits: "Limits", peer: str) -> None:
        self._limits: Limits | None = limits
        self._peer = peer
        self.handed_on = False

    def __enter__(self) -> "Seat":
        return self

    def __exit__(self, *_: object) -> None:
        if not self.handed_on:
            self.leave()

    def leave(self) -> None:
        """Gives it back; a second time is no error."""
        if self._limits:
            self._limits.seats.give_back(self._peer, 1)
            self._limits = None


class Budget:
    """So much of something, in all and by address. This machine's own addresses have no share of their own."""

    def __init__(self) -> None:
        self.used = 0
        self._by_peer: Counter[str] = Counter()

    def of(self, peer: str) -> int:
        """What an address uses of its share."""
        return 0 if is_here(peer) else self._by_peer[peer]

    def take(self, peer: str, amount: int) -> None:
        self.used += amount
        self._by_peer[peer] += amount

    def give_back(self, peer: str, amount: int) -> None:
        self.used -= amount
        self._by_peer[peer] -= amount
        if not self._by_peer[peer]:
            del self._by_peer[peer]


class Limits:
    """Decides on each stream, long-poll and answer, and counts what it refuses by reason."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self.settings, self._hub = settings, hub
        self.refused: Counter[str] = Counter()
        self.seats = Budget()
        """Streams and long-polls that are open."""
        self.unsent = Budget()
        """Bytes of answers that their clients have not taken yet."""

    def admit(self, scope: Scope) -> Seat | Refusal:
        """A seat for a stream or a long-poll; it is taken when this returns."""
        if self._hub.closed:
            return self._because("closing", 503, "The gateway is being restarted")
        if self.seats.used >= self.settings.max_streams:
            return self._because("streams", 503, "Too many streams are open")
        peer = peer_of(scope)
        if self.seats.of(peer) >= self.settings.max_streams_per_address:
            return self._because("address", 429, "Too many streams are open from this address")
        self.seats.take(peer, 1)
        return Seat(self, peer)

    def refuse_answer(self, scope: Scope, *, large: bool) -> Refusal | None:
        """Why an answer is not begun now, if it is not: too much waits. A large one is refused at half of that."""
        if not self.unsent.used:  # nearly always
            return None
        share = 2 if large else 1
        if self.unsent.used * share >= self.settings.max_unsent:
            return self._because("unsent", 503, "Too many answers wait for clients that do not take them")
        if self.unsent.of(peer_of(scope)) * share >= self.settings.max_unsent_per_address:
            return self._because("unsent", 503, "Too many answers wait for clients at this address")
        return None

    def refuse_view(self, view: View | None) -> Refusal | None:
        """Why nobody can follow everything that a view sees, if so: the claims of those who do are too many."""
        if self._hub.has_room_for(view):
            return None
        return self._because("claims", 503, "Too many different claims follow every task")

    def _because(self, reason: str, status: int, sentence: str) -> Refusal:
        self.refused[reason] += 1
        return Refusal(status, sentence, RETRY)


RETRY = 5.0
"""Seconds after which who was refused may come again."""


class Throttle:
    """Counts the messages of a second from one WebSocket client."""

    def __init__(self) -> None:
        self._second = 0
        self._count = 0

    def exceeds(self, most: int) -> int:
        """Counts a message; by how many this second's are too many."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return max(0, self._count - most)


def peer_of(scope: Scope) -> str:
    """Whom a connection counts for: its IPv4 address, or the /64 of its IPv6 address, which one client has all of.

    Empty for one without an address, such as a Unix socket.
    """
    client = scope.get("client")
    if not client or ":" not in client[0]:
        return client[0] if client else ""
    try:
        address = ip_address(client[0].partition("%")[0])
    except ValueError:
        return str(client[0])
    if not isinstance(address, IPv6Address) or address.is_loopback:
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


def client_of(scope: Scope) -> str:
    """Whose share of a budget a request uses: of its grant's subject or token, or of the address it comes from."""
    grant = grant_of(scope)
    if grant.subject:
        return f"sub:{grant.subject}"
    return f"jti:{grant.token}" if grant.token else peer_of(scope)


def is_here(peer: str) -> bool:
    """Whether it is this machine itself, or a Unix socket."""
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return not peer
