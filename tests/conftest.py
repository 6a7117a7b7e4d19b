import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.counting import Counting
from tests.harness import Gateway, require
from tests.redisserver import RedisServer

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


EXTENDED = frozenset(
    {
        *("test_broker", "test_broker_faults", "test_broker_input", "test_broker_page", "test_broker_pulse"),  # Redis
        *("test_client", "test_examples", "test_go_client", "test_shell_client", "test_units"),  # other languages
        *("test_page", "test_access_page", "test_engines"),  # browsers
        *("test_proxies", "test_http2", "test_upstream", "test_poll_to_push", "test_fair_backend"),  # other servers
        *("test_faults", "test_fuzz", "test_flood", "test_flood_random", "test_model", "test_scale", "test_storm"),
        *("test_names",),  # a file system of our own
        *("test_image", "test_package", "test_bench", "test_supervised", "test_socket_activation"),  # what is shipped
    }
)
"""Files that only `make test-all` runs: they need other programs, or minutes."""


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Counting(), "counting")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        needs = {"browser", "redis"} & set(getattr(item, "fixturenames", ()))
        if needs or item.path.stem in EXTENDED:
            item.add_marker(pytest.mark.extended)


@pytest.fixture(scope="session", params=["gateway", pytest.param("uvicorn", marks=pytest.mark.extended)])
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
