"""A gateway somewhere: its address, and as whom it is asked."""

import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import httpx

from gateway.client.errors import RefusedError

CONNECT = 10.0
"""Seconds until a connection must stand."""

SILENCE = 35.0
"""Seconds without a byte after which a connection is dead: two heartbeats and a margin."""

Token = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or a function that gives one, which may be async."""


class Remote:
    """Holds no connection. Raises RefusedError where the URL is none; one without a scheme is http.

    A token that is a function is called for each connection, so that it can be renewed; what it raises is not caught.
    """

    def __init__(
        self, url: str, *, token: Token | None = None, silence: float = SILENCE, tls: ssl.SSLContext | None = None
    ) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self.shown = _shown(self.url)
        self.silence = silence
        self._token, self._tls = token, tls

    @property
    def renews(self) -> bool:
        """Whether another token may come."""
        return callable(self._token)

    def http(self) -> httpx.AsyncClient:
        timeout = httpx.Timeout(CONNECT, read=self.silence, pool=None)
        return httpx.AsyncClient(
            timeout=timeout, follow_redirects=True, verify=self._tls or _Trusting(ssl.PROTOCOL_TLS_CLIENT)
        )

    async def headers(self) -> dict[str, str]:
        """Who asks."""
        given = self._token() if callable(self._token) else self._token or ""
        token = (given if isinstance(given, str) else await given).strip()
        if not (token.isascii() and token.isprintable()):
            raise RefusedError("the token has characters that no header can hold")
        return {"Authorization": f"Bearer {token}"} if token else {}


class _Trusting(ssl.SSLContext):
    """httpx's own, made when the first connection needs it: it takes longer than all else, and http needs none. This
    one trusts nobody."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return _trusted().wrap_bio(*args, **kwargs)


@cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _shown(url: str) -> str:
    """The URL without a password."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise RefusedError(f"{url} cannot be asked: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise RefusedError(f"{url} cannot be asked: a URL begins with http:// or https:// and a name")
    return str(parsed.copy_with(userinfo=b""))
