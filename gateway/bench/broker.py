"""Room in a Redis for one measurement: keys of its own, that are gone afterwards."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from gateway.broker.keys import Keys


class BrokerError(RuntimeError):
    """The Redis cannot be used; the text says why."""


@dataclass
class Broker:
    """Where the gateways meet: a URL, and what their keys begin with."""

    url: str
    name: str
    redis: Redis

    def bytes_each(self) -> tuple[float | None, float | None]:
        """Redis' memory for each task that it holds, and for each change in the stream."""
        keys = Keys.of(self.name)

        def size(*names: str) -> int:
            return sum(self.redis.memory_usage(name, samples=0) or 0 for name in names)

        tasks, entries = self.redis.hlen(keys.tasks), self.redis.xlen(keys.stream)
        return size(keys.tasks, keys.order) / tasks if tasks else None, size(keys.stream) / entries if entries else None


@contextlib.contextmanager
def scratch_broker(url: str) -> Iterator[Broker]:
    """Raises BrokerError where there is no Redis at `url`; one server, not a cluster."""
    broker = Broker(url, f"bench-{secrets.token_hex(6)}", Redis.from_url(url, socket_timeout=5))
    try:
        broker.redis.ping()
        yield broker
    except RedisError as error:
        raise BrokerError(f"--broker: {error}") from None
    finally:
        with contextlib.suppress(RedisError):
            broker.redis.delete(*Keys.of(broker.name))
        broker.redis.close()
