"""One measurement: a gateway on a scratch folder, a writer here, the subscribers in a process of their own."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from gateway.bench.figures import cpu_seconds, resident_bytes
from gateway.extras import ExtraError, needs

if TYPE_CHECKING:
    from gateway.bench.broker import Broker

Progress = Callable[[float], None]
"""Told how many seconds of the measurement are over."""


class BenchError(RuntimeError):
    """The measurement could not be made; the text says why."""


@dataclass(frozen=True)
class Load:
    """What to measure. With `own`, each subscriber follows one task, else all of them the collection.

    With a `broker`, the URL of a Redis, they are at an edge.
    """

    subscribers: int = 1_000
    rate: float = 50
    tasks: int = 10
    seconds: float = 10
    transport: str = "sse"
    own: bool = False
    finished: int = 0
    broker: str = ""


def measure(load: Load, progress: Progress = lambda _seconds: None) -> dict[str, Any]:
    """Runs the load; figures by name. Raises BenchError."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as scratch, contextlib.ExitStack() as stack:
        tasks = Path(scratch, "Tasks")
        tasks.mkdir()
        _fill(tasks, load)
        broker = stack.enter_context(_broker(load.broker)) if load.broker else None
        pid, port = near, _ = stack.enter_context(_gateway(scratch, "--data-path", scratch, *_options(broker)))
        if broker:
            pid, port = stack.enter_context(_gateway(scratch, *_options(broker)))
        idle = resident_bytes(pid)
        clients, connect_s = stack.enter_context(_subscribers(port, load))
        held = resident_bytes(pid)
        used, near_used, began = cpu_seconds(pid), cpu_seconds(near), time.perf_counter()
        _tell(clients, "\n")
        writes = _write(tasks, load, progress)
        elapsed = time.perf_counter() - began
        cpu, near_cpu = cpu_seconds(pid), cpu_seconds(near)
        assert clients.stdin
        assert clients.stdout
        time.sleep(0.2)  # what is on its way still counts
        clients.stdin.close()
        figures: dict[str, Any] = msgspec.json.decode(clients.stdout.readline() or b"{}")
        if not figures:
            raise BenchError("the subscribers ended early")
        figures |= {
            "writes_per_s": writes / elapsed,
            "delivered": figures.pop("events") / (writes * (1 if load.own else load.subscribers)),
            "connect_s": connect_s,
            "cpu_percent": _percent(used, cpu, elapsed),
            "bytes_per_connection": None if held is None or idle is None else (held - idle) / load.subscribers,
            "resident_megabytes": None if held is None else held / 1e6,
        }
        if broker:
            figures["publisher_cpu_percent"] = _percent(near_used, near_cpu, elapsed)
            figures["broker_bytes_per_task"], figures["broker_bytes_per_change"] = broker.bytes_each()
        return figures


def _percent(before: float | None, after: float | None, seconds: float) -> float | None:
    """Of one core."""
    return None if before is None or after is None else 100 * (after - before) / seconds


@contextlib.contextmanager
def _broker(url: str) -> "Iterator[Broker]":
    try:
        with needs("redis"):
            from gateway.bench.broker import BrokerError, scratch_broker  # noqa: PLC0415 - most need no Redis
    except ExtraError as error:
        raise BenchError(f"--broker {error}") from None
    try:
        with scratch_broker(url) as broker:
            yield broker
    except BrokerError as error:
        raise BenchError(str(error)) from None


def _options(broker: "Broker | None") -> list[str]:
    return ["--broker", broker.url, "--broker-name", broker.name] if broker else []


def _body(number: int, count: int) -> bytes:
    task = {
        "status": "running",
        "task_id": f"bench-{number}",
        "progress": count % 100,
        "message": "Authenticating coins with RAIDA servers...",
        "data": {"sq": count, "ts": time.time_ns(), "total_processed": count % 100, "receipt_id": f"bench-{number}"},
    }
    return msgspec.json.encode(task)


def _fill(tasks: Path, load: Load) -> None:
    for number in range(load.tasks):
        (tasks / f"bench-{number}.json").write_bytes(_body(number, 0))
    for number in range(load.finished):
        path = tasks / f"finished-{number}.json"
        path.write_bytes(b'{"status":"success","progress":100,"message":"Done","data":{}}')
        os.utime(path, (1e9 + number, 1e9 + number))


def _write(tasks: Path, load: Load, progress: Progress) -> int:
    """Rewrites the tasks in turn, at the rate; how often it did."""
    writes, began = 0, time.perf_counter()
    while (now := time.perf_counter() - began) < load.seconds:
        due = min(int(now * load.rate) + 1 - writes, 100)
        for _ in range(due):
            number = writes % load.tasks
            (tasks / f"bench-{number}.json").write_bytes(_body(number, writes // load.tasks + 1))
            writes += 1
        progress(now)
        wait = writes / load.rate - (time.perf_counter() - began)
        if wait > 0:
            time.sleep(min(wait, load.seconds - now, 0.1))
    return writes


@contextlib.contextmanager
def _gateway(scratch: str, *options: str) -> Iterator[tuple[int, int]]:
    """The gateway's process id and port."""
    argv = [sys.executable, "-m", "gateway", "serve", "--bind", "127.0.0.1:0", *options]
    env = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=env, cwd=scratch) as process:
        assert process.stderr
        try:
            line = process.stderr.readline()
            if " at http://" not in line:
                raise BenchError(f"the gateway did not start: {line}{process.stderr.read()}")
            port = int(line.split()[-1].rpartition(":")[2])
            answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/tasks?limit=1", timeout=60)  # it has read the folder
            if answer.status_code != 200:
                raise BenchError(f"the gateway is not ready: {answer.text}")
            yield process.pid, port
        finally:
            process.terminate()


@contextlib.contextmanager
def _subscribers(port: int, load: Load) -> Iterator[tuple["subprocess.Popen[str]", float]]:
    path = "/api/task?task_id=bench-{}" if load.own else "/api/v1/tasks"
    plan = {"port": port, "count": load.subscribers, "path": path, "transport": load.transport}
    argv = [sys.executable, "-m", "gateway.bench.subscribers", msgspec.json.encode(plan).decode()]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            line = process.stdout.readline()
            if not line:
                raise BenchError("the subscribers could not connect")
            yield process, msgspec.json.decode(line)["connect_s"]
        finally:
            process.terminate()


def _tell(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stdin
    process.stdin.write(text)
    process.stdin.flush()
