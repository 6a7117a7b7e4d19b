"""`gateway watch` as it is run at a terminal and in scripts, against real gateways."""

import asyncio
import contextlib
import http.server
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.watch.display import Display, inert
from gateway.watch.estimate import ENOUGH, Estimate, rate_text, time_text
from gateway.watch.stream import News, State, follow
from gateway.watch.watched import PATIENCE, Watched
from tests.harness import PLAIN, Gateway, free_port, until

Start = Callable[..., Gateway]

NASTY = "$(touch pwned) `touch pwned` ; touch pwned | 'x' \"y\" {id} && > pwned [red]markup[/red]"
ESCAPES = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202edesrever\r\n[bold]end"


class Watch:
    """A `gateway watch` at work; its output is read as it comes."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: int) -> None:
        self.process = process
        self._output = output
        self.raw = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # a terminal whose program has ended (Linux)
            while block := os.read(self._output, 65_536):
                self.raw += block

    @property
    def text(self) -> str:
        return self.raw.decode(errors="ignore")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def plain(self) -> str:
        """What was ever drawn, without the codes."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)

    def sees(self, text: str) -> None:
        until(lambda: text in self.plain)

    def ends(self) -> tuple[int, str]:
        """Its exit code, and what it said on stderr."""
        code = self.process.wait(20)
        self._reader.join(5)
        assert self.process.stderr
        return code, self.process.stderr.read().decode()


@contextlib.contextmanager
def watching(gateway: Gateway | str, *arguments: str, terminal: tuple[int, int] | None = None) -> Iterator[Watch]:
    """Starts it; at a terminal of so many columns and lines, or with its output in a pipe."""
    url = gateway if isinstance(gateway, str) else gateway.url
    argv = [sys.executable, "-m", "gateway", "watch", *arguments]
    env = {**os.environ, "GATEWAY_URL": url, "TERM": "xterm", "PYTHONUTF8": "1"}
    env.pop("NO_COLOR", None)
    ours, theirs = os.openpty() if terminal else os.pipe()
    if terminal:
        env |= {"COLUMNS": str(terminal[0]), "LINES": str(terminal[1])}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, env=env) as process:
        os.close(theirs)
        try:
            yield Watch(process, ours)
        finally:
            process.kill()
            process.wait()
            os.close(ours)


# Bars


def test_a_terminal_shows_a_bar_that_moves(start: Start, name: str) -> None:
    gateway = start()
    gateway.write(name, progress=10)
    with watching(gateway, name, terminal=(160, 24)) as watch:
        watch.sees("10%")
        assert name[:20] in watch.plain
        assert "━" in watch.text
        time.sleep(ENOUGH)  # a rate needs time that has passed
        gateway.write(name, progress=20, message="Grading coins")
        watch.sees("20%")
        watch.sees("Grading coins")
        watch.sees(" %/s" if " %/s" in watch.plain else " %/min")
        gateway.write(name, "success", 100, message="All done")
        assert watch.ends() == (0, "")
    assert "100% completed" in watch.plain
    assert "━" not in watch.text.partition("All done")[2]  # no bar stays behind
    assert watch.text.count("\x1b[?25l") == watch.text.count("\x1b[?25h") == 1  # the cursor is there again


def test_a_failure_at_a_terminal(start: Start, name: str) -> None:
    gateway = start()
    gateway.write(name)
    with watching(gateway, name, terminal=(100, 24)) as watch:
        watch.sees("50%")
        gateway.write(name, "error", 50, message="Unreachable")
        assert watch.ends() == (1, "")
    assert "50% error" in watch.plain
    assert "Unreachable" in watch.plain


def test_a_terminal_follows_new_tasks_and_counts_the_old(start: Start) -> None:
    gateway = start()
    gateway.write("long-ago", "success", 100)
    with watching(gateway, terminal=(100, 24)) as watch:
        watch.sees("1 ended before")
        gateway.write("new-one", progress=33)
        watch.sees("33%")
        gateway.write("new-one", "success", 100)
        watch.sees("100% completed")
        gateway.write("deleted").unlink()
        watch.process.send_signal(signal.SIGINT)
        assert watch.ends() == (130, "")
    assert "long-ago" not in watch.plain


def test_a_small_terminal_shows_the_newest(start: Start) -> None:
    gateway = start()
    for number in range(12):
        gateway.write(f"task-{number:02}", progress=number)
    with watching(gateway, terminal=(60, 8)) as watch:
        watch.sees("and 7 more")
        gateway.write("task-99", progress=44)
        watch.sees("and 8 more")
        watch.sees("44%")
        frame = re.split(r"\x1b\[2K", watch.text)[-1]
        assert frame.count("task-") <= 5


@pytest.mark.parametrize("terminal", [(100, 24), None])
def test_what_a_task_says_is_inert(start: Start, name: str, terminal: tuple[int, int] | None) -> None:
    gateway = start()
    gateway.write(name, message=ESCAPES)
    with watching(gateway, name, terminal=terminal) as watch:
        watch.sees("50%")
        gateway.write(name, "error", 60, message=ESCAPES)
        assert watch.ends()[0] == 1
    for evil in ("\x1b[2J", "\x1b]", "\x07", "\x9b", "\u202e"):
        assert evil not in watch.text
    assert terminal or "[bold]end" in watch.text
    assert terminal or "\x1b" not in watch.text


# Lines and JSON


def test_without_a_terminal_there_is_a_line_for_each_change(start: Start, name: str) -> None:
    gateway = start()
    gateway.write(name, "pending", 0, message="Waiting")
    with watching(gateway, name) as watch:
        watch.sees("Waiting")
        gateway.write(name, "running", 40, message="Working")
        watch.sees("Working")
        gateway.write(name, "running", 40, message="Working", data={"more": 1})  # nothing that a line says
        gateway.put(name, b"not JSON")
        watch.sees("invalid")
        gateway.write(name, "success", 100, message="Done")
        assert watch.ends() == (0, "")
    assert [line for line in watch.lines if "invalid" not in line] == [
        f"{name} 0% running Waiting",
        f"{name} 40% running Working",
        f"{name} 100% completed Done",
    ]


def test_json_is_what_the_stream_says(start: Start, name: str) -> None:
    gateway = start()
    gateway.write(name, message="a line separator: \u2028, a coin: 🪙")
    headers, url = {"Accept": "application/x-ndjson"}, f"{gateway.url}/api/v1/tasks?id={name}"
    with (
        httpx.stream("GET", url, headers=headers, timeout=10, verify=PLAIN) as stream,
        watching(gateway, name, "--json") as watch,
    ):
        watch.sees("synced")
        gateway.write(name, progress=70).unlink()
        watch.sees("gone")
        gateway.write(name, "success", 100)
        assert watch.ends() == (0, "")
        said, blocks = b"", stream.iter_raw()
        while b'"completed"' not in said or not said.endswith(b"\n"):
            said += next(blocks)
    assert watch.raw.splitlines() == [line for line in said.splitlines() if line]  # bytes know no U+2028


@pytest.mark.parametrize("options", [["--json"], []])
def test_a_reader_that_leaves_ends_it_quietly(start: Start, name: str, options: list[str]) -> None:
    gateway = start()
    gateway.write(name)
    argv = [sys.executable, "-m", "gateway", "watch", "--url", gateway.url, *options]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        gateway.write(name, progress=51)
        assert process.wait(10) == 141
        assert process.stderr.read() == b""


# How it ends


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ({"a": "success", "b": "completed"}, 0),
        ({"a": "success", "b": "failed"}, 1),
        ({"a": "success", "b": None}, 3),
        ({"a": "error", "b": None}, 1),
        ({"a": None, "no/id": None}, 3),
    ],
)
def test_the_exit_code(start: Start, states: dict[str, str | None], code: int) -> None:
    gateway = start()
    gateway.tasks.mkdir()
    for id, status in states.items():
        if status:
            gateway.write(id, status, 100)
    with watching(gateway, *states) as watch:
        assert watch.ends() == (code, "")
    assert {line.split()[0] for line in watch.lines if line.endswith("unknown")} == {
        id for id, status in states.items() if not status
    }


def test_a_file_that_comes_late_or_again_is_followed(start: Start, name: str) -> None:
    gateway = start()
    gateway.tasks.mkdir()
    with watching(gateway, name, "--json") as watch:
        watch.sees("synced")
        path = gateway.write(name, progress=70)
        watch.sees('"progress":70')
        path.unlink()
        watch.sees("gone")
        gateway.write(name, "success", 100)
        assert watch.ends() == (0, "")


def test_another_spelling_of_an_id_is_the_same_task(start: Start) -> None:
    gateway, id = start(), "b182cda3-0dd8-46a0-9299-d1f481c8b962"
    gateway.write(id.replace("-", ""), "success", 100)
    with watching(gateway, id) as watch:
        assert watch.ends() == (0, "")
    assert watch.lines == [f"{id} 100% completed Working"]


@pytest.mark.parametrize("terminal", [(100, 24), None])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(
    start: Start, name: str, number: signal.Signals, terminal: tuple[int, int] | None
) -> None:
    gateway = start()
    gateway.write(name)
    with watching(gateway, name, terminal=terminal) as watch:
        watch.sees("50%")
        watch.process.send_signal(number)
        sent = time.monotonic()
        assert watch.ends() == (128 + number, "")
        assert time.monotonic() - sent < 2
    assert "Traceback" not in watch.text
    assert watch.text.count("\x1b[?25l") == watch.text.count("\x1b[?25h")


def test_a_signal_ends_it_while_nothing_listens() -> None:
    with watching(f"http://127.0.0.1:{free_port()}", terminal=(100, 24)) as watch:
        watch.sees("reconnecting…")
        watch.process.send_signal(signal.SIGINT)
        assert watch.ends() == (130, "")


@pytest.mark.parametrize("terminal", [(100, 24), None])
def test_it_goes_on_after_a_restart(start: Start, name: str, terminal: tuple[int, int] | None) -> None:
    gateway = start()
    gateway.write(name, progress=10)
    with watching(gateway, name, f"{name}-other", terminal=terminal) as watch:
        gateway.write(f"{name}-other", progress=15)
        watch.sees("15%")
        gateway.stop()
        gateway.write(f"{name}-other", "success", 100)  # nobody is there to see it
        if terminal:
            watch.sees("reconnecting…")
        gateway.start()
        watch.sees("100% completed")
        gateway.write(name, progress=20)
        watch.sees("20%")
        gateway.write(name, "success", 100)
        code, said = watch.ends()
    assert code == 0
    assert said.count("reconnecting…") == (0 if terminal else 1)
    if not terminal:
        assert [line.split()[1] for line in watch.lines if "-other" in line] == ["15%", "100%"]


# What will not pass, and what will


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--url", "http://no-such-host.invalid:1"], "cannot be reached"),
        (["--url", "ftp://localhost"], "cannot be asked"),
        (["--url", "http://localhost:notaport"], "cannot be asked"),
        (["--exec", "'"], "--exec: No closing quotation"),
        (["--exec", " "], "--exec: a command is needed"),
    ],
)
def test_what_will_not_pass_is_said_in_a_sentence(start: Start, arguments: list[str], sentence: str) -> None:
    with watching("http://localhost:1", *arguments) as watch:
        code, said = watch.ends()
    assert code == 2
    assert sentence in said
    assert said.startswith("gateway: ")
    assert said.count("\n") == 1
    assert watch.raw == b""


def test_the_wrong_url_and_too_many_ids(start: Start) -> None:
    gateway = start("--max-ids", "1")
    gateway.tasks.mkdir()
    for url, ids, sentence in (
        (f"{gateway.url}/elsewhere", [], "404"),
        (gateway.url, ["a", "b"], "400 Invalid parameter: at most 1 of id"),
    ):
        with watching(url, *ids) as watch:
            code, said = watch.ends()
        assert code == 2
        assert sentence in said
        assert said.count("\n") == 1


SYNCED = b'{"cursor":"e-1","event":"synced"}\n'


def line_of(status: str, cursor: int) -> bytes:
    task = {"id": "t", "status": status, "progress": 9, "message": "", "data": None, "updated": cursor}
    return json.dumps({"cursor": f"e-{cursor}", "task": task}).encode() + b"\n"


@contextlib.contextmanager
def scripted(*answers: bytes | tuple[int, str]) -> Iterator[tuple[str, list[str | None]]]:
    """A server that gives one answer after the other: a stream that ends, or a status and its Retry-After."""
    remaining, cursors = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cursors.append(self.headers["Last-Event-ID"])
            answer = remaining.pop(0)
            if isinstance(answer, bytes):
                self.send_response(200)
                self.send_header("Content-Type", "application/x-ndjson")
                self.end_headers()
                self.wfile.write(answer)
            else:
                self.send_response(answer[0])
                self.send_header("Retry-After", answer[1])
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", cursors
        finally:
            server.shutdown()
            thread.join()


def test_refusals_are_retried_when_the_gateway_says() -> None:
    with scripted((503, "1"), (429, "0"), line_of("completed", 1) + SYNCED) as (url, cursors):
        began = time.monotonic()
        with watching(url, "t") as watch:
            code, said = watch.ends()
    assert code == 0
    assert "503" in said
    assert len(cursors) == 3
    assert time.monotonic() - began > 1


def test_it_resumes_from_the_last_cursor_but_not_from_inside_a_snapshot() -> None:
    answers = (
        line_of("running", 1),  # cut off before all was said
        line_of("running", 1) + SYNCED + line_of("running", 2) + b'{"cursor":"e-3","ta',  # torn
        b'{"event":"reset"}\n' + line_of("running", 1),
        SYNCED + b"no JSON\n",
        line_of("completed", 5),
    )
    with scripted(*answers) as (url, cursors), watching(url, "t") as watch:
        assert watch.ends()[0] == 0
    assert cursors == [None, None, "e-2", None, "e-1"]


async def _lost(url: str, silence: float) -> str:
    async for news in follow(url, silence=silence):
        if news.kind == "lost":
            return news.text
    return ""


def test_silence_is_a_dead_connection(start: Start) -> None:
    gateway = start("--heartbeat", "30")
    gateway.tasks.mkdir()
    assert asyncio.run(_lost(gateway.url, 0.3)) == "nothing came for 0.3 s"


# Commands


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., str]:
    """A command line that appends its arguments, environment and stdin to a file, as JSON lines."""
    script = tmp_path / "record.py"
    script.write_text(
        "import json, os, sys\n"
        "seen = [sys.argv[2:], {k: v for k, v in os.environ.items() if k.startswith('TASK_')}, json.load(sys.stdin)]\n"
        "open(sys.argv[1], 'a').write(json.dumps(seen) + '\\n')\n"
        "print('seen', sys.argv[2])\n"
        "sys.exit(7 if 'fails' in sys.argv[2] else 0)\n"
    )

    def line(out: Path, *places: str) -> str:
        return shlex.join([sys.executable, str(script), str(out), *places])

    return line


def recorded(out: Path) -> list[Any]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def test_a_command_is_run_once_for_each_final_state(
    start: Start, tmp_path: Path, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gateway, id, out = start(), "$(touch pwned) & `touch pwned`; 'x", tmp_path / "out"
    gateway.write(id, "error", 60, message=NASTY, data={"n": 1})  # has ended already
    gateway.write("late", progress=5)
    with watching(gateway, id, "late", "--exec", command(out, "{id}", "-{message}-", "{status} {progress}")) as watch:
        until(lambda: bool(recorded(out)))
        gateway.stop()
        gateway.start()
        gateway.write("late", "success", 100)
        assert watch.ends()[0] == 1
    seen = recorded(out)
    assert sorted(str(arguments) for arguments, _, _ in seen) == sorted(
        map(str, ([id, f"-{NASTY}-", "error 60"], ["late", "-Working-", "completed 100"]))
    )
    assert seen[0][1] == {"TASK_ID": id, "TASK_STATUS": "error", "TASK_MESSAGE": NASTY, "TASK_PROGRESS": "60"}
    assert seen[0][2]["data"] == {"n": 1}
    assert not (tmp_path / "pwned").exists()
    assert f"seen {id}" in watch.lines


def test_a_task_that_ends_again_runs_its_command_again(
    start: Start, tmp_path: Path, command: Callable[..., str]
) -> None:
    gateway, out = start(), tmp_path / "out"
    gateway.write("before", "success", 100)
    with watching(gateway, "--json", "--exec", command(out, "{id}")) as watch:
        watch.sees("synced")
        for times in (1, 2):
            gateway.write("again", progress=times)
            watch.sees(f'"progress":{times},')
            gateway.write("again", "success", 100, message=f"{times}")
            until(lambda times=times: len(recorded(out)) == times)  # type: ignore[misc]
        watch.process.send_signal(signal.SIGINT)
        code, said = watch.ends()
    assert code == 130
    assert [arguments for arguments, _, _ in recorded(out)] == [["again"], ["again"]]
    assert "seen again" in said
    assert all(line.startswith('{"cursor"') for line in watch.lines)  # nothing else on stdout


@pytest.mark.parametrize(
    ("template", "trouble"),
    [("/no/such/program {id}", "cannot be started: No such file"), ("", "ended with exit status 7")],
)
def test_a_command_that_fails_ends_nothing(
    start: Start, tmp_path: Path, command: Callable[..., str], template: str, trouble: str
) -> None:
    gateway = start()
    gateway.write("fails", "success", 100, message="a\0b")
    template = template or command(tmp_path / "out", "{id}", "{message}")
    with watching(gateway, "fails", "--exec", template) as watch:
        code, said = watch.ends()
    assert code == 0
    assert trouble in said
    assert "for fails" in said


def test_few_commands_run_at_once(start: Start, tmp_path: Path) -> None:
    """Each notes its start and its end; at no time there are more than four between."""
    gateway, log = start(), tmp_path / "log"
    script = tmp_path / "slow.py"
    script.write_text(
        f"import time\nf = open({str(log)!r}, 'a', 1)\nf.write('+\\n')\ntime.sleep(0.3)\nf.write('-\\n')\n"
    )
    ids = [f"t{number}" for number in range(10)]
    for id in ids:
        gateway.write(id, "success", 100)
    with watching(gateway, *ids, "--exec", shlex.join([sys.executable, str(script)])) as watch:
        assert watch.ends() == (0, "")
    now, most = 0, 0
    for mark in log.read_text().split():
        now += 1 if mark == "+" else -1
        most = max(most, now)
    assert (now, most) == (0, 4)
    assert log.read_text().count("+") == 10


# What is known, by a clock of the test's own


def test_a_file_is_waited_for_while_somebody_could_tell() -> None:
    watched = Watched(["t"], Display(), lambda _: None)
    watched.take(News("synced"), 0)
    watched.take(News("lost"), PATIENCE - 1)
    watched.expire(PATIENCE + 1)
    assert not watched.done
    watched.take(News("synced"), 100)
    watched.expire(100 + PATIENCE - 0.1)
    assert not watched.done
    watched.expire(100 + PATIENCE)
    assert (watched.done, watched.code) == (True, 3)


def test_after_a_reset_only_what_is_new_counts() -> None:
    ended: list[tuple[str, int]] = []
    watched = Watched([], Display(), lambda state: ended.append((state.id, state.updated)))

    def task(id: str, status: str, updated: int) -> None:
        watched.take(News("task", id=id, state=State(id, status, 1, "", updated, b"{}")), 0)

    task("old", "completed", 1)
    task("runs", "running", 2)
    watched.take(News("synced"), 0)
    for _ in range(2):
        watched.take(News("reset"), 0)
        task("old", "completed", 1)
        task("runs", "completed", 3)
        task("meanwhile", "error", 4)  # came and ended while nobody looked
        watched.take(News("synced"), 0)
    assert ended == [("runs", 3), ("meanwhile", 4)]
    assert not watched.done


# The estimate


@given(st.floats(0.01, 20), st.floats(0.05, 600), st.integers(2, 50))
def test_an_even_pace_is_estimated_exactly(step: float, every: float, changes: int) -> None:
    estimate = Estimate()
    for number in range(changes + 1):
        estimate.add(number * every, min(100.0, number * step))
    if changes * step > 100 or changes * every < ENOUGH * 2:
        return
    now = changes * every
    rate = estimate.rate(now)
    if rate is not None:
        assert math.isclose(rate, step / every, rel_tol=1e-6)
        left = estimate.left(now)
        assert left is not None
        assert math.isclose(left, (100 - changes * step) / (step / every), rel_tol=1e-6, abs_tol=1e-6)


@given(st.lists(st.tuples(st.floats(0.1, 1000), st.floats(0.1, 10)), min_size=1, max_size=10), st.floats(0, 10_000))
def test_a_rate_lies_between_those_seen_and_falls_when_nothing_comes(
    changes: list[tuple[float, float]], later: float
) -> None:
    estimate, now, progress = Estimate(), 0.0, 0.0
    estimate.add(now, progress)
    for seconds, percent in changes:
        now, progress = now + seconds, progress + percent
        estimate.add(now, progress)
    rates = [percent / seconds for seconds, percent in changes]
    rate = estimate.rate(now)
    if rate is not None:
        assert min(rates) * 0.999 <= rate <= max(rates) * 1.001
        assert (estimate.rate(now + later) or 0) <= rate
        left = estimate.left(now + later)
        assert left is not None
        assert 0 <= left < math.inf


def test_a_task_that_starts_again_is_estimated_anew() -> None:
    estimate = Estimate()
    for now, progress in ((0, 0), (10, 90), (20, 0)):
        estimate.add(now, progress)
    assert estimate.rate(20) is None
    assert estimate.left(20) is None
    estimate.add(30, 10)
    assert estimate.rate(30) == 1
    assert estimate.left(30) == 90
    assert estimate.left(40) == 80
    assert (estimate.left(130) or 0) > 80  # overdue: it takes longer than was thought


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, ""), (0, "0:00"), (59.2, "1:00"), (61, "1:01"), (3600, "1:00:00"), (1e9, "")],
)
def test_a_time_reads_well(seconds: float | None, shown: str) -> None:
    assert time_text(seconds) == shown


def test_a_rate_reads_well() -> None:
    assert [rate_text(rate) for rate in (None, 2, 0.5, 0.01)] == ["", "2.0 %/s", "30.0 %/min", "0.6 %/min"]


@given(st.text())
def test_text_is_inert(text: str) -> None:
    shown = inert(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert inert(shown) == shown
