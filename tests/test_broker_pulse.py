"""An edge is fresh while each publisher says, through Redis, that all is written; not because Redis answers."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any

import pytest
from httpx_sse import ServerSentEvent

from tests.harness import Gateway, free_port, until
from tests.redisserver import RedisServer
from tests.test_broker import comes, edge, is_ready, leads, publish
from tests.test_streams import upto

__all__ = ["edge", "publish"]  # fixtures

Start = Callable[..., Gateway]
Fault = Callable[[RedisServer, Gateway], Any]

FAULTS: dict[str, tuple[Fault, Fault]] = {
    "no memory left": (
        lambda redis, _: redis.client.config_set("maxmemory", "1mb"),
        lambda redis, _: redis.client.config_set("maxmemory", "0"),
    ),
    "read only": (
        lambda redis, _: redis.client.replicaof("127.0.0.1", free_port()),
        lambda redis, _: redis.client.replicaof("NO", "ONE"),
    ),
    "publisher frozen": (
        lambda _, near: near.process.send_signal(signal.SIGSTOP),
        lambda _, near: near.process.send_signal(signal.SIGCONT),
    ),
    "publisher killed": (lambda _, near: near.stop(signal.SIGKILL), lambda _, near: near.start()),
}


def source_of(one: Gateway) -> str:
    return str(one.get("/readyz").json()["checks"]["source"]["detail"])


def upto_id(events: Iterator[ServerSentEvent], id: str) -> list[ServerSentEvent]:
    """The events up to the first of a task, without it."""
    return list(takewhile(lambda event: not (event.event == "message" and f'"id":"{id}"' in event.data), events))


def has_beaten(redis: RedisServer, pulses: set[bytes | None], times: int) -> bool:
    pulses.add(redis.client.hget("{gateway}:spaces", ""))
    return len(pulses) > times


@pytest.mark.parametrize("fault", FAULTS)
def test_an_edge_is_stale_while_its_publisher_cannot_write(
    publish: Start, edge: Start, redis: RedisServer, fault: str
) -> None:
    breaks, mends = FAULTS[fault]
    near = publish()
    near.write("a", progress=1)
    there = edge()
    comes(there, "a", 1)
    assert there.get("/api/v1/tasks/new").status_code == 404
    with there.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        breaks(redis, near)
        near.write("b", progress=1)
        assert next(events).event == "stale"
        assert there.get("/readyz").status_code == 503
        until(lambda: source_of(there) == "does not hear from a publisher: the one without a namespace")
        assert there.get("/api/v1/tasks").json()["payload"]["stale"] is True
        unknown = there.get("/api/task?task_id=b")
        assert unknown.status_code == 503
        assert there.get("/api/v1/tasks/b").json()["payload"]["message"] == "The source does not hear from a publisher"
        assert there.get("/api/task?task_id=a").json()["progress"] == 1
        mends(redis, near)
        news = [next(events), next(events)]
        assert [event.event for event in news] == ["message", "fresh"]  # what was missed comes first
    until(lambda: is_ready(there))
    assert there.get("/api/task?task_id=b").json()["progress"] == 1
    assert there.get("/api/v1/tasks/new").status_code == 404


def test_it_stays_fresh_while_its_publisher_has_nothing_to_say(publish: Start, edge: Start, redis: RedisServer) -> None:
    near = publish()
    there = edge()
    with there.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        pulses: set[bytes | None] = set()
        until(lambda: has_beaten(redis, pulses, 5))
        near.process.send_signal(signal.SIGSTOP)
        assert next(events).event == "stale"  # the first word since synced
        near.process.send_signal(signal.SIGCONT)
        assert next(events).event == "fresh"


def test_an_edge_that_starts_after_its_publisher_died(publish: Start, start: Start, redis: RedisServer) -> None:
    near = publish()
    near.write("a", progress=1)
    until(lambda: redis.client.hget("{gateway}:spaces", "") is not None)
    near.stop(signal.SIGKILL)
    there = start("--broker", redis.url, folder=False)
    assert there.get("/api/task?task_id=a").json()["progress"] == 1  # it is waited for, and then shown
    assert there.get("/api/v1/tasks/new").status_code == 503
    assert not is_ready(there)
    with there.sse("/api/v1/tasks") as events:
        assert [event.event for event in upto(events, "stale")] == ["message", "synced", "stale"]
        near.start()
        assert next(events).event == "fresh"


def test_an_edge_that_starts_before_any_publisher(publish: Start, start: Start, redis: RedisServer) -> None:
    other = publish("--namespace", "bank")
    until(lambda: leads(other))
    there = start("--broker", redis.url, "--namespace", "shop", folder=False)
    until(lambda: source_of(there) == "has nothing yet: no gateway publishes to it")
    assert there.get("/api/task?task_id=a").status_code == 503
    near = publish("--namespace", "shop")
    near.write("a", progress=1)
    comes(there, "a", 1)
    until(lambda: is_ready(there))


def test_a_takeover_leaves_edges_fresh(publish: Start, edge: Start) -> None:
    one = publish()
    until(lambda: leads(one))
    two = publish(data=one.data)
    there = edge()
    with there.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        one.stop()  # in order
        until(lambda: leads(two))
        two.write("a", progress=1)
        assert next(events).event == "message"
        assert is_ready(there)


def test_a_leader_that_dies_makes_edges_stale_at_most_once(publish: Start, edge: Start) -> None:
    one = publish()
    until(lambda: leads(one))
    two = publish(data=one.data)
    there = edge()
    with there.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        one.stop(signal.SIGKILL)
        until(lambda: leads(two))
        two.write("a", progress=1)
        comes(there, "a", 1)
        until(lambda: is_ready(there))
        two.write("b", progress=1)
        said = [event.event for event in upto_id(events, "b")]
        assert said.count("stale") == said.count("fresh") <= 1


def test_each_namespace_has_a_pulse(publish: Start, edge: Start) -> None:
    shop, bank = publish("--namespace", "shop"), publish("--namespace", "bank")
    shop.write("a", progress=1)
    bank.write("a", progress=2)
    both, shops = edge(), edge("--namespace", "shop")
    comes(both, "bank:a", 2)
    comes(shops, "a", 1)
    bank.stop(signal.SIGKILL)
    until(lambda: source_of(both) == "does not hear from a publisher: bank")
    assert is_ready(shops)
    assert shops.get("/api/task?task_id=new").status_code == 404
    assert both.get("/api/task?task_id=shop:a").json()["progress"] == 1
    assert both.get("/api/task?task_id=bank:new").status_code == 503
    bank.start()
    until(lambda: is_ready(both))


def test_a_namespace_that_was_retired_is_waited_for_no_longer(publish: Start, edge: Start, redis: RedisServer) -> None:
    shop, bank = publish("--namespace", "shop", "--broker-keep", "6"), publish("--namespace", "bank")
    until(lambda: leads(shop) and leads(bank))
    there = edge()
    until(lambda: redis.client.hlen("{gateway}:spaces") == 2)
    bank.stop()
    until(lambda: not is_ready(there))
    until(lambda: is_ready(there), 30)
    assert redis.client.hkeys("{gateway}:spaces") == [b"shop"]


def test_one_that_is_retired_by_hand(publish: Start, edge: Start, redis: RedisServer) -> None:
    shop, bank = publish("--namespace", "shop"), publish("--namespace", "bank")
    until(lambda: leads(shop) and leads(bank))
    there = edge()
    bank.stop()
    until(lambda: not is_ready(there))
    redis.client.hdel("{gateway}:spaces", "bank")
    until(lambda: is_ready(there))


def test_a_publisher_that_stays_away_after_redis_was_emptied(publish: Start, edge: Start, redis: RedisServer) -> None:
    shop, bank = publish("--namespace", "shop"), publish("--namespace", "bank")
    for one in (shop, bank):
        one.write("a", progress=1)
    there = edge()
    comes(there, "shop:a", 1)
    comes(there, "bank:a", 1)
    bank.stop(signal.SIGKILL)
    redis.client.flushall()
    until(lambda: there.get("/api/task?task_id=bank:a").status_code == 503, 30)  # never 404: nobody knows
    assert source_of(there) == "does not hear from a publisher: bank"
    bank.start()
    until(lambda: is_ready(there))
    comes(there, "bank:a", 1)


def test_a_busy_publisher_is_no_silent_one(publish: Start, edge: Start, redis: RedisServer) -> None:
    near = publish()
    there = edge()
    seen: set[bytes | None] = set()
    with there.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        while len(seen) < 6:
            near.write("a", progress=len(seen), message=str(time.time()))
            seen.add(redis.client.hget("{gateway}:spaces", ""))
        near.write("last")
        assert {event.event for event in upto_id(events, "last")} == {"message"}


BREAKS = """
local head = redis.call('XADD', '{gateway}:stream', 'MAXLEN', '100', '*', 'p', '1-1', 'r', '{}')
redis.call('HSET', '{gateway}:meta', 'head', head)
"""


def break_the_chain(redis: RedisServer, done: threading.Event) -> None:
    """The next change never follows the last: whoever reads finds one that does not, whenever he reads."""
    while not done.is_set():
        redis.client.eval(BREAKS, 0)


def test_an_edge_that_cannot_follow_is_stale(publish: Start, edge: Start, redis: RedisServer) -> None:
    near = publish()
    near.write("a", progress=1)
    there = edge()
    comes(there, "a", 1)

    done = threading.Event()
    breaking = threading.Thread(target=break_the_chain, args=(redis, done))
    breaking.start()
    try:
        until(lambda: source_of(there) == "is ahead: what it has is still being read", 20)
        assert there.get("/api/v1/tasks/new").status_code == 503
        assert leads(near)
    finally:
        done.set()
        breaking.join()
    until(lambda: is_ready(there))
    near.write("a", progress=2)
    comes(there, "a", 2)


def test_a_copy_of_a_gateway_that_hangs_is_stale(start: Start) -> None:
    near = start("--heartbeat", "1")
    near.write("a", progress=1)
    there = start("--source", near.url, "--source-silence", "3", folder=False)
    comes(there, "a", 1)
    with there.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        near.process.send_signal(signal.SIGSTOP)
        assert next(events).event == "stale"
        assert source_of(there) == "cannot be reached: nothing came for 3 s"
        assert there.get("/api/task?task_id=new").status_code == 503
        near.process.send_signal(signal.SIGCONT)
        assert next(events).event == "fresh"
    assert is_ready(there)
