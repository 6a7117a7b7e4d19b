"""A folder with years in it, and how long a change takes to arrive. Figures are printed (`-rP`), not asserted."""

import json
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tests.harness import Gateway, flat

FINISHED = 100_000


def rss_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def test_a_hundred_thousand_finished_tasks(start: Callable[..., Gateway], tmp_path: Path) -> None:
    tasks = tmp_path / "Tasks"
    tasks.mkdir()
    sources = []
    for n in range(10):  # a file system allows so many links to one file
        sources.append(tasks / f"source{n}.json")
        sources[-1].write_bytes(flat("x", "success", 100, message="Import, authentication, and grading complete"))
        os.utime(sources[-1], (1e9 + n, 1e9 + n))
    for n in range(FINISHED):
        os.link(sources[n % 10], tasks / f"old-{n}.json")
    for n in range(1_000):
        (tasks / f"new-{n}.json").write_bytes(flat("x"))
    began = time.monotonic()
    one = start(data=tmp_path)
    assert one.get("/api/task?task_id=old-99999").json()["status"] == "success"
    first_poll = time.monotonic() - began
    with one.sse("/api/v1/tasks") as events:
        seen = set()
        for event in events:
            if event.event == "synced":
                break
            seen.add(json.loads(event.data)["id"])
        snapshot = time.monotonic() - began
        one.write("old-5", progress=1)
        assert json.loads(next(events).data)["id"] == "old-5"
    assert seen == {f"new-{n}" for n in range(1_000)}
    page = one.get("/api/v1/tasks?limit=1000&status=running").json()["payload"]
    assert len(page["tasks"]) == 1_000
    assert page["next"]
    print(f"first poll {first_poll:.2f} s after start, snapshot {snapshot:.2f} s, {rss_mb(one.process.pid):.0f} MB")
    if Path("/proc/self/status").exists():
        assert rss_mb(one.process.pid) < 200


def test_from_a_write_to_its_event(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a", progress=0)
    took = []
    with one.sse("/api/task?task_id=a") as events:
        while next(events).event != "synced":
            pass
        for n in range(1, 200):
            before = time.perf_counter()
            one.write("a", progress=n)
            assert json.loads(next(events).data)["progress"] == n
            took.append((time.perf_counter() - before) * 1000)
    print(f"write to event: p50 {statistics.median(took):.2f} ms, p99 {sorted(took)[-2]:.2f} ms")
