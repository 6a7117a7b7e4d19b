"""The page at / in a real browser, over a real gateway. `SCREENSHOTS=DIR` keeps pictures of it."""

import itertools
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.harness import Gateway, flat

Start = Callable[..., Gateway]

PLAYED = [
    ("Oct-26-25_09-15-16-AM", "success", 100, "Import, authentication, and grading complete", 900),
    ("Jan-31-25_04-12-30-PM", "success", 100, "Healing complete - 3 coins fully recovered, 1 remains fracked", 400),
    ("Jan-31-25_03-45-12-PM", "error", 40, "RAIDA network unreachable", 120),
    ("bdc8e99d-dd8a-40e9-8840-f9f8eef16c71", "success", 100, "Authentication and grading complete", 65),
    ("Nov-01-25_05-49-16-PM", "running", 45, "Authenticating coins with RAIDA servers...", 1),
    ("Nov-01-25_05-49-31-PM-706d", "running", 12, "Finding fracked coins...", 2),
    ("Nov-01-25_05-50-02-PM", "pending", 0, "Waiting for a free worker...", 3),
]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def play(one: Gateway) -> None:
    """Tasks in every state, of different ages."""
    for id, status, progress, message, seconds in PLAYED:
        aged(one, seconds, id, status, progress, message=message)
    one.put("Jan-31-25_02-10-44-PM", b"{")


def aged(one: Gateway, seconds: float, id: str, status: str = "running", progress: int = 50, **more: Any) -> None:
    """A task file that is this old. It comes whole, by a rename: nobody sees it with the time it was really written."""
    whole(one, id, flat(id, status, progress, **more), seconds)


def whole(one: Gateway, id: str, body: bytes, seconds: float = 0) -> None:
    one.tasks.mkdir(exist_ok=True)
    part = one.data / "part"
    part.write_bytes(body)
    os.utime(part, (time.time() - seconds, time.time() - seconds))
    part.rename(one.tasks / f"{id}.json")


def rows(page: Page) -> Locator:
    return page.locator("#tasks li")


def row(page: Page, id: str) -> Locator:
    return rows(page).filter(has=page.get_by_role("link", name=id, exact=True))


def ids(page: Page) -> Locator:
    return page.locator("#tasks .id")


def is_live(page: Page) -> None:
    expect(page.locator("#connection .word")).to_have_text("live", timeout=20_000)


def pane(page: Page) -> Locator:
    return page.locator("#detail")


# The list


def test_the_list_moves_when_a_file_is_written(start: Start, page: Page) -> None:
    one = start()
    one.write("import-1", progress=10, message="Authenticating coins")
    page.goto(one.url)
    task = row(page, "import-1")
    bar = task.get_by_role("progressbar", name="Progress of import-1")
    expect(task.locator(".message")).to_have_text("Authenticating coins")
    expect(bar).to_have_attribute("aria-valuenow", "10")
    expect(bar).to_have_attribute("aria-valuemax", "100")
    is_live(page)
    one.write("import-1", progress=60, message="Grading coins")
    expect(task.locator(".message")).to_have_text("Grading coins")
    expect(bar).to_have_attribute("aria-valuenow", "60")
    expect(task.locator(".rate")).to_have_text(re.compile(r"\d %/"))
    expect(task.locator(".left")).to_have_text(re.compile(r"≈ \d|soon"))
    one.write("import-1", "success", 100)
    expect(task.locator(".status")).to_have_text("completed")
    expect(task.locator(".left")).to_have_text("")
    expect(page.get_by_role("button", name="1 completed")).to_be_visible()
    expect(page.locator("#announcer")).to_contain_text("import-1 completed")


def test_running_tasks_first_then_the_newest(start: Start, page: Page) -> None:
    one = start()
    for n, (id, status) in enumerate([("r1", "running"), ("s1", "success"), ("r2", "running"), ("e1", "error")]):
        aged(one, 60 - n, id, status, 100)
    page.goto(one.url)
    expect(ids(page)).to_have_text(["r2", "r1", "e1", "s1"])


def test_running_tasks_keep_their_places_while_they_change(start: Start, page: Page) -> None:
    one = start()
    aged(one, 20, "older", progress=1)
    aged(one, 10, "newer", progress=1)
    page.goto(one.url)
    expect(ids(page)).to_have_text(["newer", "older"])
    is_live(page)
    page.evaluate(
        "() => { window.moves = 0; new MutationObserver((all) => (moves += all.length))"
        ".observe(document.getElementById('tasks'), {childList: true}) }"
    )
    for progress in range(2, 8):
        for id in ("older", "newer"):
            one.write(id, progress=progress)
            expect(row(page, id).locator(".percent")).to_have_text(f"{progress} %")
    expect(ids(page)).to_have_text(["newer", "older"])
    assert page.evaluate("moves") == 0
    one.write("newer", "success", 100)
    expect(ids(page)).to_have_text(["older", "newer"])


def test_a_deleted_task_leaves_the_list_and_an_empty_one_says_what_to_do(start: Start, page: Page) -> None:
    one = start()
    path = one.write("a")
    page.goto(one.url)
    expect(rows(page)).to_have_count(1)
    expect(page.locator("#empty")).to_be_hidden()
    path.unlink()
    expect(rows(page)).to_have_count(0)
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#empty")).to_contain_text("/api/v1/tasks")
    expect(page.locator("#empty")).to_contain_text("gateway demo")


def test_an_empty_folder_says_what_to_do_next(start: Start, page: Page) -> None:
    one = start()
    page.goto(one.url)
    expect(page.get_by_role("heading", name="No tasks yet")).to_be_visible()
    one.write("first")
    expect(ids(page)).to_have_text(["first"])
    expect(page.locator("#empty")).to_be_hidden()


def test_a_file_that_cannot_be_shown_is_marked(start: Start, page: Page) -> None:
    one = start()
    one.write("a", progress=30, message="fine")
    page.goto(one.url)
    task = row(page, "a")
    expect(task.locator(".message")).to_have_text("fine")
    one.put("a", b"{")
    expect(task.locator(".status")).to_have_text("invalid")
    expect(task.locator(".message")).to_have_text("not JSON")
    expect(task.locator(".percent")).to_have_text("30 %")
    one.write("a", message="fine again")
    expect(task.locator(".message")).to_have_text("fine again")
    expect(task.locator(".status")).to_have_text("running")


def test_a_file_that_never_could_be_shown_is_not_running(start: Start, page: Page) -> None:
    one = start()
    one.put("broken", b"{")
    one.write("done", "success", 100)
    page.goto(one.url)
    expect(ids(page)).to_have_text(["done", "broken"])
    expect(page.locator("#tasks .status")).to_have_text(["completed", "invalid"])
    numbers = ["2 all", "0 running", "1 completed", "0 failed", "1 invalid"]
    expect(page.locator("#filters button")).to_have_text(numbers)


# What is looked at


def test_a_filter_shows_one_status_and_shows_that_it_does(start: Start, page: Page) -> None:
    one = start()
    play(one)
    page.goto(one.url)
    expect(rows(page)).to_have_count(8)
    failed = page.get_by_role("button", name="1 failed")
    expect(failed).to_have_attribute("aria-pressed", "false")
    failed.click()
    expect(ids(page)).to_have_text(["Jan-31-25_03-45-12-PM"])
    expect(failed).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_url(one.url + "/#status=error")
    one.write("Nov-01-25_05-49-16-PM", "error", 50, message="Coin file is corrupt")
    expect(rows(page)).to_have_count(2)
    page.get_by_role("button", name="2 failed").click()
    expect(rows(page)).to_have_count(8)


def test_a_search_goes_through_ids_and_messages(start: Start, page: Page) -> None:
    one = start()
    play(one)
    page.goto(one.url)
    search = page.get_by_role("searchbox")
    search.fill("FRACKED finding")
    expect(ids(page)).to_have_text(["Nov-01-25_05-49-31-PM-706d"])
    search.fill("bdc8e99d")
    expect(ids(page)).to_have_text(["bdc8e99d-dd8a-40e9-8840-f9f8eef16c71"])
    search.fill("nobody is called so")
    expect(page.locator("#nothing")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(rows(page)).to_have_count(8)
    expect(search).to_have_value("")


def test_the_list_can_be_sorted(start: Start, page: Page) -> None:
    one = start()
    aged(one, 30, "b", progress=10)
    aged(one, 20, "a", progress=90)
    aged(one, 10, "c", "success", 100)
    page.goto(one.url)
    expect(ids(page)).to_have_text(["a", "b", "c"])
    sort = page.get_by_role("combobox", name="Sort")
    sort.select_option("changed")
    expect(ids(page)).to_have_text(["c", "a", "b"])
    one.write("b", progress=11)
    expect(ids(page)).to_have_text(["b", "c", "a"])
    sort.select_option("progress")
    expect(ids(page)).to_have_text(["a", "b", "c"])
    one.write("b", progress=95)
    expect(ids(page)).to_have_text(["b", "a", "c"])
    sort.select_option("id")
    expect(ids(page)).to_have_text(["a", "b", "c"])
    expect(page).to_have_url(one.url + "/#sort=id")


def test_an_address_leads_to_what_was_looked_at(start: Start, page: Page) -> None:
    one = start()
    play(one)
    page.goto(one.url + "/#task=Nov-01-25_05-49-16-PM&status=running&search=raida&sort=id")
    expect(ids(page)).to_have_text(["Nov-01-25_05-49-16-PM"])
    expect(pane(page).get_by_role("heading", level=2)).to_have_text("Nov-01-25_05-49-16-PM")
    expect(page.get_by_role("searchbox")).to_have_value("raida")
    expect(page.get_by_role("combobox")).to_have_value("id")
    expect(page.get_by_role("button", name="3 running")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Close").click()
    expect(pane(page)).to_be_hidden()
    page.go_back()
    expect(pane(page)).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 400})
    page.goto(one.url + "/#task=Jan-31-25_02-10-44-PM")
    page.reload()
    expect(row(page, "Jan-31-25_02-10-44-PM")).to_be_in_viewport()
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(one.url + "/#task=nobody&status=nonsense&sort=nonsense")
    expect(pane(page)).to_contain_text("There is no such task")
    expect(rows(page)).to_have_count(8)


def test_an_address_leads_to_a_task_that_is_older_than_the_list(start: Start, page: Page, tmp_path: Path) -> None:
    (tmp_path / "Tasks").mkdir()
    old = tmp_path / "Tasks" / "old.json"
    old.write_bytes(flat("old", "success", 100, message="long ago"))
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    one = start("--recent", "3600", data=tmp_path)
    page.goto(one.url)
    expect(page.locator("#empty")).to_be_visible()
    page.goto(one.url + "/#task=old")
    expect(pane(page).locator("> .message")).to_have_text("long ago")


def test_the_kept_order_is_the_sorted_one(start: Start, page: Page) -> None:
    page.goto(start().url)
    same = page.evaluate(
        """async () => {
          const { Board } = await import("/static/dashboard/board.js");
          const { SORTS } = await import("/static/dashboard/order.js");
          const pick = (all) => all[Math.floor(Math.random() * all.length)];
          const ids = (board) => (board.settle(), board.order.items.map(({ id }) => id).join());
          let number = 1e12;
          return Object.keys(SORTS).map((sort) => {
            const [one, other] = [new Board(), new Board()];
            const looked = { sort, search: "m", status: pick(["", "running"]) };
            one.look(looked);
            for (let n = 0; n < 3000; n++) {
              const [id, status] = [`t${n % 97}`, pick(["running", "completed", "error"])];
              const task = { id, status, progress: n % 101, message: pick(["m", "x"]), updated: (number += n % 3) };
              const gone = n % 11 === 0;
              for (const board of [one, other]) gone ? board.remove(id) : board.update(task);
              if (n % 13 === 0) for (const board of [one, other]) board.invalid(id, "m");
              one.settle(); // one by one; the other at once
            }
            other.look(looked);
            return ids(one) === ids(other) && one.order.places.size === one.order.length;
          });
        }"""
    )
    assert same == [True] * 5


def test_time_left_is_told_from_the_last_half_minute(start: Start, page: Page) -> None:
    page.goto(start().url)
    told = page.evaluate(
        """async () => {
          const { Pace } = await import("/static/dashboard/pace.js");
          const pace = new Pace(0, 0);
          const first = pace.left(0);
          for (let n = 1; n <= 60; n++) pace.add(n, n * 500);
          const steady = [pace.rate, pace.left(30000), pace.left(40000), pace.left(80001)];
          pace.add(5, 31000);
          return [first, ...steady, pace.rate];
        }"""
    )
    assert told == [None, pytest.approx(2), pytest.approx(20_000), pytest.approx(10_000), None, None]


# One task


def test_the_pane_shows_a_task_as_it_changes(start: Start, page: Page) -> None:
    one = start()
    one.write("a", progress=10, message="one", data={"coins": {"healed": 1, "lost": [1, {"x": None}]}})
    page.goto(one.url)
    is_live(page)
    ids(page).click()
    lines = pane(page).locator(".changes li")
    expect(lines).to_have_count(1)
    tree = pane(page).locator(".tree")
    expect(tree).to_contain_text("healed: 1")
    fold = tree.locator("details", has_text="coins: {2}").last
    expect(fold).not_to_have_attribute("open", "")
    fold.locator("summary").first.click()
    one.write("a", progress=40, message="two", data={"coins": {"healed": 2, "lost": [1, {"x": None}]}})
    expect(lines).to_have_count(2)
    expect(lines.first).to_contain_text("40 %")
    expect(lines.first).to_contain_text("two")
    expect(tree).to_contain_text("healed: 2")
    expect(fold).to_have_attribute("open", "")
    expect(pane(page).get_by_role("img", name="Progress over 2 changes, now 40 %")).to_be_visible()
    one.write("a", "error", 40, message="Coin file is corrupt")
    expect(lines.first).to_contain_text("failed: Coin file is corrupt")
    expect(pane(page).locator(".top .status")).to_have_text("failed")


def test_the_pane_has_lines_to_copy(start: Start, page: Page) -> None:
    one = start()
    one.write("it's 100%", progress=10)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(one.url)
    ids(page).click()
    url = f"{one.url}/api/v1/tasks/it%27s%20100%25"
    assert one.get("/api/v1/tasks/it%27s%20100%25").status_code == 200
    lines = pane(page).locator(".snippet pre")
    expect(lines.nth(0)).to_have_text(f"curl '{url}'")
    expect(lines.nth(2)).to_contain_text(f'new EventSource("{url}")')
    expect(lines.nth(3)).to_contain_text(f'http.NewRequest("GET", "{url}", nil)')
    for name in ("curl, once", "curl, every change", "JavaScript", "Go"):
        button = pane(page).get_by_role("button", name=f"Copy {name}", exact=True)
        button.click()
        expect(button).to_have_text("Copied")
        text = pane(page).get_by_role("group", name=name, exact=True).inner_text()
        assert page.evaluate("navigator.clipboard.readText()") == text
    pane(page).locator(".json .copy").click()
    expect(pane(page).locator(".json .copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText().then((text) => JSON.parse(text).progress)") == 10


def test_changes_are_kept_up_to_a_bound(start: Start, page: Page) -> None:
    page.goto(start().url)
    lengths = page.evaluate(
        """async () => {
          const { History } = await import("/static/dashboard/history.js");
          const history = new History();
          history.kept = "t0";
          const task = (progress) => ({ updated: progress, status: "running", progress, message: "" });
          for (let n = 0; n < 1000; n++) history.add("t0", task(n), task(n + 1));
          for (let n = 1; n < 1000; n++) history.add(`t${n}`, null, task(1));
          return [history.of("t0").length, history.changes.size];
        }"""
    )
    assert lengths == [200, 300]


def test_an_open_task_that_is_deleted_says_so(start: Start, page: Page) -> None:
    one = start()
    path = one.write("a")
    page.goto(one.url + "/#task=a")
    expect(pane(page).locator(".changes li")).to_have_count(1)
    path.unlink()
    expect(pane(page)).to_contain_text("The file of this task was deleted")
    one.write("a", message="again")
    expect(pane(page).locator("> .message")).to_have_text("again")


STUB = """
window.asked = 0;
window.said = [];
window.Notification = class {
  static requestPermission() { asked += 1; return Promise.resolve("ANSWER"); }
  constructor(title) { said.push(title); }
};
"""


def test_who_wants_to_is_notified_of_an_end(start: Start, page: Page) -> None:
    one = start()
    one.write("a")
    one.write("b")
    page.add_init_script(STUB.replace("ANSWER", "granted"))
    page.goto(one.url + "/#task=a")
    notify = pane(page).locator(".notify")
    expect(notify).to_have_text("Notify me")
    assert page.evaluate("asked") == 0
    notify.click()
    expect(notify).to_have_text("Will notify")
    one.write("b", "success", 100)
    one.write("a", "success", 100)
    expect(notify).to_be_hidden()
    assert page.evaluate("said") == ["a completed"]


def test_who_refuses_notifications_gets_none(start: Start, page: Page) -> None:
    one = start()
    one.write("a")
    page.add_init_script(STUB.replace("ANSWER", "denied"))
    page.goto(one.url + "/#task=a")
    notify = pane(page).locator(".notify")
    notify.click()
    expect(notify).to_have_text("Not allowed")


# The keyboard


def focused(page: Page) -> str:
    text: str = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
    return text


def test_everything_goes_by_keyboard(start: Start, page: Page) -> None:
    one = start()
    for n in range(60):
        aged(one, n, f"t{n:02}")
    page.goto(one.url)
    is_live(page)
    expect(ids(page).first).to_have_text("t00")
    keys = page.keyboard
    for key, at in (("j", "t00"), ("j", "t01"), ("ArrowDown", "t02"), ("k", "t01"), ("End", "t59"), ("Home", "t00")):
        keys.press(key)
        expect(page.locator(":focus")).to_have_text(at)
        expect(page.locator(":focus")).to_be_in_viewport()
    keys.press("j")
    keys.press("Enter")
    expect(pane(page).get_by_role("heading", level=2)).to_be_focused()
    keys.press("Escape")
    expect(pane(page)).to_be_hidden()
    expect(page.locator(":focus")).to_have_text("t01")
    keys.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    keys.type("t4j")
    expect(page.locator("#nothing")).to_be_visible()
    keys.press("Backspace")
    expect(rows(page)).to_have_count(10)
    keys.press("ArrowDown")
    expect(page.locator(":focus")).to_have_text("t40")
    keys.press("/")
    keys.press("Escape")
    expect(page.get_by_role("searchbox")).to_have_value("")
    expect(page.locator("#tasks :focus")).to_have_count(1)


def test_tab_reaches_everything_and_the_focus_can_be_seen(start: Start, page: Page) -> None:
    one = start()
    play(one)
    page.goto(one.url)
    expect(rows(page)).to_have_count(8)
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(focused(page))
        outline = "(e) => getComputedStyle(e.matches('a.id') ? e.closest('li') : e).outlineStyle"
        assert page.locator(":focus").evaluate(outline) != "none"
    filters = ["8 all", "3 running", "3 completed", "1 failed", "1 invalid"]
    assert reached == [*filters, "search", "sort", "Nov-01-25_05-49-16-PM"]


# What files say is text


def test_text_of_a_task_file_is_text(start: Start, page: Page) -> None:
    one = start()
    evil = "<img src=x onerror=\"document.title='hacked'\">"
    id = "&lt;b&gt; ' onmouseover=document.title='hacked' {{x}}"
    one.write(id, message=evil, data={evil: [evil]})
    page.goto(one.url)
    expect(page.locator("#tasks .message")).to_have_text(evil)
    expect(ids(page)).to_have_text(id)
    ids(page).click()
    expect(pane(page).get_by_role("heading", level=2)).to_have_text(id)
    expect(pane(page).locator("> .message")).to_have_text(evil)
    expect(pane(page).locator(".changes li")).to_contain_text(evil)
    expect(pane(page).locator(".tree")).to_contain_text(evil)
    assert page.title() == "Tasks"
    assert page.locator("img").count() == 0
    assert page.locator("[onmouseover]").count() == 0


def test_the_policy_lets_the_page_work_and_nothing_else(start: Start, page: Page) -> None:
    one = start()
    play(one)
    console: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    page.goto(one.url)
    is_live(page)
    ids(page).first.click()
    page.keyboard.press("Escape")
    expect(pane(page)).to_be_hidden()
    assert console == []
    violated = page.evaluate(
        """() => new Promise((tell) => {
          document.addEventListener("securitypolicyviolation", (event) => tell(event.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "document.title = 'hacked'";
          document.head.append(script);
        })"""
    )
    assert violated == "script-src-elem"
    assert page.title() == "Tasks"


@pytest.mark.parametrize("path", ["/", "/static/gateway.js", "/static/icon.svg"])
def test_pages_and_modules_carry_the_policy(start: Start, path: str) -> None:
    headers = start().get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


# The connection


def test_it_comes_back_after_a_restart_with_what_is_true_then(start: Start, page: Page) -> None:
    one = start()
    one.write("stays", progress=1)
    path = one.write("goes")
    page.goto(one.url)
    expect(rows(page)).to_have_count(2)
    is_live(page)
    one.stop(signal.SIGKILL)
    expect(page.locator("#connection .word")).to_have_text(re.compile("reconnecting (in [0-9]+ s|now)"))
    path.unlink()
    one.write("stays", progress=77)
    one.write("comes")
    one.start()
    is_live(page)
    expect(ids(page)).to_have_text(["comes", "stays"])
    expect(row(page, "stays").locator(".percent")).to_have_text("77 %")
    expect(page.locator("#connection .last")).to_have_text(re.compile("last event [0-9]+ s ago"))


def test_after_a_refusal_it_comes_back_without_what_is_gone(start: Start, page: Page) -> None:
    one = start()
    one.write("stays")
    path = one.write("goes")
    page.add_init_script("delete window.SharedWorker")  # what a worker asks for cannot be refused from here
    page.goto(one.url)
    expect(rows(page)).to_have_count(2)
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=503)

    page.route("**/api/v1/tasks*", refuse_once)
    one.stop()
    path.unlink()
    one.start()
    expect(ids(page)).to_have_text(["stays"], timeout=20_000)
    is_live(page)
    assert refused


# Sizes


def test_a_phone_has_two_lines_a_row_and_a_sheet(start: Start, page: Page) -> None:
    one = start()
    play(one)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(one.url)
    expect(rows(page)).to_have_count(8)
    id, message = (rows(page).first.locator(part).bounding_box() for part in (".id", ".message"))
    assert id
    assert message
    assert message["y"] >= id["y"] + id["height"] - 2
    widths = page.locator("#tasks .bar").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert len(set(widths)) == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ids(page).first.click()
    expect(pane(page)).to_be_visible()
    assert pane(page).bounding_box() == {"x": 0, "y": 0, "width": 390, "height": 844}
    assert page.evaluate("document.getElementById('board').inert")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    pane(page).get_by_role("button", name="Close").click()
    expect(pane(page)).to_be_hidden()
    assert not page.evaluate("document.getElementById('board').inert")


FRAMES = """() => {
  window.frames = [];
  let last = performance.now();
  const next = (now) => { frames.push(now - last); last = now; requestAnimationFrame(next); };
  requestAnimationFrame(next);
}"""


def worked(one: Gateway, page: Page, seconds: float, rate: int) -> tuple[dict[str, int], int]:
    """Running tasks change at this rate: the last progress of each, and the most rows there were."""
    last: dict[str, int] = {}
    most = 0
    began = time.perf_counter()
    for n in range(int(seconds * rate)):
        id, progress = f"running-{n % 200:03}", n // 200 + 1
        last[id] = progress
        whole(one, id, flat(id, progress=progress, message=f"step {progress}"))
        if n % rate == 0:
            most = max(most, rows(page).count())
        time.sleep(max(0.0, began + n / rate - time.perf_counter()))
    return last, most


@pytest.mark.timeout(120)
def test_ten_thousand_tasks_and_two_hundred_changes_a_second(start: Start, page: Page) -> None:
    one = start()
    one.tasks.mkdir()
    for n in range(9_800):
        one.put(f"done-{n:04}", flat(f"done-{n:04}", "success", 100))
    for n in range(200):
        one.write(f"running-{n:03}", progress=0)
    page.goto(one.url)
    expect(page.locator("#filters button").first).to_have_text("10,000 all", timeout=30_000)
    is_live(page)
    page.evaluate(FRAMES)
    last, most = worked(one, page, 6, 200)
    assert most < 100
    for name in itertools.islice(ids(page).all_inner_texts(), 10):
        expect(row(page, name).locator(".percent")).to_have_text(f"{last[name]} %")
    expect(rows(page).first).to_have_attribute("aria-setsize", "10000")
    frames = sorted(page.evaluate("frames"))
    print(
        f"\nframes {len(frames)}, p50 {frames[len(frames) // 2]:.1f} ms, p95 {frames[len(frames) * 95 // 100]:.1f} ms"
    )
    for part in ("#events", "#latency", "#performance"):
        print(page.locator(part).inner_text().replace("\n", " "))
    page.locator("#scroller").evaluate("e => e.scrollTo(0, e.scrollHeight)")
    expect(rows(page).last).to_have_attribute("aria-posinset", "10000")
    assert rows(page).count() < 100
    page.get_by_role("searchbox").fill("done-4321")
    expect(ids(page)).to_have_text(["done-4321"])


# For everybody


def scan(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_accessibility_violations(start: Start, browser: Browser, scheme: Any) -> None:
    one = start()
    play(one)
    # the scanner is a script that the page's policy does not let in
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(one.url)
    expect(rows(page)).to_have_count(8)
    scan(page)
    ids(page).first.click()
    expect(pane(page)).to_be_visible()
    scan(page)
    page.set_viewport_size({"width": 390, "height": 844})
    scan(page)
    context.close()


def test_who_wants_less_motion_gets_none(start: Start, page: Page) -> None:
    one = start()
    one.write("a")
    page.goto(one.url)
    motion = "e => getComputedStyle(e).transitionDuration"
    expect(rows(page)).to_have_count(1)
    fill = page.locator("#tasks .fill")
    expect(fill).not_to_have_attribute("style", re.compile("transition"))
    assert fill.evaluate(motion) != "0s"
    page.emulate_media(reduced_motion="reduce")
    assert fill.evaluate(motion) == "0s"


def test_a_picture_of_it(start: Start, page: Page, tmp_path: Path) -> None:
    one = start()
    play(one)
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    page.emulate_media(reduced_motion="reduce")
    page.goto(one.url + "/#task=Nov-01-25_05-49-31-PM-706d")
    expect(rows(page)).to_have_count(len(PLAYED) + 1)
    is_live(page)
    for n in range(1, 13):
        coins = {"healed": n // 4, "fracked": 4 - n // 4, "lost": 0}
        data = {"operation": "fix", "rounds_completed": n // 4, "coins": coins}
        one.write(
            "Nov-01-25_05-49-31-PM-706d", progress=12 + 5 * n, message=f"Healing round {1 + n // 4}...", data=data
        )
        one.write("Nov-01-25_05-49-16-PM", progress=45 + n, message="Grading coins...")
        expect(pane(page).locator("dd.percent")).to_have_text(f"{12 + 5 * n} %")
        page.wait_for_timeout(250)  # a played backend takes its time
    expect(page.locator("#latency .figure")).to_contain_text("p50")
    for name, scheme, width, height in (
        ("page", "light", 1280, 800),
        ("page-dark", "dark", 1280, 800),
        ("page-phone", "light", 390, 844),
    ):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": height})
        if name == "page-phone":
            pane(page).get_by_role("button", name="Close").click()
            expect(pane(page)).to_be_hidden()
            page.evaluate("document.activeElement.blur()")
        picture = page.screenshot(path=folder / f"{name}.png")
        assert picture.startswith(b"\x89PNG")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
