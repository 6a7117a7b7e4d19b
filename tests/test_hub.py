"""The hub without sockets: shared bytes, conflation, places, ends."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import pages
from gateway.access.grants import EVERYTHING, Grant
from gateway.dialects import FLAT, ITEM
from gateway.hub import Hub
from gateway.store import Event, Kind, Store
from gateway.subscription import DONE, LAGGED, POLICY, RESTART, Subscription
from gateway.tasks import parse
from gateway.wire import Ndjson, Sse
from tests.test_store import task


class Reader:
    """An outlet in memory that can stop reading."""

    def __init__(self) -> None:
        self.full = False
        self.drained: Callable[[], None] = lambda: None
        self.blocks: list[bytes] = []
        self.code: int | None = None
        self.aborted = False

    def write(self, block: bytes) -> None:
        self.blocks.append(block)

    def close(self, code: int) -> None:
        self.code = code

    def abort(self) -> None:
        self.aborted = True

    def read(self) -> None:
        self.full = False
        self.drained()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for block in self.blocks for line in block.splitlines() if line]

    def take(self) -> list[dict[str, Any]]:
        found = self.lines()
        self.blocks.clear()
        return found


class Sipping(Reader):
    """Is full after each block."""

    def write(self, block: bytes) -> None:
        super().write(block)
        self.full = True


class World:
    """A store and a hub; passes happen when the test says so."""

    def __init__(self, **options: Any) -> None:
        self.store = Store(**options)
        self.scheduled: list[Callable[[], None]] = []
        self.hub = Hub(self.store, self.scheduled.append, heartbeat=3, write_deadline=6)
        self.all = Ndjson(ITEM)
        self.one = Ndjson(FLAT)

    def put(self, id: str, progress: int) -> None:
        if event := self.store.put(task(id, progress)):
            self.hub.publish(event)

    def final(self, id: str) -> None:
        event = self.store.put(parse(id, b'{"status":"success","progress":100}', 1))
        assert event
        self.hub.publish(event)

    def remove(self, id: str) -> None:
        self.hub.publish(self.store.remove(id))

    def turn(self) -> None:
        """The event loop's next turn."""
        calls, self.scheduled[:] = self.scheduled[:], []
        for call in calls:
            call()

    def follow(
        self, cursor: str | None = None, ids: list[str] | None = None, **more: Any
    ) -> tuple[Reader, Subscription]:
        reader = Reader()
        subscription = Subscription(self.all, reader, ids=ids, **more)
        self.hub.subscribe(subscription, cursor)
        return reader, subscription

    def follow_one(self, id: str) -> tuple[Reader, Subscription]:
        reader = Reader()
        subscription = Subscription(self.one, reader, ids=[id], ends=2)
        first = [e for e in [self.store.get(id)] if e]
        self.hub.subscribe(subscription, self.store.cursor(self.store.head), first)
        return reader, subscription


def progress(lines: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(line["task"]["id"], line["task"]["progress"]) for line in lines if "task" in line]


def test_a_pass_makes_one_block_that_all_share() -> None:
    world = World()
    readers = [world.follow()[0] for _ in range(5)]
    for reader in readers:
        reader.take()
    for n in range(10):
        world.put("a", n)
        world.put("b", n)
    assert len(world.scheduled) == 1
    world.turn()
    assert [len(reader.blocks) for reader in readers] == [1] * 5  # one write a pass
    assert len({id(reader.blocks[0]) for reader in readers}) == 1  # the same bytes object
    assert progress(readers[0].lines()) == [(i, n) for n in range(10) for i in "ab"]  # every change


def test_subscribers_of_one_task_share_its_block() -> None:
    world = World()
    world.put("a", 1)
    world.turn()
    readers = [world.follow_one("a")[0] for _ in range(5)]
    other, _ = world.follow_one("b")
    for reader in [*readers, other]:
        reader.take()
    world.put("a", 2)
    world.turn()
    assert len({id(reader.blocks[0]) for reader in readers}) == 1
    assert other.blocks == []


def test_nothing_is_sent_twice_or_backwards_to_who_comes_between_passes() -> None:
    world = World()
    world.put("a", 1)
    world.put("a", 2)
    reader, _ = world.follow()
    world.turn()
    assert progress(reader.lines()) == [("a", 2)]


def test_one_that_is_behind_gets_the_newest_of_each() -> None:
    world = World()
    reader, subscription = world.follow()
    reader.take()
    reader.full = True
    for n in range(50):
        world.put("a", n)
        world.put("b", n)
        world.turn()
    assert progress(reader.take()) == [("a", 0), ("b", 0)]  # the pass that found it full
    assert not subscription.live
    reader.read()
    assert progress(reader.take()) == [("a", 49), ("b", 49)]
    assert world.hub.conflated == 96
    world.put("a", 50)
    world.turn()
    assert progress(reader.take()) == [("a", 50)]


def test_one_that_is_behind_learns_of_deletions() -> None:
    world = World()
    world.put("a", 1)
    reader, _ = world.follow()
    reader.take()
    reader.full = True
    world.put("b", 1)
    world.turn()
    reader.take()
    world.remove("a")
    world.turn()
    reader.read()
    assert [(line["event"], line["id"]) for line in reader.take()] == [("gone", "a")]


def test_one_that_was_behind_for_too_long_is_reset() -> None:
    world = World(limit=3)
    reader, _ = world.follow()
    reader.full = True
    for n in range(9):
        world.put(f"t{n}", n)
        world.turn()
    reader.take()
    reader.read()
    lines = reader.take()
    assert lines[0] == {"event": "reset"}
    assert progress(lines) == [("t6", 6), ("t7", 7), ("t8", 8)]
    assert lines[-1]["event"] == "synced"  # where the snapshot ends


def test_a_snapshot_has_no_deletions_a_replay_has() -> None:
    world = World()
    world.put("a", 1)
    place = world.store.cursor(world.store.head)
    world.put("b", 1)
    world.remove("a")
    fresh, _ = world.follow()
    assert [line.get("event", "task") for line in fresh.take()] == ["task", "synced"]
    resumed, _ = world.follow(place)
    assert [line.get("event", "task") for line in resumed.take()] == ["task", "gone", "synced"]


def test_a_snapshot_is_made_once_for_all_who_come_together() -> None:
    world = World()
    for n in range(200):
        world.put(f"t{n}", n)
    a, _ = world.follow()
    b, _ = world.follow()
    assert [id(block) for block in a.blocks[1:-1]] == [id(block) for block in b.blocks[1:-1]]


def test_a_slow_snapshot_is_given_in_pages() -> None:
    world = World()
    for n in range(2_000):
        world.put(f"t{n}", n)
    reader = Sipping()
    reader.full = True
    subscription = Subscription(world.all, reader)
    world.hub.subscribe(subscription)
    seen: list[tuple[str, int]] = []
    turns = 0
    while not subscription.synced:
        reader.read()
        world.turn()
        assert sum(map(len, reader.blocks)) < 300_000
        seen += progress(reader.take())
        turns += 1
    assert turns > 2
    assert [i for i, _ in seen] == [f"t{n}" for n in range(2_000)]


def test_a_pass_makes_few_pages_and_all_have_their_turn() -> None:
    """One that is far behind holds nobody up: each pass of the loop makes two pages, however many wait."""
    world = World()
    for n in range(3_000):
        world.put(f"t{n}", n)
    world.turn()
    readers = [world.follow(f"{world.store.epoch}-{place}")[0] for place in range(1, 50)]
    most, passes = 0, 0
    while world.scheduled:
        before = sum(len(reader.blocks) for reader in readers)
        world.turn()
        most = max(most, sum(len(reader.blocks) for reader in readers) - before)
        passes += 1
    assert most < 2 * (pages.PASS // pages.MADE) + len(readers)  # their pages, and `synced` for who has all
    assert passes > len(readers)
    for place, reader in enumerate(readers, 1):
        assert [i for i, _ in progress(reader.lines())] == [f"t{n}" for n in range(place, 3_000)]


def test_a_single_task_ends_with_its_final_state() -> None:
    world = World()
    world.put("a", 1)
    reader, subscription = world.follow_one("a")
    world.final("a")
    world.turn()
    assert reader.lines()[-1]["task"]["status"] == "success"
    assert reader.code == DONE
    assert len(world.hub) == 0
    world.hub.unsubscribe(subscription)  # once more is no error


def test_a_stalled_reader_of_one_task_still_gets_its_final_state() -> None:
    world = World()
    world.put("a", 1)
    reader, _ = world.follow_one("a")
    reader.full = True
    world.put("a", 2)
    world.turn()
    world.put("a", 3)
    world.final("a")
    world.turn()
    assert reader.code is None
    reader.read()
    assert reader.lines()[-1]["task"]["status"] == "success"
    assert reader.code == DONE


def test_a_stalled_reader_whose_task_was_forgotten_is_sent_away_to_read_it_anew() -> None:
    world = World(limit=2)
    world.put("a", 1)
    reader, _ = world.follow_one("a")
    reader.full = True
    world.put("a", 2)
    world.turn()
    world.put("a", 3)
    for n in range(5):
        world.put(f"t{n}", n)
    world.turn()
    reader.read()
    assert reader.code == LAGGED


def test_a_gone_task_is_waited_for_and_given_up() -> None:
    world = World()
    world.put("a", 1)
    stays, _ = world.follow_one("a")
    world.remove("a")
    world.turn()
    world.hub.beat()
    world.put("a", 2)
    world.turn()
    for _ in range(5):
        world.hub.beat()
    assert stays.code is None
    world.remove("a")
    world.turn()
    for _ in range(5):
        world.hub.beat()
    assert stays.code == DONE


def test_heartbeats_are_spread_and_reach_all() -> None:
    world = World()
    readers = [world.follow()[0] for _ in range(6)]
    for reader in readers:
        reader.take()
        reader.blocks.clear()
    beaten = []
    for _ in range(3):
        world.hub.beat()
        beaten.append(sum(len(reader.blocks) for reader in readers))
    assert beaten == [2, 4, 6]


def test_who_takes_nothing_until_the_deadline_is_dropped_and_who_takes_a_little_is_not() -> None:
    world = World()
    stalled, _ = world.follow()
    slow, _ = world.follow()
    stalled.full = slow.full = True
    world.put("a", 1)
    world.turn()
    for n in range(12):
        world.hub.beat()
        slow.read()
        slow.full = True
        world.put("a", n + 2)
        world.turn()
    assert stalled.aborted
    assert not slow.aborted
    assert len(world.hub) == 1
    assert world.hub.expired == 1


def test_close_tells_everybody_and_lets_nobody_in() -> None:
    world = World()
    world.put("a", 1)
    readers = [world.follow()[0], world.follow_one("a")[0]]
    world.hub.close()
    late, _ = world.follow()
    assert [reader.code for reader in [*readers, late]] == [RESTART] * 3
    assert len(world.hub) == 0
    sse = Reader()
    world.hub.subscribe(Subscription(Sse(ITEM), sse))
    assert sse.blocks[0].startswith(b"retry: ")


def test_wanting_more_and_less() -> None:
    world = World()
    for i in "abc":
        world.put(i, 1)
    reader, subscription = world.follow(ids=[])
    assert reader.take() == [{"cursor": world.store.cursor(3), "event": "synced"}]
    world.hub.want(subscription, ["a", "c"], None, [])
    assert progress(reader.take()) == [("a", 1), ("c", 1)]
    world.put("b", 2)
    world.put("c", 2)
    world.turn()
    assert progress(reader.take()) == [("c", 2)]
    world.hub.unwant(subscription, ["c", "never"])
    world.put("c", 3)
    world.put("a", 3)
    world.turn()
    assert progress(reader.take()) == [("a", 3)]
    world.hub.unsubscribe(subscription)
    assert not world.hub._interest._by_id


def test_an_event_from_outside_the_order_comes_first() -> None:
    world = World()
    reader = Reader()
    old = Event(0, Kind.TASK, "old", task("old", 5))
    world.hub.subscribe(Subscription(world.all, reader, ids=["old"]), None, [old])
    assert [line.get("event", "task") for line in reader.take()] == ["task", "synced"]


@settings(max_examples=3_000, deadline=None)
@given(seed=st.integers(0, 2**32), limit=st.sampled_from([2, 100]))
def test_every_reader_ends_right_whatever_happened(seed: int, limit: int) -> None:
    """Guarantees 1, 3 and 4: writes, deletions, stalls, drops and resumes in any order."""
    chance = random.Random(seed)
    world = World(limit=limit)
    truth: dict[str, int] = {}
    clock = 0

    class Client:
        def __init__(self) -> None:
            self.cursor: str | None = None
            self.state: dict[str, int] = {}
            self.reader: Reader | None = None

        def connect(self) -> None:
            self.reader, self.subscription = world.follow(self.cursor)
            if self.cursor is None:
                self.state = {}

        def take(self) -> None:
            for line in self.reader.take() if self.reader else []:
                self.cursor = line.get("cursor", self.cursor)
                match line.get("event"):
                    case None:
                        item = line["task"]
                        assert item["updated"] > self.state.get(item["id"], -1)  # never backwards, nothing twice
                        self.state[item["id"]] = item["updated"]
                    case "gone":
                        self.state.pop(line["id"], None)
                    case "reset":
                        self.state = {}

    clients = [Client() for _ in range(3)]
    for _ in range(chance.randint(1, 60)):
        client, id = chance.choice(clients), chance.choice("abcd")
        match chance.randint(0, 7):
            case 0 | 1 | 2:
                clock += 1
                truth[id] = clock
                world.put(id, clock)
            case 3:
                if truth.pop(id, None):
                    world.remove(id)
            case 4:
                world.turn()
            case 5 if client.reader is None:
                client.connect()
            case 6 if client.reader:
                client.take()
                if chance.random() < 0.5:
                    client.reader.full = True
                else:
                    world.hub.unsubscribe(client.subscription)
                    client.reader = None
            case 7 if client.reader and client.reader.full:
                client.take()
                client.reader.read()
    while world.scheduled:
        world.turn()
    for client in clients:
        client.take()
        if client.reader is None:
            client.connect()
        elif client.reader.full:
            client.reader.read()
        while world.scheduled:
            world.turn()
        client.take()
        held = {e.id for e in world.store.newest_first()}
        assert {i: u for i, u in client.state.items() if i in held} == {i: u for i, u in truth.items() if i in held}
        if limit > 4:
            assert client.state == truth


@pytest.mark.parametrize("encoding", [Sse(ITEM), Ndjson(ITEM)])
def test_a_block_is_its_frames_joined(encoding: Sse | Ndjson) -> None:
    events = [Event(n, Kind.TASK, f"t{n}", task(f"t{n}", n)) for n in range(1, 4)]
    assert encoding.block(events, "e") == b"".join(encoding.block([event], "e") for event in events)


def test_groups_of_views_come_and_go() -> None:
    world, subs, readers = World(), [], []
    for n in range(1_500):  # more than are remembered
        readers.append(Reader())
        subs.append(Subscription(world.all, readers[-1], grant=Grant(tasks=frozenset({f"t{n}"}))))
        world.hub.subscribe(subs[-1])
        readers[-1].take()
    world.put("t7", 1)
    world.hub.flush()
    assert [n for n, reader in enumerate(readers) if reader.blocks] == [7]
    for sub in subs:
        world.hub.unsubscribe(sub)
    assert not world.hub._interest._groups
    assert not world.hub._roster._limited


def test_a_grant_ends_its_subscriptions() -> None:
    world, readers = World(), [Reader() for _ in range(4)]
    grants = [Grant(tasks=frozenset({"*"}), until=until, token=token) for until, token in ((5, ""), (9, "a"), (9, "b"))]
    for reader, grant in zip(readers, [*grants, EVERYTHING], strict=True):
        world.hub.subscribe(Subscription(world.all, reader, grant=grant))
    world.hub.end_grants(4, frozenset())
    assert [reader.code for reader in readers] == [None] * 4
    world.hub.end_grants(5, frozenset({"b"}))
    assert [reader.code for reader in readers] == [POLICY, None, POLICY, None]
    assert len(world.hub) == 2


def test_one_that_is_over_wants_nothing_any_more() -> None:
    world = World()
    _, subscription = world.follow(ids=["a"])
    world.hub.unsubscribe(subscription)
    world.hub.want(subscription, ["b"], None, [])
    assert not world.hub.is_wanted("a", by_name=True)
    assert not world.hub.is_wanted("b", by_name=True)


def test_who_takes_nothing_is_closed_whatever_it_asks_for() -> None:
    world = World()
    world.put("a", 1)
    reader, subscription = world.follow(ids=["a"])
    reader.full = True
    for second in range(20):
        world.hub.want(subscription, [f"t{second}"], None, [])  # each is given something, and none of it is taken
        world.hub.beat()
    assert reader.aborted
    assert world.hub.expired == 1


def test_any_number_of_those_ahead_get_what_comes_when_it_comes() -> None:
    world = World(copied=True, epoch="e")
    parked = [world.follow("e-5") for _ in range(2_000)]
    assert not any(reader.take() for reader, _ in parked)
    for offset in (3, 5, 6):
        event = world.store.put(task("a", offset), at=offset)
        assert event
        world.hub.publish(event)
        while world.scheduled:
            world.turn()
    for reader, subscription in parked:
        assert progress(reader.take()) == [("a", 6)]
        assert subscription.live


def test_first_states_are_asked_for_as_they_are_taken() -> None:
    world, reader, asked = World(), Sipping(), []

    def first() -> Iterator[Event | None]:
        for n in range(6):
            asked.append(n)
            yield None if n == 3 else Event(0, Kind.TASK, f"old{n}", task(f"old{n}", n))

    subscription = Subscription(world.all, reader, ids=[f"old{n}" for n in range(6)])
    answers: list[bool] = []
    subscription.answered = lambda: answers.append(subscription.synced)
    world.hub.subscribe(subscription, None, first())
    assert asked == []  # what it was greeted with has not been taken
    for n in range(1, 4):
        reader.read()
        assert asked == list(range(n))
    reader.read()
    assert asked == [0, 1, 2, 3]  # the fourth takes long: others come first
    reader.read()
    assert asked == [0, 1, 2, 3, 4]
    while not subscription.synced:
        assert not answers
        reader.read()
        world.turn()
    assert answers == [True]
