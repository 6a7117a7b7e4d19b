"""Who is let in: streams are refused before polls are, and this machine's own clients last."""

import time
from collections import Counter
from ipaddress import ip_address
from typing import NamedTuple

from starlette.types import Scope

from gateway.access.grants import grant_of
from gateway.hub import Hub
from gateway.settings import Settings
from gateway.subscription import INSIDE


class Refusal(NamedTuple):
    """Why a client is not let in now: an HTTP status, a sentence for people, and the seconds to stay away for."""

    status: int
    sentence: str
    wait: float = 0


class Limits:
    """Decides on each stream and long-poll; polls are never refused here. Counts its refusals by reason."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self.settings, self._hub = settings, hub
        self.refused: Counter[str] = Counter()

    def refuse(self, scope: Scope) -> Refusal | None:
        if self._hub.closed:
            return self._because("closing", 503, "The gateway is being restarted")
        if len(self._hub) - self._hub.peers[INSIDE] >= self.settings.max_streams:
            return self._because("streams", 503, "Too many streams are open")
        peer = peer_of(scope)
        if self._hub.peers[peer] >= self.settings.max_streams_per_address and not _is_here(peer):
            return self._because("address", 429, "Too many streams are open from this address")
        return None

    def _because(self, reason: str, status: int, sentence: str) -> Refusal:
        self.refused[reason] += 1
        return Refusal(status, sentence)


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
    """The address a connection comes from; empty for one without, such as a Unix socket."""
    client = scope.get("client")
    return client[0] if client else ""


def client_of(scope: Scope) -> str:
    """Whose share of a budget a request uses: of its grant's subject or token, or of the address it comes from."""
    grant = grant_of(scope)
    if grant.subject:
        return f"sub:{grant.subject}"
    return f"jti:{grant.token}" if grant.token else peer_of(scope)


def _is_here(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return not peer
