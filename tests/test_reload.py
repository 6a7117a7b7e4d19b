"""SIGHUP: limits, keys and the log level change while connections and streams stay. Real processes, real files."""

import contextlib
import json
import os
import pty
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from websockets.sync.client import ClientConnection, connect

from gateway.reload import LIVE
from gateway.settings import Settings
from tests.harness import Gateway, flat, free_port, until
from tests.test_server import ended
from tests.test_supervised import workers_of

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")

OLD, NEW = "o" * 40, "n" * 40
EVENTS = {"Accept": "text/event-stream"}


def bearer(key: str, **claims: object) -> dict[str, str]:
    made = jwt.encode({"exp": time.time() + 600, "tasks": ["*"], "jti": secrets.token_hex(8), **claims}, key, "HS256")
    return {"Authorization": f"Bearer {made}"}


class Reloaded(Gateway):
    """A gateway with a `.env` where it runs, and a key file."""

    def __init__(self, folder: Path, *options: str, **env: str) -> None:
        self.key, self.file = folder / "key", folder / ".env"
        self.key.write_text(OLD)
        self.says()
        (folder / "data").mkdir()
        before = Path.cwd()
        os.chdir(folder)
        try:
            super().__init__(
                *options, "--log-format", "json", data=folder / "data", env={"PYTHONPATH": str(before), **env}
            )
        finally:
            os.chdir(before)
        self.put("a", flat("a"))
        until(lambda: self.poll(bearer(OLD)) == 200)

    def says(self, text: str = "") -> None:
        self.file.write_text(f"GATEWAY_AUTH_KEY={self.key}\n{text}\n")

    def hang_up(self, expected: str) -> str:
        """Sends the signal; returns the lines that came, once the one that is expected is among them."""
        before = len(self.lines)
        self.process.send_signal(signal.SIGHUP)
        until(lambda: any(expected in line for line in self.lines[before:]))
        return "".join(self.lines[before:])

    def poll(self, headers: dict[str, str]) -> int:
        return httpx.get(f"{self.url}/api/task?task_id=a", headers=headers).status_code

    def stream(self, headers: dict[str, str]) -> int:
        with httpx.stream("GET", f"{self.url}/api/v1/tasks", headers={**EVENTS, **headers}) as answer:
            return answer.status_code


Start = Callable[..., Reloaded]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def starter(*options: str, **env: str) -> Reloaded:
            one = Reloaded(tmp_path, *options, **env)
            stack.callback(one.close)
            return one

        yield starter


def talk(one: Gateway, headers: dict[str, str]) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{one.port}/api/v1/tasks", additional_headers=headers)


def until_told(talk: ClientConnection, progress: int) -> None:
    while True:
        message = json.loads(talk.recv(10))
        if message["type"] == "task" and message["task"]["progress"] == progress:
            return


@pytest.mark.parametrize("workers", ["1", "2"])
def test_limits_keys_and_log_level_change_and_streams_stay(begin: Start, workers: str) -> None:
    one = begin("--workers", workers)
    old, new = bearer(OLD), bearer(NEW)
    assert one.poll(old) == 200
    assert one.poll(new) == 401
    with one.sse("/api/task?task_id=a", **old) as events, talk(one, old) as talking:
        assert json.loads(next(events).data)["progress"] == 50
        one.key.write_text(NEW)
        one.says("GATEWAY_MAX_STREAMS=1\nGATEWAY_LOG_LEVEL=debug\nGATEWAY_RECENT=60")
        assert (one.poll(old), one.poll(new)) == (200, 401)  # nothing changes by itself
        said = one.hang_up("needs a restart: --recent")
        assert "new: --auth-key, --log-level, --max-streams" in said
        until(lambda: [one.poll(new) for _ in range(8)] == [200] * 8)
        assert [one.poll(old) for _ in range(4)] == [401] * 4  # not often: who fails too often is not even listened to
        with contextlib.ExitStack() as stack:  # each worker counts its own
            codes = [one.stream(new) for _ in range(4)]
            if workers == "1":
                assert codes == [503] * 4
            else:
                others = [stack.enter_context(httpx.Client()) for _ in range(12)]
                codes = [
                    stack.enter_context(
                        c.stream("GET", f"{one.url}/api/v1/tasks", headers={**EVENTS, **new})
                    ).status_code
                    for c in others
                ]
                assert codes.count(503) >= 10
        one.write("a", progress=77)
        assert next(e for e in events if e.event == "message" and json.loads(e.data)["progress"] == 77)
        until_told(talking, 77)
        one.write("a", "success", 100)
        assert [json.loads(event.data)["status"] for event in events if event.event == "message"][-1:] == ["success"]
    if workers == "2":  # one that is started later has the new settings, too
        victim = workers_of(one.process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(found := workers_of(one.process.pid)) == 2 and victim not in found)
        until(lambda: [one.poll(new) for _ in range(8)] == [200] * 8)
        assert [one.poll(old) for _ in range(4)] == [401] * 4
    assert one.stop() == 0
    assert "Traceback" not in "".join(one.lines)


def test_the_log_level_is_taken(begin: Start) -> None:
    one = begin()
    one.put("broken", b"{")
    until(lambda: any("broken" in line for line in one.lines))
    one.says("GATEWAY_LOG_LEVEL=error")
    one.process.send_signal(signal.SIGHUP)
    until(lambda: one.poll(bearer(OLD)) == 200)
    one.says("GATEWAY_LOG_LEVEL=error\nGATEWAY_MAX_IDS=many")
    one.hang_up("the settings stay as they were")  # so the first one is done
    one.put("quiet", b"{")
    with one.sse("/api/v1/tasks", **bearer(OLD)) as events:
        assert next(e for e in events if e.event == "invalid" and "quiet" in e.data)
    assert not any("quiet" in line for line in one.lines)


def test_the_revocation_list_moves(begin: Start, tmp_path: Path) -> None:
    revoked = tmp_path / "revoked"
    revoked.write_text("sub:eve\n")
    one = begin()
    eve = bearer(OLD, sub="eve")
    assert one.poll(eve) == 200
    one.says(f"GATEWAY_AUTH_REVOKED={revoked}")
    one.hang_up("new: --auth-revoked")
    assert one.poll(eve) == 401
    assert one.poll(bearer(OLD, sub="adam")) == 200
    one.says()
    one.hang_up("new: --auth-revoked")
    assert one.poll(eve) == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_hangs_up_while_it_starts_is_heard(tmp_path: Path, workers: str) -> None:
    """Its sockets listen before anything else is there: the signal goes as soon as one can be reached."""
    port = free_port()
    argv = ["serve", "--data-path", str(tmp_path), "--bind", f"127.0.0.1:{port}", "--workers", workers]
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *argv, "--log-format", "json"], stderr=subprocess.PIPE, text=True
    )
    with ended(process):
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
        process.send_signal(signal.SIGHUP)
        assert process.stderr
        assert any("have been read again" in line for line in process.stderr)
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_makes_no_sense_changes_nothing(begin: Start, workers: str) -> None:
    one = begin("--workers", workers)
    stay = "the settings stay as they were: "
    for text, complaint in (
        ("GATEWAY_MAX_STREAMS=none", "--max-streams (GATEWAY_MAX_STREAMS): Input should be a valid integer"),
        ("GATEWAY_MAX_STREAMS=0\nGATEWAY_LOG_LEVEL=debug", "--max-streams (GATEWAY_MAX_STREAMS)"),
        ("this is no line", ".env, line 2 is not NAME=value"),
        ("\n# a comment\n\nnor this", ".env, line 5 is not NAME=value"),
    ):
        one.says(text)
        said = one.hang_up(stay)
        assert stay + complaint in said
        assert one.stream(bearer(OLD)) == 200
    one.file.write_bytes(b"GATEWAY_AUTH_ISSUER=\xff\xfe")
    one.hang_up(stay)
    one.says()
    one.key.write_text("short")
    assert "--auth-key (GATEWAY_AUTH_KEY): a secret needs 32 bytes" in one.hang_up(stay)
    assert one.poll(bearer(OLD)) == 200
    one.key.unlink()
    assert "--auth-key (GATEWAY_AUTH_KEY): cannot be read" in one.hang_up(stay)
    one.key.write_text(OLD)
    assert "new: none" in one.hang_up("have been read again")


def test_who_asked_nobody_asks_after_a_restart_only(begin: Start) -> None:
    one = begin()
    one.file.write_text("GATEWAY_MAX_IDS=3\n")  # on loopback that is allowed
    said = one.hang_up("needs a restart: --auth-key")
    assert "new: --max-ids" in said
    assert one.poll({}) == 401
    assert one.poll(bearer(OLD)) == 200


def test_limits_of_messages_and_heads(begin: Start) -> None:
    one = begin()
    old = bearer(OLD)
    with talk(one, old) as talking:
        one.says("GATEWAY_MAX_MESSAGES=1\nGATEWAY_MAX_IDS=1\nGATEWAY_MAX_HEAD=1024\nGATEWAY_MAX_MESSAGE=200")
        one.hang_up("new: --max-head, --max-ids, --max-message, --max-messages")
        for _ in range(3):
            talking.send('{"type":"ping"}')
        until_error = next(m for m in map(json.loads, talking) if m["type"] == "error")
        assert until_error["message"] == "at most 1 messages a second"
    assert one.get("/api/v1/tasks?id=a&id=b", **old).status_code == 400
    with socket.create_connection(("127.0.0.1", one.port), 10) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert one.poll(old) == 200  # so that it has come
        slow.sendall(b"X: " + b"y" * 1_100)  # and the end does not come
        assert slow.recv(100).startswith(b"HTTP/1.1 431")
    with talk(one, old) as talking:
        talking.send('{"type":"ping"}' + " " * 300)
        with pytest.raises(Exception, match="1009"):
            list(talking)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_twenty_in_a_row_under_load_lose_nothing(begin: Start, workers: str) -> None:
    one = begin("--workers", workers)
    old, over = bearer(OLD), threading.Event()
    codes: list[int] = []
    seen: list[int] = []

    def polls() -> None:
        with httpx.Client(headers=old, timeout=10) as client:
            while not over.is_set():
                codes.append(client.get(f"{one.url}/api/task?task_id=a").status_code)

    def follows() -> None:
        with one.sse("/api/task?task_id=b", **old) as events:
            seen.extend(json.loads(event.data)["progress"] for event in events if event.event == "message")

    one.write("b", progress=0)
    threads = [threading.Thread(target=target) for target in (polls, polls, follows, follows)]
    for thread in threads:
        thread.start()
    for n in range(1, 21):
        one.says(f"GATEWAY_MAX_STREAMS={100 + n}")
        one.process.send_signal(signal.SIGHUP)
        before = len(codes)
        one.write("b", progress=n)
        until(lambda before=before: len(codes) > before + 2)  # type: ignore[misc]
    one.hang_up("have been read again")
    one.write("b", "success", 100)
    over.set()
    for thread in threads:
        thread.join(15)
    assert set(codes) == {200}
    assert seen.count(100) == 2
    assert one.process.poll() is None


def test_a_terminal_that_closes_ends_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    argv = [
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--data-path",
        str(tmp_path),
        "--bind",
        f"127.0.0.1:{free_port()}",
    ]
    process = subprocess.Popen(  # its terminal is this one
        ["setsid", "--ctty", *argv], stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "COLUMNS": "200"}
    )
    os.close(theirs)
    said = b""
    while b"Serving" not in said:
        said += os.read(ours, 4_096)
    process.send_signal(signal.SIGHUP)  # it is still open
    while b"have been read again" not in said:
        said += os.read(ours, 4_096)
    os.close(ours)
    assert process.wait(10) in {0, -signal.SIGHUP}


def test_what_is_live_is_a_setting() -> None:
    assert set(Settings.model_fields) >= LIVE
    assert {name for name in Settings.model_fields if name.startswith("max_")} <= LIVE


def test_a_key_is_what_its_file_said_when_it_was_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(OLD)
    options: dict[str, Any] = {"data_path": tmp_path, "auth_key": key}
    before = Settings(**options)
    key.write_text(NEW)
    after = before.read_again()
    assert before.key_texts == [OLD.encode()]
    assert after.key_texts == [NEW.encode()]
    assert before.differences(after) == ["auth_key"]
    assert before.with_those(LIVE, after).key_texts == after.key_texts
    assert before.with_those({"max_ids"}, after).key_texts == before.key_texts
