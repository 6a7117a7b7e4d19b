"""Real gateways for tests: a process, a port, a folder of task files."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from tests.forked import Forked

PLAIN = ssl.create_default_context()
"""Made once: it takes longer than most requests."""

PATIENCE = 90.0
"""Seconds that anything may take that is known to come: a machine may be ten times too slow."""

CI = os.environ.get("CI") == "true"


COMMAND = (sys.executable, "-m", "gateway")


def require(program: str) -> str:
    """A program that a test needs: missing is a skip with its reason, and on CI a failure."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")  # where Debian has its servers
    if not found:
        (pytest.fail if CI else pytest.skip)(f"{program} is not installed")
    return str(found)


def flat(task_id: str, status: str = "running", progress: object = 50, message: str = "Working", **more: Any) -> bytes:
    """A task file as the flat document shows it."""
    return json.dumps(
        {"status": status, "task_id": task_id, "progress": progress, "message": message, "data": {}, **more}, indent=2
    ).encode()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Gateway:
    """A gateway process. `kind` is "gateway" for our own server, "uvicorn" for the app under a plain ASGI server.

    `command` is how `gateway` is called, and `cwd` where.
    """

    def __init__(
        self,
        *options: str,
        kind: str = "gateway",
        data: Path | None = None,
        folder: bool = True,
        env: dict[str, str] | None = None,
        command: tuple[str, ...] = COMMAND,
        cwd: Path | None = None,
    ):
        self.kind = kind
        self.data = data or Path(tempfile.mkdtemp(prefix="gateway-test-"))
        self._scratch = None if data else self.data
        self.tasks = self.data / "Tasks"
        self._folder = ["--data-path", str(self.data)] if folder else []
        self.options = options
        self.port = free_port()
        self.env = env or {}
        self._command, self._cwd = command, cwd
        self.lines: list[str] = []
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        env = {**os.environ, "COLUMNS": "200", **self.env}
        if self.kind == "gateway":
            argv = [*self._command, "serve", "--bind", f"127.0.0.1:{self.port}", *self.options]
            argv += self._folder
        else:
            argv = [sys.executable, "-m", "uvicorn", "--factory", "gateway.app:create_app", "--port", str(self.port)]
            argv += ["--ws", "websockets-sansio", "--log-level", "warning"]
            env |= {"GATEWAY_DATA_PATH": str(self.data)} if self._folder else {}
            for name, value in zip(self.options[::2], self.options[1::2], strict=True):
                env["GATEWAY_" + name.removeprefix("--").replace("-", "_").upper()] = value
        self.process: subprocess.Popen[str] | Forked
        if hasattr(os, "fork") and argv[:2] == list(COMMAND[:2]):
            self.process = Forked(argv, env=env, cwd=self._cwd)
        else:
            self.process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=env, cwd=self._cwd)
        assert self.process.stderr
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        until = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                break
            assert self.process.poll() is None, "".join(self.lines)
            assert time.monotonic() < until, "the gateway does not listen"
            time.sleep(0.01)

    def _read(self, stream: Any) -> None:
        with stream:
            for line in stream:
                self.lines.append(line)

    def stop(self, sig: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(5)
        return code

    def close(self) -> None:
        try:
            self.stop()
        finally:
            if self._scratch:
                shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> "Gateway":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The backend's part

    def write(self, task_id: str, status: str = "running", progress: object = 50, **more: Any) -> Path:
        return self.put(task_id, flat(task_id, status, progress, **more))

    def put(self, task_id: str, body: bytes) -> Path:
        self.tasks.mkdir(exist_ok=True)
        path = self.tasks / f"{task_id}.json"
        path.write_bytes(body)
        return path

    # The client's part

    def get(self, path: str, **headers: str) -> httpx.Response:
        given = {k.replace("_", "-"): v for k, v in headers.items()}
        return httpx.get(self.url + path, headers=given, timeout=PATIENCE, verify=PLAIN)

    @contextlib.contextmanager
    def sse(self, path: str, **headers: str) -> Iterator[Iterator[ServerSentEvent]]:
        given = {k.replace("_", "-"): v for k, v in headers.items()}
        with (
            httpx.Client(timeout=PATIENCE, verify=PLAIN) as client,
            connect_sse(client, "GET", self.url + path, headers=given) as source,
        ):
            source.response.raise_for_status()
            yield source.iter_sse()

    @contextlib.contextmanager
    def ndjson(self, path: str) -> Iterator[Iterator[dict[str, Any]]]:
        headers = {"Accept": "application/x-ndjson"}
        with httpx.stream("GET", self.url + path, headers=headers, timeout=PATIENCE, verify=PLAIN) as response:
            response.raise_for_status()
            yield (json.loads(line) for line in _lines(response.iter_bytes()) if line)


class Backend:
    """A backend in a process of its own: `python -m module PORT …`."""

    def __init__(self, module: str, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._argv = [sys.executable, "-m", module, str(self.port), *options]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._argv)
        until(self._listens)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


def _lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """httpx's own lines end at U+2028, too."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        yield from whole


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Waits for something outside that sends no event, such as a process's log."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def port_of(line: str) -> int:
    """The port in a `Serving … at http://host:port` line."""
    found = re.search(r"https?://\S+?:(\d+)", line)
    assert found, line
    return int(found[1])
