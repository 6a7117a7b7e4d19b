"""Gateways that are forked from a process which has imported everything: a start costs a tenth of what it does else."""

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_PRELOAD = [
    "gateway.cli",
    "gateway.process",
    "gateway.app",
    "gateway.worker",
    "uvicorn.main",
    "uvloop",
    "prometheus_client",
]

_context: Any = None


def _forkserver() -> Any:
    """One for each process that runs tests; made when the first gateway is started."""
    global _context  # noqa: PLW0603 - it lives as long as its process
    if _context is None:
        _context = multiprocessing.get_context("forkserver")
        _context.set_forkserver_preload(_PRELOAD)
    return _context


class Forked:
    """What is used of `subprocess.Popen`: a process that runs `python -m gateway …`, or uvicorn."""

    def __init__(self, argv: list[str], *, env: dict[str, str], cwd: Path | None) -> None:
        reads, writes = os.pipe()
        theirs = Connection(writes, readable=False)
        self.args = argv
        self.stderr = os.fdopen(reads, errors="replace")
        self._process = _forkserver().Process(target=_run, args=(argv, env, str(cwd or Path.cwd()), theirs))
        self._process.start()
        theirs.close()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        status: int | None = self._process.exitcode
        return status

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(argv: list[str], env: dict[str, str], cwd: str, stderr: Connection) -> None:
    """In the new process: becomes what `python *argv` would be."""
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[0] = cwd
    module, sys.argv = argv[2], argv[2:]
    if module == "uvicorn":
        from uvicorn.main import main as serve  # noqa: PLC0415

        serve()
    else:
        from gateway.cli import main  # noqa: PLC0415

        main()
