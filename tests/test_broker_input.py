"""What stands in Redis may be anything: it is passed over or mended, and never stops others' tasks."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gateway.broker.values import row_of
from gateway.records import read
from gateway.unreadable import UnreadableError
from tests.harness import Gateway, until
from tests.redisserver import RedisServer
from tests.test_operations import figures

STREAM, TASKS, ORDER, META, SPACES = (f"{{gateway}}:{part}" for part in ("stream", "tasks", "order", "meta", "spaces"))
DEEP = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
LARGE = json.dumps({"id": "large", "updated": 1, "body": json.dumps({"status": "running", "x": "x" * 70_000})}).encode()


class World:
    """Two backends and an edge, one Redis, and what is wrong with it."""

    def __init__(self) -> None:
        self.redis = RedisServer()
        self.client = self.redis.client
        self.near = self._publisher()
        self.other = self._publisher("--namespace", "a")
        self.edge = Gateway("--broker", self.redis.url, folder=False)
        self.n = 0

    def _publisher(self, *options: str) -> Gateway:
        one = Gateway("--broker", self.redis.url, *options)
        one.tasks.mkdir(exist_ok=True)
        one.write("there", progress=1)
        return one

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        return self.near, self.other, self.edge

    def close(self) -> None:
        for one in self.gateways:
            one.close()
        self.redis.close()

    def add(self, record: bytes, id: str = "*") -> bytes:
        """A change, as a publisher writes it."""
        head = self.client.hget(META, "head")
        entry = self.client.xadd(STREAM, {"p": head or b"", "r": record}, id=id)
        self.client.hset(META, "head", entry)
        return bytes(entry)

    def all_is_well(self) -> None:
        """What is written anywhere reaches the edge, and one that starts now; all others' tasks are there, too."""
        self.n = self.n % 99 + 1
        for one in (self.near, self.other):
            one.write("there", progress=self.n)
        until(lambda: self._shows(self.edge), 30)
        with Gateway("--broker", self.redis.url, folder=False) as fresh:
            until(lambda: self._shows(fresh), 30)
            until(lambda: fresh.get("/readyz").status_code == 200)
        until(lambda: self.edge.get("/readyz").status_code == 200)
        lines = [line for one in self.gateways for line in one.lines]
        assert not [line for line in lines if "Traceback" in line]
        assert [one.process.poll() for one in self.gateways] == [None] * 3

    def _shows(self, edge: Gateway) -> bool:
        items = edge.get("/api/v1/tasks").json().get("payload", {"tasks": []})["tasks"]
        return {item["id"]: item["progress"] for item in items} == {"there": self.n, "a:there": self.n}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    try:
        made.all_is_well()
        yield made
    finally:
        made.close()


Poison = Callable[[World], Any]

PASSED_OVER: dict[str, Poison] = {
    "an entry without its fields": lambda w: w.client.xadd(STREAM, {"x": "1"}),
    "without its record": lambda w: w.client.xadd(STREAM, {"p": w.client.hget(META, "head")}),
    "without its place": lambda w: w.client.xadd(STREAM, {"r": '{"id":"x","body":"{}"}'}),
    "after one that never was": lambda w: w.client.xadd(STREAM, {"p": "7-7", "r": '{"id":"x","body":"{}"}'}),
    "in the chain without its record": lambda w: w.client.hset(
        META, "head", w.client.xadd(STREAM, {"p": w.client.hget(META, "head")})
    ),
    "no JSON": lambda w: w.add(b"no json"),
    "nested deep": lambda w: w.add(DEEP),
    "a body nested deep": lambda w: w.add(json.dumps({"id": "deep", "body": DEEP.decode()}).encode()),
    "not UTF-8": lambda w: w.add(b'{"id":"\xff","body":"{\xff}"}'),
    "a surrogate": lambda w: w.add(rb'{"id":"x","body":"{\"a\":\"\ud800\"}"}'),
    "too large": lambda w: w.add(LARGE),
    "far too large": lambda w: w.add(b'{"id":"x","body":"%b"}' % (b"x" * 5_000_000)),
    "numbers": lambda w: [
        w.add(b'{"id":"x","updated":%b,"body":"{}"}' % n) for n in (b"-1", b"1e9", b"9" * 30, b"9" * 5_000)
    ],
    "names": lambda w: [
        w.add(json.dumps({"id": id, "body": "{}"}).encode()) for id in ("../x", "", "a b:c", "x" * 999)
    ],
    "an event of no kind": lambda w: w.add(b'{"id":"x","event":"synced","body":"{}"}'),
    "another record's place": lambda w: w.client.hset(TASKS, "copy", w.client.hget(TASKS, "there")),
    "a hash of garbage": lambda w: w.client.hset(
        TASKS,
        mapping={
            b"x": b"garbage {}",
            b"\xff\xfe": b"1-1 {}",
            b"a:evil": b"1-1 notjson",
            b"a:\xff": b"1-1 {}",
            b"b:other": b"1-1 {",
            b"": b"",
            b"deep": b"1-1 " + DEEP,
            b"late": b'8000000000000-1 {"id":"late","body":"{}"}',
            b"later": b'9999999999999999999-1 {"id":"later","body":"{}"}',
            b"../up": b'1-1 {"id":"../up","body":"{}"}',
        },
    ),
    "spaces": lambda w: w.client.hset(SPACES, mapping={b"\xff": b"x", b"a b": b"", b"x" * 99: b"1 2", b"c": b"\xff"}),
}


@pytest.mark.parametrize("what", PASSED_OVER)
def test_what_makes_no_sense_is_passed_over(world: World, what: str) -> None:
    PASSED_OVER[what](world)
    world.all_is_well()


def test_it_is_counted_and_named_once(world: World) -> None:
    PASSED_OVER["a hash of garbage"](world)
    with Gateway("--broker", world.redis.url, folder=False) as edge:
        until(lambda: edge.get("/readyz").status_code == 200)
        assert figures(edge)["gateway_unreadable_records_total"] >= 9
        world.client.hset(META, "epoch", "another")
        world.all_is_well()
        until(lambda: figures(edge)["gateway_snapshots_total"] > 1)  # all is read again
        named = [line.partition("gateway.unreadable: ")[2] for line in edge.lines if "cannot be read" in line]
        assert len(named) == len(set(named)) >= 9


def wrong_in(tasks: dict[bytes, bytes]) -> set[bytes]:
    """The fields of records that make no sense."""
    wrong = set()
    for field, value in tasks.items():
        try:
            row = row_of(field, value)
            read(row.record, row.id).task("x")
        except UnreadableError:
            wrong.add(field)
    return wrong


def test_a_publisher_mends_what_is_of_its_namespace(world: World) -> None:
    PASSED_OVER["a hash of garbage"](world)
    world.client.hset(TASKS, "there", "garbage {}")
    world.client.hset(TASKS, "a:there", b"1-1 " + DEEP)
    for one in (world.near, world.other):
        one.stop()
        one.start()
    until(lambda: not wrong_in(world.client.hgetall(TASKS)) - {b"b:other"}, 20)
    assert world.client.hget(TASKS, "b:other") == b"1-1 {"  # no business of theirs
    world.all_is_well()
    assert figures(world.near)["gateway_unreadable_records_total"] > 0


def test_a_flood_does_not_flood_the_log(world: World) -> None:
    before = len(world.edge.lines)
    for _ in range(20):
        pipe = world.client.pipeline()
        for n in range(500):
            pipe.xadd(STREAM, {"p": "1-1", "r": f"no json {n}"})
        pipe.execute()
    world.all_is_well()
    assert len(world.edge.lines) - before < 150


BROKEN: dict[str, Poison] = {
    **{
        f"epoch {epoch!r}": lambda w, epoch=epoch: w.client.hset(META, "epoch", epoch)  # type: ignore[misc]
        for epoch in (b'a\nid: 1\n"', b"", b"\xff\xfe", b"a-b", b"a@b", b"e" * 10_000)
    },
    **{
        f"head {head!r}": lambda w, head=head: w.client.hset(META, "head", head)  # type: ignore[misc]
        for head in (b"garbage", b"-5-1", b"99999999999999-1", b"1" * 400 + b"-1", b"\xff", b"1-9999999")
    },
    **{
        f"floor {floor!r}": lambda w, floor=floor: w.client.hset(META, "floor", floor)  # type: ignore[misc]
        for floor in (b"garbage", b"-1", b"9" * 30, b"1e5")
    },
    **{
        f"{key} of another type": lambda w, key=key: (w.client.delete(key), w.client.lpush(key, "x"))  # type: ignore[misc]
        for key in (STREAM, TASKS, ORDER, META, SPACES, "{gateway}:lease:")
    },
    "a stream at its end": lambda w: w.client.xadd(STREAM, {"x": "1"}, id=f"{2**64 - 1}-{2**64 - 1}"),
    "a stream far ahead": lambda w: w.add(b'{"id":"x","body":"{}"}', id="99999999999999-0"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_mended(world: World, what: str) -> None:
    BROKEN[what](world)
    world.all_is_well()


# Another gateway


class Source(ThreadingHTTPServer):
    """Says these lines to each who follows, and then nothing for as long as it lives."""

    daemon_threads = True

    def __init__(self, *lines: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Says)
        self.lines = lines
        self.ends = threading.Event()
        self.followed = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.ends.set()
        self.shutdown()
        self.server_close()


class _Says(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Source)
        self.server.followed += 1
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        self.wfile.write(b"".join([line + b"\n" for line in self.server.lines]))
        self.wfile.flush()
        self.server.ends.wait()

    def log_message(self, *_: object) -> None:
        """The log is the tests' own."""


def line(offset: int, id: str, progress: int, **more: Any) -> bytes:
    body = json.dumps({"status": "running", "progress": progress})
    return json.dumps({"cursor": f"e-{offset}", "id": id, "updated": 1, "body": body, **more}).encode()


def wrong_lines(after: int) -> list[bytes]:
    at = itertools.count(after + 1)
    return [
        b"",
        b"no json",
        b"\xff\xfe",
        DEEP,
        b"[]",
        b"x" * 600_000,
        line(next(at), "../x", 1),
        line(next(at), "x", 1, updated=-1),
        line(next(at), "x", 1, updated=10**30),
        line(next(at), "x", 1, body="[]"),
        line(next(at), "x", 1, body="x" * 70_000),
        line(next(at), "x", 1, event="invalid", error="x" * 5_000),
        line(next(at), "x", 1, event="some other"),
        line(next(at), "x", 1, cursor='e"\n-3'),
        line(next(at), "x", 1, cursor="e-" + "9" * 20),
        b'{"event":"synced","cursor":"e-2","floor":-1}',
        b'{"event":"heartbeat"}',
    ]


def test_what_another_gateway_says_is_passed_over_where_it_makes_no_sense(start: Callable[..., Gateway]) -> None:
    source = Source(
        line(1, "a", 1),
        *wrong_lines(1),
        line(80, "b", 1),
        b'{"event":"synced","cursor":"e-99","floor":0}',
        line(100, "a", 2),
        *wrong_lines(100),
        line(190, "b", 2),
    )
    try:
        one = start("--source", source.url, folder=False)
        until(lambda: one.get("/api/task?task_id=b").json().get("progress") == 2)
        items = one.get("/api/v1/tasks").json()["payload"]["tasks"]
        assert {item["id"]: item["progress"] for item in items} == {"a": 2, "b": 2}
        assert one.get("/readyz").status_code == 200
        assert source.followed == 1
        assert figures(one)["gateway_unreadable_records_total"] >= 10
        assert not [line for line in one.lines if "Traceback" in line]
    finally:
        source.close()


@pytest.mark.parametrize("wrong", [line(9_000, "x", 1), line(3, "x", 1), line(12, "x", 1, cursor="other-12")])
def test_a_gateway_that_leaves_its_order_is_followed_anew(start: Callable[..., Gateway], wrong: bytes) -> None:
    source = Source(line(1, "a", 1), b'{"event":"synced","cursor":"e-9","floor":0}', wrong, line(11, "b", 2))
    try:
        one = start("--source", source.url, folder=False)
        until(lambda: "is not in order" in "".join(one.lines))
        assert one.get("/readyz").status_code == 503
        source.lines = (line(1, "a", 1), line(11, "b", 2), b'{"event":"synced","cursor":"e-12","floor":0}')
        until(lambda: one.get("/readyz").status_code == 200, 30)
        assert one.get("/api/task?task_id=b").json()["progress"] == 2
    finally:
        source.close()
