"""Copies of one order, without sockets: a client that hops between two ends right, and is shown nothing older."""

import json
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.dialects import ITEM
from gateway.hub import Hub
from gateway.records import Record, read, record_of
from gateway.sources.replica import Change, Replica
from gateway.store import Event, Kind, Store
from gateway.subscription import Subscription
from gateway.wire import Copies, Ndjson
from tests.harness import CI
from tests.test_hub import Reader
from tests.test_store import task

ENCODING = Ndjson(ITEM)
IDS = ["a", "b", "c"]


def body(n: int) -> str:
    return json.dumps({"status": "running", "progress": 1, "message": str(n), "data": {"n": n}})


class Copy:
    """An edge: its store, hub and replica, and how far it has read."""

    def __init__(self, limit: int = 10) -> None:
        self.soon: list[Callable[[], None]] = []
        self.store = Store(copied=True, limit=limit)
        self.hub = Hub(self.store, self.soon.append)
        self.replica = Replica(self.store, self.hub)
        self.epoch, self.read_to = "", 0

    def turn(self) -> None:
        while self.soon:
            self.soon.pop(0)()


class Client:
    """Follows everything; keeps what it was told."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.reader = Reader()
        self.at: Copy | None = None
        self.subscription: Subscription | None = None
        self.cursor = ""
        self.whole = False
        self.resets = 0

    def connect(self, copy: Copy) -> None:
        self.leave()
        self.reader, self.at, self.whole = Reader(), copy, bool(self.cursor)
        self.subscription = Subscription(ENCODING, self.reader)
        if not self.cursor:
            self.held.clear()
        copy.hub.subscribe(self.subscription, self.cursor or None)

    def leave(self) -> None:
        if self.at and self.subscription:
            self.take()
            self.at.hub.unsubscribe(self.subscription)
        self.at = None

    def take(self) -> None:
        for said in self.reader.take():
            event = said.get("event")
            if event == "reset":
                self.held.clear()
                self.cursor, self.whole = "", False
                self.resets += 1
            elif event == "synced":
                self.whole = True
            elif event == "gone":
                self.held.pop(said["id"], None)
            elif "task" in said:
                n = (said["task"]["data"] or {}).get("n", -1)
                assert n >= self.held.get(said["task"]["id"], -1), "went back"
                self.held[said["task"]["id"]] = n
            if self.whole and said.get("cursor"):
                self.cursor = said["cursor"]


class Model(RuleBasedStateMachine):
    """The original is a list of changes; the copies read it by pieces, miss some, and take snapshots."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch, self.epochs = "e0", 0
        self.log: list[Change] = []
        self.kept: dict[str, Change] = {}
        self.floor = self.n = self.offset = 0
        self.copies = [Copy(), Copy()]
        self.clients = [Client(), Client()]
        for copy in self.copies:
            self.snapshot(copy)

    def change(self, record: Record) -> None:
        self.offset += 3  # offsets have gaps
        self.log.append(Change(self.offset, record))
        self.kept[record.id] = self.log[-1]

    @property
    def truth(self) -> dict[str, int]:
        return {id: json.loads(c.record.body)["data"]["n"] for id, c in self.kept.items() if not c.record.event}

    # The original

    @rule(id=st.sampled_from(IDS))
    def write(self, id: str) -> None:
        self.n += 1
        self.change(Record(id, updated=self.n, body=body(self.n)))

    @rule(id=st.sampled_from(IDS))
    def remove(self, id: str) -> None:
        if id in self.truth:
            self.change(Record(id, event="gone"))

    @rule()
    def forget_deletions(self) -> None:
        for id, change in list(self.kept.items()):
            if change.record.event == "gone":
                del self.kept[id]
                self.floor = max(self.floor, change.offset)

    @rule()
    def begin_anew(self) -> None:
        """The broker was emptied, and is filled from the folder."""
        self.epochs += 1
        self.epoch = f"e{self.epochs}"
        records = [change.record for change in self.kept.values() if not change.record.event]
        self.log, self.kept, self.floor = [], {}, 0
        for record in records:
            self.change(record)

    # The copies

    def snapshot(self, copy: Copy) -> None:
        copy.replica.begin(self.epoch, self.floor, list(self.kept.values()), self.offset)
        copy.epoch, copy.read_to = self.epoch, self.offset
        copy.turn()

    @rule(which=st.integers(0, 1), count=st.integers(1, 4))
    def read(self, which: int, count: int) -> None:
        copy = self.copies[which]
        if copy.epoch != self.epoch:
            return self.snapshot(copy)
        rest = [change for change in self.log if change.offset > copy.read_to][:count]
        if rest:
            copy.read_to = rest[-1].offset
            copy.replica.take(rest, copy.read_to)
            copy.turn()
        return None

    @rule(which=st.integers(0, 1))
    def miss(self, which: int) -> None:
        """It was away longer than the log is kept."""
        self.snapshot(self.copies[which])

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        for client in self.clients:
            if client.at is self.copies[which]:
                client.leave()
        self.copies[which] = Copy()
        self.snapshot(self.copies[which])

    # The clients

    @rule(who=st.integers(0, 1), which=st.integers(0, 1))
    def connect(self, who: int, which: int) -> None:
        client, copy = self.clients[who], self.copies[which]
        if client.cursor and copy.epoch != client.cursor.rpartition("-")[0]:
            self.catch_up(copy)  # what `settle` waits for
        client.connect(copy)

    @rule(who=st.integers(0, 1))
    def stall(self, who: int) -> None:
        self.clients[who].reader.full = True

    @rule(who=st.integers(0, 1))
    def listen(self, who: int) -> None:
        self.clients[who].reader.read()

    def catch_up(self, copy: Copy) -> None:
        if copy.epoch != self.epoch:
            self.snapshot(copy)
        self.read(self.copies.index(copy), len(self.log) + 1)

    @precondition(lambda self: self.log)
    @rule()
    def all_is_quiet(self) -> None:
        """Whoever is connected ends at the truth."""
        for copy in self.copies:
            self.catch_up(copy)
        for client in self.clients:
            if client.at:
                client.reader.read()
                client.take()
                assert client.held == self.truth

    @invariant()
    def nothing_older_is_shown(self) -> None:
        for client in self.clients:
            client.take()


Model.TestCase.settings = settings(max_examples=500 if CI else 150, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase


WRONG = st.builds(
    Record,
    id=st.sampled_from([*IDS, "shop:a", "x", "../y"]),
    event=st.sampled_from(["", "task", "gone", "invalid"]),
    error=st.text(max_size=5),
    updated=st.integers(0, 9),
    body=st.sampled_from(["", "[]", "{", '{"x":' + "[" * 9_999, "{}", "é" * 40_000]),
)
PLACES = st.just(0) | st.integers(0, 50).map(lambda n: 2 * n + 1) | st.integers(0, (1 << 63) - 1).map(lambda n: n | 1)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(PLACES, WRONG), max_size=30), st.integers(0, 100), st.booleans())
def test_what_makes_no_sense_never_stops_others(wrong: list[tuple[int, Record]], floor: int, known: bool) -> None:
    """Whatever else stands in a snapshot, or comes after it, the tasks of others are all there, and in order."""
    copy, client = Copy(limit=100), Client()
    good = [Change(2 * n + 2, Record(f"good{n}", updated=1, body=body(n))) for n in range(40)]
    if known:
        copy.replica.begin("e", 0, good[:5], 10)
    changes = [Change(*each) for each in wrong]
    copy.replica.begin("e", floor, [*changes, *good[:20], *changes], 40)
    client.connect(copy)
    for n in range(20, 40):
        copy.replica.take([*[c for c in changes if 2 * n < c.offset < 2 * n + 2], good[n]], good[n].offset)
        copy.turn()
    client.take()
    assert {f"good{n}": n for n in range(40)}.items() <= client.held.items()
    assert copy.store.head == 80


def test_a_cursor_from_further_on_waits() -> None:
    copy = Copy()
    copy.replica.begin("e", 0, [Change(5, Record("a", updated=1, body=body(1)))], 5)
    client = Client()
    client.cursor, client.held = "e-9", {"a": 2}
    client.connect(copy)
    copy.replica.take([Change(7, Record("b", updated=1, body=body(1)))], 7)
    copy.turn()
    client.take()
    assert client.held == {"a": 2}
    copy.replica.take([Change(9, Record("a", updated=1, body=body(2)))], 9)
    copy.replica.take([Change(11, Record("a", updated=1, body=body(3)))], 11)
    copy.turn()
    client.take()
    assert client.held == {"a": 3}


def test_a_state_that_is_known_is_no_news_but_moves_the_cursor() -> None:
    copy = Copy()
    copy.replica.begin("e", 0, [Change(5, Record("a", updated=1, body=body(1)))], 5)
    copy.replica.take([Change(8, Record("a", updated=2, body=body(1)))], 8)
    assert (copy.hub.published, copy.store.head) == (0, 8)


def test_a_hole_with_forgotten_deletions_begins_anew_and_without_does_not() -> None:
    copy, client = Copy(), Client()
    a, b = (Change(n, Record(id, updated=1, body=body(n))) for n, id in ((5, "a"), (6, "b")))
    copy.replica.begin("e", 0, [a, b], 6)
    client.connect(copy)
    c = Change(9, Record("c", updated=1, body=body(9)))
    copy.replica.begin("e", 6, [a, b, c], 9)  # it missed c, and no deletion
    copy.turn()
    client.take()
    assert (client.held, client.resets) == ({"a": 5, "b": 6, "c": 9}, 0)
    copy.replica.begin("e", 11, [b, c], 12)  # a was deleted at 11 or before
    copy.turn()
    client.take()
    assert (client.held, client.resets) == ({"b": 6, "c": 9}, 1)


def test_a_floor_in_the_same_millisecond_as_the_newest_change() -> None:
    copy = Copy()
    copy.replica.begin("e", 1_000, [Change(5, Record("a", updated=1, body=body(1)))], 5)
    client = Client()
    client.cursor = "e-3"
    client.connect(copy)  # begins anew, once
    client.take()
    assert (client.held, client.resets) == ({"a": 1}, 1)


def test_a_record_is_read_back_as_it_was() -> None:
    still = task("shop-1", progress=3)
    for event in (
        Event(4, Kind.TASK, "a", still),
        Event(4, Kind.GONE, "a"),
        Event(4, Kind.INVALID, "a", error="torn", still=still),
    ):
        record = read(record_of(event, "shop"))
        assert (record.id, record.error) == ("shop:a", event.error)
        again = record.task("shop-1")
        assert again == (event.shown and still)
        line = json.loads(Copies("shop").block([event], "e"))
        assert (line.pop("cursor"), line) == ("e-4", json.loads(record_of(event, "shop")))
