"""The store against a plain model: whatever happens, who asks from a cursor ends right."""

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.store import Event, Kind, Store, size_of
from gateway.tasks import Task, parse
from tests.harness import CI

IDS = st.sampled_from("abcdef")


def task(id: str, progress: int, *, padding: int = 0) -> Task:
    return parse(id, b'{"status":"running","progress":%d,"pad":"%s"}' % (progress, b"x" * padding), progress)


class Replica:
    """A client: applies what it is told, and forgets on reset."""

    def __init__(self) -> None:
        self.cursor: str | None = None
        self.tasks: dict[str, Task] = {}
        self.faults: dict[str, str] = {}
        self.seen = 0

    def resume(self, store: Store) -> None:
        place = store.place(self.cursor) if self.cursor else None
        if place is None:
            self.tasks, self.faults, place = {}, {}, 0
        for event in store.since(place):
            assert event.offset > place  # never backwards
            place = event.offset
            if event.kind is Kind.TASK:
                assert event.task
                self.tasks[event.id] = event.task
                self.faults.pop(event.id, None)
            elif event.kind is Kind.GONE:
                self.tasks.pop(event.id, None)
                self.faults.pop(event.id, None)
            else:
                self.faults[event.id] = event.error
        self.cursor = store.cursor(store.head)


class StoreMachine(RuleBasedStateMachine):
    @initialize(limit=st.integers(1, 4))
    def start(self, limit: int) -> None:
        self.limit = limit
        self.store = Store(limit=limit)
        self.tasks: dict[str, Task] = {}
        self.order: list[str] = []
        self.faults: dict[str, str] = {}
        self.replicas = [Replica(), Replica()]

    @rule(id=IDS, progress=st.integers(0, 9))
    def put(self, id: str, progress: int) -> None:
        state = task(id, progress)
        same = id in self.tasks and self.tasks[id].tag == state.tag and id not in self.faults
        head = self.store.head
        event = self.store.put(state)
        assert (event is None) == same
        assert self.store.head == head + (not same)
        if not same:
            self.tasks[id] = state
            self.faults.pop(id, None)
            self.order = [other for other in self.order if other != id] + [id]
            for old in self.order[: -self.limit]:
                del self.tasks[old]
            self.order = self.order[-self.limit :]

    @rule(id=IDS)
    def remove(self, id: str) -> None:
        assert self.store.remove(id).kind is Kind.GONE
        self.tasks.pop(id, None)
        self.faults.pop(id, None)
        self.order = [other for other in self.order if other != id]

    @rule(id=IDS, error=st.sampled_from(["not JSON", "empty"]))
    def invalidate(self, id: str, error: str) -> None:
        known = self.faults.get(id) == error
        assert (self.store.invalidate(id, error) is None) == known
        if not known:
            self.faults.pop(id, None)
            self.faults[id] = error
            for old in list(self.faults)[: -self.limit]:
                del self.faults[old]

    @rule(n=st.integers(0, 1))
    def resume(self, n: int) -> None:
        replica = self.replicas[n]
        replica.resume(self.store)
        for id, state in self.tasks.items():
            assert replica.tasks[id] is state
        assert {i: e for i, e in replica.faults.items() if i in self.faults} == self.faults

    @rule()
    def prune(self) -> None:
        self.store.prune(5)
        while self.order and self.tasks[self.order[0]].updated < 5:
            del self.tasks[self.order.pop(0)]

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "store"):
            return
        assert {e.id: e.task for e in self.store.newest_first()} == self.tasks
        assert [e.id for e in self.store.newest_first()] == self.order[::-1]
        offsets = [e.offset for e in self.store.since(0)]
        assert offsets == sorted(set(offsets))
        assert len(self.store._log) <= 2 * len(offsets) + 130


TestStore = StoreMachine.TestCase
EXAMPLES = 2_000 if os.environ.get("FULL") or CI else 300
TestStore.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)


def test_bytes_are_bounded() -> None:
    store = Store(max_bytes=10_000)
    for n in range(1000):
        store.put(task(f"t{n}", n, padding=1000))
    assert 5 < len(store) < 10
    assert next(store.newest_first()).id == "t999"


def test_tombstones_are_bounded_and_older_cursors_are_refused() -> None:
    store = Store()
    store.put(task("a", 1))
    cursor = store.cursor(store.head)
    assert store.place(cursor) == 1
    for n in range(10_001):
        store.remove(f"t{n}")
    assert store.place(cursor) is None
    assert store.place(store.cursor(store.head)) == store.head


def test_what_is_no_cursor_of_this_store() -> None:
    store = Store(epoch="e")
    store.put(task("a", 1))
    for text in ["", "e", "e-", "e-2", "e--1", "f-1", "e-1x", "e-¹", "e-" + "9" * 30, "1"]:
        assert store.place(text) is None
    assert store.place("e-1") == 1
    assert store.place("e-0") == 0


def test_pages_are_cut_by_size_and_hold_at_least_one() -> None:
    store = Store()
    for n in range(20):
        store.put(task(f"t{n}", n, padding=1000))
    page = store.since(0, 3_000)
    assert [e.id for e in page] == ["t0", "t1", "t2"]
    assert [e.id for e in store.since(page[-1].offset, 1)] == ["t3"]


def test_all_that_is_held_of_a_task_is_counted() -> None:
    store = Store(max_bytes=100_000)
    wide = b'{\n  "progress": 1,\n  "data": "%b"\n}' % (b"x" * 10_000)
    for n in range(50):
        store.put(parse(f"t{n}", wide, n))
    assert len(store) <= 100_000 // 20_000  # the file's bytes, and the same on one line
    for n in range(50):
        store.invalidate(f"bad{n}", "e" * 10_000, still=None)
    assert sum(map(size_of, store.since(0))) <= 100_000
    tight = parse("tight", b'{"progress":1}', 1)
    assert tight.line is tight.body
    assert size_of(Event(1, Kind.TASK, "tight", tight)) < size_of(Event(1, Kind.TASK, "w", parse("w", wide, 1)))
