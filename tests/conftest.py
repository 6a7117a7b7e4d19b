import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.harness import Gateway, require
from tests.redisserver import RedisServer

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session", params=["gateway", "uvicorn"])
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """A running gateway that many tests share: once our own server, once the app under a plain ASGI server."""
    with Gateway("--task-wait", "1", "--heartbeat", "1", kind=request.param) as running:
        running.tasks.mkdir(exist_ok=True)
        yield running


@pytest.fixture
def start() -> Iterator[Callable[..., Gateway]]:
    """Starts gateways with options of the test's own, and ends them."""
    started: list[Gateway] = []

    def starter(*options: str, **more: Any) -> Gateway:
        started.append(Gateway(*options, **more))
        return started[-1]

    yield starter
    for one in started:
        one.close()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A task id of the test's own."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)[:150] + secrets.token_hex(3)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or whichever is installed under that name."""
    executable = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=QUIET)
        yield browser
        browser.close()
