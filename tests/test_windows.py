"""As on Windows, as far as that can be had here: names that only POSIX has are gone, and files cannot be opened."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest
from httpx_sse import connect_sse
from websockets.sync.client import connect

from tests.harness import Gateway, flat, free_port
from tests.test_server import ended

WITHOUT = """
import os, signal, socket, sys
for module, names in (
    (os, "O_NOFOLLOW O_CLOEXEC O_NONBLOCK fork geteuid getuid setsid chown"),
    (signal, "SIGHUP SIGUSR1 SIGALRM SIGKILL pthread_sigmask"),
    (socket, "TCP_USER_TIMEOUT TCP_NOTSENT_LOWAT SO_REUSEPORT"),
):
    for name in names.split():
        vars(module).pop(name, None)
sys.modules.update(dict.fromkeys(("uvloop", "pwd", "grp"), None))
from gateway.cli import main
sys.argv[0] = "gateway"
main()
"""


def test_it_serves_and_ends_without_what_only_posix_has(tmp_path: Path) -> None:
    (tmp_path / "Tasks").mkdir()
    (tmp_path / "Tasks/a.json").write_bytes(flat("a", progress=1))
    port = free_port()
    argv = [sys.executable, "-c", WITHOUT, "serve", "--data-path", str(tmp_path), "--bind", f"127.0.0.1:{port}"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env={**os.environ, "NOTIFY_SOCKET": "/nobody"})
    with ended(process), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert process.stderr
        assert process.stderr.readline().startswith("Serving ")
        with connect_sse(client, "GET", "/api/v1/tasks") as source:
            events = source.iter_sse()
            assert json.loads(next(events).data)["progress"] == 1
            (tmp_path / "Tasks/a.json").write_bytes(flat("a", progress=2))
            assert next(events).event == "synced"
            assert json.loads(next(events).data)["progress"] == 2
            with connect(f"ws://127.0.0.1:{port}/api/v1/tasks/a") as talk:
                assert json.loads(talk.recv(5))["payload"]["progress"] == 2
            assert client.get("/readyz").status_code == 200
            process.terminate()
            list(events)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_a_unix_socket_is_refused_where_there_are_none(tmp_path: Path) -> None:
    code = WITHOUT.replace("SO_REUSEPORT", "SO_REUSEPORT AF_UNIX")  # the loop of this platform needs it
    argv = [sys.executable, "-c", code, "serve", "--data-path", str(tmp_path), "--bind", f"unix:{tmp_path}/s"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, "there are no Unix sockets here" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr


def gateway(*argv: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "gateway", *argv]
    given = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **env}
    return subprocess.run(command, capture_output=True, check=False, timeout=60, env=given)


@pytest.mark.parametrize("name", ["größe", "日本", "\udcff"])
def test_every_name_can_be_said_wherever_it_goes(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.json").write_bytes(b"{")
    for env in (
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C.UTF-8"},
    ):
        text, lines = (gateway("check", str(tmp_path), *options, **env) for options in ((), ("--json",)))
        assert (text.returncode, lines.returncode, text.stdout[:7]) == (1, 1, b"error: ")
        said = json.loads(lines.stdout)["file"]
        if "PYTHONUTF8" not in env:  # else the name of the file is read as ASCII, too
            assert said == f"{name}.json"
    assert f"{name}.json".encode(errors="backslashreplace") in text.stdout


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_an_env_file_is_read_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.chdir(tmp_path)
    bom = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    text = f"{bom}GATEWAY_AUTH_AUDIENCE=größe\r\nGATEWAY_DATA_PATH=nowhere\r\n"
    (tmp_path / ".env").write_bytes(text.encode(encoding))
    done = gateway("serve")
    said = ".env is not UTF-8 (line 1): save it as UTF-8" if encoding == "cp1252" else "there is no folder nowhere"
    assert (done.returncode, said in done.stderr.decode()) == (2, True), done.stderr


def test_an_env_file_that_is_no_text_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes("GATEWAY_DATA_PATH=.".encode("utf-16-le"))  # without its mark
    done = gateway("serve")
    assert (done.returncode, done.stderr) == (2, b"gateway: .env is not UTF-8: save it as UTF-8\n")


@pytest.fixture
def bound() -> Iterator[Gateway]:
    """A gateway that a file's mode binds, whoever runs the tests: root reads everything, unless told not to."""
    command: tuple[str, ...] = (sys.executable, "-m", "gateway")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root reads everything, and there is no setpriv")
        command = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", *command)
    with Gateway("--reconcile", "0.5", command=command) as one:
        yield one


def test_a_file_that_is_locked_while_it_is_written_is_read_after_that(bound: Gateway) -> None:
    path = bound.write("a", progress=1)
    with bound.sse("/api/task?task_id=a") as events:
        assert json.loads(next(events).data)["progress"] == 1
        assert next(events).event == "synced"
        with locked(path) as writer:
            writer.write(flat("a", progress=2))
            time.sleep(0.3)
            assert bound.get("/api/task?task_id=a").json()["progress"] == 1  # the last good state
        event = next(events)
        assert (event.event, json.loads(event.data)["progress"]) == ("message", 2)  # nothing in between


def test_one_that_stays_locked_is_invalid_until_it_can_be_read(bound: Gateway) -> None:
    path = bound.write("a", progress=1)
    with bound.sse("/api/v1/tasks") as events:
        next(events)
        assert next(events).event == "synced"
        with locked(path) as writer:
            writer.write(flat("a", progress=2))
            invalid = next(events)
            assert invalid.event == "invalid"
            assert json.loads(invalid.data)["error"].startswith("unreadable: ")
            assert bound.get("/api/task?task_id=a").json()["progress"] == 1
        assert json.loads(next(events).data)["progress"] == 2  # with the next reconciliation


@contextlib.contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Opens a file to write it anew; nobody else opens it meanwhile, as where a writer shares nothing."""
    with path.open("r+b", buffering=0) as writer:
        path.chmod(0)
        try:
            yield writer
        finally:
            path.chmod(0o644)
