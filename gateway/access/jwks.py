"""Keys from an identity provider: fetched when they are needed, kept, and looked at again now and then (RFC 7517)."""

import asyncio
import logging
import time
from collections.abc import Sequence

import httpx

from gateway.access.keys import Key, KeyFileError, from_jwks

log = logging.getLogger("gateway.access")

KEPT, BETWEEN = 600.0, 10.0
"""Seconds for which keys are taken as they are; least seconds from one fetch to the next, whatever tokens ask for."""

TIMEOUT = 5.0
MOST_BYTES = 1 << 20


class Jwks:
    """The keys at a URL. One that is gone there is not good any more, one that is new is asked for when a token names
    it; while there is no answer, those of the last one go on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Sequence[Key] = ()
        self._fetched = self._tried = -1e9
        self._lock = asyncio.Lock()

    def keys(self) -> Sequence[Key]:
        return self._keys

    async def fresh(self, *, unknown: bool = False) -> None:
        """Fetches where the keys are old, or where a token names one that is `unknown`; not more often than allowed."""
        async with self._lock:
            now = time.monotonic()
            if now - self._tried < BETWEEN or not (unknown or now - self._fetched > KEPT):
                return
            self._tried = now
            try:
                keys = from_jwks(await self._fetch())
            except (httpx.HTTPError, ValueError) as error:  # KeyFileError is one
                log.warning("keys cannot be fetched from %s: %s", self._url, error)
                return
            self._fetched = now
            self._keys = tuple(keys)

    @property
    def old(self) -> bool:
        return time.monotonic() - self._fetched > KEPT

    async def _fetch(self) -> object:
        async with httpx.AsyncClient(timeout=TIMEOUT) as client, client.stream("GET", self._url) as answer:
            answer.raise_for_status()
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise KeyFileError("more than a megabyte")
        return httpx.Response(200, content=body).json()
