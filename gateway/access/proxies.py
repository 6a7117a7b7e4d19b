"""Proxies that are believed: who a request comes from is what they say, and nobody else."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

USER = "gateway.user"
"""Where a scope holds the user that a trusted proxy has named."""


UNIX = "unix"
"""In place of a network: whoever gets to a Unix socket."""


class Proxies:
    """The networks that `X-Forwarded-For` and `-Proto` are believed from, and the header that names the user there.

    A Unix socket is a proxy's, too: only those get there whom its mode lets. Who a user is it may say where `unix` is
    among the networks.
    """

    def __init__(self, networks: Iterable[str], user_header: str) -> None:
        networks = set(networks)
        self._names_users_on_unix = UNIX in networks
        self._networks = [ip_network(network, strict=False) for network in networks - {UNIX}]
        self._user_header = user_header.lower()

    def listen_to(self, scope: Scope) -> None:
        """Puts what a trusted proxy says into the scope: the client, the scheme, and the user, if it names one."""
        client = scope.get("client")
        if client and not self._trusts(client[0]):
            return
        headers = Headers(scope=scope)
        hops = [hop.strip() for value in headers.getlist("x-forwarded-for") for hop in value.split(",")]
        for hop in reversed(hops):  # the nearest that is no proxy of ours; what it says of others is its own affair
            if not _is_address(hop):
                break
            scope["client"] = (hop, 0)
            if not self._trusts(hop):
                break
        if headers.get("x-forwarded-proto", "").lower() in {"https", "wss"}:
            scope["scheme"] = "wss" if scope["type"] == "websocket" else "https"
        names_users = self._user_header and (client or self._names_users_on_unix)
        if names_users and (user := headers.get(self._user_header)):
            scope[USER] = user

    def _trusts(self, address: str) -> bool:
        return _is_address(address) and any(ip_address(address) in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
