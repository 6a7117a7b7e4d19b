"""The page of an edge, in a real browser."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.harness import Gateway, until
from tests.redisserver import RedisServer
from tests.test_client import Node

Start = Callable[..., Gateway]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        yield context.new_page()


def test_the_page_says_when_it_may_be_old(start: Start, redis: RedisServer, page: Page) -> None:
    near, edge = both(start, redis)
    page.goto(edge.url)
    word = page.locator("#connection .word")
    expect(word).to_have_text("live", timeout=20_000)
    redis.pause()
    expect(word).to_have_text("may be old: the gateway cannot reach its source", timeout=20_000)
    expect(page.locator("#tasks li")).to_have_count(1)
    redis.go_on()
    expect(word).to_have_text("live", timeout=20_000)
    near.write("b", progress=2)
    expect(page.locator("#tasks li")).to_have_count(2)


@pytest.mark.parametrize(("transport", "whole"), [("sse", "live"), ("long-poll", "polling"), ("poll", "polling")])
def test_each_transport_says_when_it_may_be_old(start: Start, redis: RedisServer, transport: str, whole: str) -> None:
    _, edge = both(start, redis)
    script = f"""
        const options = {{ transports: ["{transport}"] }};
        watchTasks({{ url, options, onState: (state) => say(state.status) }});
    """
    with Node(edge, script) as node:
        said = iter(node.says, None)
        assert whole in iter_until(said, whole)
        redis.pause()
        assert iter_until(said, "stale")
        redis.go_on()
        assert iter_until(said, whole)


def both(start: Start, redis: RedisServer) -> tuple[Gateway, Gateway]:
    """A publisher with a task, and an edge that has it."""
    near = start("--broker", redis.url)
    near.write("a", progress=1)
    edge = start("--broker", redis.url, folder=False)
    until(lambda: edge.get("/api/task?task_id=a").status_code == 200)
    return near, edge


def iter_until(said: Iterator[Any], word: str) -> list[Any]:
    """What is said up to a word, with it."""
    found = []
    for each in said:
        found.append(each)
        if each == word:
            break
    return found
