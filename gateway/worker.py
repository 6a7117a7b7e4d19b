"""One of several processes that serve: it tells its parent that it lives, and ends with it."""

import asyncio
import contextlib
import multiprocessing
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection, wait

from gateway.app import create_app
from gateway.process import leave, prepare, run, settle, take
from gateway.reload import POSSIBLE
from gateway.server import Server
from gateway.settings import Settings


def work(settings: Settings, sockets: list[socket.socket], pipe: Connection, beat: float | None) -> None:
    """A worker's life. It ends with its parent, however that ended."""
    prepare(settings)

    def lives() -> None:
        with contextlib.suppress(OSError):  # its parent has gone, and it follows
            pipe.send_bytes(b".")

    def listens() -> None:
        settle()
        lives()

    server = Server(create_app(settings), settings, listens, at_once=partial(leave, ExitStack()))
    server.ending_signals = (signal.SIGTERM,)  # Ctrl-C reaches all at once: the parent passes it on
    for number in (signal.SIGINT, *([signal.SIGHUP] if POSSIBLE else [])):
        signal.signal(number, signal.SIG_IGN)
    run(server, sockets, {"watchdog": partial(_beat, server, lives, beat), "parent": partial(_follow, server, pipe)})


async def _follow(server: Server, pipe: Connection) -> None:
    """Takes up the settings that the parent passes on, and ends with it."""
    call = asyncio.get_running_loop().call_soon_threadsafe
    parent = multiprocessing.parent_process()
    assert parent

    def listen() -> None:
        try:
            with contextlib.suppress(EOFError, OSError, RuntimeError):  # the parent has gone, or the loop
                while pipe in wait([pipe, parent.sentinel]):
                    call(take, server, pipe.recv())
        finally:
            server.should_exit = True

    threading.Thread(target=listen, daemon=True).start()


async def _beat(server: Server, lives: Callable[[], None], seconds: float | None) -> None:
    """Signs of life, half as far apart as the parent's own."""
    while seconds:
        await asyncio.sleep(seconds / 2)
        if server.started:
            lives()
