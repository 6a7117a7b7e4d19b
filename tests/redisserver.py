"""A real `redis-server` for a test: on a free port, in a folder of its own."""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from redis import Redis

from tests.harness import free_port, require, until

CLUSTERED = 55_536
"""A port of a cluster's server has to be below: its bus is 10,000 above."""


class RedisServer:
    """Holds nothing on disk: who starts it anew gets an empty one. `options` are those of its configuration; with a
    `sentinel` configuration it is a Sentinel.
    """

    def __init__(self, *options: str, sentinel: str = "") -> None:
        self.port = next(port for port in iter(free_port, 0) if port < CLUSTERED)
        self._folder = Path(tempfile.mkdtemp(prefix="gateway-redis-"))
        self._argv = [require("redis-server")]
        if sentinel:
            (self._folder / "sentinel.conf").write_text(sentinel)
            self._argv += [str(self._folder / "sentinel.conf"), "--sentinel"]
        else:
            self._argv += ["--save", "", "--dir", str(self._folder)]
        self._argv += ["--port", str(self.port), "--bind", "127.0.0.1", *options]
        self.client: Any = Redis(port=self.port, socket_timeout=5)
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL)
        try:
            until(self._listens)
        except AssertionError:
            self.kill()
            raise

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.client.close()
        self.go_on()
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    # What the gateways keep in it

    def entries(self, name: str = "gateway") -> list[bytes]:
        """The records in the stream, in order."""
        return [fields[b"r"] for _, fields in self.client.xrange(f"{{{name}}}:stream")]

    def epoch(self) -> str:
        return str((self.client.hget("{gateway}:meta", "epoch") or b"").decode())
