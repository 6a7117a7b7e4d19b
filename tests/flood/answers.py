"""Whole answers for readers that do not read, requests that cannot be parsed, and caches."""

import contextlib
import time
from collections import Counter

import httpx
from h2.exceptions import ProtocolError

from tests.flood.clients import Crowd, handshake, head
from tests.flood.stage import Stage, case
from tests.harness import PLAIN, Gateway
from tests.http2client import Client

PAGE = "/api/v1/tasks?limit=1000"
DIALECTS = (
    "/api/task?task_id={}", "/api/transactions/task?task_id={}", "/api/v1/tasks/{}", "/get-task-status/{}",
    "/api/v1/task/{}", "/api/system/tasks?task_id={}",
)  # fmt: skip


def is_polled(stage: Stage, one: Gateway) -> None:
    """A single poll lasts where large answers are refused."""
    with contextlib.suppress(httpx.HTTPError):
        stage.check("a single poll was refused", one.get("/api/task?task_id=task-0").status_code == 200)


def serving_large_tasks(stage: Stage, *options: str) -> Gateway:
    stage.write(stage.scaled(1_000), 60_000)
    one = stage.serve(*options)
    one.get("/api/v1/tasks?limit=1")
    return one


@case("Answers in flight have a budget in bytes: HTTP/2 with windows that stay shut.", memory=160)
def large_pages_over_http2(stage: Stage) -> None:
    one = serving_large_tasks(stage, "--http2")
    with stage.measured(one), Client(one, window=0) as client:
        with contextlib.suppress(ConnectionError, ProtocolError):
            for _ in range(120):
                if not stage.over():
                    client.ask(PAGE)
            end = time.monotonic() + 10
            with contextlib.suppress(TimeoutError, AssertionError):
                client.read(lambda: stage.over() or time.monotonic() > end, 12)
        stage.count(Counter(head[":status"] for head in client.heads.values()))
        is_polled(stage, one)


@case("Answers in flight have a budget in bytes: 25 connections that do not read.", memory=160)
def large_pages_over_http1(stage: Stage) -> None:
    one = serving_large_tasks(stage)
    with stage.measured(one), Crowd(one, [head(PAGE)] * 25, buffer=4_096) as crowd:
        crowd.say()
        end = time.monotonic() + 10
        while time.monotonic() < end and not stage.over():
            time.sleep(0.1)
        is_polled(stage, one)
        crowd.hear(1, most=64)
        stage.count(Counter(crowd.statuses))


@case("Answers in flight have a budget in bytes: many small connections that do not read.", memory=80)
def large_polls_over_1000_connections(stage: Stage) -> None:
    stage.write(1, 60_000)
    one = stage.serve()
    says = [head("/api/task?task_id=task-0") * 8] * stage.scaled(1_000)
    with stage.measured(one), Crowd(one, says, buffer=4_096) as crowd:
        crowd.say()
        time.sleep(3)
        is_polled(stage, one)


UNPARSABLE = {
    "a body with an upgrade": handshake("/api/v1/tasks", "Content-Length: 5") + b"hello",
    "a chunked body with an upgrade": handshake("/api/v1/tasks", "Transfer-Encoding: chunked")
    + b"5\r\nhello\r\n0\r\n\r\n",
    "an upgrade with 129 headers": handshake("/api/v1/tasks", *(f"X-{n}: 1" for n in range(129))),
    "an upgrade with a cookie of 9,000 bytes": handshake("/api/v1/tasks", "Cookie: a=" + "x" * 9_000),
    "an upgrade to a task with 129 headers": handshake("/api/task?task_id=task-0", *(f"X-{n}: 1" for n in range(129))),
    "an upgrade by POST": handshake("/api/v1/tasks").replace(b"GET", b"POST", 1),
    "an upgrade with two keys": handshake("/api/v1/tasks", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    "no HTTP": b"\x16\x03\x01" + b"\0" * 200 + b"\r\n\r\n",
    "a path with a space": head("/a b"),
    "two lengths": head("/healthz", "Content-Length: 1", "Content-Length: 2") + b"xx",
    "a target of 70,000 bytes": head("/" + "x" * 70_000),
}


@case("What cannot be parsed is answered by 400 or 431, and closed.")
def unparsable_requests(stage: Stage) -> None:
    stage.write(1, 100)
    one = stage.serve("--head-deadline", "3")
    with stage.measured(one), Crowd(one, list(UNPARSABLE.values())) as crowd:
        crowd.say()
        crowd.hear(stage.patience(8), lambda: all(crowd.closed))
        stage.count(Counter(crowd.statuses))
        for name, status, closed in zip(UNPARSABLE, crowd.statuses, crowd.closed, strict=True):
            good = status.startswith("4") and closed
            stage.check(f"{name}: {status}, {'closed' if closed else 'left open'}", good)


@case("A body that drips does not keep a connection that was refused.")
def dripping_body_after_a_refusal(stage: Stage) -> None:
    one = stage.serve("--head-deadline", "2", "--write-deadline", "2", asks=True)
    begun = head("/api/v1/tasks", "Content-Length: 100000", method="POST")
    with stage.measured(one, asks=True), Crowd(one, [begun]) as crowd:
        crowd.say()
        end = time.monotonic() + stage.patience(10)
        while time.monotonic() < end and not all(crowd.closed):
            with contextlib.suppress(OSError):
                crowd.sockets[0].send(b"x")
            crowd.hear(0.3, lambda: all(crowd.closed))
        stage.count(Counter(crowd.statuses))
        stage.check("the connection stayed", crowd.closed[0])


@case("Pages for clients that resume are bounded in bytes.", memory=48)
def resuming_clients(stage: Stage) -> None:
    stage.write(4_000, 300)  # so small, and equal, that no two clients' pages end at one place
    one = stage.serve()
    epoch, last = cursor_of(one).rsplit("-", 1)
    count = stage.scaled(80)
    lines = ("Accept: application/x-ndjson",)
    says = [
        head("/api/v1/tasks", *lines, f"Last-Event-ID: {epoch}-{max(1, int(last) - 3_900 + n)}") for n in range(count)
    ]
    with stage.measured(one, rate=0), Crowd(one, says) as crowd:
        crowd.say()
        crowd.hear(stage.patience(8), lambda: all(b'"synced"' in heard[-400:] for heard in crowd.heard), most=1 << 40)
        stage.count(Counter(crowd.statuses))


def cursor_of(one: Gateway) -> str:
    """The newest cursor."""
    with one.ndjson("/api/v1/tasks") as lines:
        return str(next(line["cursor"] for line in lines if line.get("event") == "synced"))


@case("Answers that are kept are bounded by the bytes that may be held.", memory=48)
def ready_answers(stage: Stage) -> None:
    count = stage.scaled(700)
    stage.write(count, 60_000)
    one = stage.serve("--recent-bytes", "1000000")
    with stage.measured(one), httpx.Client(base_url=one.url, verify=PLAIN, timeout=30) as client:
        for url in DIALECTS:
            stage.count(Counter(str(client.get(url.format(f"task-{n}")).status_code) for n in range(count)))


@case("Names that clients make up are not kept without bound.")
def made_up_names(stage: Stage) -> None:
    one = stage.serve()
    with stage.measured(one), httpx.Client(base_url=one.url, verify=PLAIN, timeout=30) as client:
        for n in range(stage.scaled(4_000)):
            path = f"/api/task?task_id={n}{'x' * 200}"
            stage.count(Counter([str(client.get(path, headers={"Host": f"localhost:{n}"}).status_code)]))


@case("The store counts all that it holds: lines as well as bodies.", memory=56)
def lines_beside_bodies(stage: Stage) -> None:
    one = stage.serve("--recent-bytes", "20000000")
    said = head("/api/v1/tasks", "Accept: application/x-ndjson")
    with stage.measured(one), Crowd(one, [said]) as crowd:
        crowd.say()
        for n in range(stage.scaled(1_000)):
            stage.write(1, 60_000, name=f"line-{n}")
            crowd.hear(0.02, most=64)
        crowd.hear(1, most=64)
