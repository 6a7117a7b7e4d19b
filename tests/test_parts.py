"""Parts that fail, each in a real gateway: they are seen, and come back; what cannot come back ends the process."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.parts import LONGEST_PAUSE, Parts, pause
from tests.harness import Gateway, flat, until
from tests.redisserver import RedisServer
from tests.test_operations import figures
from tests.test_supervised import workers_of

resource = pytest.importorskip("resource")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")

BROKEN = """
import os, sys
from {module} import {name}
real = {name}.{method}
def method(*given, **more):
    if os.path.exists({file!r}):
        raise {error}
    return real(*given, **more)
{name}.{method} = method
from gateway.cli import main
main()
"""
"""A gateway in which a method fails as long as a file exists."""

THREADLESS = """
import os, threading, time
def follow():
    while True:
        threading.stack_size((1 << 46) if os.path.exists({file!r}) else 0)
        time.sleep(0.005)
threading.Thread(target=follow, daemon=True).start()
time.sleep(0.05)
import runpy, sys
runpy.run_module("gateway", run_name="__main__")
"""
"""No memory is there for a thread's stack, as long as a file exists."""


def broken(file: Path, module: str, name: str, method: str, error: str = 'RuntimeError("broken")') -> tuple[str, ...]:
    code = BROKEN.format(module=module, name=name, method=method, file=str(file), error=error)
    return (sys.executable, "-c", code)


def parts(one: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = one.get("/readyz").json()["checks"]["parts"]
    return found


def records(one: Gateway, part: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in one.lines if line.startswith("{")]
    return [line for line in lines if line["logger"] == "gateway.parts" and line["message"].startswith(part)]


def comes_back(one: Gateway, file: Path, part: str) -> None:
    """The part fails while the file is there: that is seen, said once, and over when the file is gone."""
    until(lambda: one.get("/readyz").status_code == 200)
    file.touch()
    until(lambda: one.get("/readyz").status_code == 503 and part in parts(one)["detail"])
    until(lambda: figures(one).get(f"gateway_part_restarts_total/{part}", 0) >= 3, 20)
    assert figures(one)["gateway_check/parts"] == 0
    assert one.get("/healthz").status_code == 200
    assert one.process.poll() is None
    file.unlink()
    until(lambda: one.get("/readyz").status_code == 200, 30)
    until(lambda: len(records(one, part)) == 2)
    failed, well = records(one, part)
    assert failed["level"] == "error"
    assert "Traceback" in failed["exception"]
    assert well["message"] == f"{part} runs well again"


@pytest.mark.parametrize(
    ("part", "module", "name", "method", "options"),
    [
        ("comparison", "gateway.sources.folder", "Folder", "reconcile", ["--reconcile", "0.2"]),
        ("watch", "gateway.sources.folder", "Folder", "take_up", []),
        ("beat", "gateway.hub", "Hub", "beat", []),
        ("server", "uvicorn", "Server", "on_tick", []),
    ],
)
def test_a_part_that_fails_comes_back(
    start: Callable[..., Gateway], tmp_path: Path, part: str, module: str, name: str, method: str, options: list[str]
) -> None:
    file = tmp_path / "broken"
    one = start("--log-format", "json", *options, command=broken(file, module, name, method))
    one.write("a", progress=0)
    with one.sse("/api/v1/tasks") as events:
        while next(events).event != "synced":
            pass
        if part == "watch":
            noisy = subprocess.Popen(
                ["sh", "-c", f"while sleep 0.05; do echo x > {one.tasks}/x; done"]  # something to be told of
            )
        try:
            comes_back(one, file, part)
        finally:
            if part == "watch":
                noisy.kill()
                noisy.wait(5)
        one.write("a", progress=77)
        while json.loads((event := next(events)).data).get("progress") != 77:
            assert event.event == "message"


def test_an_edge_that_fails_comes_back_and_lacks_nothing(
    start: Callable[..., Gateway], tmp_path: Path, redis: RedisServer
) -> None:
    file = tmp_path / "broken"
    near = start("--broker", redis.url)
    near.write("a", progress=1)
    command = broken(file, "gateway.sources.replica", "Replica", "take")
    edge = start("--broker", redis.url, "--log-format", "json", folder=False, command=command)
    until(lambda: edge.get("/readyz").status_code == 200)
    file.touch()
    near.write("a", progress=2)  # is read, and not taken
    until(lambda: "edge" in parts(edge)["detail"])
    assert figures(edge)["gateway_stale"] == 1
    assert edge.get("/api/task?task_id=none").status_code == 503
    file.unlink()
    until(lambda: edge.get("/readyz").status_code == 200, 30)
    assert edge.get("/api/task?task_id=a").json()["progress"] == 2


def test_an_edge_of_a_gateway_that_fails_comes_back(start: Callable[..., Gateway], tmp_path: Path) -> None:
    file = tmp_path / "broken"
    near = start()
    near.write("a", progress=1)
    command = broken(file, "gateway.sources.replica", "Replica", "take")
    edge = start("--source", near.url, "--log-format", "json", folder=False, command=command)
    until(lambda: edge.get("/readyz").status_code == 200)
    file.touch()
    near.write("a", progress=2)
    until(lambda: "source" in parts(edge)["detail"])
    assert figures(edge)["gateway_stale"] == 1
    file.unlink()
    until(lambda: edge.get("/readyz").status_code == 200, 30)
    assert edge.get("/api/task?task_id=a").json()["progress"] == 2


def test_a_publisher_that_fails_comes_back(start: Callable[..., Gateway], tmp_path: Path, redis: RedisServer) -> None:
    file = tmp_path / "broken"
    command = broken(file, "gateway.broker.term", "Term", "renew")
    near = start("--broker", redis.url, "--log-format", "json", command=command)
    edge = start("--broker", redis.url, folder=False)
    near.write("a", progress=1)
    comes_back(near, file, "publisher")
    near.write("a", progress=2)
    until(lambda: edge.get("/api/task?task_id=a").json().get("progress") == 2, 20)


@pytest.mark.parametrize(
    ("part", "module", "name", "method", "options"),
    [
        ("revocations", "gateway.access.revocations", "Revocations", "_look_for_ever", ["--auth-revoked", "none"]),
        ("keys", "gateway.access.jwks", "Jwks", "look", ["--auth-jwks", "http://127.0.0.1:9/"]),
        ("backend", "gateway.store", "Store", "prune", ["--upstream", "http://127.0.0.1:9/"]),
        ("replica", "gateway.store", "Store", "prune", ["--source", "http://127.0.0.1:9/"]),
        ("watchdog", "gateway.supervisor", "Supervisor", "alive", []),
        ("reload", "gateway.reload", "Reload", "on_hangup", []),
    ],
)
def test_a_part_that_fails_at_its_start_comes_back(
    start: Callable[..., Gateway], tmp_path: Path, part: str, module: str, name: str, method: str, options: list[str]
) -> None:
    (file := tmp_path / "broken").touch()
    (key := tmp_path / "key").write_text("k" * 40)
    options += ["--auth-key", str(key)] if part == "revocations" else []
    one = start(
        "--log-format",
        "json",
        *options,
        folder=part not in {"backend", "replica"},
        command=broken(file, module, name, method),
        env={"NOTIFY_SOCKET": str(tmp_path / "none"), "WATCHDOG_USEC": "1000000"},
    )
    until(lambda: part in parts(one)["detail"])
    assert one.get("/readyz").status_code == 503
    file.unlink()
    until(lambda: parts(one)["ok"], 30)
    until(lambda: len(records(one, part)) == 2)
    assert one.stop() == 0


def test_a_shortage_of_threads_passes_by_itself(start: Callable[..., Gateway], tmp_path: Path) -> None:
    (file := tmp_path / "none").touch()
    command = (sys.executable, "-c", THREADLESS.format(file=str(file)))
    one = start("--reconcile", "0.5", "--log-format", "json", command=command)
    until(lambda: "comparison (RuntimeError)" in parts(one)["detail"])
    assert one.get("/readyz").status_code == 503
    one.write("a", progress=1)
    file.unlink()
    until(lambda: one.get("/readyz").status_code == 200, 30)
    with one.sse("/api/v1/tasks") as events:
        assert json.loads(next(events).data)["progress"] == 1
        while next(events).event != "synced":
            pass
        one.write("a", progress=2)
        assert json.loads(next(events).data)["progress"] == 2
    assert "can't start new thread" in records(one, "comparison")[0]["exception"]  # the log had no thread either
    assert any(line.startswith("Serving") for line in one.lines)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux only")
def test_a_shortage_of_descriptors_passes_by_itself(start: Callable[..., Gateway]) -> None:
    one = start("--reconcile", "0.5")
    one.write("a", progress=1)
    with one.sse("/api/v1/tasks") as events, httpx.Client(base_url=one.url) as client:
        while next(events).event != "synced":
            pass
        client.get("/readyz")
        limits = resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (4, limits[1]))
        until(lambda: client.get("/readyz").status_code == 503)
        one.write("a", progress=2)
        resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, limits)
        until(lambda: client.get("/readyz").status_code == 200, 30)
        while json.loads((event := next(events)).data).get("progress") != 2:
            assert event.event in {"message", "invalid"}
    assert one.stop() == 0


SUPERVISOR_FAILS = """
import os
from gateway import parts
def pause(failures):
    raise MemoryError
parts.pause = pause
"""


def test_an_app_that_fails_ends_the_process(start: Callable[..., Gateway], tmp_path: Path) -> None:
    """Here because what starts parts again fails itself."""
    python, option, code = broken(file := tmp_path / "broken", "gateway.hub", "Hub", "beat")
    command = (python, option, SUPERVISOR_FAILS + code)
    one = start("--log-format", "json", command=command)
    one.write("a")
    with one.sse("/api/v1/tasks") as events:
        while next(events).event != "synced":
            pass
        file.touch()
        rest = list(events)  # its end is told, and no error
    assert all(event.event in {"message", "synced"} for event in rest)
    assert one.process.wait(20) == 1
    until(lambda: len(records(one, "the process ends")) == 1)
    assert records(one, "the process ends")[0]["level"] == "critical"


def test_workers_that_cannot_serve_end_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\nif '--multiprocessing-fork' in sys.argv: raise SystemExit(5)\n"
    )
    (tmp_path / "Tasks").mkdir()
    argv = [sys.executable, "-m", "gateway", "serve", "--workers", "2", "--bind", "127.0.0.1:0", "--data-path"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([*argv, str(tmp_path)], capture_output=True, text=True, timeout=30, check=False, env=env)
    assert done.returncode == 1
    assert done.stderr.count("exit status 1: the process ends") == 1


def test_a_worker_that_fails_is_replaced(start: Callable[..., Gateway]) -> None:
    one = start("--workers", "2")
    until(lambda: one.get("/api/task").status_code == 400 and len(workers_of(one.process.pid)) == 2)
    for _ in range(3):
        before = set(workers_of(one.process.pid))
        os.kill(victim := before.pop(), signal.SIGKILL)
        until(lambda victim=victim: len({*workers_of(one.process.pid)} - {victim}) == 2, 20)  # type: ignore[misc]
    assert one.stop() == 0


def test_parts(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        parts, begun, over = Parts(), 0, asyncio.Event()

        async def body() -> None:
            nonlocal begun
            begun += 1
            if begun == 2:
                raise asyncio.CancelledError  # of something else
            if begun < 4:
                raise ExceptionGroup("several", [ValueError(flat("a"))])
            over.set()
            await asyncio.Event().wait()

        async with parts.running("one", body) as task:
            async with asyncio.timeout(20):
                await over.wait()
            assert parts.restarts == {"one": 3}
            assert parts.down == {"one": "ValueError"}
            async with asyncio.timeout(20):
                while parts.down:
                    await asyncio.sleep(0.05)
        assert task.cancelled()

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert [record.levelname for record in caplog.records if record.name == "gateway.parts"] == ["ERROR", "INFO"]


def test_a_pause_grows_to_a_bound_and_is_spread() -> None:
    pauses = [pause(n) for n in range(2_000)]
    assert pauses[0] < 0.11
    assert max(pauses) <= LONGEST_PAUSE
    assert len(set(pauses)) > 1_000
