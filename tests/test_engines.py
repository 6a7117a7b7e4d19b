"""The page and its client in each engine that browsers are made of: Chromium's, Firefox's, and WebKit."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browsers import ENGINES, LIMIT, Engine, Tab, sees
from tests.harness import Gateway, until
from tests.test_client import BEGIN, subscribers

Start = Callable[..., Gateway]
Tabs = Callable[..., Tab]

pytestmark = pytest.mark.timeout(10 * LIMIT)

WAYS = pytest.mark.parametrize("worker", [True, False], ids=["shared worker", "leading tab"])


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with ENGINES[request.param]() as running:
        yield running


@pytest.fixture
def tab(engine: Engine) -> Iterator[Tabs]:
    """Opens tabs, and closes them after the test."""
    tabs: list[Tab] = []

    def opened(kind: str = "tab") -> Tab:
        tabs.append(engine.tab(kind))
        return tabs[-1]

    yield opened
    for each in tabs:
        each.close()


def watch(tab: Tab, one: Gateway, *, name: str | None = None, **options: Any) -> Tab:
    """A tab of the gateway's origin that follows a task, or all."""
    tab.open(f"{one.url}/static/gateway.js")
    tab.evaluate(BEGIN, {"name": name, "options": options})
    return tab


def knows(tab: Tab, **tasks: int) -> None:
    sees(tab, "(all) => JSON.stringify(all) === JSON.stringify(Object.entries(tasks).sort())", sorted(tasks.items()))


def stands(tab: Tab, word: str) -> None:
    """What the light at the top of the page says."""
    sees(tab, "(word) => document.querySelector('#connection .word').textContent.startsWith(word)", word)


def shows(tab: Tab, *rows: str) -> None:
    """Id, status and progress of each row of the page."""
    texts = "[...document.querySelectorAll('#tasks li')].map((row) => parts.map((part) => row.querySelector(part)"
    texts = f"(parts, rows) => JSON.stringify({texts}.textContent).join(', '))) === JSON.stringify(rows)"
    sees(tab, texts, [".id", ".status .word", ".percent"], rows)


def test_the_page_moves_and_comes_back(start: Start, tab: Tabs) -> None:
    one = start()
    one.write("a", progress=10)
    page = tab("window")
    page.open(one.url)
    stands(page, "live")
    shows(page, "a, running, 10 %")
    one.write("a", progress=60)
    shows(page, "a, running, 60 %")
    page.evaluate("() => document.querySelector('#tasks .id').click()")
    sees(page, "() => document.querySelector('#detail h2')?.textContent === 'a'")
    one.stop(signal.SIGKILL)
    stands(page, "reconnecting")
    one.write("a", "success", 100)
    one.write("b", progress=5)
    one.start()
    stands(page, "live")
    shows(page, "b, running, 5 %", "a, completed, 100 %")


@pytest.mark.parametrize("transport", ["sse", "websocket", "long-poll", "poll"])
def test_each_transport_follows_and_resumes(start: Start, tab: Tabs, transport: str) -> None:
    one = start()
    one.write("a", progress=1)
    path = one.write("b", progress=1)
    page = watch(tab(), one, share=False, transports=[transport])
    knows(page, a=1, b=1)
    assert page.evaluate("() => states.at(-1).transport") == transport
    one.write("a", progress=2)
    path.unlink()
    knows(page, a=2)
    one.stop(signal.SIGKILL)
    sees(page, "() => states.at(-1).status === 'reconnecting'")
    one.write("a", progress=3)
    one.start()
    knows(page, a=3)


@WAYS
def test_ten_tabs_one_connection(start: Start, tab: Tabs, worker: bool) -> None:
    one = start()
    one.write("a", progress=1)
    pages = [watch(tab(), one, name="a" if n % 2 else None, worker=worker) for n in range(10)]
    for page in pages:
        knows(page, a=1)
    until(lambda: subscribers(one) == 1, LIMIT)
    pages.pop(0).open("about:blank")  # the tab that led
    one.write("a", progress=2)
    for page in pages:
        knows(page, a=2)
    until(lambda: subscribers(one) == 1, LIMIT)


@WAYS
@pytest.mark.parametrize("name", ENGINES)
def test_an_alert_in_the_leading_tab_holds_up_no_other(start: Start, name: str, worker: bool) -> None:
    one = start("--heartbeat", "2")
    one.write("a", progress=1)
    with ENGINES[name]() as engine:  # one of its own: a tab with an open dialog cannot be closed in each
        leading, *others = (watch(engine.tab(), one, worker=worker, heartbeat=2_000) for _ in range(3))
        knows(leading, a=1)
        for other in others:
            knows(other, a=1)
        leading.alert()
        one.write("a", progress=2)
        for other in others:
            knows(other, a=2)


LISTEN = """(url) => {
  window.heard = [];
  window.source = new EventSource(url);
  source.onmessage = ({ data }) => heard.push(JSON.parse(data).progress);
}"""


def hears(tab: Tab, *progress: int) -> None:
    sees(tab, "(all) => JSON.stringify(all) === JSON.stringify(heard)", progress)


def test_an_event_source_resumes_and_stops_after_the_final_state(start: Start, tab: Tabs) -> None:
    one = start()
    one.write("a", progress=1)
    page = tab()
    page.open(f"{one.url}/static/gateway.js")
    page.evaluate(LISTEN, f"{one.url}/api/task?task_id=a")
    hears(page, 1)
    one.stop(signal.SIGKILL)
    sees(page, "() => source.readyState === EventSource.CONNECTING")
    one.start()
    until(lambda: subscribers(one) == 1, LIMIT)
    one.write("a", progress=60)
    hears(page, 1, 60)
    one.write("a", "success", 100)
    sees(page, "() => source.readyState === EventSource.CLOSED")
    hears(page, 1, 60, 100)
