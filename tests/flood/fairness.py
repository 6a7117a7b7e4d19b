"""One client's wishes do not delay another's."""

import json
import time
from collections import Counter
from contextlib import ExitStack

import httpx

from tests.flood.clients import TEXT, Crowd, Raw, frame, head
from tests.flood.stage import Stage, case
from tests.harness import PLAIN, Backend, Gateway
from tests.test_access import bearer, token

SLOWLY = {"p99": 4_000, "healthz": 1_000}
"""A task that is polled once a second, and less often while nobody sees it change, comes so late."""


def asked(backend: Backend) -> int:
    """How many polls the backend got, but for the task of the client beside."""
    polls = httpx.get(f"{backend.url}/-/asked", verify=PLAIN, timeout=10).json()["polls"]
    return sum(count for id, count in polls.items() if id != "beside")


def in_front(stage: Stage, *options: str) -> tuple[Gateway, Backend]:
    backend = stage.backend("--dialect", "flat")
    return stage.serve("--upstream", backend.url, *options, folder=False), backend


@case("Known and running tasks go before unknown ids, which have a budget.", asked=4_000, memory=96, **SLOWLY)
def unknown_ids(stage: Stage) -> None:
    one, backend = in_front(stage)
    slowest = 0.0
    with stage.measured(one, rate=2, backend=backend.url), ExitStack() as sockets:
        for n in range(10):
            raw = sockets.enter_context(Raw.talking(one, "/api/v1/tasks?id="))
            ids = [f"unknown-{n}-{m}" for m in range(999)]
            raw.say(frame(TEXT, json.dumps({"type": "subscribe", "ids": ids}).encode()))
        end = time.monotonic() + max(5, 20 * stage.scale)
        while time.monotonic() < end:
            began = time.monotonic()
            answer = httpx.get(f"{one.url}/api/task?task_id=beside", verify=PLAIN, timeout=30)
            slowest = max(slowest, time.monotonic() - began)
            stage.count(Counter([str(answer.status_code)]))
            time.sleep(0.5)
    stage.row.asked = asked(backend)
    stage.note(f"his polls took up to {slowest:.1f} s")
    stage.check(f"a poll of a running task took {slowest:.1f} s", slowest < 4)
    stage.check("a poll of a running task failed", set(stage.row.answers) == {"200"})


@case("What may start work at the backend asks the same gate as what is passed on.", asked=20, **SLOWLY)
def images_of_a_foreign_page(stage: Stage) -> None:
    one, backend = in_front(stage)
    foreign = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image")
    pages = ["/api/v1/tasks?" + "&".join(f"id=image-{n}-{m}" for m in range(100)) for n in range(stage.scaled(20))] + [
        "/api/task?task_id=foreign",
        "/api/v1/tasks/foreign",
        "/api/system/tasks?task_id=foreign",
    ]
    with stage.measured(one, rate=2, backend=backend.url), Crowd(one, [head(p, *foreign) for p in pages]) as crowd:
        crowd.say()
        crowd.hear(max(4, 10 * stage.scale), lambda: crowd.answered() == len(pages))
        stage.count(Counter(crowd.statuses))
    stage.row.asked = asked(backend)


@case("Behind a Unix socket, too, an address is the trusted proxy's.")
def bad_tokens_behind_a_unix_socket(stage: Stage) -> None:
    path = stage.folder / "gateway.sock"
    one = stage.serve("--bind", f"unix:{path}", "--trusted-proxy", "127.0.0.1", asks=True)
    stage.write(1, 100)
    transport = httpx.HTTPTransport(uds=str(path))
    with stage.measured(one, asks=True), httpx.Client(transport=transport, base_url="http://localhost") as proxy:
        for n in range(25):
            headers = {**bearer(f"bad.{n}.token"), "X-Forwarded-For": "192.0.2.1"}
            stage.count(Counter([str(proxy.get("/api/v1/tasks", headers=headers).status_code)]))
        headers = {**bearer(token(sub="new")), "X-Forwarded-For": "192.0.2.2"}
        status = proxy.get("/api/v1/tasks", headers=headers).status_code
        stage.check(f"another user got {status}", status == 200)


@case("A subscription that has ended wants nothing of the backend.", **SLOWLY)
def subscriptions_past_their_end(stage: Stage) -> None:
    backend = stage.backend("--dialect", "flat")
    one = stage.serve("--upstream", backend.url, folder=False, asks=True)
    ends = f"Authorization: Bearer {token(exp=time.time() + 4)}"
    with (
        stage.measured(one, rate=2, backend=backend.url, asks=True),
        Raw.talking(one, "/api/v1/tasks?id=", ends) as raw,
    ):
        end, n = time.monotonic() + 20, 0
        while time.monotonic() < end and not raw.closed:
            said = frame(TEXT, json.dumps({"type": "subscribe", "ids": [f"late-{n}"]}).encode()) * 3
            n += bool(raw.flood(said, most=len(said), seconds=0.2, reads=4_096))
            time.sleep(0.02)
        stage.check("the connection outlived its token", raw.closed)
        time.sleep(6)
        before = asked(backend)
        time.sleep(4)
        stage.check(f"{asked(backend) - before} requests for nobody", asked(backend) - before == 0)
