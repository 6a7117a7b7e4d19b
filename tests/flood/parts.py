"""A part that dies is seen, and ends or comes back: publishers, edges and Redis."""

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from gateway.broker.values import SEQUENCE, offset_of
from tests.flood.clients import Crowd, head
from tests.flood.stage import Stage, case
from tests.harness import Gateway, until
from tests.redisserver import RedisServer

STREAM, TASKS, META, SPACES = (f"{{gateway}}:{part}" for part in ("stream", "tasks", "meta", "spaces"))
NESTED = b"[" * 100_000 + b"]" * 100_000

PATIENCE = 12.0
"""Seconds; an edge waits up to ten for publishers that a new epoch has not heard of yet."""


def is_ready(one: Gateway) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return one.get("/readyz").status_code == 200
    return False


def becomes(stage: Stage, condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether something outside comes about in time."""
    try:
        until(condition, stage.patience(seconds))
    except (AssertionError, httpx.HTTPError):
        return False
    return True


def published(stage: Stage, *options: str) -> tuple[RedisServer, Gateway, Gateway]:
    """A Redis, the gateway that publishes the stage's folder to it, and an edge that is up to date."""
    redis = stage.redis()
    stage.write(3, 100)
    near = stage.serve("--broker", redis.url, *options)
    there = stage.serve("--broker", redis.url, *options, folder=False)
    until(lambda: is_ready(there), stage.patience(PATIENCE))
    return redis, near, there


def shows(stage: Stage, one: Gateway, id: str) -> bool:
    """Whether a task that is written now comes to a gateway."""
    stage.write(1, 10, name=id)
    return becomes(stage, lambda: one.get(f"/api/task?task_id={id}").status_code == 200)


def malformed(stage: Stage, spoil: Callable[[Any], object], *options: str) -> None:
    """Something that nobody of ours writes: others' tasks go on, and a fresh edge and a fresh publisher start."""
    redis, near, there = published(stage, *options)
    with stage.measured(there):
        time.sleep(0.5)
        spoil(redis.client)
        time.sleep(2)
        stage.check("the edge shows no new task", shows(stage, there, "later"))
        if not stage.row.broken:
            fresh = stage.serve("--broker", redis.url, *options, folder=False)
            stage.check("a fresh edge is not ready", becomes(stage, lambda: is_ready(fresh)))
            near.stop()
            near.start()
            stage.check("a fresh publisher publishes no new task", shows(stage, there, "newer"))
            stage.check("a fresh edge shows no new task", shows(stage, fresh, "newest"))
    for one, name in ((near, "publisher"), (there, "edge")):
        stage.check(f"the {name} is not ready", is_ready(one))


WITHIN = {"p99": 6_000}
"""The publisher is restarted meanwhile."""


@case("An entry of the stream without its payload is skipped.", **WITHIN)
def redis_entry_without_payload(stage: Stage) -> None:
    malformed(stage, lambda client: client.xadd(STREAM, {"p": client.hget(META, "head") or b""}))


@case("An entry of the stream without its place is skipped.", **WITHIN)
def redis_entry_without_place(stage: Stage) -> None:
    malformed(stage, lambda client: client.xadd(STREAM, {"r": b"{}"}))


@case("A record that is nested deeply is skipped.", **WITHIN)
def redis_nested_record(stage: Stage) -> None:
    def spoil(client: Any) -> None:
        entry = client.xadd(STREAM, {"p": client.hget(META, "head") or b"", "r": b'{"id":"evil","more":%b}' % NESTED})
        client.hset(META, "head", entry)
        client.hset(TASKS, "evil", entry + b" " + NESTED)

    malformed(stage, spoil)


@case("An epoch that is not UTF-8 begins another.", p99=20_000)
def redis_epoch_not_utf8(stage: Stage) -> None:
    malformed(stage, lambda client: client.hset(META, "epoch", b"\xff\xfe"))


@case("A task's name that is not UTF-8 is skipped.", **WITHIN)
def redis_field_not_utf8(stage: Stage) -> None:
    malformed(stage, lambda client: client.hset(TASKS, b"\xff\xfe", b"1-1 {}"))


@case("A value without a place is skipped.", **WITHIN)
def redis_value_without_place(stage: Stage) -> None:
    malformed(stage, lambda client: client.hset(TASKS, "evil", b"garbage {}"))


@case("A value that is no record is skipped.", **WITHIN)
def redis_value_not_json(stage: Stage) -> None:
    malformed(stage, lambda client: client.hset(TASKS, "a:evil", b"1-1 notjson"), "--namespace", "a")


@case("A head and a floor that are no places are not believed.", p99=20_000)
def redis_places_that_are_none(stage: Stage) -> None:
    malformed(stage, lambda client: client.hset(META, mapping={"head": b"x-y", "floor": b"soon"}))


@case("Any number of clients that are ahead of an edge get the next event.", memory=64)
def streams_ahead_of_an_edge(stage: Stage) -> None:
    redis, _, there = published(stage)
    offset = offset_of(redis.client.hget(META, "head")) + (1 << SEQUENCE)
    count = max(500, stage.scaled(900))
    line = f"Last-Event-ID: {redis.epoch()}-{offset}"
    said = head("/api/v1/tasks", "Accept: application/x-ndjson", line)
    with stage.measured(there, rate=0), Crowd(there, [said] * count) as crowd:
        crowd.say()
        crowd.hear(stage.patience(20), lambda: all(crowd.heard))
        stage.count(Counter(crowd.statuses))
        crowd.hear(0.5)
        stage.write(1, 10, name="next")
        crowd.hear(stage.patience(8), lambda: all(b'"next"' in heard for heard in crowd.heard))
        told = sum(b'"next"' in heard for heard in crowd.heard)
        stage.check(f"{told} of {count} got the next event", told == count)


def edge_that_says_so(stage: Stage, there: Gateway, spoil: Callable[[], object], mend: Callable[[], object]) -> None:
    """An edge whose publisher cannot write is stale within 5 s, and unknown ids are 503; until that is over."""
    with stage.measured(there, rate=0):
        spoil()
        stage.check("/readyz says that all is well", becomes(stage, lambda: not is_ready(there), 7))
        time.sleep(3)  # it is not only connecting anew
        stage.check("/readyz says again that all is well", not is_ready(there))
        status = there.get("/api/task?task_id=unknown").status_code
        stage.check(f"an unknown id is {status}", status == 503)
        stale = there.get("/api/v1/tasks").json()["payload"].get("stale")
        stage.check(f"the collection says stale: {stale}", stale is True)
        mend()
        stage.check("the edge is not ready again", becomes(stage, lambda: is_ready(there)))


@case("Freshness is a heartbeat of the writer: publisher killed.")
def publisher_killed(stage: Stage) -> None:
    _, near, there = published(stage)
    edge_that_says_so(stage, there, lambda: near.stop(signal.SIGKILL), near.start)


@case("Freshness is a heartbeat of the writer: publisher frozen.")
def publisher_frozen(stage: Stage) -> None:
    _, near, there = published(stage)
    process = near.process
    edge_that_says_so(
        stage, there, lambda: process.send_signal(signal.SIGSTOP), lambda: process.send_signal(signal.SIGCONT)
    )


@case("Freshness is a heartbeat of the writer: Redis full.")
def redis_full(stage: Stage) -> None:
    redis, _, there = published(stage)
    config = redis.client.config_set
    edge_that_says_so(stage, there, lambda: config("maxmemory", 1), lambda: config("maxmemory", 0))


@case("Freshness is a heartbeat of the writer: Redis is a replica that takes no writes.")
def redis_read_only(stage: Stage) -> None:
    redis, _, there = published(stage)
    edge_that_says_so(
        stage,
        there,
        lambda: redis.client.execute_command("REPLICAOF", "127.0.0.1", "1"),
        lambda: redis.client.execute_command("REPLICAOF", "NO", "ONE"),
    )
