"""Pages of other origins: which may read answers here, and which may do more (CORS, Fetch Standard)."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import Scope

from gateway.access.hosts import LOOPBACK
from gateway.transports.reply import Header, Reply

ANY, HERE = "*", "loopback"
"""Every origin, without credentials; pages served from this machine, at whichever port."""

_EXPOSED = (b"access-control-expose-headers", b"ETag, Retry-After")
_PRIVATE = b"access-control-request-private-network"
MAX_AGE = b"600"


class Origins:
    """The origins that are `allowed` beside the gateway's own: as browsers write them, `loopback`, or `*`."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = {origin.lower().rstrip("/") for origin in allowed}

    def trusts(self, origin: str, scope: Scope, host: str) -> bool:
        """Whether an origin may do what the gateway's own pages may, with credentials, too."""
        if origin in self._allowed or origin == f"{_scheme(scope)}://{host}".lower():
            return True
        if HERE not in self._allowed:
            return False
        try:
            found = urlsplit(origin)
            name = f"[{found.hostname}]" if ":" in (found.hostname or "") else found.hostname
        except ValueError:
            return False
        return found.scheme in {"http", "https"} and name in LOOPBACK

    def headers(self, origin: str, *, trusted: bool) -> list[Header]:
        """What lets a page of that origin read an answer; nothing where it may not."""
        if trusted:
            named = (b"access-control-allow-origin", origin.encode("latin-1"))
            return [named, (b"access-control-allow-credentials", b"true"), _EXPOSED]
        return [(b"access-control-allow-origin", b"*"), _EXPOSED] if ANY in self._allowed else []


def preflight(scope: Scope, methods: bytes) -> Reply:
    """The answer to a preflight of an origin that may ask. The headers of `Origins.headers` come beside it."""
    asked = dict(scope["headers"])
    headers: list[Header] = [
        (b"access-control-allow-methods", methods),
        (b"access-control-max-age", MAX_AGE),
        (b"vary", b"Origin, Access-Control-Request-Headers"),
    ]
    if wanted := asked.get(b"access-control-request-headers"):
        headers.append((b"access-control-allow-headers", wanted))
    if asked.get(_PRIVATE) == b"true":
        headers.append((b"access-control-allow-private-network", b"true"))
    return Reply(204, b"", tuple(headers))


def is_preflight(scope: Scope) -> bool:
    """Only pages send them: one without Origin is none."""
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    return bool(requested_method(scope)) and any(name == b"origin" for name, _ in scope["headers"])


def requested_method(scope: Scope) -> str:
    """What a preflight asks leave for."""
    wanted = b"access-control-request-method"
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _scheme(scope: Scope) -> str:
    return "https" if scope["scheme"] in {"https", "wss"} else "http"
