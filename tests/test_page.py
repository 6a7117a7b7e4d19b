"""The page at / in a real browser, over a real gateway. `SCREENSHOTS=DIR` keeps pictures of it."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.harness import Gateway, require

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1100, "height": 620})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def test_the_list_moves_when_a_file_is_written(start: Callable[..., Gateway], page: Page) -> None:
    one = start()
    one.write("import-1", progress=10, message="Authenticating coins")
    page.goto(one.url)
    row = page.locator("li", has_text="import-1")
    expect(row.locator(".message")).to_have_text("Authenticating coins")
    expect(row.locator("progress")).to_have_attribute("value", "10")
    expect(page.locator("#connection")).to_have_text("live")
    one.write("import-1", progress=60, message="Grading coins")
    expect(row.locator(".message")).to_have_text("Grading coins")
    expect(row.locator("progress")).to_have_attribute("value", "60")
    one.write("import-1", "success", 100)
    expect(row.locator(".status")).to_have_text("completed")
    expect(page.locator("#counts")).to_have_text("0 running, 1 completed, 0 failed")


def test_running_tasks_first_then_the_newest(start: Callable[..., Gateway], page: Page) -> None:
    one = start()
    for n, (id, status) in enumerate([("r1", "running"), ("s1", "success"), ("r2", "running"), ("e1", "error")]):
        os.utime(one.write(id, status, 100), (time.time() - 60 + n, time.time() - 60 + n))
    page.goto(one.url)
    expect(page.locator("li .id")).to_have_text(["r2", "r1", "e1", "s1"])


def test_a_deleted_task_leaves_the_list_and_an_empty_one_says_what_to_do(
    start: Callable[..., Gateway], page: Page
) -> None:
    one = start()
    path = one.write("a")
    page.goto(one.url)
    expect(page.locator("li")).to_have_count(1)
    path.unlink()
    expect(page.locator("li")).to_have_count(0)
    expect(page.locator("#empty")).to_be_visible()


def test_text_of_a_task_file_is_text(start: Callable[..., Gateway], page: Page) -> None:
    one = start()
    evil = "<img src=x onerror=\"document.title='hacked'\">"
    one.write("a", message=evil)
    page.goto(one.url)
    expect(page.locator("li .message")).to_have_text(evil)
    assert page.title() == "Tasks"
    assert page.locator("li img").count() == 0


def test_a_file_that_cannot_be_shown_is_marked(start: Callable[..., Gateway], page: Page) -> None:
    one = start()
    one.write("a", message="fine")
    page.goto(one.url)
    expect(page.locator("li .message")).to_have_text("fine")
    one.put("a", b"{")
    expect(page.locator("li .status")).to_have_text("invalid")
    expect(page.locator("li .message")).to_have_text("not JSON")
    one.write("a", message="fine again")
    expect(page.locator("li .message")).to_have_text("fine again")
    expect(page.locator("li .status")).to_have_text("running")


def test_a_file_that_never_could_be_shown_is_not_running(start: Callable[..., Gateway], page: Page) -> None:
    one = start()
    one.put("broken", b"{")
    one.write("done", "success", 100)
    page.goto(one.url)
    expect(page.locator("li .id")).to_have_text(["done", "broken"])
    expect(page.locator("li .status")).to_have_text(["completed", "invalid"])
    expect(page.locator("#counts")).to_have_text("0 running, 1 completed, 0 failed, 1 invalid")


def test_it_comes_back_after_a_restart_with_what_is_true_then(start: Callable[..., Gateway], page: Page) -> None:
    one = start()
    one.write("stays", progress=1)
    path = one.write("goes")
    page.goto(one.url)
    expect(page.locator("li")).to_have_count(2)
    one.stop()
    expect(page.locator("#connection")).to_have_text("reconnecting")
    path.unlink()
    one.write("stays", progress=77)
    one.write("comes")
    one.start()
    expect(page.locator("#connection")).to_have_text("live", timeout=15_000)
    expect(page.locator("li .id")).to_have_text(["comes", "stays"])
    expect(page.locator("li", has_text="stays").locator(".percent")).to_have_text("77 %")


def test_after_a_refusal_it_comes_back_without_what_is_gone(start: Callable[..., Gateway], page: Page) -> None:
    one = start()
    one.write("stays")
    path = one.write("goes")
    page.goto(one.url)
    expect(page.locator("li")).to_have_count(2)
    refused: list[str] = []

    def refuse_once(route: Route) -> None:  # such an answer ends an EventSource for good
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=503)

    page.route("**/api/v1/tasks", refuse_once)
    one.stop()
    path.unlink()
    one.start()
    expect(page.locator("li .id")).to_have_text(["stays"], timeout=15_000)
    expect(page.locator("#connection")).to_have_text("live")
    assert refused


def test_the_bars_are_of_one_width_on_a_phone(start: Callable[..., Gateway], page: Page) -> None:
    one = start()
    one.write("a", progress=1)
    os.utime(one.write("b", "success", 100), (time.time() - 900, time.time() - 900))
    page.set_viewport_size({"width": 390, "height": 620})
    page.goto(one.url)
    expect(page.locator("li")).to_have_count(2)
    widths = page.locator("progress").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert len(set(widths)) == 1


def test_more_tasks_than_rows(start: Callable[..., Gateway], page: Page) -> None:
    one = start()
    for n in range(510):
        one.write(f"t{n}")
    page.goto(one.url)
    expect(page.locator("#more")).to_have_text("and 10 more")
    expect(page.locator("li")).to_have_count(500)


def test_a_picture_of_it(start: Callable[..., Gateway], page: Page, tmp_path: Path) -> None:
    one = start()
    played = [
        ("Oct-26-25_09-15-16-AM", "success", 100, "Import, authentication, and grading complete", 900),
        ("Jan-31-25_04-12-30-PM", "success", 100, "Healing complete - 3 coins fully recovered, 1 remains fracked", 400),
        ("Jan-31-25_03-45-12-PM", "error", 40, "RAIDA network unreachable", 120),
        ("bdc8e99d-dd8a-40e9-8840-f9f8eef16c71", "success", 100, "Authentication and grading complete", 65),
        ("Nov-01-25_05-49-16-PM", "running", 45, "Authenticating coins with RAIDA servers...", 1),
        ("Nov-01-25_05-49-31-PM-706d", "running", 72, "Healing round 2...", 2),
        ("Nov-01-25_05-50-02-PM", "pending", 0, "Waiting for a free worker...", 3),
    ]
    for id, status, progress, message, seconds in played:
        path = one.write(id, status, progress, message=message)
        os.utime(path, (time.time() - seconds, time.time() - seconds))
    one.put("Jan-31-25_02-10-44-PM", b"{")
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    page.goto(one.url)
    expect(page.locator("li")).to_have_count(len(played) + 1)
    for name, scheme, width in (("page", "light", 1100), ("page-dark", "dark", 1100), ("page-phone", "light", 390)):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 620})
        picture = page.screenshot(path=folder / f"{name}.png")
        assert picture.startswith(b"\x89PNG")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
