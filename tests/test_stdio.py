"""Commands whose stdout cannot be written to: no traceback, and what a shell expects of the exit status."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Gateway

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")

COMMANDS = pytest.mark.parametrize(
    "command", ["help", "serve --help", "token", "check", "bench", "bench --json", "watch"]
)


def argv(command: str, one: Gateway) -> list[str]:
    one.put("a", b"{")  # something to be found fault with
    one.write("b", "success", 100)
    (key := one.data / "key").write_text("k" * 40)
    more = {
        "help": ["--help"],
        "token": ["token", "--key", str(key)],
        "check": ["check", str(one.data)],
        "watch": ["watch", "b", "--url", one.url],
    }
    words = command.split()
    options = ["--subscribers", "1", "--seconds", "1"] if "bench" in words else []
    return [sys.executable, "-m", "gateway", *more.get(command, [*words, *options])]


@COMMANDS
def test_whose_reader_has_left(start: Callable[..., Gateway], command: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        argv(command, start()), stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=50, check=False
    )
    os.close(theirs)
    assert done.returncode == 141  # as of a program that SIGPIPE has ended
    assert done.stderr == ""


@COMMANDS
def test_onto_a_full_disk(start: Callable[..., Gateway], command: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            argv(command, start()), stdout=full, stderr=subprocess.PIPE, text=True, timeout=50, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "gateway: stdout: No space left on device\n"


@COMMANDS
def test_without_any_of_the_three(start: Callable[..., Gateway], command: str) -> None:
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *argv(command, start())]
    assert subprocess.run(closed, timeout=50, check=False).returncode == int(command == "check")


def test_a_complaint_that_nobody_reads(tmp_path: Path) -> None:
    command = f"{sys.executable} -m gateway serve --data-path {tmp_path}/none"
    for redirection in ("2>/dev/full", "2>&-"):
        assert subprocess.run(["sh", "-c", f"{command} {redirection}"], timeout=50, check=False).returncode == 2
