"""Several processes on the same sockets, and their parent, who speaks for all."""

import contextlib
import logging
import math
import multiprocessing
import signal
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from gateway.log import say, set_level
from gateway.parts import WELL, pause
from gateway.process import prepare, scratch
from gateway.reload import POSSIBLE, Reload, release
from gateway.settings import Settings
from gateway.supervisor import Supervisor
from gateway.worker import work

log = logging.getLogger("gateway.process")

SECONDS = 1.0
"""For which a worker is waited for that is about to end, or that was told twice to."""


def serve(settings: Settings, sockets: list[socket.socket], says: str, stack: ExitStack) -> None:
    """Serves in `settings.workers` processes, and replaces those that die, until a signal ends them all. `stack` holds
    what is to be left.

    Raises SystemExit where none of them can serve at all.
    """
    prepare(settings)
    workers = Workers(settings, sockets, says, scratch(stack, "auth"))
    workers.run()
    if workers.failed:
        raise SystemExit(1)


@dataclass
class Worker:
    process: BaseProcess
    pipe: Connection
    started: float
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
        self._served = False
        self._next_start = self._next_sign = 0.0
        self._failures = 0  # in a row
        self._patient_until = math.inf
        self.failed = False

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
            self._drain()
            self._bury()
            self._obey()
            self._speak()
        self._end()  # also what was started while the signal came
        self._wait()

    def _wait(self) -> None:
        """Until all have ended. Who was told twice and does not is killed: its loop may stand still."""
        while there := [worker.process for worker in self._workers if worker.process.is_alive()]:
            wait([*[process.sentinel for process in there], self._wakes], SECONDS)
            self._drain()
            if time.monotonic() > self._patient_until:
                for process in there:
                    process.kill()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakes.recv(4_096)

    def _hang_up(self, _signal: int, _frame: FrameType | None) -> None:
        self._hung_up = True

    def _obey(self) -> None:
        if self._hung_up and not self._stopping:
            self._hung_up = False
            self._reload.hang_up()

    def _take(self, settings: Settings) -> None:
        set_level(settings.log_level)
        self._settings = settings
        for worker in self._workers:
            with contextlib.suppress(OSError):  # it ends, and the next one starts with them
                worker.pipe.send(settings)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        if self._stopping:  # a second one is meant
            for worker in self._workers:
                worker.told = False
            self._patient_until = min(self._patient_until, time.monotonic() + SECONDS)
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
            try:
                self._start()
            except OSError as error:  # no memory, no descriptor, no process is to be had now
                self._fails(f"a worker cannot be started: {error.strerror}")

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        settings = self._settings.model_copy(update={"auth_folder": self._shared})
        process = self._context.Process(target=work, args=(settings, self._sockets, theirs, self._supervisor.beat))
        now = time.monotonic()
        worker = Worker(process, ours, now, now)
        self._workers.append(worker)  # before: a signal that comes meanwhile is for it, too
        try:
            process.start()
        except OSError:
            self._workers.remove(worker)
            ours.close()
            raise
        finally:
            theirs.close()

    def _hear(self, worker: Worker) -> None:
        try:
            worker.pipe.recv_bytes()
        except (EOFError, OSError):
            worker.process.join(SECONDS)  # it is about to end
            return
        worker.heard, worker.serves = time.monotonic(), True
        self._served = True

    def _bury(self) -> None:
        for worker in [worker for worker in self._workers if not worker.process.is_alive()]:
            self._workers.remove(worker)
            worker.pipe.close()
            if self._stopping:
                continue
            if time.monotonic() - worker.started > WELL:
                self._failures = 0
            self._fails(f"worker {worker.process.pid} ended with exit status {worker.process.exitcode}")

    def _fails(self, trouble: str) -> None:
        """Another one is started after a while. Where none has ever served there is no use in that."""
        if not self._served:
            log.critical("%s: the process ends", trouble)
            self.failed = True
            self._end()
            return
        if not self._failures:  # else it has been said
            log.error("%s: starting another", trouble)
        self._next_start = time.monotonic() + pause(self._failures)
        self._failures += 1

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
