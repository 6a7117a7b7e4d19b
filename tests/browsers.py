"""Browsers for tests: one interface over three engines, each driven by the standard for which it is there.

Chromium and WebKitGTK have drivers that speak WebDriver, Firefox itself speaks WebDriver BiDi.
"""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.conftest import QUIET
from tests.harness import free_port, require, until

LIMIT = 90
"""Seconds that anything may take; what comes about is met at once, on a machine that is ten times slower, too."""

ALONE = """
user_pref("network.proxy.type", 1);
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", 9);
"""
"""Firefox asks its maker for news; it does not find its way out of this machine."""


class Tab(Protocol):
    def open(self, url: str) -> None:
        """Resolves once the page is loaded."""

    def evaluate(self, function: str, *values: Any) -> Any:
        """What a JavaScript function, async or not, gives for these values; all are JSON."""

    def alert(self) -> None:
        """Opens a dialog that nobody closes. WebKit's driver then comes to this tab no more."""

    def close(self) -> None: ...


class Engine(Protocol):
    def tab(self, kind: str = "tab") -> Tab:
        """A "tab" or a "window" of the same user: a window is in front, a tab may be behind others."""


def sees(tab: Tab, condition: str, *values: Any) -> None:
    """Waits until a JavaScript function says yes."""
    until(lambda: bool(tab.evaluate(condition, *values)), LIMIT)


def whole(function: str) -> str:
    """A function of one text that gives a text: each protocol has forms of its own for anything else."""
    return f"async (values) => JSON.stringify((await ({function})(...JSON.parse(values))) ?? null)"


ALERT = "setTimeout(() => alert('Anybody there?'))"


@contextmanager
def running(*argv: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A process, ended with those that it started."""
    process = subprocess.Popen(argv, text=True, start_new_session=True, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# WebDriver: https://www.w3.org/TR/webdriver2/


class Driven:
    """A browser behind a driver. Each command goes to the window that was switched to last, which must be open."""

    def __init__(self, http: httpx.Client, capabilities: dict[str, Any]) -> None:
        self._http, self._session = http, ""
        wanted = {"unhandledPromptBehavior": "ignore", **capabilities}
        made = self.post("/session", capabilities={"alwaysMatch": wanted})
        self._session = f"/session/{made['sessionId']}"
        self._first = self.ask("GET", "/window").json()["value"]

    def ask(self, method: str, command: str, **more: Any) -> httpx.Response:
        return self._http.request(method, self._session + command, **more)

    def post(self, command: str, **values: Any) -> Any:
        answer = self.ask("POST", command, json=values)
        assert answer.is_success, answer.text
        return answer.json()["value"]

    def tab(self, kind: str = "tab") -> "DrivenTab":
        self.post("/window", handle=self._first)
        return DrivenTab(self, self.post("/window/new", type=kind)["handle"])


class DrivenTab:
    def __init__(self, browser: Driven, handle: str) -> None:
        self._browser, self._handle = browser, handle

    def _post(self, command: str, **values: Any) -> Any:
        self._browser.post("/window", handle=self._handle)
        return self._browser.post(command, **values)

    def open(self, url: str) -> None:
        self._post("/url", url=url)

    def evaluate(self, function: str, *values: Any) -> Any:
        script = f"return ({whole(function)})(arguments[0])"
        return json.loads(self._post("/execute/sync", script=script, args=[json.dumps(values)]))

    def alert(self) -> None:
        self._post("/execute/sync", script=ALERT, args=[])
        until(lambda: self._browser.ask("GET", "/alert/text").is_success, LIMIT)

    def close(self) -> None:
        self._browser.post("/window", handle=self._handle)
        self._browser.ask("DELETE", "/window")


@contextmanager
def driven(driver: str, capabilities: dict[str, Any], **options: Any) -> Iterator[Driven]:
    url = f"http://127.0.0.1:{(port := free_port())}"

    def ready() -> bool:
        with suppress(httpx.TransportError):
            return bool(http.get("/status").json()["value"]["ready"])
        return False

    with running(driver, f"--port={port}", **options), httpx.Client(base_url=url, timeout=LIMIT) as http:
        until(ready, LIMIT)
        browser = Driven(http, capabilities)
        try:
            yield browser
        finally:
            browser.ask("DELETE", "")


@contextmanager
def chromium() -> Iterator[Engine]:
    options = {"binary": require("chromium"), "args": ["--headless", *QUIET]}
    with driven(require("chromedriver"), {"goog:chromeOptions": options}) as browser:
        yield browser


@contextmanager
def webkit() -> Iterator[Engine]:
    """MiniBrowser, which comes with the driver. It has no headless mode, so it gets a display of its own."""
    driver, display = require("WebKitWebDriver"), [require("Xvfb"), "-displayfd", "1", "-nolisten", "tcp"]
    with running(*display, stdout=subprocess.PIPE) as server:
        assert server.stdout
        number = server.stdout.readline().strip()
        with driven(driver, {}, env={**os.environ, "DISPLAY": f":{number}"}) as browser:
            yield browser


# WebDriver BiDi: https://www.w3.org/TR/webdriver-bidi/


class Spoken:
    """A browser at the other end of a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._asked = socket, 0
        self._heard: list[str] = []
        self.ask("session.new", capabilities={"alwaysMatch": {"unhandledPromptBehavior": {"default": "ignore"}}})
        self.ask("session.subscribe", events=["browsingContext.userPromptOpened"])

    def _hear(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._socket.recv(LIMIT))
        if said["type"] == "event":
            self._heard.append(said["method"])
        return said

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": params}))
        while (said := self._hear()).get("id") != self._asked:
            pass
        assert said["type"] == "success", said
        return dict(said["result"])

    def hear(self, event: str) -> None:
        """Waits for an event, once for each time that it is asked for."""
        while event not in self._heard:
            self._hear()
        self._heard.remove(event)

    def tab(self, kind: str = "tab") -> "SpokenTab":
        return SpokenTab(self, self.ask("browsingContext.create", type=kind)["context"])


class SpokenTab:
    def __init__(self, browser: Spoken, context: str) -> None:
        self._browser, self._context = browser, context

    def open(self, url: str) -> None:
        self._browser.ask("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, function: str, *values: Any) -> Any:
        said = self._browser.ask(
            "script.callFunction",
            functionDeclaration=whole(function),
            arguments=[{"type": "string", "value": json.dumps(values)}],
            awaitPromise=True,
            target={"context": self._context},
        )
        assert said["type"] == "success", said
        return json.loads(said["result"]["value"])

    def alert(self) -> None:
        self.evaluate(f"() => {{ {ALERT} }}")
        self._browser.hear("browsingContext.userPromptOpened")

    def close(self) -> None:
        self._browser.ask("browsingContext.close", context=self._context)


@contextmanager
def firefox() -> Iterator[Engine]:
    """It says in its profile where it listens."""
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as profile:
        where = Path(profile) / "WebDriverBiDiServer.json"
        Path(profile, "user.js").write_text(ALONE)
        argv = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
        with running(require("firefox"), *argv) as process:
            until(lambda: where.exists() and where.read_text().endswith("}"), LIMIT)
            at = json.loads(where.read_text())
            url = f"ws://{at['ws_host']}:{at['ws_port']}/session"
            with connect(url, max_size=None, open_timeout=LIMIT) as socket:
                browser = Spoken(socket)
                try:
                    yield browser
                finally:
                    browser.ask("browser.close")
            process.wait(LIMIT)


ENGINES: dict[str, Callable[[], AbstractContextManager[Engine]]] = {
    "chromium": chromium,
    "firefox": firefox,
    "webkit": webkit,
}
