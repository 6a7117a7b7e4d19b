"""A process goes on without its log, ends when a part of it cannot, and leaves nothing behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

import httpx

from tests.flood.clients import Raw, head
from tests.flood.stage import Stage, case
from tests.harness import Gateway, until

GATEWAY = (sys.executable, "-m", "gateway")


def shell(redirection: str) -> tuple[str, ...]:
    """The gateway's command, with its log led somewhere; it keeps its process id."""
    return ("bash", "-c", f'exec "$0" "$@" {redirection}', *GATEWAY)


def without_log(stage: Stage, redirection: str) -> None:
    for format in ("text", "json"):
        one = stage.serve("--access-log", "--log-format", format, command=shell(redirection))
        stage.write(1, 100)
        with stage.measured(one):
            for _ in range(50):
                with contextlib.suppress(httpx.HTTPError):
                    stage.count(Counter([str(one.get("/api/task?task_id=task-0").status_code)]))
            stage.check(f"{format}: it has ended with {one.process.poll()}", one.process.poll() is None)
    stage.check(f"answers were {dict(stage.row.answers)}", stage.row.answers == Counter({"200": 100}))


@case("The log's reader goes away: 2>&1 | head -1")
def log_without_reader(stage: Stage) -> None:
    without_log(stage, "> >(head -1 >/dev/null) 2>&1")


@case("The log's disk is full: >/dev/full 2>&1")
def log_on_a_full_disk(stage: Stage) -> None:
    without_log(stage, ">/dev/full 2>&1")


@case("There is no log: <&- >&- 2>&-")
def log_descriptors_closed(stage: Stage) -> None:
    without_log(stage, "<&- >&- 2>&-")


@case("A log line is one line where stderr is no terminal.")
def long_log_lines(stage: Stage) -> None:
    one = stage.serve("--access-log", env={"COLUMNS": ""})
    with stage.measured(one):
        path = f"/api/task?task_id={'x' * 200}"
        one.get(path)
        with contextlib.suppress(AssertionError):
            until(lambda: any("task_id=xx" in line for line in one.lines), 3)
        stage.check("the line was cut or wrapped", any(path in line for line in one.lines))


UNPRIVILEGED = (
    "setpriv", "--reuid=54321", "--inh-caps=-all,+dac_override,+dac_read_search",
    "--ambient-caps=-all,+dac_override,+dac_read_search",
)  # fmt: skip
"""Root may always start threads: as somebody else, who may still read all files."""


@case("No thread can be started: it goes on, or ends with a status that is not 0.", may_end=True)
def no_more_threads(stage: Stage) -> None:
    """For its first seconds, in which the folder is compared for the first time; watchfiles aborts by itself."""
    stage.write(1, 100)
    user = UNPRIVILEGED if os.geteuid() == 0 else ()
    try:
        one = stage.serve("--no-watch", command=(*user, "prlimit", "--nproc=0:4096", *GATEWAY))
    except AssertionError:
        stage.note("it has ended at once")
        return
    time.sleep(3)
    if one.process.poll() is None:
        argv = [*user, "prlimit", f"--pid={one.process.pid}", "--nproc=4096:"]  # the same user has to say so
        subprocess.run(argv, check=False)
    try:
        until(lambda: one.process.poll() is not None or has_streams(one), stage.patience(10))
    except AssertionError:
        stage.check("it neither works nor has ended", False)


def has_streams(one: Gateway) -> bool:
    with contextlib.suppress(httpx.HTTPError), one.sse("/api/task?task_id=task-0") as events:
        return bool(next(events))
    return False


@case("A second signal ends it at once, and leaves no path behind.")
def second_signal(stage: Stage) -> None:
    path = stage.folder / "gateway.sock"
    one = stage.serve("--bind", f"unix:{path}", "--grace", "10")
    stage.write(1, 60_000)
    with stage.measured(one), Raw(one) as raw:
        raw.say(head("/api/task?task_id=task-0") * 200)  # answers that nobody takes: it waits for them
        with socket.socket(socket.AF_UNIX) as opened:
            opened.connect(str(path))
        time.sleep(0.3)
        stage.row.most = stage.row.before
    one.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    one.process.send_signal(signal.SIGTERM)
    one.process.wait(15)
    stage.check("the socket's path stays", not path.exists())
