"""What connections cost a gateway on this machine: the figures that reconnect_storm.py asks for.

    .venv/bin/python examples/reconnect_cost.py

Starts a gateway on a scratch folder with 100 tasks, on loopback, and opens subscriptions to the collection as fast as
it can: new ones, which are given a snapshot, and ones that come back with the last cursor. Needs a Python that has the
gateway.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TASKS = 100
AT_ONCE = 100
"""Connections that are being opened at the same time."""


@dataclass(frozen=True)
class Cost:
    """What `connections` took: seconds of time, of the gateway's processor (None where it is not told), and bytes."""

    connections: int
    seconds: float
    cpu: float | None
    bytes: int


def measure(connections: int, seconds: float, *, resumed: bool) -> Cost:
    """Opens so many subscriptions at a gateway of its own, or what it can in that time."""
    with gateway() as (pid, port):
        return asyncio.run(_open(pid, port, connections, seconds, resumed=resumed))


@contextlib.contextmanager
def gateway() -> Iterator[tuple[int, int]]:
    """A gateway's process id and port."""
    with tempfile.TemporaryDirectory(prefix="reconnect-cost-") as scratch:
        tasks = Path(scratch, "Tasks")
        tasks.mkdir()
        for n in range(TASKS):
            task = {"status": "running", "task_id": f"task-{n}", "progress": n, "message": "Working", "data": {}}
            (tasks / f"task-{n}.json").write_text(json.dumps(task))
        argv = [sys.executable, "-m", "gateway", "serve", "--data-path", scratch, "--bind", "127.0.0.1:0"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=env, cwd=scratch)  # noqa: S603 - itself
        with process:
            assert process.stderr
            try:
                line = process.stderr.readline()
                if not (found := re.search(r" at http://127\.0\.0\.1:(\d+)", line)):
                    sys.exit(f"The gateway did not start: {line}{process.stderr.read()}")
                yield process.pid, int(found[1])
            finally:
                process.terminate()


class Subscriber(asyncio.Protocol):
    """One subscription; `synced` has the bytes up to the end of its replay."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._said = bytearray()
        self.synced: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        if not self.synced.done():
            self._said += data
            if b"event: synced" in self._said[-200:]:
                self.synced.set_result(bytes(self._said))

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.synced.done():
            self.synced.set_exception(ConnectionError(f"refused: {bytes(self._said[:300])!r}"))


async def _subscribe(port: int, cursor: str = "") -> bytes:
    """Opens a subscription that stays open; what it was told first."""
    lines = ["GET /api/v1/tasks HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: text/event-stream"]
    lines += [f"Last-Event-ID: {cursor}"] if cursor else []
    head = "\r\n".join([*lines, "", ""]).encode()
    loop = asyncio.get_running_loop()
    _, subscriber = await loop.create_connection(lambda: Subscriber(head), "127.0.0.1", port)
    return await subscriber.synced


async def _open(pid: int, port: int, connections: int, seconds: float, *, resumed: bool) -> Cost:
    said = await _subscribe(port)  # once this is answered, the gateway has read its folder
    cursor = re.findall(rb"id: (\S+)", said)[-1].decode() if resumed else ""
    numbers, sizes = iter(range(connections)), []
    used, began = _cpu_seconds(pid), time.perf_counter()

    async def keep_opening() -> None:
        for _ in numbers:
            if time.perf_counter() - began > seconds:
                return
            sizes.append(len(await _subscribe(port, cursor)))

    async with asyncio.timeout(seconds + 10):  # the last ones may take a while
        await asyncio.gather(*(keep_opening() for _ in range(AT_ONCE)))
    took, now = time.perf_counter() - began, _cpu_seconds(pid)
    return Cost(len(sizes), took, None if used is None or now is None else now - used, sum(sizes))


def _cpu_seconds(pid: int) -> float | None:
    """Processor time a process has used, in steps of 10 ms; None where the system has no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what new connections cost a gateway on this machine.")
    parser.add_argument("--connections", type=int, default=5_000, help="how many to open (5000)")
    parser.add_argument("--seconds", type=float, default=20, help="the longest that may take (20)")
    given = parser.parse_args()
    with contextlib.suppress(ImportError, ValueError, OSError):  # as many open files as the system allows
        import resource  # noqa: PLC0415 - POSIX only

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lines = [f"{'':<20}{'connections':>12}{'a second':>10}{'CPU each':>10}{'a core':>10}{'bytes each':>12}"]
    for name, resumed in (("with a snapshot", False), ("with Last-Event-ID", True)):
        cost = measure(given.connections, given.seconds, resumed=resumed)
        opened, cpu = cost.connections, cost.cpu
        if not opened:
            sys.exit("No connection was opened in that time")
        line = f"{name:<20}{opened:>12,}{opened / cost.seconds:>10,.0f}"
        line += f"{1e3 * cpu / opened:>7.2f} ms{opened / cpu:>8,.0f}/s" if cpu else f"{'-':>10}{'-':>10}"
        lines.append(f"{line}{cost.bytes / opened:>12,.0f}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
