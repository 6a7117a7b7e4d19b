"""Who is let in, seen from a real browser: rebinding, foreign pages, cookies, tokens, the policy of the page."""

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.conftest import QUIET
from tests.harness import Backend, Gateway, require
from tests.test_access import SECRET, token
from tests.test_poll_to_push import Tasks

Start = Callable[..., Gateway]


class Site:
    """Another origin: a server that answers everything with an empty page."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b"<!doctype html><title>Another</title>"
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    running = Site()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(scope="module")
def fooled() -> Iterator[Browser]:
    """A browser whose names for evil.example and app.example lead to this machine."""
    executable = require("chromium")
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP app.example 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*QUIET, rules])
        yield browser
        browser.close()


READ = """async (url) => {
  try { return await (await fetch(url)).text(); } catch (error) { return `${error}`; }
}"""

SUBSCRIBE = """(url) => new Promise((resolve) => {
  const source = new EventSource(url);
  source.onmessage = ({ data }) => (source.close(), resolve(data));
  source.onerror = () => (source.close(), resolve("refused"));
})"""

CONVERSE = """(url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onmessage = ({ data }) => (socket.close(), resolve(data));
  socket.onerror = () => resolve("refused");
})"""

ACT = """async ([url, image]) => {
  const said = [];
  for (const mode of ["cors", "no-cors"]) {
    try { said.push((await fetch(url, { method: "POST", body: "x", mode })).status); } catch { said.push("refused"); }
  }
  await new Promise((resolve) => {
    const picture = new Image();
    picture.onload = picture.onerror = resolve;
    picture.src = image;
  });
  return said;
}"""


@pytest.mark.parametrize("page_of", ["http://localhost:{port}", "http://evil.example:{port}"])
def test_a_page_of_another_origin_reads_subscribes_and_posts_in_vain(
    start: Start, site: Site, fooled: Browser, page_of: str
) -> None:
    backend = Backend("tests.taskbackend", "--dialect", "flat")
    options = ["--cors-origin", "http://app.example"] if "localhost" in page_of else []  # else: foreign by default
    one = start("--upstream", backend.url, *options)
    one.write("secret-task")
    page = fooled.new_page()
    page.goto(page_of.format(port=site.port))
    poll = f"{one.url}/api/task?task_id=secret-task"
    assert "secret-task" not in page.evaluate(READ, poll)
    assert page.evaluate(SUBSCRIBE, poll) == "refused"
    assert page.evaluate(CONVERSE, poll.replace("http", "ws")) == "refused"
    imports = f"{one.url}/api/transactions/import?files=a"
    assert page.evaluate(ACT, [imports, imports])[0] == "refused"
    tasks = one.get("/api/v1/tasks").json()["payload"]["tasks"]
    started = [task for task in tasks if task["id"] != "secret-task"]
    assert started == [] or "localhost" in page_of  # an image of the same site is not told from its own
    page.close()
    backend.stop()


FETCH = """async (url) => {
  const tried = [];
  for (const name of ["img", "script", "iframe"]) {
    const element = document.createElement(name);
    tried.push(new Promise((resolve) => { element.onload = element.onerror = resolve; }));
    element.src = url(name);
    document.body.append(element);
  }
  tried.push(fetch(url("no-cors"), { mode: "no-cors" }), fetch(url("cors")));
  const source = new EventSource(url("events"));
  tried.push(new Promise((resolve) => { source.onerror = () => (source.close(), resolve()); }));
  await Promise.allSettled(tried);
}"""


def test_a_page_of_another_origin_has_no_task_polled(start: Start, site: Site, fooled: Browser) -> None:
    backend = Tasks("--dialect", "v1")
    one = start("--upstream", backend.url, "--task-wait", "0", folder=False)
    page = fooled.new_page()
    page.goto(f"http://evil.example:{site.port}")
    many = "&".join(f"id=never{n}" for n in range(50))
    page.evaluate(f"() => ({FETCH})((name) => `{one.url}/api/v1/tasks?id=${{name}}&{many}`)")
    assert backend.asked()["polls"] == {}
    backend.put("linked", progress=7)
    page.evaluate(f"""() => {{
      document.body.innerHTML = '<a href="{one.url}/api/v1/tasks/linked">a task</a>';
    }}""")
    page.click("a")  # who follows a link wants to see it
    page.wait_for_url("**/linked")
    assert backend.polls("linked") > 0
    backend.put("own", progress=7)
    assert '"own"' in page.evaluate(READ, "/api/v1/tasks/own")
    page.close()
    backend.stop()


def test_a_page_that_may_does(start: Start, site: Site, fooled: Browser) -> None:
    one = start("--cors-origin", f"http://app.example:{site.port}")
    one.write("a", progress=7)
    page = fooled.new_page()
    page.goto(f"http://app.example:{site.port}")
    poll = f"{one.url}/api/task?task_id=a"
    assert json.loads(page.evaluate(READ, poll))["progress"] == 7
    assert json.loads(page.evaluate(SUBSCRIBE, poll))["progress"] == 7
    assert json.loads(page.evaluate(CONVERSE, poll.replace("http", "ws")))["progress"] == 7
    conditional = "(url) => fetch(url, { headers: { 'If-None-Match': '\"x\"' } }).then((r) => r.headers.get('etag'))"
    assert page.evaluate(conditional, poll)  # asks leave first, and may read the header
    page.close()


def test_a_name_that_is_led_here_reads_nothing(start: Start, fooled: Browser) -> None:
    one = start()
    one.write("secret-task")
    page = fooled.new_page()
    answer = page.goto(f"http://evil.example:{one.port}/api/v1/tasks")
    assert answer
    assert (answer.status, "secret-task" in page.content()) == (421, False)
    assert "secret-task" not in page.evaluate(READ, f"http://evil.example:{one.port}/api/task?task_id=secret-task")
    assert page.evaluate(SUBSCRIBE, f"http://evil.example:{one.port}/api/v1/tasks") == "refused"
    page.close()


def with_cookie(browser: Browser, one: Gateway, made: str) -> BrowserContext:
    context = browser.new_context()
    context.add_cookies(
        [{"name": "gateway_token", "value": made, "url": one.url, "httpOnly": True, "sameSite": "Strict"}]
    )
    return context


def test_a_cookie_is_enough_for_an_event_source_and_for_no_foreign_page(
    start: Start, site: Site, fooled: Browser
) -> None:
    one = start(env={"GATEWAY_AUTH_SECRET": SECRET})
    one.write("a", progress=7)
    context = with_cookie(fooled, one, token())
    page = context.new_page()
    page.goto(f"{one.url}/")
    assert json.loads(page.evaluate(SUBSCRIBE, "/api/task?task_id=a"))["progress"] == 7
    assert "a" in page.evaluate(CONVERSE, f"{one.url.replace('http', 'ws')}/api/v1/tasks")
    expect(page.locator("#tasks li")).to_have_count(1)
    expect(page.locator("#login")).to_be_hidden()
    page.goto(f"http://evil.example:{site.port}/")
    assert "progress" not in page.evaluate(READ, f"{one.url}/api/task?task_id=a")
    context.close()


def test_the_dashboard_asks_for_a_token_and_goes_on_with_another(start: Start, fooled: Browser) -> None:
    one = start(env={"GATEWAY_AUTH_SECRET": SECRET})
    one.write("mine-1", progress=7)
    one.write("theirs", progress=8)
    page = fooled.new_page()
    page.goto(f"{one.url}/#task=mine-1")
    field = page.locator("#login input")
    expect(field).to_be_visible(timeout=15_000)
    expect(page.locator("#tasks li")).to_have_count(0)
    field.fill(token(tasks=["mine-*"], exp=time.time() + 4))
    field.press("Enter")
    expect(page.locator("#tasks li")).to_have_count(1)
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    expect(field).to_be_visible(timeout=20_000)  # it has ended
    field.fill(token())
    field.press("Enter")
    expect(page.locator("#tasks li")).to_have_count(2)
    page.reload()  # kept for as long as the tab is
    expect(page.locator("#tasks li")).to_have_count(2)
    page.close()


def test_a_script_refreshes_its_token(start: Start, fooled: Browser) -> None:
    one = start(env={"GATEWAY_AUTH_SECRET": SECRET})
    one.write("a", progress=1)
    page = fooled.new_page()
    asked: list[float] = []

    def give() -> str:
        asked.append(time.time())
        return token(exp=time.time() + 3)

    page.expose_function("give", give)
    page.goto(f"{one.url}/healthz")
    follow = """async (transports) => {
      const { watchTask } = await import("/static/gateway.js");
      return watchTask("a", { dialect: "v1", options: { token: () => give(), transports, retry: 50 } });
    }"""
    for transports in (["sse"], ["websocket"]):
        one.write("a", progress=1)
        before = len(asked)
        page.evaluate("([f, t]) => { window.result = eval(f)(t); }", [follow, transports])
        while len(asked) < before + 3:  # the test's timeout ends it
            page.wait_for_timeout(50)
        one.write("a", "success", 100)
        assert page.evaluate("() => window.result")["payload"]["status"] == "completed"
    page.close()


def test_the_policy_holds_where_scripts_are_put_in(start: Start, fooled: Browser) -> None:
    one = start()
    page = fooled.new_page()
    page.goto(f"{one.url}/")
    blocked = page.evaluate("""() => new Promise((resolve) => {
      addEventListener("securitypolicyviolation", ({ effectiveDirective }) => resolve(effectiveDirective));
      const script = document.createElement("script");
      script.textContent = "window.broken = true";
      document.body.append(script);
      setTimeout(() => resolve("nothing"), 2000);
    })""")
    assert (blocked, page.evaluate("() => window.broken")) == ("script-src-elem", None)
    page.close()
