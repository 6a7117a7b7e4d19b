"""The process: addresses, signals, refusals, and the command line that a user types."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.demo.plays import FAILURES, PLAYS
from tests.harness import Gateway, free_port, port_of, until


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "COLUMNS": "200", **env},
    )


@contextlib.contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Leaves no process behind, whatever a test finds."""
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def test_a_taken_port_is_a_sentence_and_exit_2(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        done = run("serve", "--data-path", str(tmp_path), "--bind", f"127.0.0.1:{port}")
    assert done.returncode == 2
    assert f"127.0.0.1:{port} is taken" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve"], "--data-path (GATEWAY_DATA_PATH): is needed"),
        (["serve", "--data-path", "/no/such"], "there is no folder /no/such"),
        (["serve", "--data-path", ".", "--bind", "nonsense"], "'nonsense' is not HOST:PORT"),
        (["serve", "--data-path", ".", "--bind", "localhost:99999"], "is not HOST:PORT"),
        (["serve", "--data-path", ".", "--bind", "no.such.invalid:1", "--allow-anonymous"], "there is no host"),
        (["serve", "--data-path", ".", "--heartbeat", "0"], "--heartbeat"),
        (["serve", "--data-path", ".", "--heartbeat", "x"], "valid integer"),
        (["serve", "--nonsense"], "No such option"),
        (["dance"], "No such command"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_exit_2(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_promptly_with_open_streams(start: Callable[..., Gateway], sig: int) -> None:
    one = start()
    one.write("a")
    one.get("/api/task?task_id=a")
    url = f"{one.url}/api/v1/tasks"
    with (
        httpx.stream("GET", url, headers={"Accept": "text/event-stream"}, timeout=10) as sse,
        httpx.stream("GET", url, headers={"Accept": "application/x-ndjson"}, timeout=10) as ndjson,
        connect(f"ws://127.0.0.1:{one.port}/api/v1/tasks") as ws,
        ThreadPoolExecutor() as pool,
    ):
        waiting = pool.submit(one.get, "/api/v1/tasks?wait=50")
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        lines = sse.iter_lines()
        while "synced" not in next(lines):
            pass
        while "synced" not in str(ws.recv(5)):
            pass
        started = time.monotonic()
        ending = threading.Thread(target=one.stop, args=[sig])
        ending.start()
        rest = list(lines)
        assert any(line.startswith("retry: ") for line in rest)
        for _ in ndjson.iter_lines():
            pass
        with pytest.raises(ConnectionClosed):
            ws.recv(5)
        assert ws.close_code == 1012
        assert waiting.result(5).status_code == 200
        ending.join(10)
    assert one.process.returncode == 0
    assert time.monotonic() - started < 3
    assert "Traceback" not in "".join(one.lines)


def test_a_plain_asgi_server_can_end_with_open_streams(start: Callable[..., Gateway]) -> None:
    one = start(kind="uvicorn")
    url = f"{one.url}/api/v1/tasks"
    with (
        httpx.stream("GET", url, headers={"Accept": "text/event-stream"}, timeout=10) as sse,
        httpx.stream("GET", url, headers={"Accept": "application/x-ndjson"}, timeout=10) as ndjson,
        connect(f"ws://127.0.0.1:{one.port}/api/v1/tasks"),
    ):
        assert next(sse.iter_lines())
        assert next(ndjson.iter_lines()) == ""
        started = time.monotonic()
        one.stop()
    assert time.monotonic() - started < 5
    assert "Traceback" not in "".join(one.lines)


def test_http_1_0_gets_a_stream_without_chunks(start: Callable[..., Gateway]) -> None:
    one = start()
    one.write("a", "success", 100)
    for accept, wanted in (("text/event-stream", b"data: {"), ("application/x-ndjson", b'{"cursor"'), ("*/*", b"{")):
        with socket.create_connection(("127.0.0.1", one.port), 10) as s:
            s.sendall(f"GET /api/task?task_id=a HTTP/1.0\r\nAccept: {accept}\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: s.recv(65_536), b"")).partition(b"\r\n\r\n")
        assert wanted in body
        assert head.startswith(b"HTTP/1.1 200")


def test_localhost_answers_on_both_families(start: Callable[..., Gateway]) -> None:
    port = free_port()
    one = start("--bind", f"localhost:{port}")
    assert httpx.get(f"http://127.0.0.1:{port}/api/task").status_code == 400
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    assert httpx.get(f"http://[::1]:{port}/api/task").status_code == 400
    assert f"http://localhost:{port}" in "".join(one.lines)


def test_settings_from_the_environment_and_dotenv(tmp_path: Path) -> None:
    (tmp_path / "Tasks").mkdir()
    (tmp_path / ".env").write_text(f"GATEWAY_DATA_PATH={tmp_path}\nGATEWAY_BIND=127.0.0.1:0, 127.0.0.1:0\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    with ended(process):
        assert process.stderr
        line = process.stderr.readline()
        assert str(tmp_path) in line
        assert line.count("http://127.0.0.1:") == 2
        process.terminate()
        assert process.wait(10) == 0


def test_the_demo_plays_what_the_documents_show(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo", "--bind", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    with ended(process):
        assert process.stderr
        printed = ""
        while "Ctrl-C" not in printed:
            printed += process.stderr.readline()
        url = f"http://127.0.0.1:{port_of(printed)}"
        assert f"{url}/" in printed
        assert "curl -N" in printed
        until(lambda: len(httpx.get(f"{url}/api/v1/tasks").json()["payload"]["tasks"]) >= 3, 20)
        items = httpx.get(f"{url}/api/v1/tasks").json()["payload"]["tasks"]
        messages = {m for play in PLAYS.values() for m in (*play[0], play[1])} | set(FAILURES)
        assert {item["message"] for item in items} <= messages | {"Waiting for a free worker..."}
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert list(tmp_path.glob("gateway-demo-*")) == []


def test_the_upstream_demo_is_one_poller_for_all() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo", "--upstream", "--bind", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    with ended(process):
        assert process.stderr
        printed = ""
        while "Ctrl-C" not in printed:
            printed += process.stderr.readline()
        backend, url = re.findall(r"http://[\d.]+:\d+", printed)[:2]
        id = httpx.post(f"{url}/api/v1/import").json()["payload"]["id"]
        with httpx.stream("GET", f"{url}/api/v1/tasks/{id}", headers={"Accept": "application/x-ndjson"}) as stream:
            assert any('"message":"Waiting' in line or '"progress"' in line for line in stream.iter_lines())
            answers = [httpx.get(f"{url}/api/v1/tasks/{id}").json()["payload"]["id"] for _ in range(20)]
        assert answers == [id] * 20
        assert 1 <= httpx.get(f"{backend}/polls").json()[id] <= 10
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_a_folder_that_comes_later_is_served(start: Callable[..., Gateway]) -> None:
    one = start()
    assert one.get("/api/task?task_id=a").status_code == 404
    assert one.get("/api/v1/tasks").json()["payload"]["tasks"] == []
    with one.sse("/api/v1/tasks") as events:
        assert next(events).event == "synced"
        one.write("a")
        assert '"id":"a"' in next(events).data


def test_no_answer_names_a_path_or_a_version(gateway: Gateway, name: str) -> None:
    gateway.write(name)
    for path in ("/", "/api/task?task_id=x", f"/api/task?task_id={name}", "/none", "/static/none"):
        response = gateway.get(path)
        assert str(gateway.data) not in response.text + str(response.headers)
        if gateway.kind == "gateway":
            assert "server" not in response.headers


def test_workers_serve_the_same_and_die_together(start: Callable[..., Gateway]) -> None:
    one = start("--workers", "2")
    one.write("a", progress=1)
    until(lambda: one.get("/api/task?task_id=a").status_code == 200)
    cursor = ""
    epochs: set[str] = set()
    end = time.monotonic() + 20
    while len(epochs) < 2:  # each connection lands on either of them, once both have started
        assert time.monotonic() < end
        with one.sse(f"/api/v1/tasks?cursor={cursor}" if cursor else "/api/v1/tasks") as events:
            names = []
            for event in events:
                names.append(event.event)
                if event.event == "synced":
                    break
            epoch = event.id.rpartition("-")[0]
            if cursor:
                resumed = cursor.startswith(f"{epoch}-")
                assert names == (["synced"] if resumed else ["reset", "message", "synced"])
            cursor = event.id
            epochs.add(epoch)
    with one.sse("/api/task?task_id=a") as events:
        tag = next(events).id
    for _ in range(8):  # a single task resumes at any worker
        with one.sse("/api/task?task_id=a", Last_Event_ID=tag) as events:
            assert next(events).event == "synced"
    assert one.stop() == 0
    with pytest.raises(httpx.ConnectError):
        one.get("/")


def test_a_worker_that_dies_is_replaced_and_orphans_end(start: Callable[..., Gateway]) -> None:
    one = start("--workers", "2")

    def workers() -> list[int]:
        children = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children")
        if not children.exists():
            pytest.skip("no /proc here")
        return [
            p
            for p in map(int, children.read_text().split())
            if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()
        ]

    until(lambda: one.get("/api/task").status_code == 400)
    until(lambda: len(workers()) == 2)
    victim = workers()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers()) == 2 and victim not in workers())
    left = workers()
    one.process.kill()
    one.process.wait(5)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))
