"""A case, the stage that it plays on, and the row of figures that it leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from tests.flood.row import Bounds, Row
from tests.harness import Backend, Gateway, flat
from tests.redisserver import RedisServer
from tests.test_access import SECRET, token
from tests.test_scale import rss_mb

MEGABYTE = 1 << 20

ENOUGH, TOO_MUCH = 1_000, 1_500
"""Megabytes at which a flood stops, and at which the gateway is killed: the machine is to survive."""

SETTLES = 1.0
"""Seconds after a flood in which what it has left behind still counts."""


class Stage:
    """Starts what a case needs, measures while it floods, and ends it all.

    `scale` is the share of the full load. `brief`: times are not judged, and what has to come about may take longer.
    """

    def __init__(self, name: str, bounds: Bounds, scale: float, brief: bool) -> None:
        self.row, self.scale, self.brief = Row(name), scale, brief
        self.folder = Path(tempfile.mkdtemp(prefix="gateway-flood-"))
        self.tasks = self.folder / "Tasks"
        self.tasks.mkdir()
        self.bounds = bounds
        self._ends = ExitStack()
        self._ends.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._over = threading.Event()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def scaled(self, amount: float) -> int:
        return max(1, int(amount * self.scale))

    def patience(self, seconds: float) -> float:
        """Seconds to wait for what has to come about."""
        return seconds * (4 if self.brief else 1)

    def over(self) -> bool:
        """Whether the flood has to stop."""
        return self._over.is_set()

    # What a case starts

    def serve(self, *options: str, asks: bool = False, **more: Any) -> Gateway:
        """A gateway of the stage's folder (`folder=False`: of none); `asks` for tokens."""
        env = {**({"GATEWAY_AUTH_SECRET": SECRET} if asks else {}), **more.pop("env", {})}
        one = Gateway(*options, data=self.folder, env=env, **more)
        self._ends.callback(self._end, one)
        return one

    def _end(self, one: Gateway) -> None:
        try:
            exits: int | str = one.stop()
        except subprocess.TimeoutExpired:
            exits = "hung"
        self.row.exits.append(exits)
        for line in one.lines:
            if "Traceback" in line or "ERROR" in line:
                self.row.notes.append(line.strip()[:120])
                break

    def backend(self, *options: str) -> Backend:
        started = Backend("tests.taskbackend", *options)
        self._ends.callback(started.stop)
        return started

    def redis(self, *options: str) -> RedisServer:
        started = RedisServer(*options)
        self._ends.callback(started.close)
        return started

    def write(self, count: int, size: int, *, age: float = 0, name: str = "task-{}") -> None:
        """So many task files of about so many bytes, last written `age` seconds ago."""
        for n in range(count):
            path = self.tasks / f"{name.format(n)}.json"
            path.write_bytes(flat(name.format(n), message="x" * size))
            if age:
                os.utime(path, (time.time() - age,) * 2)

    # What is measured

    @contextmanager
    def measured(self, one: Gateway, *, rate: float = 20, backend: str = "", asks: bool = False) -> Iterator[None]:
        """Measures a gateway and the client beside while the block floods it, and what is left after."""
        argv = [sys.executable, "-m", "tests.flood.beside", str(one.port), "--rate", str(rate)]
        argv += ["--backend", backend] if backend else ["--folder", str(self.tasks)]
        argv += ["--token", token()] if asks else []
        pid, row = one.process.pid, self.row
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as beside:
            assert beside.stdout
            assert beside.stdout.readline(), "the client beside was not served"
            row.before = max(row.before, rss_mb(pid))
            done = threading.Event()
            watching = threading.Thread(target=self._watch, args=(pid, done))
            watching.start()
            try:
                yield
                flooded = self._ask(beside)
                if flooded["written"]:
                    row.served = min(row.served, flooded["receipts"] / flooded["written"])
                time.sleep(SETTLES)
                self._take(self._ask(beside))
            finally:
                done.set()
                watching.join()
                beside.kill()
        with suppress(OSError, AssertionError):
            row.after = rss_mb(pid)

    def _ask(self, beside: "subprocess.Popen[str]") -> dict[str, Any]:
        assert beside.stdin
        assert beside.stdout
        print(file=beside.stdin, flush=True)
        said: dict[str, Any] = json.loads(beside.stdout.readline())
        return said

    def _watch(self, pid: int, done: threading.Event) -> None:
        while not done.wait(0.05):
            try:
                now = rss_mb(pid)
            except (OSError, AssertionError):
                self.check(f"the gateway has ended, at {self.row.most:.0f} MB", False)
                self._over.set()
                return
            self.row.most = max(self.row.most, now)
            if now > ENOUGH:
                self._over.set()
            if now > TOO_MUCH:
                os.kill(pid, signal.SIGKILL)

    def _take(self, said: dict[str, Any]) -> None:
        row = self.row
        for name in ("p50", "p99", "healthz"):
            setattr(row, name, max(getattr(row, name), said[name]))
        for name in ("written", "events", "polls", "failures"):
            setattr(row, name, getattr(row, name) + said[name])
        if said["breaks"]:
            self.check(f"the stream beside broke {said['breaks']} times", False)

    def count(self, answers: Counter[str]) -> None:
        self.row.answers += answers

    def note(self, text: str) -> None:
        self.row.notes.append(text)

    def check(self, sentence: str, good: bool) -> None:
        """Says what is wrong where it is not so."""
        self.row.check(sentence, good)


@dataclass(frozen=True)
class Case:
    """One flood: the principle that it tries, what it does, and what may come of it."""

    play: Callable[[Stage], None]
    name: str
    principle: str
    bounds: Bounds

    def run(self, *, scale: float = 1, brief: bool = False) -> Row:
        """Plays it."""
        with Stage(self.name, replace(self.bounds), scale, brief) as stage:
            try:
                self.play(stage)
            except (OSError, AssertionError, httpx.HTTPError) as trouble:
                stage.check(f"could not be played to its end: {type(trouble).__name__} {trouble}"[:200], False)
        stage.row.judge(stage.bounds, brief=brief)
        return stage.row


def case(principle: str, **bounds: Any) -> Callable[[Callable[[Stage], None]], Case]:
    """Makes a case of a function; its name is the function's."""
    return lambda play: Case(play, play.__name__.replace("_", "-"), principle, Bounds(**bounds))
