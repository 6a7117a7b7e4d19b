"""The examples, run as a newcomer runs them: against a real gateway, with a task file that changes meanwhile."""

import contextlib
import difflib
import os
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.harness import Gateway, require, until

EXAMPLES = Path(__file__).parents[1] / "examples"
CLIENTS = [f"{way}.{language}" for language in ("mjs", "go", "sh") for way in ("poll", "push")]

pytestmark = pytest.mark.timeout(300)  # the first build of Go's net/http

Argv = Callable[[str], list[str]]
Step = tuple[str, int, str]

STEPS: list[Step] = [
    ("pending", 0, "Waiting for a free worker..."),
    ("running", 45, "Grading coins\u2028 with 25 RAIDA servers… 100%"),  # a line separator that JSON lets through
    ("success", 99, "Nearly there"),  # not final yet
]
SUCCESS: Step = ("success", 100, "Import, authentication, and grading complete")


@pytest.fixture(scope="module")
def argv(tmp_path_factory: pytest.TempPathFactory) -> Argv:
    """How an example is started: `argv("poll.go")`. A Go one is built first, once."""

    @cache
    def start_of(example: str) -> list[str]:
        source = str(EXAMPLES / example)
        match source.rpartition(".")[2]:
            case "mjs":
                return [require("node"), source]
            case "sh":
                require("curl"), require("jq")
                return [require("bash"), source]
        program = str(tmp_path_factory.mktemp("go") / "example")
        subprocess.run(
            [require("go"), "build", "-o", program, source], check=True, env=os.environ | {"GO111MODULE": "off"}
        )
        return [program]

    return start_of


class Client:
    """An example at work: `sees` reads what it prints, `ends` awaits its exit."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.seen: list[str] = []  # the lines it printed

    def sees(self, step: Step) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.seen.append(line.rstrip("\n"))
            if self.seen[-1] == shown(step):
                return
        raise AssertionError(f"it ended without {shown(step)!r}: {self.seen}")

    def ends(self) -> tuple[int, str]:
        """Its exit code and what it said on stderr."""
        out, err = self._process.communicate(timeout=60)
        self.seen += out.split("\n")[:-1]
        return self._process.returncode, err


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[Client]:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="strict"
    ) as process:
        try:
            yield Client(process)
        finally:
            process.kill()


def shown(step: Step) -> str:
    _, progress, message = step
    return f"{progress}% {message}"


def states(client: Client, example: str) -> list[str]:
    """The states it printed: a poller repeats them each second, its twin repeats none."""
    return [line for line, _ in groupby(client.seen)] if example.startswith("poll") else client.seen


def write(gateway: Gateway, id: str, step: Step) -> None:
    status, progress, message = step
    gateway.write(id, status, progress, message=message, data={"coins": "🪙" * 5_000})  # large: comes in many chunks


@pytest.mark.parametrize("example", CLIENTS)
def test_an_example_follows_a_task_to_its_success(
    start: Callable[..., Gateway], argv: Argv, name: str, example: str
) -> None:
    command, gateway, id = argv(example), start(), f"{name} & sons, 50%"
    write(gateway, id, STEPS[0])
    with running([*command, id, gateway.url]) as client:
        for step, following in zip(STEPS, [*STEPS[1:], SUCCESS], strict=True):
            client.sees(step)
            write(gateway, id, following)
        assert client.ends() == (0, "")
    assert states(client, example) == [shown(step) for step in [*STEPS, SUCCESS]]


@pytest.mark.parametrize("example", CLIENTS)
def test_an_example_says_why_a_task_failed(start: Callable[..., Gateway], argv: Argv, name: str, example: str) -> None:
    command, gateway = argv(example), start()
    failure = ("error", 45, "RAIDA network unreachable")
    write(gateway, name, STEPS[1])
    with running([*command, name, gateway.url]) as client:
        client.sees(STEPS[1])
        write(gateway, name, failure)
        assert client.ends() == (1, "Failed: RAIDA network unreachable\n")
    assert states(client, example) == [shown(STEPS[1]), shown(failure)]


@pytest.mark.parametrize("example", CLIENTS)
def test_an_example_knows_every_final_state(start: Callable[..., Gateway], argv: Argv, name: str, example: str) -> None:
    command, gateway = argv(example), start()
    for status, code in {"completed": 0, "SUCCESS": 0, "failed": 1, "CANCELLED": 1}.items():
        write(gateway, name, (status, 100, "At an end"))
        with running([*command, name, gateway.url]) as client:
            assert client.ends() == (code, "Failed: At an end\n" if code else "")
        assert client.seen == ["100% At an end"]


@pytest.mark.parametrize("example", CLIENTS)
def test_an_example_leaves_where_there_is_no_such_task(
    start: Callable[..., Gateway], argv: Argv, name: str, example: str
) -> None:
    command, gateway = argv(example), start("--task-wait", "0.1")
    with running([*command, name, gateway.url]) as client:
        assert client.ends() == (3, "There is no such task\n")
    assert client.seen == []


@pytest.mark.parametrize("example", CLIENTS)
def test_an_example_goes_on_after_a_restart_where_it_was(
    start: Callable[..., Gateway], argv: Argv, name: str, example: str
) -> None:
    command, gateway = argv(example), start("--access-log")
    write(gateway, name, STEPS[0])
    with running([*command, name, gateway.url]) as client:
        client.sees(STEPS[0])
        gateway.stop()
        del gateway.lines[:]
        gateway.start()
        until(lambda: any(name in line for line in gateway.lines))  # it is back
        write(gateway, name, STEPS[1])
        client.sees(STEPS[1])
        write(gateway, name, SUCCESS)
        assert client.ends()[0] == 0
    assert states(client, example) == [shown(step) for step in (STEPS[0], STEPS[1], SUCCESS)]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a browser of its own."""
    program = require("chromium")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch_persistent_context(tmp_path, executable_path=program, args=arguments) as context,
    ):
        yield context.new_page()


def visit(page: Page, id: str, gateway: Gateway) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(EXAMPLES)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asked = urllib.parse.urlencode({"id": id, "gateway": gateway.url})
    page.goto(f"http://localhost:{server.server_port}/page.html?{asked}")
    server.shutdown()
    server.server_close()


def test_the_page_follows_a_task_to_its_success(start: Callable[..., Gateway], page: Page, name: str) -> None:
    gateway, id = start(), f"{name} & sons"
    bar, message = page.locator("progress"), page.locator("#message")
    write(gateway, id, STEPS[0])
    visit(page, id, gateway)
    expect(page.locator("h1")).to_have_text(f"Task {id}")
    for step in [*STEPS, SUCCESS]:
        write(gateway, id, step)
        expect(message).to_have_text(step[2])
        expect(bar).to_have_js_property("value", step[1])
    page.wait_for_function("source.readyState === EventSource.CLOSED")  # the gateway stops it, nothing else does
    expect(message).to_have_text(SUCCESS[2])


def test_the_page_shows_a_failure_as_plain_text(start: Callable[..., Gateway], page: Page, name: str) -> None:
    gateway, text = start(), "<b>Not</b> enough & <img src=x>"
    write(gateway, name, ("error", 40, text))
    visit(page, name, gateway)
    expect(page.locator("#message")).to_have_text(text)
    expect(page.locator("progress")).to_have_js_property("value", 40)


def test_the_page_says_that_there_is_no_such_task(start: Callable[..., Gateway], page: Page, name: str) -> None:
    visit(page, name, start("--task-wait", "0.1"))
    expect(page.locator("#message")).to_have_text("There is no such task here.")


def test_the_readme_shows_all_that_differs_between_poller_and_pushed() -> None:
    before, after = ((EXAMPLES / f"{way}.mjs").read_text().splitlines()[1:] for way in ("poll", "push"))
    differing = [
        line for line in difflib.unified_diff(before, after, n=0, lineterm="") if line[:2] not in ("--", "++", "@@")
    ]
    block = (EXAMPLES / "README.md").read_text().partition("```diff\n")[2].partition("```")[0]
    assert sorted(line for line in block.splitlines() if line[:1] in ("-", "+")) == sorted(differing)
