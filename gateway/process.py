"""A process that serves, and its log."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.app import create_app
from gateway.reload import Reload
from gateway.server import Server
from gateway.settings import Settings
from gateway.supervisor import Supervisor

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
    prepare(settings)
    supervisor = Supervisor()

    def listens() -> None:
        settle()
        say(says)
        supervisor.ready(says)

    reload = Reload(  # first, since the signal ends a process that does not know it
        settings,
        supervisor,
        says,
        take=lambda found: take(server, found),
        end=lambda: server.handle_exit(signal.SIGTERM, None),
    )
    server = Server(create_app(settings), settings, listens, supervisor.stopping)
    run(server, sockets, *([beside] if beside else []), supervisor.watch, reload.on_hangup)


def take(server: Server, settings: Settings) -> None:
    """Goes on with these settings."""
    set_log_level(settings)
    server.take(settings)


def run(server: Server, sockets: list[socket.socket], *beside: Beside) -> None:
    """Serves until the server ends, with what is to run beside it."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(server, sockets, beside))


async def _serve(server: Server, sockets: list[socket.socket], beside: Sequence[Beside]) -> None:
    tasks = [asyncio.create_task(one()) for one in beside]
    await server.serve(sockets)
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def settle() -> None:
    """Once all is set up: what is there now stays, and need not be looked at again."""
    gc.collect()
    gc.freeze()


NOISY = {"watchfiles": logging.WARNING, "uvicorn.error": logging.ERROR, "sse_starlette": logging.WARNING}
"""uvicorn warns of each request that is not HTTP: a port scan would fill the disk."""


def prepare(settings: Settings) -> None:
    """What a process needs before it serves: its log, and room for connections."""
    handler = _for_machines() if settings.log_format == "json" else _for_people()
    logging.basicConfig(handlers=[handler])
    set_log_level(settings)
    raise_descriptor_limit()


def set_log_level(settings: Settings) -> None:
    logging.getLogger().setLevel(settings.log_level.upper())
    for noisy, least in NOISY.items():
        logging.getLogger(noisy).setLevel(max(least, logging.getLogger().level))


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

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for most in (hard, 65_536, 10_240):  # macOS names a limit that it does not grant
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most if most == hard else max(soft, most), hard))
                return


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
