"""Publishers, a real Redis and edges: what a client of any edge may rely on."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent

from tests.harness import Gateway, free_port, until
from tests.redisserver import RedisServer
from tests.test_operations import figures
from tests.test_streams import upto
from tests.test_transport import make_certificate

Start = Callable[..., Gateway]

URLS = ("/api/task?task_id={}", "/api/transactions/task?id={}", "/api/v1/tasks/{}", "/api/system/tasks?task_id={}")
GUID = "0b919313-43a5-4cb3-84ae-da8f495f52c1"


@pytest.fixture
def publish(start: Start, redis: RedisServer) -> Callable[..., Gateway]:
    """Starts a gateway that publishes a folder."""

    def publisher(*options: str, **more: Any) -> Gateway:
        one = start("--broker", redis.url, *options, **more)
        one.tasks.mkdir(exist_ok=True)
        return one

    return publisher


@pytest.fixture
def edge(start: Start, redis: RedisServer) -> Callable[..., Gateway]:
    """Starts an edge, and waits until it is up to date."""

    def starter(*options: str) -> Gateway:
        one = start("--broker", redis.url, *options, folder=False)
        until(lambda: is_ready(one))
        return one

    return starter


def is_ready(one: Gateway) -> bool:
    return one.get("/readyz").status_code == 200


def leads(one: Gateway) -> bool:
    return bool(one.get("/readyz").json()["checks"]["broker"]["detail"] == "publishing")


def comes(one: Gateway, id: str, progress: int) -> None:
    """Waits until a gateway shows a progress."""
    until(lambda: one.get(f"/api/task?task_id={id}").json().get("progress") == progress)


def items(events: list[ServerSentEvent]) -> dict[str, int]:
    """The progress of each task, as the last of the events had it."""
    said = [json.loads(event.data) for event in events if event.event == "message"]
    return {item["id"]: item["progress"] for item in said}


# What is served


def test_an_edge_answers_as_the_gateway_near_the_folder(publish: Start, edge: Start) -> None:
    near = publish()
    near.put(GUID, b'\xef\xbb\xbf{"status": "success",\n "progress": 100, "message": "\xc3\xa9", "data": {"a": [1]}}\n')
    near.write("torn", progress=7)
    near.get("/api/task?task_id=torn")
    near.put("torn", b'{"status"')
    near.put("large", b"x" * 70_000)
    there = edge()
    until(lambda: there.get("/api/task?task_id=large").status_code == 500)
    for id in (GUID, GUID.replace("-", "").upper(), "torn", "large", "never-was", "../etc", ""):
        for url in URLS:
            own, copied = near.get(url.format(id)), there.get(url.format(id))
            assert (copied.status_code, copied.content) == (own.status_code, own.content), url
            assert copied.headers.get("etag") == own.headers.get("etag")
    tag = there.get(URLS[0].format(GUID)).headers["etag"]
    assert there.get(URLS[0].format(GUID), If_None_Match=tag).status_code == 304
    own, copied = near.get("/api/v1/tasks").json(), there.get("/api/v1/tasks").json()
    assert copied["payload"].pop("stale") is False
    assert copied == own


def test_changes_deletions_and_faults_reach_every_transport_of_an_edge(publish: Start, edge: Start) -> None:
    near = publish()
    near.write("a", progress=1)
    there = edge()
    with there.sse("/api/v1/tasks") as events, there.ndjson("/api/v1/tasks?id=a") as lines:
        upto(events, "synced")
        near.write("a", progress=2)
        assert json.loads(next(events).data)["progress"] == 2
        near.put("a", b'{"status"')
        assert next(events).event == "invalid"
        assert there.get("/api/task?task_id=a").json()["progress"] == 2  # the last good state
        (near.tasks / "a.json").unlink()
        assert next(events).event == "gone"
        said = [line.get("event") or line["task"]["progress"] for line in islice(lines, 5)]
        assert said == [1, "synced", 2, "invalid", "gone"]
    near.write("b", progress=1)
    comes(there, "b", 1)
    with there.sse("/api/task?task_id=b") as events:
        next(events)
        near.write("b", "success", 100)
        assert [json.loads(event.data)["status"] for event in events if event.event == "message"] == ["success"]
    known = there.get("/api/task?task_id=b").headers["etag"]
    answer = there.get("/api/task?task_id=b&wait=10", If_None_Match=known)
    assert answer.status_code == 304


def test_every_observed_change_reaches_an_edge_in_order(publish: Start, edge: Start) -> None:
    near = publish()
    there = edge()
    with there.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        for n in range(200):
            near.write("a", progress=n / 2, data={"n": n})
            near.get("/api/task?task_id=a")  # observed
        seen = [json.loads(next(events).data)["data"]["n"] for _ in range(200)]
    assert seen == list(range(200))


# Cursors


def test_a_client_hops_between_edges_without_a_reset(publish: Start, edge: Start) -> None:
    near = publish()
    for n in range(5):
        near.write(f"t{n}", progress=n)
    one, two = edge(), edge()
    with one.sse("/api/v1/tasks") as events:
        cursor = upto(events, "synced")[-1].id
    near.write("t1", progress=50)
    (near.tasks / "t2.json").unlink()
    comes(two, "t1", 50)
    until(lambda: two.get("/api/task?task_id=t2").status_code == 404)
    with two.sse("/api/v1/tasks", Last_Event_ID=cursor) as events:
        missed = upto(events, "synced")
    assert sorted(event.event for event in missed) == ["gone", "message", "synced"]
    assert items(missed) == {"t1": 50}
    one.stop(signal.SIGKILL)
    two.stop(signal.SIGKILL)
    near.write("t3", progress=60)
    three = edge()
    comes(three, "t3", 60)
    with three.sse("/api/v1/tasks", Last_Event_ID=cursor) as events:  # all edges were restarted
        missed = upto(events, "synced")
    assert sorted(event.event for event in missed) == ["gone", "message", "message", "synced"]
    assert items(missed) == {"t1": 50, "t3": 60}


def test_who_has_seen_more_elsewhere_is_shown_nothing_older(publish: Start, edge: Start, redis: RedisServer) -> None:
    near = publish()
    near.write("a", progress=1)
    near.write("b", progress=1)
    behind, ahead = edge(), edge()
    behind.process.send_signal(signal.SIGSTOP)
    near.write("a", progress=2)
    comes(ahead, "a", 2)
    with ahead.sse("/api/v1/tasks") as events:
        cursor = upto(events, "synced")[-1].id
    with ahead.sse("/api/task?task_id=a") as events:
        tag = next(events).id
    redis.pause()  # so that the one behind stays so
    behind.process.send_signal(signal.SIGCONT)
    with (
        behind.sse("/api/v1/tasks", Last_Event_ID=cursor) as all,
        behind.sse("/api/task?task_id=a", Last_Event_ID=tag) as own,
    ):
        until(lambda: figures(behind)["gateway_subscribers/sse"] == 2)
        redis.go_on()
        near.write("a", progress=3)
        assert items([next(all), next(all)]) == {"a": 3}
        assert json.loads(next(event for event in own if event.event == "message").data)["progress"] == 3


def test_a_final_state_that_was_seen_elsewhere_ends_a_stream(publish: Start, edge: Start) -> None:
    near = publish()
    near.write("a", "running", 1)
    behind, ahead = edge(), edge()
    behind.process.send_signal(signal.SIGSTOP)
    near.write("a", "success", 100)
    with ahead.sse("/api/task?task_id=a") as events:
        last = [event for event in events if event.event == "message"][-1]
    behind.process.send_signal(signal.SIGCONT)
    with httpx.stream(
        "GET",
        f"{behind.url}/api/task?task_id=a",
        headers={"Accept": "text/event-stream", "Last-Event-ID": last.id},
        timeout=10,
    ) as response:
        assert response.status_code in {200, 204}
        assert b'data: {"status' not in response.read()
    until(
        lambda: behind.get("/api/task?task_id=a", Accept="text/event-stream", Last_Event_ID=last.id).status_code == 204
    )


def test_an_edge_that_was_away_longer_than_the_stream_is_kept(publish: Start, edge: Start, redis: RedisServer) -> None:
    near = publish("--broker-entries", "100")
    near.write("old", progress=1)
    near.write("doomed", progress=1)
    there = edge()
    with there.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        there.process.send_signal(signal.SIGSTOP)
        (near.tasks / "doomed.json").unlink()
        for n in range(500):
            near.write(f"t{n % 50}", progress=n % 100, message="x" * 2_000)
            near.get(f"/api/task?task_id=t{n % 50}")
        near.write("old", progress=9)
        near.get("/api/task?task_id=old")
        until(lambda: len(redis.entries()) < 300)
        there.process.send_signal(signal.SIGCONT)
        found: list[ServerSentEvent] = []
        while items(found).get("old") != 9:
            found.append(next(events))
    assert not [event for event in found if event.event == "reset"]
    assert [json.loads(event.data)["id"] for event in found if event.event == "gone"] == ["doomed"]
    assert items(found) == {f"t{n}": (450 + n) % 100 for n in range(50)} | {"old": 9}
    assert figures(there)["gateway_snapshots_total"] == 2


def test_a_cursor_from_before_what_is_still_known_is_reset(publish: Start, edge: Start) -> None:
    near = publish("--broker-tasks", "3")
    near.write("a", progress=1)
    one = edge()
    with one.sse("/api/v1/tasks") as events:
        cursor = upto(events, "synced")[-1].id
    for n in range(10):
        near.write(f"t{n}")
    until(lambda: figures(near).get("gateway_broker_tasks") == 3)
    with edge().sse("/api/v1/tasks", Last_Event_ID=cursor) as events:
        assert next(events).event == "reset"
        assert len(items(upto(events, "synced"))) == 3


# Several backends


def test_namespaces(publish: Start, edge: Start) -> None:
    shop, bank, plain = publish("--namespace", "shop"), publish("--namespace", "bank"), publish()
    shop.write("a", progress=1)
    bank.write("a", progress=2)
    bank.write(GUID, progress=5)
    plain.write("a", progress=3)
    there = edge()
    for name, progress in (("shop:a", 1), ("bank:a", 2), (f"bank:{GUID.replace('-', '')}", 5), ("a", 3)):
        comes(there, name, progress)
        item = there.get(f"/api/v1/tasks?id={name}").json()["payload"]["tasks"][0]
        assert item["progress"] == progress
    assert there.get(f"/api/task?task_id={GUID}").status_code == 404
    assert there.get("/api/v1/tasks/no%20space:a").status_code == 404
    scoped = edge("--namespace", "bank")
    comes(scoped, "a", 2)
    with scoped.sse("/api/v1/tasks") as events:
        assert items(upto(events, "synced")) == {"a": 2, GUID: 5}
        shop.write("a", progress=10)
        bank.write("a", progress=20)
        assert items([next(events)]) == {"a": 20}
    shop.stop()
    (shop.tasks / "a.json").unlink()
    shop.start()
    until(lambda: there.get("/api/task?task_id=shop:a").status_code == 404)
    assert there.get("/api/task?task_id=a").json()["progress"] == 3  # nobody else's task went with it


@pytest.mark.parametrize("space", ["a:b", "a b", "-a", "x" * 41, "a/b"])
def test_what_is_no_namespace_is_refused(space: str) -> None:
    ended = cli("--data-path", ".", "--broker", "redis://localhost", "--namespace", space)
    assert ended.returncode == 2
    assert "--namespace" in ended.stderr


# One publisher for each folder


def test_two_gateways_on_one_folder_publish_each_state_once(publish: Start, edge: Start, redis: RedisServer) -> None:
    one = publish()
    two = publish(data=one.data)
    there = edge()
    until(lambda: leads(one) or leads(two))
    for n in range(100):
        one.write("a", progress=n)
        one.get("/api/task?task_id=a")
        two.get("/api/task?task_id=a")
    comes(there, "a", 99)
    seen = [json.loads(json.loads(record)["body"])["progress"] for record in redis.entries()]
    assert sorted(set(seen)) == seen
    assert leads(one) + leads(two) == 1


def test_a_leader_that_dies_is_followed_within_five_seconds(publish: Start, edge: Start, redis: RedisServer) -> None:
    one = publish()
    until(lambda: leads(one))
    two = publish(data=one.data)
    there = edge()
    one.write("a", progress=1)
    comes(there, "a", 1)
    one.stop(signal.SIGKILL)
    died = time.monotonic()
    two.write("a", progress=2)
    comes(there, "a", 2)
    assert time.monotonic() - died < 5
    assert len(redis.entries()) == 2  # what the first had written was not written again


def test_an_old_leader_that_wakes_up_cannot_write(publish: Start, edge: Start, redis: RedisServer) -> None:
    one = publish()
    until(lambda: leads(one))
    two = publish(data=one.data)
    one.process.send_signal(signal.SIGSTOP)
    until(lambda: leads(two))
    there = edge()
    two.write("a", progress=1)
    comes(there, "a", 1)
    one.process.send_signal(signal.SIGCONT)  # it still thinks that it leads, and finds the same file
    until(lambda: one.get("/api/task?task_id=a").status_code == 200)
    until(lambda: not leads(one))
    two.write("a", progress=2)
    comes(there, "a", 2)
    assert len(redis.entries()) == 2
    two.stop()  # who leaves in order leaves the lease, too
    until(lambda: leads(one), 2)


def test_a_publisher_finds_out_what_changed_while_it_was_away(publish: Start, edge: Start, redis: RedisServer) -> None:
    near = publish()
    for id in ("stays", "changes", "goes"):
        near.write(id, progress=1)
    there = edge()
    comes(there, "goes", 1)
    with there.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        near.stop(signal.SIGKILL)
        before = len(redis.entries())
        near.write("changes", progress=2)
        (near.tasks / "goes.json").unlink()
        near.start()
        news = [next(events), next(events)]
        assert sorted(event.event for event in news) == ["gone", "message"]
        assert items(news) == {"changes": 2}
    assert len(redis.entries()) == before + 2


# Redis away


def test_edges_serve_what_they_have_while_redis_is_away(publish: Start, edge: Start, redis: RedisServer) -> None:
    near = publish()
    near.write("a", progress=1)
    there = edge()
    with there.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        redis.pause()
        assert next(events).event == "stale"
        assert there.get("/readyz").status_code == 503
        assert there.get("/readyz").json()["checks"]["source"] == {"ok": False, "detail": "does not answer"}
        assert there.get("/api/task?task_id=a").json()["progress"] == 1
        assert there.get("/api/v1/tasks").json()["payload"]["stale"] is True
        unknown = there.get("/api/v1/tasks/new")
        assert unknown.status_code == 503  # not "no such task": it does not know
        assert unknown.json()["payload"]["message"] == "The source does not answer"
        with there.sse("/api/v1/tasks") as others:
            assert [event.event for event in upto(others, "stale")] == ["message", "synced", "stale"]
        near.write("a", progress=2)  # near the folder all goes on
        assert near.get("/api/task?task_id=a").json()["progress"] == 2
        with near.sse("/api/v1/tasks") as others:
            assert items(upto(others, "synced")) == {"a": 2}
        until(lambda: figures(near)["gateway_broker_up"] == 0)
        assert near.get("/readyz").status_code == 200
        redis.go_on()
        assert {next(events).event, next(events).event} == {"fresh", "message"}
    until(lambda: is_ready(there))
    assert there.get("/api/v1/tasks").json()["payload"]["stale"] is False
    assert there.get("/api/task?task_id=a").json()["progress"] == 2


def test_redis_restarted_empty_is_filled_from_the_folder(publish: Start, edge: Start, redis: RedisServer) -> None:
    near, other = publish(), publish("--namespace", "other")
    for n in range(20):
        near.write(f"t{n}", progress=n)
    other.write("x", progress=1)
    there = edge()
    comes(there, "other:x", 1)
    epoch = redis.epoch()
    with there.sse("/api/v1/tasks") as events, there.sse("/api/task?task_id=t3") as own:
        upto(events, "synced")
        next(own)
        redis.kill()
        near.write("t3", progress=33)
        redis.start()
        found = upto(events, "reset")
        assert "gone" not in {event.event for event in found}
        assert items(upto(events, "synced")) == {f"t{n}": n for n in range(20)} | {"t3": 33, "other:x": 1}
        assert json.loads(next(e for e in own if e.event == "message").data)["progress"] == 33
    assert redis.epoch() not in {epoch, ""}
    redis.client.flushall()  # without a connection that breaks
    until(lambda: redis.epoch() != "" and is_ready(there))
    near.write("t4", progress=44)
    comes(there, "t4", 44)


def test_a_client_of_a_new_epoch_is_shown_nothing_of_the_old(publish: Start, edge: Start, redis: RedisServer) -> None:
    near = publish()
    near.write("a", progress=1)
    behind = edge()
    behind.process.send_signal(signal.SIGSTOP)
    redis.client.flushall()
    until(lambda: redis.epoch() != "")
    near.write("a", progress=2)
    ahead = edge()
    comes(ahead, "a", 2)
    with ahead.sse("/api/task?task_id=a") as events:
        tag = next(events).id
    behind.process.send_signal(signal.SIGCONT)
    with behind.sse("/api/task?task_id=a", Last_Event_ID=tag) as events:
        near.write("a", progress=3)
        states = (json.loads(event.data)["progress"] for event in events if event.event == "message")
        assert next(state for state in states if state != 2) == 3


def test_an_edge_that_never_had_anything_says_so(start: Start) -> None:
    port = free_port()
    one = start("--broker", f"redis://127.0.0.1:{port}", folder=False)
    answer = one.get("/api/v1/tasks")
    assert (answer.status_code, answer.json()) == (503, {"error": "The source cannot be reached"})
    assert one.get("/api/task?task_id=a").status_code == 503
    assert one.stop() == 0


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_all_end_right_while_redis_is_away(publish: Start, edge: Start, redis: RedisServer, how: str) -> None:
    near = publish()
    near.write("a")
    there = edge()
    getattr(redis, how)()
    until(lambda: not is_ready(there))
    until(lambda: figures(near)["gateway_broker_up"] == 0)
    began = time.monotonic()
    assert (near.stop(), there.stop()) == (0, 0)
    assert time.monotonic() - began < 8
    assert not [line for line in near.lines + there.lines if "Traceback" in line]


def test_what_makes_no_sense_in_the_stream_is_passed_over(publish: Start, edge: Start, redis: RedisServer) -> None:
    near = publish()
    near.write("a", progress=1)
    there = edge()
    head = redis.client.hget("{gateway}:meta", "head")
    for record in (b"no json", b'{"id":"../x","body":"{}"}', b'{"id":"b"}', b'{"id":"c","body":"[]"}'):
        head = redis.client.xadd("{gateway}:stream", {"p": head or b"", "r": record})
        redis.client.hset("{gateway}:meta", "head", head)
    near.write("a", progress=2)
    comes(there, "a", 2)
    assert figures(there)["gateway_unreadable_records_total"] == 4
    assert {item["id"] for item in there.get("/api/v1/tasks").json()["payload"]["tasks"]} == {"a"}


# What Redis holds


def test_redis_stays_within_its_bounds(publish: Start, edge: Start, redis: RedisServer) -> None:
    near = publish("--broker-bytes", str(1 << 20), "--broker-entries", "1000", "--broker-tasks", "20")
    there = edge()
    for n in range(1_500):
        near.write(f"t{n % 40}", progress=n % 100, message="x" * 1_500)
        near.get(f"/api/task?task_id=t{n % 40}")
    comes(there, "t19", 99)
    until(lambda: figures(near)["gateway_broker_tasks"] == 20, 15)
    seen = figures(near)
    assert 0 < seen["gateway_broker_stream_bytes"] <= 600_000
    assert 0 < seen["gateway_broker_task_bytes"] <= 600_000
    until(lambda: figures(near)["gateway_broker_entries"] == redis.client.xlen("{gateway}:stream"))
    used = sum(redis.client.memory_usage(key) or 0 for key in redis.client.keys("{gateway}:*"))
    assert used < 1 << 20
    assert len(there.get("/api/v1/tasks").json()["payload"]["tasks"]) == 40  # what an edge has, it keeps


def test_old_changes_and_unchanged_tasks_are_dropped(publish: Start, redis: RedisServer) -> None:
    near = publish("--broker-history", "1", "--broker-keep", "2")
    near.write("a")
    near.get("/api/task?task_id=a")
    until(lambda: redis.client.hlen("{gateway}:tasks") == 1)
    until(lambda: redis.client.hlen("{gateway}:tasks") == 0, 15)
    assert int(redis.client.hget("{gateway}:meta", "floor") or 0) > 0
    near.write("a", progress=60)
    until(lambda: redis.client.hlen("{gateway}:tasks") == 1)


# Ways to Redis


WIDE = {**os.environ, "COLUMNS": "300"}


def cli(*options: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "gateway", "serve", "--bind", "127.0.0.1:0", *options]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30, env=WIDE)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://localhost", "scheme"),
        ("redis://", "names no host"),
        ("redis+sentinel://localhost:26379", "must name the Sentinels' service"),
        ("redis+sentinel://localhost/main", "without its port"),
        ("redis://:secret@localhost:port", "Port could not be cast"),
    ],
)
def test_what_is_no_redis_is_refused(url: str, says: str) -> None:
    ended = cli("--broker", url)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "secret" not in ended.stderr


def test_over_tls_with_a_password_and_the_least_rights(start: Start, tmp_path: Any) -> None:
    make_certificate(tmp_path, "redis")
    port, acl = free_port(), tmp_path / "users.acl"
    publisher, reader = secrets.token_hex(8), secrets.token_hex(8)
    documented = [line for line in Path("docs/broker.md").read_text().splitlines() if line.startswith("user ")]
    rules = [line.replace(">password", f">{word}") for line, word in zip(documented, (publisher, reader), strict=True)]
    acl.write_text("\n".join(["user default off", *rules, ""]))
    tls = ["--tls-port", str(port), "--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file"]
    tls += [str(tmp_path / "key.pem"), "--tls-auth-clients", "no", "--aclfile", str(acl)]
    server = RedisServer(*tls)
    try:
        url = f"rediss://{{}}:{{}}@localhost:{port}/0?ssl_ca_certs={tmp_path / 'cert.pem'}"
        near = start("--broker", url.format("publisher", publisher))
        near.write("a", progress=1)
        there = start("--broker", url.format("edge", reader), folder=False)
        comes(there, "a", 1)
        (near.tasks / "a.json").unlink()
        until(lambda: there.get("/api/task?task_id=a").status_code == 404)
        until(lambda: "gateway_broker_tasks" in figures(near))
        denied = start("--broker", url.format("edge", reader))  # an edge's user may not publish
        denied.tasks.mkdir(exist_ok=True)
        until(lambda: "refuses" in denied.get("/readyz").json()["checks"]["broker"]["detail"])
        assert not [line for one in (near, there, denied) for line in one.lines if publisher in line or reader in line]
    finally:
        server.close()


def test_by_sentinel_over_a_failover(start: Start) -> None:
    first = RedisServer()
    second = RedisServer("--replicaof", "127.0.0.1", str(first.port))
    sentinel = RedisServer(sentinel=f"sentinel monitor main 127.0.0.1 {first.port} 1\n")
    try:
        watcher = sentinel.client
        watcher.execute_command("SENTINEL", "SET", "main", "down-after-milliseconds", "500")
        watcher.execute_command("SENTINEL", "SET", "main", "failover-timeout", "2000")
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
        near = start("--broker", url)
        near.write("a", progress=1)
        there = start("--broker", url, folder=False)
        comes(there, "a", 1)
        until(lambda: second.client.hlen("{gateway}:tasks") == 1)
        until(lambda: bool(watcher.execute_command("SENTINEL", "REPLICAS", "main")))
        with there.sse("/api/v1/tasks") as events:
            upto(events, "synced")
            first.kill()
            near.write("a", progress=2)
            until(lambda: second.client.info("replication")["role"] == "master", 20)
            found: list[ServerSentEvent] = []
            while items(found).get("a") != 2:
                found.append(next(events))
        assert "reset" not in {event.event for event in found}  # the replica had it all
    finally:
        for server in (sentinel, second, first):
            server.close()


def test_in_a_cluster(start: Start) -> None:
    server = RedisServer("--cluster-enabled", "yes")
    try:
        server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: b"cluster_state:ok" in server.client.execute_command("CLUSTER", "INFO"))
        url = f"redis+cluster://127.0.0.1:{server.port}"
        near = start("--broker", url)
        near.write("a", progress=1)
        there = start("--broker", url, folder=False)
        comes(there, "a", 1)
        with there.sse("/api/v1/tasks") as events:
            upto(events, "synced")
            near.write("a", progress=2)
            assert items([next(events)]) == {"a": 2}
    finally:
        server.close()


def test_without_a_broker_nothing_of_it_is_imported(start: Start) -> None:
    code = (
        "import sys; from gateway.app import create_app; from gateway.settings import Settings; "
        "create_app(Settings(data_path='.')); print([m for m in sys.modules if m.split('.')[0] in ('redis', 'hiredis')"
        " or m.startswith('gateway.broker')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# Tiers


@pytest.fixture
def tier(start: Start) -> Callable[..., Gateway]:
    """Starts an edge of another gateway, and waits until it is up to date."""

    def starter(source: Gateway, *options: str, **more: Any) -> Gateway:
        one = start("--source", source.url, *options, folder=False, **more)
        until(lambda: is_ready(one))
        return one

    return starter


def test_a_tier_of_edges_serves_the_same(publish: Start, edge: Start, tier: Start) -> None:
    near = publish()
    near.put(GUID, b'\xef\xbb\xbf{"status": "success",\n "progress": 100, "message": "\xc3\xa9", "data": {"a": [1]}}\n')
    near.write("a", progress=1)
    near.write("doomed")
    first = edge()
    with first.sse("/api/v1/tasks") as events:
        cursor = upto(events, "synced")[-1].id
    second = tier(first)
    third = tier(second)
    for url in URLS:
        own, copied = near.get(url.format(GUID)), third.get(url.format(GUID))
        assert (copied.status_code, copied.content, copied.headers["etag"]) == (200, own.content, own.headers["etag"])
    with third.sse("/api/v1/tasks", Last_Event_ID=cursor) as events:
        upto(events, "synced")
        near.write("a", progress=2)
        (near.tasks / "doomed.json").unlink()
        near.put("broken", b"x" * 70_000)
        news = [next(events) for _ in range(3)]
    assert sorted(event.event for event in news) == ["gone", "invalid", "message"]
    fresh = tier(second)  # it was not there when the task was deleted
    with fresh.sse("/api/v1/tasks", Last_Event_ID=cursor) as events:
        assert sorted(event.event for event in upto(events, "synced")) == ["gone", "invalid", "message", "synced"]
    with fresh.sse("/api/v1/tasks") as events:
        assert "gone" not in {event.event for event in upto(events, "synced")}


def test_a_tier_whose_source_is_lost_or_stale(publish: Start, edge: Start, tier: Start, redis: RedisServer) -> None:
    near = publish()
    near.write("a", progress=1)
    first = edge()
    second = tier(first)
    with second.sse("/api/v1/tasks") as events:
        upto(events, "synced")
        redis.pause()
        assert next(events).event == "stale"
        assert second.get("/readyz").json()["checks"]["source"]["detail"] == "is stale itself"
        redis.go_on()
        assert next(events).event == "fresh"
        first.stop(signal.SIGKILL)
        assert next(events).event == "stale"
        assert second.get("/api/v1/tasks").json()["payload"]["stale"] is True
        near.write("a", progress=2)
        first.start()
        found = [next(events), next(events)]
        assert {event.event for event in found} == {"fresh", "message"}  # resumed: no reset
        assert items(found) == {"a": 2}


def test_a_tier_behind_a_gateway_near_a_folder_with_tokens(start: Start, tier: Start, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(secrets.token_hex(32).encode())
    argv = [sys.executable, "-m", "gateway", "token", "--key", str(key), "--tasks", "shop-*"]
    token = subprocess.check_output(argv, text=True).strip()
    near = start("--auth-key", str(key))
    near.write("shop-1", progress=1)
    near.write("bank-1", progress=1)
    there = tier(near, env={"GATEWAY_SOURCE_TOKEN": token})
    with there.sse("/api/v1/tasks") as events:
        assert items(upto(events, "synced")) == {"shop-1": 1}
        near.stop(signal.SIGKILL)
        near.start()  # a folder's order does not outlive its gateway
        upto(events, "reset")
        assert items(upto(events, "synced")) == {"shop-1": 1}
    refused = start("--source", near.url, folder=False)
    until(lambda: "refuses" in refused.get("/readyz").json()["checks"]["source"]["detail"])
    assert not [line for one in (there, refused) for line in one.lines if token in line]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--source", "ftp://x"], "--source"),
        (["--source", "http://x", "--data-path", "."], "only source of tasks"),
        (["--source", "http://x", "--broker", "redis://x"], "only source of tasks"),
        ([], "--broker or --source"),
    ],
)
def test_what_cannot_be_a_source_is_refused(options: list[str], says: str) -> None:
    ended = cli(*options)
    assert ended.returncode == 2
    assert says in ended.stderr


def test_publishing_takes_no_clients_place(publish: Start, redis: RedisServer) -> None:
    near = publish("--max-streams", "1")
    until(lambda: figures(near).get("gateway_subscribers/broker") == 1)
    with near.sse("/api/v1/tasks") as events:
        assert next(events).event == "synced"
        assert near.get("/api/v1/tasks", Accept="text/event-stream").status_code == 503
