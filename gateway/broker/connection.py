"""A Redis by its URL: one server, one that Sentinels name, or a cluster; with or without TLS."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

TROUBLE = (RedisError, OSError)
"""What is raised where Redis cannot be reached, or refuses."""

PATIENCE = 2.5
"""Seconds after which a Redis that says nothing is away; what is waited for there takes less."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds until Redis is tried again, at first and in the end."""

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")

OPTIONS: dict[str, Any] = {
    "socket_timeout": PATIENCE,
    "socket_connect_timeout": PATIENCE,
    "retry": Retry(NoBackoff(), 0),  # who asks knows better when to ask again
    "protocol": 2,
    "client_name": "task-gateway",
}


def check(url: str) -> None:
    """Raises ValueError where no Redis can be at `url`."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"the scheme must be one of {', '.join(SCHEMES)}")
    if not (parts.hostname or parts.scheme == "unix"):
        raise ValueError("names no host")
    if parts.scheme.endswith("+sentinel"):
        _service(parts)
        [_address(each) for each in _hosts(parts)]
    elif parts.scheme != "unix":
        _ = parts.port  # says itself what is wrong


def shown(url: str) -> str:
    """The URL without what is secret in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


class Connection:
    """Commands and scripts to the Redis at `url`, while it is `open`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None
        self._sentinels: list[Any] = []
        self._hashes: dict[str, str] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self._client = self._make()
        try:
            yield
        finally:
            for client in (self._client, *self._sentinels):
                await client.aclose()

    def _make(self) -> Any:
        parts = urlsplit(self._url)
        kind, _, how = parts.scheme.partition("+")
        plain = parts._replace(scheme=kind).geturl()
        if how == "cluster":
            return RedisCluster.from_url(plain, **OPTIONS | {"retry": None, "cluster_error_retry_attempts": 1})
        if how == "sentinel":
            return self._by_sentinel(parts, tls=kind == "rediss")
        return Redis.from_url(plain, **OPTIONS)

    def _by_sentinel(self, parts: SplitResult, *, tls: bool) -> Any:
        """`redis+sentinel://[user:password@]host:port[,host:port…]/service[/database]`; options as for one server."""
        service, database = _service(parts)
        options: dict[str, Any] = {**OPTIONS, **dict(parse_qsl(parts.query)), "ssl": tls, "db": database}
        options |= {k: v for k, v in (("username", parts.username), ("password", parts.password)) if v}
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            [_address(each) for each in _hosts(parts)], sentinel_kwargs={**OPTIONS, "ssl": tls}
        )
        self._sentinels = sentinel.sentinels
        return sentinel.master_for(service, **options)

    async def do(self, *command: Any) -> Any:
        """What Redis answers. Raises one of TROUBLE."""
        return await self._client.execute_command(*command)

    async def run(self, script: str, keys: Sequence[str], *args: Any) -> Any:
        """Runs a script, by its hash where Redis has it."""
        known = self._hashes.get(script)
        if known:
            try:
                return await self.do("EVALSHA", known, len(keys), *keys, *args)
            except NoScriptError:
                pass
        answer = await self.do("EVAL", script, len(keys), *keys, *args)
        self._hashes[script] = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        return answer


class BackOff:
    """Pauses that grow with each failure in a row, and are spread."""

    def __init__(self) -> None:
        self._failures = 0

    def succeed(self) -> None:
        self._failures = 0

    async def pause(self) -> None:
        await asyncio.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1))
        self._failures += 1


def _hosts(parts: SplitResult) -> list[str]:
    return parts.netloc.rpartition("@")[2].split(",")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("names a Sentinel without its port")
    return host.strip("[]"), int(port)


def _service(parts: SplitResult) -> tuple[str, int]:
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not (database or "0").isdecimal():
        raise ValueError("must name the Sentinels' service: redis+sentinel://host:26379/service")
    return service, int(database or 0)


def reason_of(trouble: BaseException) -> str:
    """What went wrong, as the end of a sentence that begins with the broker."""
    while isinstance(trouble, BaseExceptionGroup):
        trouble = trouble.exceptions[0]
    if isinstance(trouble, (RedisTimeoutError, TimeoutError)):
        return "does not answer"
    if isinstance(trouble, (RedisConnectionError, OSError)):
        return "cannot be reached"
    return f"refuses: {trouble}"
