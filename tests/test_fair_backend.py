"""One client's wishes do not delay another's at the backend. Real ones, in processes: counts and order."""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from gateway.sources.slots import BURST
from tests.harness import Gateway, until
from tests.test_access import SECRET, bearer, token
from tests.test_poll_to_push import DATA, FAST, Tasks, before, data_of

Start = Callable[..., Gateway]

FLOODER, OTHER = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def v1() -> Iterator[Tasks]:
    running = Tasks("--dialect", "v1")
    yield running
    running.stop()


def ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


@contextlib.contextmanager
def subscribed(one: Gateway, wanted: list[str], address: str = FLOODER) -> Iterator[ClientConnection]:
    url = f"ws://127.0.0.1:{one.port}/api/v1/tasks?id="
    with connect(url, source_address=(address, 0), max_size=None) as talk:
        talk.send(json.dumps({"type": "subscribe", "ids": wanted}))
        yield talk


def poll(one: Gateway, id: str, address: str = "127.0.0.1", **headers: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=30) as client:
        return client.get(f"{one.url}/api/v1/tasks/{id}", headers=headers)


def figure(one: Gateway, name: str) -> float:
    lines = one.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def test_a_flood_of_unknown_ids_takes_nothing_from_others(start: Start, v1: Tasks) -> None:
    rate = 5
    one = before(start, v1, *FAST, "--upstream-unknown", "30", "--upstream-unknown-rate", str(rate))
    mine, new = ids(2)
    v1.put(mine, progress=0)
    with contextlib.ExitStack() as stack, one.sse(f"/api/v1/tasks/{mine}") as events:
        states = data_of(events)
        assert next(states)["payload"]["progress"] == 0
        began = time.monotonic()
        for _ in range(4):
            stack.enter_context(subscribed(one, ids(999)))
        until(lambda: figure(one, 'gateway_unknown_ids{state="waiting"}') > 3_900, 60)
        asked = sum(v1.asked()["polls"].values())
        for progress in range(1, 11):  # each is seen, and none of them after all that was wished for before it
            v1.put(mine, progress=progress)
            assert next(states)["payload"]["progress"] == progress
        v1.put(new, progress=7)
        assert poll(one, new).json()["payload"]["progress"] == 7
        meanwhile = sum(v1.asked()["polls"].values()) - asked
        assert meanwhile < 2 * 4 * 999
        assert figure(one, 'gateway_unknown_ids{state="polled"}') <= 31
        assert figure(one, "gateway_polled_tasks") <= 40
        ready = one.get("/readyz").json()["checks"]["backend"]
        assert ready["ok"]
        assert "unknown ids wait in line to be polled" in ready["detail"]
        asked = v1.asked()["polls"]
        unknown = sum(count for id, count in asked.items() if id not in {mine, new})
        most = BURST * rate + rate * (time.monotonic() - began)
        assert unknown <= 2 * most + 2 * 32  # a GUID is asked for in both of its spellings


def test_clients_take_turns(start: Start, v1: Tasks) -> None:
    """Who comes last is not asked for after all that somebody else wanted before."""
    one = before(start, v1, *FAST, "--upstream-unknown-rate", "2")
    flood = ids(999)
    with subscribed(one, flood):
        until(lambda: figure(one, 'gateway_backend_waiting{kind="unknown"}') > 90, 60)
        ahead = len(v1.asked()["order"])
        with ThreadPoolExecutor() as pool:
            mine = ids(3)
            answers = [answer.status_code for answer in pool.map(partial(poll, one), mine)]
        assert answers == [404] * 3
        order = v1.asked()["order"]
        assert max(map(order.index, mine)) - ahead < 2 * 90  # two spellings of each of the others' 99


@pytest.mark.parametrize("by", ["address", "grant"])
def test_a_poll_of_too_many_is_refused_and_nobody_elses(start: Start, v1: Tasks, by: str) -> None:
    secret = {"GATEWAY_AUTH_SECRET": SECRET} if by == "grant" else {}
    one = start("--upstream", v1.url, "--upstream-unknown", "3", folder=False, env=secret)
    if by == "grant":
        who: dict[str, dict[str, Any]] = {sub: bearer(token(sub=sub)) for sub in (FLOODER, OTHER)}
    else:
        who = {address: {"address": address} for address in (FLOODER, OTHER)}
    v1.hold()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(poll, one, id, **who[FLOODER]) for id in ids(3)]
        until(lambda: v1.asked()["open"] == 3)
        refused = poll(one, ids(1)[0], **who[FLOODER])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["payload"]["message"] == "This client asks for too many unknown tasks at once"
        waiting.append(pool.submit(poll, one, ids(1)[0], **who[OTHER]))
        until(lambda: v1.asked()["open"] == 4)
        v1.hold(False)
        assert [answer.result().status_code for answer in waiting] == [404] * 4
    assert poll(one, ids(1)[0], **who[FLOODER]).status_code == 404
    if by == "address":
        assert figure(one, 'gateway_backend_refusals_total{reason="client"}') == 1


@pytest.mark.parametrize("how", ["websocket", "ndjson"])
def test_subscriptions_beyond_the_share_are_taken_up_in_turn(start: Start, v1: Tasks, how: str) -> None:
    """Also behind ids that will never be: a place that nobody needs for good goes on to the next."""
    one = before(start, v1, *FAST, "--upstream-unknown", "2", "--upstream-unknown-rate", "1000")
    never, real = ids(7), ids(5)
    for id in real:
        v1.put(id, progress=5)
    seen: set[str] = set()
    if how == "websocket":
        with subscribed(one, never + real) as talk:
            while len(seen) < len(real):
                message = json.loads(talk.recv(20))
                seen |= {message["task"]["id"]} if message["type"] == "task" else set()
            late = never[3]
            v1.put(late, progress=1)
            until(lambda: json.loads(talk.recv(20)).get("task", {}).get("id") == late)
    else:
        with one.ndjson("/api/v1/tasks?" + "&".join(f"id={id}" for id in never + real)) as lines:
            while len(seen) < len(real):
                line = next(lines)
                seen |= {line["task"]["id"]} if "task" in line else set()
    assert seen == set(real)
    assert figure(one, 'gateway_unknown_ids{state="polled"}') <= 2


def test_who_leaves_wants_nothing_any_more(start: Start, v1: Tasks) -> None:
    one = before(start, v1, *FAST, "--upstream-unknown", "2")
    for _ in range(3):
        with subscribed(one, ids(200)):
            until(lambda: figure(one, 'gateway_unknown_ids{state="waiting"}') > 100)
        until(lambda: figure(one, 'gateway_unknown_ids{state="waiting"}') == 0)
    until(lambda: figure(one, "gateway_polled_tasks") == 0)


def test_a_page_of_many_ids_is_one_wish_within_its_share(start: Start, v1: Tasks) -> None:
    one = before(start, v1, "--upstream-unknown", "4")
    real, never = ids(30), ids(10)
    for id in real:
        v1.put(id, progress=7)
    page = one.get("/api/v1/tasks?" + "&".join(f"id={id}" for id in real + never)).json()
    assert sorted(item["id"] for item in page["payload"]["tasks"]) == sorted(real)
    assert v1.asked()["at_once"] <= 4


def test_unknown_ids_leave_slots_free(start: Start, v1: Tasks) -> None:
    one = before(start, v1, *FAST, "--upstream-polls", "6")
    mine = ids(1)[0]
    v1.put(mine, progress=1)
    with one.sse(f"/api/v1/tasks/{mine}") as events:
        states = data_of(events)
        assert next(states)["payload"]["progress"] == 1
        v1.hold()
        with subscribed(one, ids(200)):
            until(lambda: v1.asked()["open"] == 4)  # half of the slots, and that of the task that runs
            v1.hold(False)
            v1.put(mine, "success", 100, data=DATA)
            assert [state["payload"]["status"] for state in states][-1] == "completed"


def test_tasks_that_are_asked_for_late_are_seen(start: Start, v1: Tasks) -> None:
    one = before(start, v1, "--upstream-polls", "1")
    mine = ids(3)
    for id in mine:
        v1.put(id, progress=1)
    with subscribed(one, mine) as talk:
        seen: set[str] = set()
        while len(seen) < 3:
            seen |= {json.loads(talk.recv(20)).get("task", {}).get("id")} - {None}
        assert one.get("/readyz").json()["checks"]["backend"]["ok"]
        v1.hold()
        until(lambda: "2 tasks wait to be asked for, the first for " in one.get("/readyz").text, 60)
        until(lambda: one.get("/readyz").status_code == 503, 60)
        assert figure(one, 'gateway_backend_waiting{kind="known"}') == 2
        assert figure(one, 'gateway_backend_waiting_seconds{kind="known"}') > 2
        v1.hold(False)
        until(lambda: one.get("/readyz").status_code == 200, 60)


def test_retry_after_holds_for_ids_that_are_not_there(start: Start, v1: Tasks) -> None:
    one = before(start, v1, *FAST)
    unknown = {"payload": {"code": 4105, "message": "Task does not exist", "details": None}, "status": "error"}
    v1.instead({"status": 200, "headers": {"Retry-After": "2"}, "body": json.dumps(unknown)})
    id = ids(1)[0]
    began = time.monotonic()
    assert poll(one, id).status_code == 404
    asked = v1.polls(id)
    while time.monotonic() < began + 0.5:  # longer than it is known not to be there otherwise
        assert poll(one, id).status_code == 404
    assert v1.polls(id) == asked or time.monotonic() > began + 2
