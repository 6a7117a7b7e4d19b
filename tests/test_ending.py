"""How the process ends by signals, also where its loop stands still: at once, with nothing left behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import until
from tests.test_supervised import workers_of

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX") or not hasattr(os, "fork"), reason="POSIX only")

STANDS = """
import time
from {module} import {name}
def stands(*_given):
    open({file!r}, "w").close()
    while True:
        time.sleep(1)
{name}.{method} = stands
from gateway.cli import main
main()
"""
"""A gateway that stands still at a method, and makes a file when it does."""


class Ending:
    """A gateway with a Unix socket, a key, and a temporary folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.temporary, self.data, self.key = folder / "tmp", folder / "data", folder / "key"
        self.path, self.stands = folder / "socket", folder / "stands"
        (self.data / "Tasks").mkdir(parents=True)
        self.temporary.mkdir()
        self.key.write_text("k" * 40)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, module: str = "", name: str = "", method: str = "", command: str = "serve") -> None:
        code = STANDS.format(module=module, name=name, method=method, file=str(self.stands))
        argv = [sys.executable, *(["-c", code] if module else ["-m", "gateway"]), command]
        argv += ["--bind", f"unix:{self.path}", "--auth-key", str(self.key), "--grace", "50", *options]
        argv += ["--data-path", str(self.data)] if command == "serve" else ["--bind", "127.0.0.1:0"]
        self.process = subprocess.Popen(argv, env={**os.environ, "TMPDIR": str(self.temporary)})

    def signal(self, number: int = signal.SIGTERM) -> None:
        assert self.process
        self.process.send_signal(number)

    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self.path))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.1 200")
        return False

    def has_ended(self) -> bool:
        """By itself, with exit status 0, and nothing is left."""
        assert self.process
        return self.process.wait(20) == 0 and not self.path.exists() and not list(self.temporary.iterdir())


@pytest.fixture
def one() -> Iterator[Ending]:
    with tempfile.TemporaryDirectory() as short:  # a socket's path may not be long
        found = Ending(Path(short))
        yield found
        if found.process:
            found.process.kill()
            found.process.wait(20)


def twice(one: Ending, number: int = signal.SIGTERM) -> None:
    """A second signal, once the first one has been heard."""
    one.signal(number)
    with socket.socket(socket.AF_UNIX) as late:
        until(lambda: not one.path.exists() or late.connect_ex(str(one.path)) != 0)
    one.signal(number)


@pytest.mark.parametrize("command", ["serve", "demo"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_nothing(one: Ending, command: str, number: int) -> None:
    one.start(command=command)
    until(one.listens, 20)
    with socket.socket(socket.AF_UNIX) as client:  # who is waited for
        client.connect(str(one.path))
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        until(one.listens)
        twice(one, number)
        assert one.has_ended()


def test_signals_that_come_together_leave_nothing(one: Ending) -> None:
    one.start()
    until(one.listens, 20)
    one.signal()
    one.signal(signal.SIGINT)
    one.signal()
    assert one.has_ended()


def test_a_second_signal_ends_a_loop_that_stands_still(one: Ending) -> None:
    one.start(module="gateway.hub", name="Hub", method="beat")
    until(one.stands.exists, 20)
    one.signal()
    one.signal(signal.SIGINT)
    assert one.has_ended()


def test_a_signal_before_it_serves_leaves_nothing(one: Ending) -> None:
    one.start(module="gateway.server", name="Server", method="__init__")
    until(one.stands.exists, 20)
    one.signal()
    assert one.has_ended()


def test_a_signal_while_the_end_hangs_leaves_nothing(one: Ending) -> None:
    one.start(module="asyncio", name="Runner", method="close")
    until(one.listens, 20)
    one.signal()
    until(one.stands.exists, 20)
    one.signal()
    assert one.has_ended()


@pytest.mark.parametrize("stopped", [True, False])
def test_workers_that_stand_still_are_ended_by_a_second_signal(one: Ending, stopped: bool) -> None:
    one.start("--workers", "2")
    until(one.listens, 20)
    assert one.process
    parent = one.process.pid
    until(lambda: len(workers_of(parent)) == 2)
    pids = workers_of(parent)
    if stopped:
        os.kill(pids[0], signal.SIGSTOP)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(one.path))
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        one.signal()
        until(lambda: not Path(f"/proc/{pids[1]}").exists() or not one.listens())
        one.signal()
        assert one.has_ended()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
