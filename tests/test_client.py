"""static/gateway.js in Node.js and in a real browser, over real gateways."""

import gzip
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, WebSocketRoute, expect

from tests.harness import Gateway, require, until
from tests.test_operations import figures

STATIC = Path(__file__).parent.parent / "static"

# In Node.js


class Node:
    """A script that has `url`, and the client's names; it prints one JSON value a line."""

    def __init__(self, one: Gateway, script: str) -> None:
        names = "watchTask, watchTasks, TaskFailedError, TaskGoneError, TaskUnknownError"
        head = f"""
            import {{ {names} }} from {json.dumps((STATIC / "gateway.js").as_uri())};
            import {{ pollTask, waitForTaskCompletion }} from {json.dumps((STATIC / "polling.js").as_uri())};
            const url = {json.dumps(one.url)};
            const say = (value) => console.log(JSON.stringify(value) ?? "null");
            const complaint = (error) => say([error.name, error.message, error.id]);
        """
        argv = [require("node"), "--input-type=module", "-e", head + script]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def says(self) -> Any:
        return json.loads(self.line())

    def ends(self) -> list[Any]:
        """The rest of what it says; it must end by itself: nothing is left open."""
        assert self.process.stdout
        rest = [json.loads(line) for line in self.process.stdout]
        assert self.process.wait(20) == 0
        return rest


def test_a_task_is_followed_to_its_end(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a", progress=1)
    with Node(one, "say(await watchTask('a', { url, onUpdate: (task) => say(task.progress) }));") as node:
        assert node.says() == 1
        one.write("a", progress=60)
        assert node.says() == 60
        one.write("a", "success", 100, message="done", data={"coins": 3})
        last, result = node.ends()
    assert last == 100
    assert (result["status"], result["message"], result["data"]) == ("completed", "done", {"coins": 3})


@pytest.mark.parametrize("transport", ["sse", "long-poll", "poll"])
def test_each_transport_ends_right(start: Callable[..., Gateway], transport: str) -> None:
    one = start()
    one.write("a", progress=1)
    one.write("b", progress=1)
    script = f"""
        const options = {{ transports: ["{transport}"] }};
        const stop = new AbortController();
        const on = (name) => (...said) => say([name, ...said.map((one) => one.id ?? one)]);
        watchTasks({{ url, options, signal: stop.signal,
                      onUpdate: on("task"), onGone: on("gone"), onSynced: on("synced") }});
        say((await watchTask("a", {{ url, options }})).status);
        stop.abort();
    """
    with Node(one, script) as node:
        assert sorted(node.says() for _ in range(2)) == [["task", "a"], ["task", "b"]]
        assert node.says() == ["synced"]
        (one.tasks / "b.json").unlink()
        assert node.says() == ["gone", "b"]
        one.write("c")
        assert node.says() == ["task", "c"]
        one.write("a", "success", 100)
        assert node.ends() == [["task", "a"], "completed"]


def test_who_comes_later_is_told_what_is_known(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a", "success", 100)
    script = """
        const stop = new AbortController();
        await new Promise((resolve) => watchTasks({ url, onSynced: resolve, signal: stop.signal }));
        say((await watchTask("a", { url })).progress);
        await watchTask("never", { url, wait: 100 }).catch(complaint);
        await new Promise((resolve) => watchTasks({ url, ids: ["a"], onSynced: resolve, signal: stop.signal }));
        stop.abort();
        say((await watchTask("a", { url })).progress);
    """
    with Node(one, script) as node:
        assert node.ends() == [100, ["TaskUnknownError", "There is no task never", "never"], 100]


def test_why_a_task_did_not_succeed(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("fails", "error", 40, message="RAIDA network unreachable")
    path = one.write("goes")
    script = """
        const options = undefined;
        await watchTask("fails", { url }).catch((error) => (complaint(error), say(error.task.progress)));
        await watchTask("never", { url, wait: 100 }).catch(complaint);
        await watchTask("goes", { url, wait: 100, onUpdate: () => say("seen") }).catch(complaint);
        const signal = AbortSignal.timeout(100);
        await watchTask("never", { url, signal }).catch((error) => say(error.name));
        await watchTask("never", { url, signal }).catch((error) => say(error.name));
    """
    with Node(one, script) as node:
        assert node.says() == ["TaskFailedError", "RAIDA network unreachable", "fails"]
        assert node.says() == 40
        assert node.says() == ["TaskUnknownError", "There is no task never", "never"]
        assert node.says() == "seen"
        path.unlink()
        assert node.says() == ["TaskGoneError", "Task goes was deleted", "goes"]
        assert node.ends() == ["TimeoutError", "TimeoutError"]


@pytest.mark.parametrize(
    ("dialect", "path"),
    [("flat", "/api/task?task_id=a"), ("v1", "/api/v1/tasks/a"), ("system", "/api/system/tasks?task_id=a")],
)
def test_a_dialect_is_what_a_poll_answers(start: Callable[..., Gateway], dialect: str, path: str) -> None:
    one = start()
    one.write("a", "success", 100, data={"total_processed": 5}, extra=[1])
    with Node(one, f"say(await watchTask('a', {{ url, dialect: '{dialect}' }}));") as node:
        assert node.ends() == [one.get(path).json()]


def test_a_restart_costs_nothing_but_time(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a", progress=1)
    script = """
        watchTasks({ url, ids: ["a"], onState: ({ status }) => say(status), signal: AbortSignal.timeout(30_000) });
        say((await watchTask("a", { url })).progress);
        process.exit();
    """
    with Node(one, script) as node:
        while node.says() != "live":
            pass
        one.stop(9)
        assert node.says() == "reconnecting"
        one.write("a", "success", 100)
        one.start()
        assert node.ends()[-1] == 100


def test_a_connection_without_a_sign_of_life_is_given_up(start: Callable[..., Gateway]) -> None:
    one = start("--heartbeat", "1")
    one.write("a", progress=1)
    script = """
        const options = { heartbeat: 1_000, opens: 500 };
        watchTasks({ url, ids: ["a"], options, onState: ({ status }) => say(status) });
        say((await watchTask("a", { url, options })).progress);
        process.exit();
    """
    with Node(one, script) as node:
        while node.says() != "live":
            pass
        one.process.send_signal(signal.SIGSTOP)  # it neither closes nor says anything
        assert node.says() == "reconnecting"
        one.write("a", "success", 100)
        one.process.send_signal(signal.SIGCONT)
        assert node.ends()[-1] == 100


def test_the_functions_of_the_documents(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a", "success", 100, message="Import complete", data={"total_processed": 5})
    one.write("b", "error", 30, message="RAIDA network unreachable")
    script = """
        say(await Promise.all([pollTask("a", { url }), pollTask("a", { url })]));
        say((await waitForTaskCompletion("a", 1000, { url })).data);
        await waitForTaskCompletion("b", 1000, { url }).catch((error) => say(error.message));
        say(await pollTask("b", { url }));
    """
    with Node(one, script) as node:
        assert node.line() == "Task a progress: 100% - Import complete"
        assert node.line() == "Task finished successfully! { total_processed: 5 }"
        assert node.says() == [True, True]
        assert node.line() == "Waiting for task a to complete..."
        assert node.line() == "Progress: 100% - Import complete"
        assert node.says() == {"total_processed": 5}
        assert node.line() == "Waiting for task b to complete..."
        assert node.line() == "Progress: 30% - RAIDA network unreachable"
        assert node.says() == "RAIDA network unreachable"
        assert node.line() == "Task b progress: 30% - RAIDA network unreachable"
        assert node.line() == "Task failed: RAIDA network unreachable"
        assert node.ends() == [True]


def test_it_is_small() -> None:
    modules = [STATIC / "gateway.js", *sorted(STATIC.glob("gateway/*.js"))]
    size = len(gzip.compress(b"".join(path.read_bytes() for path in modules), 9))
    assert size < 9_000


# In a browser

BEGIN = """async ({ name, options }) => {
    const { watchTasks } = await import("/static/gateway.js");
    window.tasks = {};
    window.states = [];
    window.stop = new AbortController();
    watchTasks({ options, signal: stop.signal, ids: name && [name],
        onUpdate: (task) => (tasks[task.id] = task.progress), onGone: (id) => delete tasks[id],
        onState: (state) => states.push(state) });
}"""


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    context.set_default_timeout(10_000)
    yield context
    context.close()


def watch(page: Page, one: Gateway, *, name: str | None = None, **options: Any) -> Page:
    """A page of the gateway's origin that follows a task, or all."""
    page.goto(f"{one.url}/healthz")
    page.evaluate(BEGIN, {"name": name, "options": options})
    return page


def sees(page: Page, **tasks: int) -> None:
    page.wait_for_function("(tasks) => JSON.stringify(tasks) === JSON.stringify(window.tasks)", arg=tasks)


def subscribers(one: Gateway) -> float:
    return sum(value for name, value in figures(one).items() if name.startswith("gateway_subscribers"))


@pytest.mark.parametrize("worker", [True, False], ids=["shared worker", "leading tab"])
def test_ten_tabs_one_connection(start: Callable[..., Gateway], context: BrowserContext, worker: bool) -> None:
    one = start()
    one.write("a", progress=1)
    pages = [watch(context.new_page(), one, name="a" if n % 2 else None, worker=worker) for n in range(10)]
    for page in pages:
        sees(page, a=1)
    until(lambda: subscribers(one) == 1)
    pages.pop(0).close()  # the tab that led
    one.write("a", progress=2)
    for page in pages:
        sees(page, a=2)
    until(lambda: subscribers(one) == 1)
    for page in pages:
        page.close()
    until(lambda: subscribers(one) == 0)


def test_each_tab_may_watch_a_task_of_its_own(start: Callable[..., Gateway], context: BrowserContext) -> None:
    one = start()
    for name in "abc":
        one.write(name, progress=1)
    pages = {name: watch(context.new_page(), one, name=name) for name in "abc"}
    for name, page in pages.items():
        sees(page, **{name: 1})
        one.write(name, progress=2)
        sees(page, **{name: 2})
    until(lambda: subscribers(one) == 1)


def transport_of(page: Page) -> str:
    return str(page.evaluate("states.at(-1).transport"))


def test_what_works_is_used_when_the_best_is_blocked_and_the_best_again_later(
    start: Callable[..., Gateway], context: BrowserContext
) -> None:
    one = start()
    one.write("a", progress=1)
    page, blocked = context.new_page(), {"sse", "websocket", "long-poll"}

    def http(route: Route) -> None:
        streams = "event-stream" in (route.request.headers.get("accept") or "")
        kind = "sse" if streams else "long-poll" if "wait=" in route.request.url else "poll"
        if kind in blocked:
            route.abort()
        else:
            route.continue_()

    def ws(route: WebSocketRoute) -> None:
        if "websocket" in blocked:
            route.close()
        else:
            route.connect_to_server()

    page.route("**/api/v1/tasks**", http)
    page.route_web_socket("**/api/v1/tasks**", ws)
    watch(page, one, share=False, better=200, retry=50)
    for n, transport in enumerate(["poll", "long-poll", "websocket", "sse"], 2):
        page.wait_for_function("(name) => window.states.at(-1)?.transport === name", arg=transport)
        one.write("a", progress=n)
        sees(page, a=n)
        blocked.discard({"poll": "long-poll", "long-poll": "websocket", "websocket": "sse"}.get(transport, ""))
    assert page.evaluate("states.at(-1).status") == "live"


def test_a_proxy_that_buffers_is_found_out(start: Callable[..., Gateway], context: BrowserContext) -> None:
    one = start()
    one.write("a", progress=1)
    page = context.new_page()
    held: list[Route] = []
    page.route("**/api/v1/tasks**", lambda route: held.append(route))  # noqa: PLW0108 - never answered
    watch(page, one, share=False, opens=300)
    sees(page, a=1)
    assert transport_of(page) == "websocket"
    assert held


def test_back_at_once_when_the_network_is(start: Callable[..., Gateway], context: BrowserContext) -> None:
    one = start()
    one.write("a", progress=1)
    page = watch(context.new_page(), one, share=False, retry=60_000, transports=["poll"])
    sees(page, a=1)
    context.set_offline(True)
    page.wait_for_function("states.at(-1).status === 'reconnecting'")
    one.write("a", progress=2)
    context.set_offline(False)
    sees(page, a=2)


def test_back_at_once_when_somebody_looks(start: Callable[..., Gateway], context: BrowserContext) -> None:
    one = start()
    one.write("a", progress=1)
    page = watch(context.new_page(), one, share=False, retry=60_000, transports=["poll"])
    sees(page, a=1)
    page.route("**/api/v1/tasks**", lambda route: route.abort())
    page.wait_for_function("states.at(-1).status === 'reconnecting'")
    one.write("a", progress=2)
    page.unroute_all()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    sees(page, a=2)


def test_a_late_answer_never_overwrites_a_newer_one(start: Callable[..., Gateway], context: BrowserContext) -> None:
    one = start()
    one.write("a", progress=1)
    page = context.new_page()
    late: list[Route] = []

    def first_waits(route: Route) -> None:
        if late:
            route.continue_()
        else:
            late.append(route)

    page.route("**/api/task?**", first_waits)
    page.goto(f"{one.url}/healthz")
    page.evaluate("""() => import("/static/gateway.js").then(({ watchTask }) => {
        window.seen = [];
        watchTask("a", { dialect: "flat", onUpdate: (task) => seen.push(task.progress) });
    })""")
    until(lambda: page.evaluate("1") == 1 and bool(late))
    one.write("a", progress=2)
    page.wait_for_function("seen.length === 1")
    late[0].fulfill(json={"progress": 1, "status": "running"})
    one.write("a", progress=3)
    page.wait_for_function("seen.length === 2")
    assert page.evaluate("seen") == [2, 3]


def test_it_stops_with_its_signal(start: Callable[..., Gateway], context: BrowserContext) -> None:
    one = start()
    one.write("a", progress=1)
    page = watch(context.new_page(), one)
    sees(page, a=1)
    page.evaluate("stop.abort()")
    until(lambda: subscribers(one) == 0)
    page.evaluate(BEGIN, {"name": "a", "options": {}})
    sees(page, a=1)
    expect(page.locator("body")).to_contain_text("alive")
