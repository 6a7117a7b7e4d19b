"""Several processes on the same sockets, and their parent, who speaks for all."""

import asyncio
import contextlib
import logging
import multiprocessing
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from gateway.app import create_app
from gateway.process import prepare, run, say, set_log_level, settle, take
from gateway.reload import POSSIBLE, Reload, release
from gateway.server import Server
from gateway.settings import Settings
from gateway.supervisor import Supervisor

log = logging.getLogger("gateway.process")

RESTART = 1.0
"""Seconds until a worker that died is replaced."""


def serve(settings: Settings, sockets: list[socket.socket], says: str) -> None:
    """Serves in `settings.workers` processes, and replaces those that die, until a signal ends them all."""
    prepare(settings)
    with tempfile.TemporaryDirectory(prefix="gateway-auth-") as shared:
        Workers(settings, sockets, says, Path(shared)).run()


@dataclass
class Worker:
    process: BaseProcess
    pipe: Connection
    heard: float
    serves: bool = False
    told: bool = False


class Workers:
    """The parent's part. The supervisor hears of it once all serve, and as long as each gives signs of life."""

    def __init__(self, settings: Settings, sockets: list[socket.socket], says: str, shared: Path) -> None:
        self._settings, self._sockets, self._says, self._shared = settings, sockets, says, shared
        self._context = multiprocessing.get_context("spawn")
        self._supervisor = Supervisor()
        self._workers: list[Worker] = []
        self._reload = Reload(settings, self._supervisor, says, take=self._take, end=self._end)
        self._wakes, self._waker = socket.socketpair()
        self._ready = self._stopping = self._hung_up = False
        self._next_start = self._next_sign = 0.0

    def run(self) -> None:
        for end in (self._wakes, self._waker):
            end.setblocking(False)
        # A signal that comes right before a wait would not end it.
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        if POSSIBLE:
            signal.signal(signal.SIGHUP, self._hang_up)
            release()
        say(self._says)
        while not self._stopping:
            self._fill()
            pipes = {worker.pipe: worker for worker in self._workers}
            ends = [worker.process.sentinel for worker in self._workers]
            for source in wait([*pipes, *ends, self._wakes], self._patience()):
                if worker := pipes.get(source):  # type: ignore[call-overload]
                    self._hear(worker)
            with contextlib.suppress(BlockingIOError):
                self._wakes.recv(4_096)
            self._bury()
            self._obey()
            self._speak()
        self._end()  # also what was started while the signal came
        for worker in self._workers:
            worker.process.join()

    def _hang_up(self, _signal: int, _frame: FrameType | None) -> None:
        self._hung_up = True

    def _obey(self) -> None:
        if self._hung_up and not self._stopping:
            self._hung_up = False
            self._reload.hang_up()

    def _take(self, settings: Settings) -> None:
        set_log_level(settings)
        self._settings = settings
        for worker in self._workers:
            with contextlib.suppress(OSError):  # it ends, and the next one starts with them
                worker.pipe.send(settings)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        if self._stopping:  # a second one is meant
            for worker in self._workers:
                worker.told = False
        self._end()

    def _end(self) -> None:
        """Tells each worker that has been started, once: twice would cut off who is still being answered."""
        if not self._stopping:
            self._supervisor.stopping()
        self._stopping = True
        for worker in self._workers:
            if worker.process.pid and not worker.told:
                worker.told = True
                worker.process.terminate()

    def _fill(self) -> None:
        while len(self._workers) < self._settings.workers and time.monotonic() >= self._next_start:
            if self._stopping:
                return
            ours, theirs = self._context.Pipe()
            settings = self._settings.model_copy(update={"auth_folder": self._shared})
            process = self._context.Process(target=_work, args=(settings, self._sockets, theirs, self._supervisor.beat))
            self._workers.append(Worker(process, ours, time.monotonic()))
            process.start()
            theirs.close()

    def _hear(self, worker: Worker) -> None:
        try:
            worker.pipe.recv_bytes()
        except (EOFError, OSError):
            worker.process.join(RESTART)  # it is about to end
            return
        worker.heard, worker.serves = time.monotonic(), True

    def _bury(self) -> None:
        for worker in [worker for worker in self._workers if not worker.process.is_alive()]:
            self._workers.remove(worker)
            worker.pipe.close()
            if not self._stopping:
                code = worker.process.exitcode
                log.error("worker %s ended with exit status %s: starting another", worker.process.pid, code)
                self._next_start = time.monotonic() + RESTART

    def _speak(self) -> None:
        """Says what a service manager waits for. Nothing of life where one worker has not shown any."""
        now, beat = time.monotonic(), self._supervisor.beat
        if not self._ready and len(self._workers) == self._settings.workers and all(w.serves for w in self._workers):
            self._ready = True
            self._supervisor.ready(self._says)
        if beat and now >= self._next_sign and all(now - w.heard < 2 * beat for w in self._workers if w.serves):
            self._next_sign = now + beat
            self._supervisor.alive()

    def _patience(self) -> float | None:
        """Seconds until something has to be done though nothing comes."""
        now = time.monotonic()
        due = [self._next_start] if len(self._workers) < self._settings.workers else []
        due += [self._next_sign] if self._supervisor.beat else []
        return max(0.01, min(due) - now) if due else None


def _work(settings: Settings, sockets: list[socket.socket], pipe: Connection, beat: float | None) -> None:
    """A worker's life. It ends with its parent, however that ended."""
    prepare(settings)

    def lives() -> None:
        with contextlib.suppress(OSError):  # its parent has gone, and it follows
            pipe.send_bytes(b".")

    def listens() -> None:
        settle()
        lives()

    server = Server(create_app(settings), settings, listens)
    server.ending_signals = (signal.SIGTERM,)  # Ctrl-C reaches all at once: the parent passes it on
    for number in (signal.SIGINT, *([signal.SIGHUP] if POSSIBLE else [])):
        signal.signal(number, signal.SIG_IGN)
    run(server, sockets, partial(_beat, server, lives, beat), partial(_follow, server, pipe))


async def _follow(server: Server, pipe: Connection) -> None:
    """Takes up the settings that the parent passes on, and ends with it."""
    call = asyncio.get_running_loop().call_soon_threadsafe
    parent = multiprocessing.parent_process()
    assert parent

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError, RuntimeError):  # the parent has gone, or the loop
            while pipe in wait([pipe, parent.sentinel]):
                call(take, server, pipe.recv())
        server.should_exit = True

    threading.Thread(target=listen, daemon=True).start()


async def _beat(server: Server, lives: Callable[[], None], seconds: float | None) -> None:
    """Signs of life, half as far apart as the parent's own."""
    while seconds:
        await asyncio.sleep(seconds / 2)
        if server.started:
            lives()
