"""What operators see: health, figures, logs. Over real servers and real faults."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import Gateway, flat, until


def figures(one: Gateway) -> dict[str, float]:
    """Every sample by its name and labels."""
    families = text_string_to_metric_families(one.get("/metrics").text)
    return {
        s.name + "".join(f"/{v}" for v in s.labels.values()): s.value for family in families for s in family.samples
    }


def test_alive_and_ready(start: Callable[..., Gateway]) -> None:
    one = start()
    one.tasks.mkdir()
    assert one.get("/healthz").json() == {"alive": True}
    until(lambda: one.get("/readyz").status_code == 200)
    body = one.get("/readyz").json()
    assert body["ready"] is True
    assert set(body["checks"]) == {"folder", "watcher", "reconciliation", "parts", "loop"}
    assert str(one.data) not in json.dumps(body)
    assert one.get("/readyz").headers["cache-control"] == "no-store"


def test_without_a_watcher_it_is_ready_and_says_so(start: Callable[..., Gateway]) -> None:
    one = start("--no-watch")
    one.write("a", progress=3)
    until(lambda: one.get("/readyz").status_code == 200)
    assert one.get("/readyz").json()["checks"]["watcher"] == {"ok": True, "detail": "looking every 0.25 s"}
    assert figures(one)["gateway_watching"] == 0


def test_figures_count_what_happened(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a", progress=1)
    one.get("/api/task?task_id=a")
    with one.sse("/api/v1/tasks") as events, one.ndjson("/api/v1/tasks"):
        while next(events).event != "synced":
            pass
        until(lambda: figures(one).get("gateway_subscribers/ndjson") == 1)
        before = figures(one)
        assert before["gateway_subscribers/sse"] == 1
        for n in range(5):
            one.write("a", progress=n + 10)
            assert next(events)
        one.put("a", b"{")
        assert next(events).event == "invalid"
        after = figures(one)
        tag = one.get("/api/task?task_id=a").headers["etag"]
        one.get("/api/task?task_id=a", If_None_Match=tag)
        one.get("/api/task?task_id=none")
    assert after["gateway_events_total"] - before["gateway_events_total"] == 6
    assert after["gateway_deliveries_total"] - before["gateway_deliveries_total"] == 12
    assert after["gateway_delivered_bytes_total"] > before["gateway_delivered_bytes_total"] + 1_000
    assert after["gateway_torn_reads_total"] > before["gateway_torn_reads_total"]
    assert after["gateway_write_to_publish_seconds_count"] >= before["gateway_write_to_publish_seconds_count"] + 5
    final = figures(one)
    assert final["gateway_replies_total/304/flat"] == 1
    assert final["gateway_replies_total/404/flat"] == 1
    assert final["gateway_replies_total/200/flat"] >= 2
    assert final["gateway_check/watcher"] == 1
    assert final["process_open_fds"] > 3
    until(lambda: "gateway_subscribers/sse" not in figures(one))


def test_refusals_are_counted(start: Callable[..., Gateway]) -> None:
    one = start("--max-streams", "1")
    with one.sse("/api/v1/tasks") as events:
        assert next(events)
        assert one.get("/api/v1/tasks", Accept="text/event-stream").status_code == 503
    assert figures(one)["gateway_refusals_total/streams"] == 1


@contextlib.contextmanager
def seen_from_elsewhere(folder: Path) -> Iterator[tuple[Path, Path]]:
    """A folder, and another way into it that sends no file events: as with a network share that others write to."""
    lower, upper, work, merged = (folder / name for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, merged):
        path.mkdir()
    (upper / "Tasks").mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("an overlay cannot be mounted here")
    try:
        yield merged, upper / "Tasks"
    finally:
        subprocess.run(["umount", "-l", str(merged)], check=True)


def test_a_deaf_watcher_is_found_out(start: Callable[..., Gateway], tmp_path: Path) -> None:
    with seen_from_elsewhere(tmp_path) as (data, elsewhere):
        one = start("--reconcile", "1", data=data)
        (data / "Tasks" / "a.json").write_bytes(flat("a", progress=1))
        with one.sse("/api/task?task_id=a") as events:
            while next(events).event != "synced":
                pass
            until(lambda: one.get("/readyz").status_code == 200)
            for n in range(2, 6):
                path = elsewhere / "a.json"
                path.write_bytes(flat("a", progress=n))
                os.utime(path, (time.time() - 60 + n, time.time() - 60 + n))
                assert json.loads(next(events).data)["progress"] == n  # within a reconciliation period
        response = one.get("/readyz")
        assert response.status_code == 503
        assert response.json()["checks"]["watcher"]["ok"] is False
        assert figures(one)["gateway_reconciliation_findings_total"] >= 1
        assert "missed" in "".join(one.lines)
        one.close()


def test_a_folder_that_cannot_be_read_is_not_ready(start: Callable[..., Gateway]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read everything")
    one = start("--reconcile", "0.2")
    one.write("a")
    one.tasks.chmod(0)
    until(lambda: one.get("/readyz").status_code == 503)
    one.tasks.chmod(0o700)
    until(lambda: one.get("/readyz").status_code == 200)


def test_logs_for_machines(start: Callable[..., Gateway]) -> None:
    one = start("--log-format", "json")
    one.put("a", b"{")
    until(lambda: len(one.lines) > 1)
    line = json.loads(one.lines[1])
    assert line["level"] == "warning"
    assert line["message"] == "task 'a' cannot be shown: not JSON"
    assert line["logger"] == "gateway.folder"
    assert line["time"].endswith("+00:00")


def test_the_canary_leaves_nothing_behind(start: Callable[..., Gateway]) -> None:
    one = start("--reconcile", "0.1")
    one.write("a")
    until(lambda: figures(one)["gateway_reconciliation_age_seconds"] < 1)
    assert [path.name for path in one.tasks.iterdir() if not path.name.startswith(".gateway-")] == ["a.json"]
    assert httpx.get(f"{one.url}/readyz").status_code == 200
