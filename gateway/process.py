"""Processes that serve: one, or several on the same sockets."""

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from gateway.app import create_app
from gateway.server import Server
from gateway.settings import Settings

log = logging.getLogger("gateway.process")

RESTART = 1.0
"""Seconds until a worker that died is replaced."""

Beside = Callable[[], Coroutine[Any, Any, None]]
"""What is to run in the same loop as long as the server does."""


class JsonFormatter(logging.Formatter):
    """A log record as a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def say(text: str) -> None:
    """A word to the person at the terminal, as it is."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def serve(settings: Settings, sockets: list[socket.socket], says: str, beside: Beside | None = None) -> None:
    """Serves in this process until a signal ends it; says so once it listens."""
    _prepare(settings)
    server = Server(create_app(settings), settings, partial(_started, says))
    _run(_serve(server, sockets, beside))


def serve_with_workers(settings: Settings, sockets: list[socket.socket], says: str) -> None:
    """Serves in `settings.workers` processes, and replaces those that die, until a signal ends them all."""
    with tempfile.TemporaryDirectory(prefix="gateway-auth-") as shared:
        _serve_with_workers(settings.model_copy(update={"auth_folder": Path(shared)}), sockets, says)


def _serve_with_workers(settings: Settings, sockets: list[socket.socket], says: str) -> None:
    _prepare(settings)
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = []
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()
        for worker in workers:
            worker.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    say(says)
    while not stopping.is_set():
        while len(workers) < settings.workers and not stopping.is_set():
            workers.append(context.Process(target=_work, args=(settings, sockets)))
            workers[-1].start()
        wait([worker.sentinel for worker in workers])
        for worker in [w for w in workers if not w.is_alive()]:
            workers.remove(worker)
            if not stopping.is_set():
                log.error("worker %s ended with exit status %s: starting another", worker.pid, worker.exitcode)
                stopping.wait(RESTART)
    for worker in workers:
        worker.terminate()  # one that was started while the signal came
        worker.join()


def _work(settings: Settings, sockets: list[socket.socket]) -> None:
    """A worker's life. It ends with its parent, however that ended."""
    _prepare(settings)
    parent = multiprocessing.parent_process()
    assert parent
    orphaned = partial(wait, [parent.sentinel])
    server = Server(create_app(settings), settings, partial(_started, ""))
    server.ending_signals = (signal.SIGTERM,)  # Ctrl-C reaches all at once: the parent passes it on
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        orphaned()
        server.should_exit = True

    threading.Thread(target=end_with_parent, daemon=True).start()
    _run(_serve(server, sockets, None))


async def _serve(server: Server, sockets: list[socket.socket], beside: Beside | None) -> None:
    task = asyncio.create_task(beside()) if beside else None
    await server.serve(sockets)
    if task:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _started(says: str) -> None:
    gc.collect()
    gc.freeze()  # what is there now stays: it need not be looked at again
    if says:
        say(says)


NOISY = {"watchfiles": logging.WARNING, "uvicorn.error": logging.ERROR, "sse_starlette": logging.WARNING}
"""uvicorn warns of each request that is not HTTP: a port scan would fill the disk."""


def _prepare(settings: Settings) -> None:
    handler = _for_machines() if settings.log_format == "json" else _for_people()
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    for noisy, least in NOISY.items():
        logging.getLogger(noisy).setLevel(max(least, logging.getLogger().level))
    raise_descriptor_limit()


def _for_machines() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    return handler


def _for_people() -> logging.Handler:
    from rich.console import Console  # noqa: PLC0415 - most commands log nothing
    from rich.logging import RichHandler  # noqa: PLC0415

    handler = RichHandler(console=Console(stderr=True, highlight=False))
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    return handler


def raise_descriptor_limit() -> None:
    """As many connections as the system allows this user."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - POSIX only

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):  # macOS names a limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(serving: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serving)
