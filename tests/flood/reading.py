"""Input is read only as fast as its answers are taken; one turn of the loop does a bounded amount for one client."""

import json
import time

from tests.flood.clients import CLOSE, PING, TEXT, Raw, frame, head
from tests.flood.stage import MEGABYTE, Stage, case
from tests.test_access import token

HEADS = head("/") * 4_000
BEARER = f"Authorization: Bearer {token()}"


@case("The measure of all others: nobody floods.")
def quiet(stage: Stage) -> None:
    with stage.measured(stage.serve()):
        time.sleep(stage.scaled(5))


def pipeline(stage: Stage, heads: bytes, *, reads: int = 0) -> None:
    one = stage.serve()
    with stage.measured(one), Raw(one) as raw:
        sent = raw.flood(heads, most=stage.scaled(35 * MEGABYTE), seconds=15, over=stage.over, reads=reads)
        stage.note(f"{sent / MEGABYTE:.1f} MB sent")
        stage.count(raw.statuses)


@case("A connection whose answers wait is not read.")
def pipelined_heads(stage: Stage) -> None:
    pipeline(stage, HEADS)


@case("A connection is read as fast as it takes its answers.")
def pipelined_heads_read_slowly(stage: Stage) -> None:
    pipeline(stage, HEADS, reads=512)


@case("A connection whose answers wait is not read, whatever it asked for.")
def pipelined_large_polls(stage: Stage) -> None:
    stage.write(1, 60_000)
    pipeline(stage, head("/api/task?task_id=task-0") * 4_000)


@case("Requests behind a running one are not read without end.")
def pipelined_behind_a_long_poll(stage: Stage) -> None:
    stage.write(1, 100)
    pipeline(stage, head("/api/task?task_id=task-0&wait=30") + HEADS)


def websocket(
    stage: Stage, data: bytes, *, path: str = "/api/v1/tasks?id=", how: str = "", begins: bytes = b"", reads: int = 0
) -> Raw:
    """Floods a WebSocket: one without tokens, or `before` or `after` the message that is its token."""
    one = stage.serve(asks=bool(how))
    with stage.measured(one, asks=bool(how)), Raw.talking(one, path) as raw:
        if how == "after":
            raw.say(frame(TEXT, json.dumps({"type": "auth", "token": token()}).encode()))
            raw.hear(10, lambda: b'"synced"' in raw.received)
        raw.say(begins)
        most, seconds = stage.scaled(50 * MEGABYTE), max(3, 10 * stage.scale)
        sent = raw.flood(data, most=most, seconds=seconds, over=stage.over, reads=reads)
        stage.note(f"{sent / MEGABYTE:.1f} MB sent")
        return raw


PINGS = frame(PING, b"p" * 125) * 2_000


@case("Pongs that nobody takes are not kept.")
def pings(stage: Stage) -> None:
    websocket(stage, PINGS)


@case("Pongs that nobody takes are not kept: before a token.")
def pings_before_a_token(stage: Stage) -> None:
    websocket(stage, PINGS, how="before")


@case("Pongs that nobody takes are not kept: after a first-message token.")
def pings_after_a_token(stage: Stage) -> None:
    websocket(stage, PINGS, how="after")


@case("A ping costs little, and what one turn does for one connection is bounded.")
def empty_pings(stage: Stage) -> None:
    websocket(stage, frame(PING) * 40_000)


BEGIN, FRAGMENTS = frame(TEXT, fin=False), frame(0, fin=False) * 40_000


@case("What one turn does for one connection is bounded.")
def empty_fragments(stage: Stage) -> None:
    websocket(stage, FRAGMENTS, begins=BEGIN)


@case("What one turn does for one connection is bounded: before a token.")
def empty_fragments_before_a_token(stage: Stage) -> None:
    websocket(stage, FRAGMENTS, begins=BEGIN, how="before")


@case("What one turn does for one connection is bounded: after a first-message token.")
def empty_fragments_after_a_token(stage: Stage) -> None:
    websocket(stage, FRAGMENTS, begins=BEGIN, how="after")


@case("Messages that nobody needs are throttled, and answers that nobody takes are not kept.")
def messages_to_a_single_task(stage: Stage) -> None:
    stage.write(1, 100)
    websocket(stage, frame(TEXT, b"{}") * 4_000, path="/api/task?task_id=task-0")


@case("Messages that nobody needs are throttled: their errors, too.")
def messages_to_a_single_task_read(stage: Stage) -> None:
    stage.write(1, 100)
    began = time.monotonic()
    raw = websocket(stage, frame(TEXT, b"{}") * 4_000, path="/api/task?task_id=task-0", reads=MEGABYTE)
    errors, most = raw.received.count(b'"error"'), 51 * (time.monotonic() - began)
    stage.check(f"{errors} errors were sent (bound {most:.0f})", errors <= most)


def subscribing(stage: Stage, *messages: dict[str, object], options: tuple[str, ...] = (), every: float = 0.02) -> None:
    """Sends messages in turn, just below the throttle's rate, and reads nothing."""
    said = [frame(TEXT, json.dumps(message).encode()) for message in messages]
    one = stage.serve(*options)
    with stage.measured(one), Raw.talking(one, "/api/v1/tasks?id=") as raw:
        end, n, sent = time.monotonic() + max(4, 10 * stage.scale), 0, 1
        while time.monotonic() < end and sent and not stage.over():
            sent = raw.flood(said[n % len(said)], most=len(said[n % len(said)]), seconds=5)
            n += 1
            time.sleep(every)
        stage.note(f"{n} messages")


@case("A message costs what it asks for.")
def subscriptions_of_990_ids(stage: Stage) -> None:
    ids = [f"unknown-{n}" for n in range(990)]
    subscribing(stage, {"type": "subscribe", "ids": ids}, {"type": "unsubscribe", "ids": ids})


@case("First states obey a full outlet, and an id counts once.")
def subscriptions_of_one_id_999_times(stage: Stage) -> None:
    stage.write(1, 60_000, age=1e8)
    subscribing(stage, {"type": "subscribe", "ids": ["task-0"] * 999})


@case("Who takes nothing meets the write deadline, whatever he says.", memory=64)
def subscriptions_past_the_write_deadline(stage: Stage) -> None:
    stage.write(1, 60_000, age=1e8)
    one = stage.serve("--write-deadline", "2", "--heartbeat", "1")
    said = frame(TEXT, json.dumps({"type": "subscribe", "ids": ["task-0"]}).encode())
    with stage.measured(one), Raw.talking(one, "/api/v1/tasks?id=") as raw:
        end, gone = time.monotonic() + 15, False
        while time.monotonic() < end and not gone and not stage.over():
            gone = not raw.flood(said, most=len(said), seconds=1)
            time.sleep(0.05)
        raw.hear(5)
        stage.check("the connection stayed", raw.closed)


@case("A close is the end: what comes after it is not read.")
def frames_after_a_close(stage: Stage) -> None:
    websocket(stage, PINGS, begins=frame(CLOSE, b"\x03\xe8"))
