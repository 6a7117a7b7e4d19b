"""A limit holds in a burst: being counted and being admitted is one step."""

import time
from collections import Counter

from tests.flood.clients import Crowd, frame, handshake, head
from tests.flood.stage import Stage, case
from tests.harness import Gateway, until
from tests.test_access import token
from tests.test_operations import figures

TASK, ALL = "/api/task?task_id=task-0", "/api/v1/tasks?id=task-0"
WAIT = 8
"""Seconds that a long-poll waits: who was let in has no answer until then."""

ADDRESS = "X-Forwarded-For: 192.0.2.9"


def asks(path: str, *lines: str) -> dict[str, bytes]:
    """A request in each way that lasts."""
    return {
        "SSE": head(path, "Accept: text/event-stream", *lines),
        "NDJSON": head(path, "Accept: application/x-ndjson", *lines),
        "long-poll": head(f"{path}&wait={WAIT}", *lines),
        "WebSocket": handshake(path, *lines),
    }


def subscribers(one: Gateway) -> float:
    return sum(value for name, value in figures(one).items() if name.startswith("gateway_subscribers"))


def burst(stage: Stage, one: Gateway, name: str, says: list[bytes], most: int) -> None:
    """Sends all of them together: `most` may be let in, and their places are given back when they leave."""
    lasting = subscribers(one)
    with Crowd(one, says) as crowd:
        crowd.say()
        crowd.hear(
            stage.patience(WAIT * 0.6), lambda: crowd.answered() >= len(says) - most * name.endswith("long-poll")
        )
        crowd.hear(0.3)
        answers = Counter(crowd.statuses)
    stage.count(answers)
    let_in = sum(answers[status] for status in ("101", "200", "204", "304", "open"))
    stage.check(f"{name}: {let_in} let in (bound {most})", let_in <= most)
    stage.check(
        f"{name}: {len(says) - let_in - answers['503'] - answers['429']} odd",
        len(says) == let_in + answers["503"] + answers["429"],
    )
    try:
        until(lambda: subscribers(one) <= lasting, stage.patience(10))
    except AssertionError:
        stage.check(f"{name}: places were not given back", False)


def bursts(stage: Stage, one: Gateway, most: int, *lines: str) -> None:
    for place, path in (("task", TASK), ("collection", ALL)):
        for name, said in asks(path, *lines).items():
            burst(stage, one, f"{place} {name}", [said] * 200, most)


@case("A limit of streams holds in a burst.")
def bursts_over_all_streams(stage: Stage) -> None:
    stage.write(1, 100)
    one = stage.serve("--max-streams", "20")
    with stage.measured(one):
        bursts(stage, one, 20)
        stage.check("a poll was refused", one.get(TASK).status_code == 200)


@case("An address' limit holds in a burst, for long-polls as well.")
def bursts_of_one_address(stage: Stage) -> None:
    stage.write(1, 100)
    options = ("--max-streams", "100", "--max-streams-per-address", "3", "--trusted-proxy", "127.0.0.1")
    one = stage.serve(*options)
    with stage.measured(one):
        bursts(stage, one, 3, ADDRESS)
        with Crowd(one, [asks(ALL, ADDRESS)["long-poll"]] * 200) as crowd:
            crowd.say()
            crowd.hear(WAIT * 0.4, lambda: crowd.answered() >= 197)
            with Crowd(one, [asks(TASK, "X-Forwarded-For: 192.0.2.10")["SSE"]]) as other:
                other.say()
                other.hear(10, lambda: other.answered() == 1)
                stage.check(f"another address' stream: {other.statuses}", other.statuses == ["200"])


@case("A /64 of IPv6 is one address.")
def burst_of_one_ipv6_network(stage: Stage) -> None:
    stage.write(1, 100)
    one = stage.serve("--max-streams-per-address", "3", "--trusted-proxy", "127.0.0.1")
    says = [asks(ALL, f"X-Forwarded-For: 2001:db8:0:1::{n:x}")["SSE"] for n in range(1, 201)]
    with stage.measured(one):
        burst(stage, one, "a /64", says, 3)


@case("A place is given back however its client leaves.")
def clients_that_leave(stage: Stage) -> None:
    stage.write(1, 100)
    one = stage.serve("--max-streams", "20", "--task-wait", "10")
    ways = [*asks(TASK).values(), *asks(ALL).values(), *asks("/api/task?task_id=none").values()]
    with stage.measured(one):
        for said in ways * stage.scaled(10):
            with Crowd(one, [said] * 15) as crowd:
                crowd.say()
                if said is ways[3]:
                    crowd.hear(0.05)
                    crowd.sockets[0].sendall(frame(0x8, b"\x03\xe8"))
        until(lambda: subscribers(one) <= 1, stage.patience(10))
        with Crowd(one, [ways[0]] * 19) as crowd:
            crowd.say()
            crowd.hear(5, lambda: crowd.answered() == 19)
            stage.check(f"{crowd.statuses.count('200')} of 19 were let in", crowd.statuses.count("200") == 19)


@case("Work for many that wait is shared, and wakes whom a change can concern.")
def filtered_long_polls(stage: Stage) -> None:
    stage.write(1_000, 100)
    one = stage.serve("--longest-wait", "60")
    one.get("/api/v1/tasks?limit=1")
    says = [head("/api/v1/tasks?wait=60&status=zzz&limit=1000")] * stage.scaled(60)
    with stage.measured(one), Crowd(one, says) as crowd:
        crowd.say()
        crowd.hear(max(4, 10 * stage.scale), most=1_000)
        stage.count(Counter(crowd.statuses))


@case("A change costs what is possible for many claims, and no more.", memory=160)
def distinct_claims(stage: Stage) -> None:
    one = stage.serve("--max-streams-per-address", "20000", asks=True)
    line = "Accept: text/event-stream"
    count = stage.scaled(5_000)
    says = [head("/api/v1/tasks", line, f"Authorization: Bearer {token(tasks=[f't-{n}-*'])}") for n in range(count)]
    with Crowd(one, says, sources=20) as crowd:
        crowd.say()
        crowd.hear(60, lambda: all(crowd.heard))
        stage.count(Counter(crowd.statuses))
        with stage.measured(one, asks=True):
            time.sleep(max(3, 8 * stage.scale))
