"""Keys from an identity provider (RFC 7517): fetched now and then, and when a token names one that is not known."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx

from gateway.access.keys import Key, KeyFileError, from_jwks
from gateway.parts import Parts

log = logging.getLogger("gateway.access")

KEPT, BETWEEN = 600.0, 10.0
"""Seconds from one look to the next; least seconds between two, whatever tokens ask for."""

TIMEOUT = 5.0
MOST_BYTES = 1 << 20


class Jwks:
    """The keys at a URL, while `running`. One that is gone there is not good any more; while there is no answer, those
    of the last one go on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Sequence[Key] = ()
        self._tried = -1e9
        self._lock = asyncio.Lock()

    def keys(self) -> Sequence[Key]:
        return self._keys

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with parts.running("keys", self._look_for_ever):
            yield

    async def _look_for_ever(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(KEPT if self._keys else BETWEEN)

    async def look(self) -> None:
        """Fetches the keys, but not more often than allowed; who asks meanwhile waits for that answer."""
        async with self._lock:
            now = time.monotonic()
            if now - self._tried < BETWEEN:
                return
            self._tried = now
            try:
                self._keys = tuple(from_jwks(await self._fetch()))
            except (httpx.HTTPError, ValueError) as error:  # KeyFileError is one
                log.warning("keys cannot be fetched from %s: %s", self._url, error)

    async def _fetch(self) -> object:
        async with httpx.AsyncClient(timeout=TIMEOUT) as client, client.stream("GET", self._url) as answer:
            answer.raise_for_status()
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise KeyFileError("more than a megabyte")
        return httpx.Response(200, content=body).json()
