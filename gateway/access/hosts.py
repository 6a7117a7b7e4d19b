"""Which names this gateway answers to. A page whose own name leads here (DNS rebinding) still calls it by that name."""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from starlette.types import Scope

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

_ANY = frozenset({"0.0.0.0", "::", "[::]", "*"})  # noqa: S104 - these are looked for, not bound
_NAME = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@]+?)\.?(?::\d{0,5})?", re.IGNORECASE)

MOST_KNOWN = 1_000
"""So many Host headers are remembered as right."""


class Hosts:
    """The names that are bound, and those that are `allowed` besides; the port does not matter."""

    def __init__(self, binds: Iterable[str], allowed: Iterable[str]) -> None:
        bound = {name_of(bind) for bind in binds}
        if bound & (LOOPBACK | _ANY):
            bound |= LOOPBACK
        self._names = (bound - _ANY) | {name_of(name) for name in allowed}
        self.known: set[bytes] = set()
        """Host headers that were found right."""

    def names(self, host: bytes, scope: Scope) -> bool:
        """Whether a Host header names this gateway. The address that a client has connected to always does."""
        name = name_of(host.decode("latin-1"))
        if name not in self._names:
            return _is_address(name, scope)  # true of this connection only
        if len(self.known) < MOST_KNOWN and len(host) < 300:
            self.known.add(host)
        return True


def name_of(authority: str) -> str:
    """The host in `host`, `host:port` or a URL's authority, in lower case; empty where there is none."""
    if authority.count(":") > 1 and not authority.startswith("["):
        authority = f"[{authority}]"
    found = _NAME.fullmatch(authority.strip())
    return found[1].lower() if found else ""


def _is_address(name: str, scope: Scope) -> bool:
    """Rebinding is done by names: a literal address that leads here is one."""
    try:
        return scope["server"] is not None and ip_address(name.strip("[]")) == ip_address(scope["server"][0])
    except ValueError:
        return False
