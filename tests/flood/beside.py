"""The client that behaves well, in a process of its own so that the flood delays it as little as may be.

It writes a task so many times a second, follows it on a stream, and polls `/healthz` four times a second. At each line
on stdin it says on stdout, as JSON, what it has measured so far.
"""

import argparse
import asyncio
import contextlib
import json
import re
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx

from gateway.bench.figures import Histogram
from tests.harness import PLAIN, flat

TASK = "beside"
PERIOD, PATIENCE = 0.25, 10.0
NUMBER = re.compile(rb'"message": ?"(\d+)"')
TROUBLE = (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class Beside:
    """`folder` is where its task is written, or the backend at `backend` is told of it; `rate` times a second."""

    def __init__(self, port: int, folder: Path | None, backend: str, rate: float, token: str) -> None:
        self._port, self._folder, self._backend, self._rate = port, folder, backend, rate
        self._authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._client = httpx.AsyncClient(timeout=PATIENCE, verify=PLAIN)
        self._number = 0
        self._written: dict[int, float] = {}  # when each state that has not come yet was written
        self.synced = asyncio.Event()
        self._latency, self._health = Histogram(), Histogram()
        self._events = self._receipts = self._failures = self._breaks = 0

    # The backend's part

    async def write(self) -> None:
        number = self._number + 1
        if self._folder:
            part = self._folder / f"{TASK}.part"
            part.write_bytes(flat(TASK, message=str(number)))
            self._number, self._written[number] = number, time.perf_counter()
            part.rename(self._folder / f"{TASK}.json")
        else:
            self._number, self._written[number] = number, time.perf_counter()
            await self._client.put(f"{self._backend}/-/tasks/{TASK}", json={"message": str(number)})

    async def write_on(self) -> None:
        while self._rate:
            await asyncio.sleep(1 / self._rate)
            await self.write()

    # The client's part

    async def follow(self) -> None:
        while True:
            with contextlib.suppress(*TROUBLE):
                await self._stream()
            self._breaks += 1
            await asyncio.sleep(PERIOD)

    async def _open(self, path: str, *lines: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        more = "".join(f"{line}\r\n" for line in lines) + self._authorization
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
        return reader, writer

    async def _stream(self) -> None:
        reader, writer = await self._open(f"/api/task?task_id={TASK}", "Accept: text/event-stream")
        try:
            while line := await reader.readline():
                if line.startswith(b"event: synced"):
                    self.synced.set()
                if found := NUMBER.search(line):
                    self._take(int(found[1]))
        finally:
            writer.transport.abort()

    def _take(self, number: int) -> None:
        """A newer state stands for those before it."""
        now = time.perf_counter()
        self._receipts += 1
        for older in [n for n in self._written if n <= number]:
            self._latency.add((now - self._written.pop(older)) * 1000)
            self._events += 1

    async def poll(self) -> None:
        while True:
            began = time.perf_counter()
            try:
                async with asyncio.timeout(PATIENCE):
                    reader, writer = await self._open("/healthz", "Connection: close")
                    good = (await reader.readline()).startswith(b"HTTP/1.1 200")
                    writer.transport.abort()
            except TROUBLE:
                good = False
            self._failures += not good
            self._health.add((time.perf_counter() - began) * 1000)
            await asyncio.sleep(PERIOD)

    def report(self) -> dict[str, Any]:
        """What was measured so far; what has not come yet is as late as it is now. One of the `receipts` may stand for
        many of the `events`."""
        latency, now = deepcopy(self._latency), time.perf_counter()
        for written in self._written.values():
            latency.add((now - written) * 1000)
        return {
            "written": self._number,
            "events": self._events,
            "receipts": self._receipts,
            "p50": latency.quantile(0.5),
            "p99": latency.quantile(0.99),
            "healthz": self._health.most,
            "polls": self._health.count,
            "failures": self._failures,
            "breaks": self._breaks,
        }

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            if self._rate:
                await self.write()
                group.create_task(self.follow())
                async with asyncio.timeout(PATIENCE):
                    await self.synced.wait()
            lasting = [group.create_task(one) for one in (self.write_on(), self.poll())]
            print("{}", flush=True)
            while await loop.run_in_executor(None, sys.stdin.readline):
                print(json.dumps(self.report()), flush=True)
            for one in lasting:
                one.cancel()
            raise SystemExit


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("port", type=int)
    args.add_argument("--folder", type=Path)
    args.add_argument("--backend", default="")
    args.add_argument("--rate", type=float, default=20)
    args.add_argument("--token", default="")
    given = args.parse_args()
    beside = Beside(given.port, given.folder, given.backend, given.rate, given.token)
    with contextlib.suppress(BaseExceptionGroup):  # also where it is not served at all: it says nothing then
        asyncio.run(beside.run())


if __name__ == "__main__":
    main()
