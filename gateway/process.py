"""A process that serves, and how it ends."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from gateway import log
from gateway.app import create_app
from gateway.parts import Body
from gateway.reload import Reload
from gateway.server import Server
from gateway.settings import Settings
from gateway.supervisor import Supervisor

Beside = Mapping[str, Body]
"""What is to run in the same loop as long as the server does, by its name."""


@contextmanager
def leaving_nothing() -> Iterator[ExitStack]:
    """What is entered into this is left however the process ends by a signal: before its server hears of signals, by
    it, or at once.
    """
    with ExitStack() as stack:

        def end(_signal: int, _frame: FrameType | None) -> None:
            leave(stack)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        yield stack


def leave(stack: ExitStack) -> None:
    """Ends the process at once, as a signal's handler may: the loop may stand still."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        stack.close()
        logging.shutdown()
    finally:
        os._exit(0)


def scratch(stack: ExitStack, name: str) -> Path:
    """A folder that is there until the process ends."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"gateway-{name}-", ignore_cleanup_errors=True)))


def serve(
    settings: Settings, sockets: list[socket.socket], says: str, stack: ExitStack, beside: Beside | None = None
) -> None:
    """Serves in this process until a signal ends it; says so once it listens. `stack` holds what is to be left.

    Raises SystemExit where something else ends it.
    """
    prepare(settings)
    supervisor = Supervisor()

    def listens() -> None:
        settle()
        log.say(says)
        supervisor.ready(says)

    reload = Reload(  # first, since the signal ends a process that does not know it
        settings,
        supervisor,
        says,
        take=lambda found: take(server, found),
        end=lambda: server.handle_exit(signal.SIGTERM, None),
    )
    if settings.asks and not settings.auth_folder:
        settings = settings.model_copy(update={"auth_folder": scratch(stack, "auth")})
    server = Server(create_app(settings), settings, listens, supervisor.stopping, partial(leave, stack))
    run(server, sockets, {**(beside or {}), "watchdog": supervisor.watch, "reload": reload.on_hangup})


def take(server: Server, settings: Settings) -> None:
    """Goes on with these settings."""
    log.set_level(settings.log_level)
    server.take(settings)


def run(server: Server, sockets: list[socket.socket], beside: Beside) -> None:
    """Serves until the server ends, with what is to run beside it. Raises SystemExit where it failed."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(server, sockets, beside))
    if server.failed:
        raise SystemExit(1)


async def _serve(server: Server, sockets: list[socket.socket], beside: Beside) -> None:
    async with AsyncExitStack() as stack:
        for name, body in beside.items():
            await stack.enter_async_context(server.parts.running(name, body))
        await server.serve(sockets)


def settle() -> None:
    """Once all is set up: what is there now stays, and need not be looked at again."""
    gc.collect()
    gc.freeze()


def prepare(settings: Settings) -> None:
    """What a process needs before it serves: its log, and room for connections."""
    log.start(settings.log_format, settings.log_level)
    raise_descriptor_limit()


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
