"""Who is let in. Each request passes here first, before anything else has looked at it."""

from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

from gateway.access.hosts import Hosts
from gateway.access.origins import ANY, Origins, is_preflight
from gateway.access.proxies import Proxies
from gateway.limits import Refusal
from gateway.settings import Settings
from gateway.transports.reply import BESIDE

UNTRUSTED = "gateway.untrusted"
"""Where a scope says that only `*` lets its page in: such pages send cookies along unasked (Fetch Standard)."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_NO_HOST = Refusal(400, "One Host header is needed")
_NOT_HERE = Refusal(421, "This gateway has no such name: its operator can add it with --allowed-host")
_FOREIGN = Refusal(403, "Pages of this origin may not do this: see --cors-origin")


class Gate:
    """Decides by the Host that was called, and the Origin of the page that calls."""

    def __init__(self, settings: Settings) -> None:
        self._hosts = Hosts(settings.bind, settings.allowed_host)
        self._origins = Origins(settings.cors_origin)
        self._proxies = Proxies(settings.trusted_proxy, settings.trusted_header)
        self._any = ANY in settings.cors_origin

    def refuse(self, scope: Scope, *, passed_on: bool) -> Refusal | None:
        """Why a request is not let in, if it is not. `passed_on`: a backend would get it.

        Puts what lets an allowed page read the answer into the scope, for whoever sends it.
        """
        if self._proxies:
            self._proxies.listen_to(scope)
        hosts, origin = [], ""
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origin = value.decode("latin-1").lower()
        known = len(hosts) == 1 and hosts[0] in self._hosts.known  # nearly always
        if not known and (refusal := self._called_wrongly(scope, hosts)):
            return refusal
        if not origin:
            return _FOREIGN if passed_on and _is_embedded(scope) else None
        trusted = self._origins.trusts(origin, scope, hosts[0].decode("latin-1") if hosts else "")
        scope[BESIDE] = self._origins.headers(origin, trusted=trusted)
        scope[UNTRUSTED] = not trusted
        if trusted or self._any:
            return None
        acts = scope["type"] == "websocket" or scope["method"] not in _SAFE or is_preflight(scope)
        return _FOREIGN if acts else None

    def _called_wrongly(self, scope: Scope, hosts: list[bytes]) -> Refusal | None:
        if not scope.get("client"):  # a Unix socket: no page gets there, and a proxy may call it anything
            return None
        if len(hosts) != 1:  # HTTP/1.0 had none, and no browser speaks it
            return None if not hosts and scope.get("http_version") == "1.0" else _NO_HOST
        return None if self._hosts.names(hosts[0], scope) else _NOT_HERE


def _is_embedded(scope: Scope) -> bool:
    """Whether a foreign page has a browser fetch this unseen, as an image, say: the documents start imports by GET."""
    headers = Headers(scope=scope)
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"


def beside(scope: Scope, send: Send) -> Send:
    """A `send` that adds the headers which the scope holds to the answer."""

    async def sending(message: Message) -> None:
        if message["type"].endswith("response.start"):
            message["headers"] = [*message["headers"], *scope[BESIDE]]
        await send(message)

    return sending
