"""Reconnect storms: the simulation against its theory, the retries a gateway tells, and what a refused browser does."""

import contextlib
import math
import random
import re
import socket
import subprocess
import sys
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType

import pytest
from playwright.sync_api import Browser

from examples import reconnect_cost, reconnect_storm
from examples.reconnect_storm import Storm, simulate
from tests.harness import Gateway

CHANCE = 1e-6
"""How often a bound may fail where all is as it should be."""

LOW, HIGH = 1000, 5000  # milliseconds: the retry of gateway/wire.py

SIZES = [Storm(2_000, 4, 1), Storm(90_000, 10, 1), Storm(40_000, 8, 3), Storm(15_000, 3, 2), Storm(50_000, 40, 1)]


def run(program: ModuleType, options: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, str(program.__file__), *options.split()]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=50)


def storm(options: str) -> "subprocess.CompletedProcess[str]":
    return run(reconnect_storm, options)


def most(storm: Storm) -> float:
    """What the peak at any edge exceeds with no more than CHANCE.

    Bernstein's inequality for the clients of one edge within one window. Windows that are 5 % wider than a second, and
    begin 5 % of one apart, cover every second there is.
    """
    wider, left = 1.05, storm.edges - storm.die
    mean = min(storm.expected() * wider, storm.lost / left)
    windows = left * (2 + (1.5 * storm.retry[1] + 1) / (wider - 1))
    rare = math.log(windows / CHANCE)
    return mean + rare / 3 + math.sqrt(rare**2 / 9 + 2 * mean * rare)


def least(storm: Storm) -> float:
    """What it falls below so seldom: the fullest edge has the mean of all at least (Chernoff, for their sum)."""
    left = storm.edges - storm.die
    mean = storm.expected() * left
    return (mean - math.sqrt(2 * mean * math.log(1 / CHANCE))) / left


@pytest.mark.parametrize("client", reconnect_storm.CLIENTS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.lost}-of-{size.subscribers}")
def test_the_peak_is_what_the_closed_form_says(size: Storm, client: str) -> None:
    for seed in range(4):
        played = replace(size, client=client, seed=seed, accept_rate=1e6, backlog=1 << 30, max_streams=1 << 30)
        outcome = simulate(played)
        assert least(played) <= outcome.peak <= most(played)
        assert len(outcome.back) == played.lost


def test_the_closed_form_is_lost_by_left_by_spread() -> None:
    assert Storm(100_000, 10, 1).expected() == 10_000 / 9 / 4
    assert Storm(90_000, 3, 1, retry=(2, 12)).expected() == 30_000 / 2 / 10
    assert Storm(90_000, 3, 1, retry=(1, 1)).expected() == 30_000 / 2  # all at once
    assert Storm(90_000, 3, 1, retry=(1, 5), client="gateway.js").expected() == pytest.approx(15_000 * math.log(3) / 4)
    assert Storm(90_000, 3, 1, retry=(2, 2), client="gateway.js").expected() == 15_000 / 2
    assert Storm(90_000, 3, 1, client="watch").expected() == 15_000  # it is told no retry


def test_all_are_back_when_the_theory_says() -> None:
    for seed in range(5):
        played = Storm(200_000, 20, 2, seed=seed, accept_rate=1e6, bandwidth=1e12)
        outcome = simulate(played)
        error = math.sqrt(math.log(2 / CHANCE) / (2 * played.lost))  # of a share (Dvoretzky, Kiefer, Wolfowitz)
        for share in (0.5, 0.99, 1):
            assert abs((outcome.after(share) - 1) / 4 - share) <= error + 1e-3  # and what it takes to let one in
        assert not outcome.broken()


def test_who_waits_to_be_let_in_comes_in_at_the_accept_rate() -> None:
    """All at once at one edge: the last of 1,000 is accepted after a second, and given its megabyte after ten."""
    at_once = Storm(2_000, 2, 1, accept_rate=1_000, retry=(1, 1), replay_bytes=1)
    outcome = simulate(at_once)
    assert (outcome.peak, outcome.waiting) == (1_000, 999)
    assert outcome.after(0.5) == pytest.approx(1.5)
    assert outcome.after(1) == pytest.approx(2)
    slow = simulate(replace(at_once, replay_bytes=1_000_000, bandwidth=1e8))
    assert slow.after(1) == pytest.approx(1 + 0.001 + 10)
    assert slow.broken() == ["1,000.0 MB to write in a second, of 100.0"]


def test_who_finds_the_backlog_full_comes_again() -> None:
    outcome = simulate(Storm(2_000, 2, 1, accept_rate=100, backlog=50, retry=(1, 1)))
    assert len(outcome.back) == 1_000
    assert outcome.dropped
    assert outcome.waiting == 50
    assert outcome.after(0.05) == pytest.approx(1.5, abs=0.01)
    assert outcome.after(0.051) >= 2  # the next ones ask a second later
    assert "attempts found the backlog full" in "".join(outcome.broken())


@pytest.mark.parametrize("client", reconnect_storm.CLIENTS)
def test_nobody_is_lost_where_there_is_room(client: str) -> None:
    """Room for all by a margin that chance exceeds once in a million, at any edge."""
    rare = math.log(5 / CHANCE)
    mean = 10_000 / 5
    room = 10_000 + math.ceil(mean + rare / 3 + math.sqrt(rare**2 / 9 + 2 * mean * rare))
    for seed in range(5):
        outcome = simulate(Storm(60_000, 6, 1, max_streams=room, client=client, seed=seed))
        assert len(outcome.back) == 10_000
        assert outcome.fullest <= room
        assert not outcome.broken()


@pytest.mark.parametrize("client", ["gateway.js", "watch"])
def test_who_tries_again_after_a_refusal_finds_the_room_that_there_is(client: str) -> None:
    outcome = simulate(Storm(60_000, 6, 1, max_streams=12_030, client=client))  # chance overfills some edges
    assert outcome.refused
    assert len(outcome.back) == 10_000
    assert outcome.broken() == [f"{outcome.refused:,} attempts were refused"]


@pytest.mark.parametrize("client", reconnect_storm.CLIENTS)
def test_who_cannot_be_back_is_told_of(client: str) -> None:
    outcome = simulate(Storm(6_000, 3, 1, max_streams=2_500, client=client))
    assert outcome.fullest == 2_500
    assert len(outcome.back) == 1_000
    assert outcome.after(0.5) < outcome.after(1) == math.inf
    assert outcome.refused >= 1_000
    broken = outcome.broken()
    assert broken[0] == "6,000 subscribers, and room for 5,000"
    assert broken[-1].startswith("1,000 are not back: ")


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ("--accept-rate 200", r"3\d\d came in a second, of 200"),
        ("--max-streams 11000", "100,000 subscribers, and room for 99,000"),
        ("--backlog 1", r"[\d,]+ attempts found the backlog full"),
        ("--bandwidth 1e6", r"[\d.]+ MB to write in a second, of 1.0"),
    ],
)
def test_a_broken_limit_is_said_and_is_the_exit_status(limit: str, sentence: str) -> None:
    held = storm("--seed 3")
    assert (held.returncode, held.stderr) == (0, "")
    assert "broken" not in held.stdout
    broken = storm(f"--seed 3 {limit}")
    assert (broken.returncode, broken.stderr) == (1, "")
    assert re.search(f"^broken: {sentence}$", broken.stdout, re.MULTILINE)


def test_the_table_shows_what_the_spread_is_for() -> None:
    done = storm("--subscribers 240000 --edges 16 --die 5")
    (limits,) = (line.split() for line in done.stdout.splitlines() if line.startswith("limits"))
    assert limits == ["limits", "broken", "broken"]
    done = storm("--subscribers 192000 --edges 16 --die 5")
    (limits,) = (line.split() for line in done.stdout.splitlines() if line.startswith("limits"))
    assert limits == ["limits", "hold", "broken"]
    assert done.returncode == 0


def test_a_seed_gives_one_table() -> None:
    tables = [storm(f"--seed {seed} --client gateway.js").stdout for seed in (1, 1, 2)]
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.parametrize(
    "wrong", ["--die 10", "--die 0", "--edges 200000", "--retry 5 1", "--retry 0 1", "--accept-rate 0", "--client x"]
)
def test_what_makes_no_sense_is_refused(wrong: str) -> None:
    done = storm(wrong)
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert not done.stdout


def evenness(retries: list[int]) -> float:
    """The chance that retries drawn evenly from LOW to HIGH lie as unevenly as these (Pearson's chi-square)."""
    edges = [LOW + (HIGH + 1 - LOW) * n // 9 for n in range(1, 9)]
    found = [0] * 9
    for retry in retries:
        found[bisect(edges, retry)] += 1
    widths = [end - start for start, end in zip([LOW, *edges], [*edges, HIGH + 1], strict=True)]
    wanted = [len(retries) * width / sum(widths) for width in widths]
    half = sum((a - b) ** 2 / b for a, b in zip(found, wanted, strict=True)) / 2
    return math.exp(-half) * sum(half**k / math.factorial(k) for k in range(4))  # eight degrees of freedom


def test_uneven_retries_would_be_found() -> None:
    rng = random.Random(1)
    assert evenness([rng.randint(LOW, HIGH) for _ in range(300)]) > CHANCE
    assert evenness([rng.randint(LOW, HIGH - 1000) for _ in range(300)]) < CHANCE
    assert evenness([rng.choice((1000, 2000, 3000, 4000, 5000)) for _ in range(300)]) < CHANCE
    assert evenness([LOW] * 300) < CHANCE


def test_a_drained_gateway_spreads_its_clients(start: Callable[..., Gateway]) -> None:
    one, count = start(), 300
    one.write("a")
    head = b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", one.port), 10)) for _ in range(count)]
        for client in clients:
            client.sendall(head)
        beginnings = [b"".join(until(client, b"event: synced\n")) for client in clients]
        assert one.stop() == 0
        ends = [b"".join(until(client, b"")) for client in clients]
    for told in ([retries(said) for said in beginnings], [retries(said) for said in ends]):
        assert [len(each) for each in told] == [1] * count
        every = [retry for each in told for retry in each]
        assert LOW <= min(every) <= max(every) <= HIGH
        assert evenness(every) > CHANCE


def until(client: socket.socket, mark: bytes) -> Iterator[bytes]:
    """What a client is told, up to the mark or to the end."""
    said = b""
    while not (mark and mark in said):
        if not (data := client.recv(65_536)):
            assert not mark
            return
        said = said[-len(mark) :] + data
        yield data


def retries(said: bytes) -> list[int]:
    return [int(retry) for retry in re.findall(rb"^retry: (\d+)$", said, re.MULTILINE)]


def test_a_refused_eventsource_gives_up(start: Callable[..., Gateway], browser: Browser) -> None:
    """A lost connection is made anew, a 503 is not (WHATWG, "Server-sent events"): the simulation has it so."""
    one = start("--max-streams", "1")
    page = browser.new_page()
    page.goto(f"{one.url}/healthz")
    script = "new Promise(done => { const s = new EventSource('/api/v1/tasks'); s.onerror = () => done(s.readyState) })"
    with one.sse("/api/v1/tasks") as events:
        assert next(events)
        assert page.evaluate(script) == 2  # CLOSED
    page.evaluate("window.s = new EventSource('/api/v1/tasks'); new Promise(done => s.onopen = done)")
    page.evaluate("window.lost = new Promise(done => s.onerror = () => done(s.readyState)); 0")
    one.process.kill()
    assert page.evaluate("lost") == 0  # CONNECTING
    page.close()


def test_the_cost_of_connections_is_measured() -> None:
    done = run(reconnect_cost, "--connections 150")
    assert (done.returncode, done.stderr) == (0, "")
    new, back = (line.replace(",", "").split() for line in done.stdout.splitlines()[1:])
    assert new[:4] == ["with", "a", "snapshot", "150"]
    assert back[:3] == ["with", "Last-Event-ID", "150"]
    assert int(new[-1]) > reconnect_cost.TASKS * 80 > 1_000 > int(back[-1])
    assert int(new[4]) > 0
    done = run(reconnect_cost, "--seconds 0")
    assert (done.returncode, done.stderr) == (1, "No connection was opened in that time\n")
