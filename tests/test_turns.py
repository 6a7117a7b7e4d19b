"""What is divided fairly at a backend: turns, slots and places. Pure."""

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sources.places import Absent, Places
from gateway.sources.slots import BURST, PATIENCE, Allowance, Order, Slots, Turn
from gateway.sources.turns import Turns

CLIENTS = st.sampled_from("abcd")
WAITING = st.lists(st.tuples(CLIENTS, st.integers(0, 40)), max_size=60, unique_by=lambda one: one[1])

# Turns


def of(waiting: list[tuple[str, int]]) -> Turns[int]:
    turns = Turns[int]()
    for client, item in waiting:
        turns.put(item, [client])
    return turns


@given(WAITING)
def test_each_is_taken_once_and_in_its_clients_order(waiting: list[tuple[str, int]]) -> None:
    turns = of(waiting)
    assert len(turns) == len(waiting)
    taken = [turns.take() for _ in waiting]
    assert turns.take() is None
    assert not len(turns)
    for client in "abcd":
        assert [one[1] for one in taken if one and one[0] == client] == [n for c, n in waiting if c == client]


@given(WAITING, st.lists(st.one_of(st.none(), CLIENTS), max_size=60))
def test_nobody_is_passed_twice_while_he_waits(waiting: list[tuple[str, int]], then: list[str | None]) -> None:
    """Whatever others put in meanwhile: between two turns of one who waits, each other one has at most one."""
    turns = of(waiting)
    passed: dict[str, Counter[str]] = {}
    fresh = iter(range(1_000, 2_000))
    for put in then + [None] * 120:
        if put:
            turns.put(next(fresh), [put])
            continue
        waits = {client for client in "abcd" if turns.length(client)}
        if not (taken := turns.take()):
            continue
        passed.pop(taken[0], None)
        for client in waits - {taken[0]}:
            counts = passed.setdefault(client, Counter())
            counts[taken[0]] += 1
            assert max(counts.values()) == 1
    assert not len(turns)


@given(WAITING, st.sets(st.integers(0, 40)))
def test_what_nobody_wants_any_more_is_gone(waiting: list[tuple[str, int]], wanted: set[int]) -> None:
    turns = of(waiting)
    turns.keep(wanted.__contains__)
    left = [one[1] for one in iter(turns.take, None) if one]
    assert sorted(left) == sorted(n for _, n in waiting if n in wanted)


def test_what_several_want_waits_where_it_comes_first() -> None:
    turns = of([("flood", n) for n in range(100)])
    turns.put(200, ["flood", "quiet"])  # the shortest line
    turns.put(99, ["quiet"])  # somebody else wants it, too
    assert [turns.take() for _ in range(4)] == [("flood", 0), ("quiet", 200), ("flood", 1), ("quiet", 99)]
    assert turns.oldest == 2
    assert len(turns) == 97


def test_who_may_not_is_passed_over_and_loses_no_turn() -> None:
    turns = of([("a", 1), ("b", 2), ("a", 3)])
    assert turns.take(lambda client: client == "b") == ("b", 2)
    assert turns.take(lambda client: client == "b") is None
    assert [turns.take(), turns.take()] == [("a", 1), ("a", 3)]


# Slots


@given(
    st.integers(1, 8),
    st.lists(st.tuples(CLIENTS, st.booleans()), max_size=80),
    st.lists(st.integers(0, 7), min_size=1, max_size=20),
)
def test_no_more_at_once_than_may_and_everybody_in_the_end(
    most: int, waiting: list[tuple[str, bool]], ends: list[int]
) -> None:
    order = Order[int](most, rate=1)
    for n, (client, known) in enumerate(waiting):
        order.put(n, [client], known=known)
    busy: list[int] = []
    now, taken = 0.0, Counter[int]()
    for turn in range(20 * len(waiting) + 1):
        while (one := order.take(now)) is not None:
            busy.append(one)
            taken[one] += 1
            asking = [waiting[n][1] for n in busy]
            assert len(asking) <= most
            assert asking.count(False) <= max(1, most // 2)
        if busy:
            order.done(known=waiting[busy.pop(ends[turn % len(ends)] % len(busy))][1])
        else:
            now += order.pause(now)
    assert taken == Counter(range(len(waiting)))


@given(st.integers(0, 60), st.integers(1, 30))
def test_known_tasks_go_first_and_leave_a_turn_now_and_then(known: int, unknown: int) -> None:
    order = Order[str](1, rate=1_000)
    for n in range(unknown):
        order.put(f"?{n}", ["flood"], known=False)
    for n in range(known):
        order.put(f"{n}", ["quiet"], known=True)
    taken = []
    while (one := order.take(0)) is not None:
        taken.append(one)
        order.done(known=not one.startswith("?"))
    places = [n for n, one in enumerate(taken) if one.startswith("?")]
    assert len(taken) == known + unknown
    waits = places[: known // PATIENCE]
    assert all(b - a == PATIENCE + 1 for a, b in pairwise([-1, *waits]))
    assert all(place >= known for place in places[known // PATIENCE :])


@given(st.floats(0.01, 1_000), st.lists(st.floats(0, 100), max_size=50))
def test_the_rate_holds(rate: float, steps: list[float]) -> None:
    allowance, now, spent = Allowance(rate), 0.0, 0
    for step in steps:
        now += step
        for _ in range(100):
            if allowance.wait(now):
                break
            allowance.spend()
            spent += 1
        assert spent <= max(1, BURST * rate) + now * rate + 1e-6
    assert allowance.wait(now + allowance.wait(now) + 1e-6) < 1e-3  # it comes when it says


def test_a_slot_comes_back_however_it_is_left() -> None:
    async def main() -> None:
        slots, mine = Slots(1, rate=1_000), Turn(lambda: {"a"})
        mine.known = True
        within = asyncio.Event()

        async def hold(turn: Turn) -> None:
            async with slots.held(turn):
                within.set()
                await asyncio.Event().wait()

        holds = asyncio.create_task(hold(mine))
        await within.wait()
        waits = asyncio.create_task(hold(Turn(lambda: {"b"})))
        given = asyncio.create_task(hold(Turn(lambda: {"c"})))
        await asyncio.sleep(0)
        assert [slots.waiting(known=known)[0] for known in (True, False)] == [0, 2]
        waits.cancel()
        holds.cancel()
        given.cancel()  # at the very moment at which its turn comes
        await asyncio.gather(holds, waits, given, return_exceptions=True)
        async with asyncio.timeout(10), slots.held(mine):
            with pytest.raises(RuntimeError):
                raise RuntimeError
        async with asyncio.timeout(10), slots.held(mine):
            assert slots.waiting(known=False) == (0, 0.0)

    asyncio.run(main())


# Places

HAPPENINGS = st.lists(st.tuples(st.sampled_from(["take", "give back"]), CLIENTS, st.integers(0, 30)), max_size=100)


@given(st.integers(1, 6), st.integers(1, 12), HAPPENINGS)
def test_no_client_has_more_places_than_its_share(each: int, most: int, happenings: list[tuple[str, str, int]]) -> None:
    places = Places(each, most)
    held: dict[tuple[str], str] = {}
    for what, client, n in happenings:
        names = (str(n),)
        if what == "give back":
            places.give_back(names)
            held.pop(names, None)
        elif places.take(names, {client}):
            held.setdefault(names, client)
        counts = Counter(held.values())
        assert len(places) == len(held)
        assert all(count <= each for count in counts.values())
        assert len(held) <= most + len(counts)
        assert all(places.has_room(one) for one in "abcd" if not counts[one])  # nobody is locked out by others


@given(st.integers(1, 5), st.lists(st.tuples(CLIENTS, st.integers(0, 30)), max_size=80, unique_by=lambda one: one[1]))
def test_everybody_in_line_gets_a_place(each: int, wishes: list[tuple[str, int]]) -> None:
    places = Places(each, 8)
    had: list[tuple[str, ...]] = []
    for client, n in wishes:
        if places.take((str(n),), {client}):
            had.append((str(n),))
        else:
            places.line.put((str(n),), {client})
    for names in had:  # grows
        assert places.is_contested(names) or not places.line or len(places) < 8
        places.give_back(names)
        while found := places.next():
            client, taken = found
            assert places.take(taken, {client})
            had.append(taken)
    assert sorted(had) == sorted((str(n),) for _, n in wishes)
    assert not len(places)


def test_ids_that_are_not_there_are_known_for_a_while_and_not_without_bound() -> None:
    absent = Absent(4)
    for n in range(3):
        absent.add((f"{n}", f"{n}-"), until=10)
    assert [absent.wait((f"{n}",), now=8) for n in range(4)] == [0, 2, 2, 0]
    assert absent.wait(("unheard of", "1-"), now=8) == 2
    assert absent.wait(("2",), now=11) == 0
