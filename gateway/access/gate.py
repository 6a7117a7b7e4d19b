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
        self._hosts = Hosts(settings.bound, settings.allowed_host)
        self._origins = Origins(settings.cors_origin)
        proxies = settings.trusted_proxy
        self._proxies = Proxies(proxies, settings.trusted_header) if proxies else None
        self._any = ANY in settings.cors_origin

    def refuse(self, scope: Scope, *, acts: bool) -> Refusal | None:
        """Why a request is not let in, if it is not. `acts`: a backend would get it, or be asked because of it.

        Puts what lets an allowed page read the answer into the scope, for whoever sends it.
        """
        by_network = bool(scope.get("client"))  # no page gets to a Unix socket, and a proxy may call it anything
        if self._proxies:
            self._proxies.listen_to(scope)
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    return _NO_HOST
                host = value
            elif name == b"origin":
                origin = value
        if by_network and host not in self._hosts.known and (refusal := self._called_wrongly(scope, host)):
            return refusal
        if not origin:
            return _FOREIGN if acts and _is_embedded(scope) else None
        acts = acts or scope["type"] == "websocket" or scope["method"] not in _SAFE or is_preflight(scope)
        return self._from_page(scope, origin.decode("latin-1").lower(), (host or b"").decode("latin-1"), acts=acts)

    def _from_page(self, scope: Scope, origin: str, host: str, *, acts: bool) -> Refusal | None:
        """`acts`: it may change something, or open a WebSocket; even a GET may at the backend."""
        trusted = self._origins.trusts(origin, scope, host)
        scope[BESIDE] = self._origins.headers(origin, trusted=trusted)
        scope[UNTRUSTED] = not trusted
        if trusted or self._any:
            return None
        return _FOREIGN if acts else None

    def _called_wrongly(self, scope: Scope, host: bytes | None) -> Refusal | None:
        if host is None:  # HTTP/1.0 had none, and no browser speaks it
            return None if scope.get("http_version") == "1.0" else _NO_HOST
        return None if self._hosts.names(host, scope) else _NOT_HERE


def _is_embedded(scope: Scope) -> bool:
    """Whether a foreign page has a browser fetch this unseen, as an image, a frame, or ahead of time: imports are
    started by GET, and so is the polling of a backend."""
    headers = Headers(scope=scope)
    followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
    followed = followed and "sec-purpose" not in headers
    return headers.get("sec-fetch-site") == "cross-site" and not followed


def beside(scope: Scope, send: Send) -> Send:
    """A `send` that adds the headers which the scope holds to the answer."""

    async def sending(message: Message) -> None:
        if message["type"].endswith("response.start"):
            message["headers"] = [*message["headers"], *scope[BESIDE]]
        await send(message)

    return sending
