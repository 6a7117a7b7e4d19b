"""What is special on Windows. By its own Python (`make test-windows`) files are locked as there; elsewhere they cannot
be opened, and names that only POSIX has are gone."""

import base64
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

from gateway.settings import Settings
from gateway.sources.sharing import open_to_read
from tests.harness import Gateway, flat, free_port, until
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


simulated = pytest.mark.skipif(sys.platform == "win32", reason="simulates what is real there")


@simulated
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


@simulated
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


ENVIRONMENTS = [{}] if sys.platform == "win32" else [
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C.UTF-8"},
]  # fmt: skip


@pytest.mark.parametrize("env", ENVIRONMENTS)
@pytest.mark.parametrize("name", ["größe 日本", pytest.param("\udcff", marks=simulated)])
def test_every_name_can_be_said_wherever_it_goes(tmp_path: Path, name: str, env: dict[str, str]) -> None:
    (tmp_path / f"{name}.json").write_bytes(b"{")
    text, lines = (gateway("check", str(tmp_path), *options, **env) for options in ((), ("--json",)))
    assert (text.returncode, lines.returncode, text.stdout[:7]) == (1, 1, b"error: ")
    said = json.loads(lines.stdout)["file"]
    if "PYTHONUTF8" not in env:  # else the name of the file is read as ASCII, too
        assert said == f"{name}.json"
    if "PYTHONIOENCODING" not in env:
        assert f"{name}.json".encode(errors="backslashreplace") in text.stdout or "PYTHONUTF8" in env


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_an_env_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.chdir(tmp_path)
    bom = "\ufeff" if encoding[-2:] in {"le", "be"} else ""
    (tmp_path / ".env").write_bytes(f"{bom}GATEWAY_AUTH_AUDIENCE=größe\r\nGATEWAY_DATA_PATH=.\r\n".encode(encoding))
    assert Settings().auth_audience == "größe"


@pytest.mark.parametrize(("encoding", "line"), [("cp1252", " (line 2)"), ("utf-16-le", " (line 2)"), ("utf-16-be", "")])
def test_an_env_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "GATEWAY_DATA_PATH=.\nGATEWAY_AUTH_AUDIENCE=" + ("größe" if line else "size")
    (tmp_path / ".env").write_bytes(text.encode(encoding))
    done = gateway("serve")
    said = f"gateway: .env is not UTF-8{line}: save it as UTF-8"
    assert (done.returncode, done.stderr.decode().strip()) == (2, said)


@pytest.fixture
def bound() -> Iterator[Gateway]:
    """A gateway that a file's mode binds, whoever runs the tests: root reads everything, unless told not to."""
    command: tuple[str, ...] = (sys.executable, "-m", "gateway")
    if sys.platform != "win32" and os.geteuid() == 0:
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
        if event.event == "invalid":  # on a slow machine it was locked for long
            event = next(events)
        assert (event.event, json.loads(event.data)["progress"]) == ("message", 2)


def test_one_that_stays_locked_is_invalid_until_it_can_be_read(bound: Gateway) -> None:
    path = bound.write("a", progress=1)
    with bound.sse("/api/v1/tasks") as events:
        next(events)
        assert next(events).event == "synced"
        with locked(path) as writer:
            writer.write(flat("a", progress=2))
            invalid = next(events)
            assert invalid.event == "invalid"
            assert json.loads(invalid.data)["error"].startswith(REASON)
            assert bound.get("/api/task?task_id=a").json()["progress"] == 1
            bound.write("last")
            while json.loads(next(events).data)["id"] != "last":  # the folder was compared meanwhile
                pass
        assert json.loads(next(events).data)["progress"] == 2  # with the next reconciliation
    assert "gateway_reconciliation_findings_total 0.0" in bound.get("/metrics").text


@pytest.mark.parametrize("url", ["/api/task?task_id=a", "/api/v1/tasks/a", "/api/system/tasks?task_id=a"])
def test_a_new_file_that_is_locked_is_not_said_to_be_too_large(bound: Gateway, url: str) -> None:
    path = bound.put("a", b"")
    with locked(path) as writer:
        writer.write(flat("a"))
        answer = bound.get(url)
        assert (answer.status_code, f"Task status file is {REASON}" in answer.text) == (500, True)
        with connect(f"ws://127.0.0.1:{bound.port}{url}") as talk:
            assert f"Task status file is {REASON}" in str(talk.recv(10))
    until(lambda: bound.get(url).status_code == 200)


if sys.platform == "win32":
    import ctypes
    import msvcrt

    REASON = "locked by another program"

    @contextlib.contextmanager
    def locked(path: Path) -> Iterator[BinaryIO]:
        """Opens a file to write it anew, and shares nothing meanwhile."""
        create = ctypes.WinDLL("kernel32").CreateFileW
        create.restype = ctypes.c_void_p
        handles: list[int] = []

        def opened() -> bool:
            """The gateway may just read it."""
            handles[:] = [create(str(path), ctypes.c_uint(0xC000_0000), 0, None, 3, 0x80, None)]
            return handles != [ctypes.c_void_p(-1).value]

        until(opened)
        with os.fdopen(msvcrt.open_osfhandle(handles[0], os.O_BINARY), "r+b", buffering=0) as writer:
            yield writer

else:
    REASON = "unreadable: "

    @contextlib.contextmanager
    def locked(path: Path) -> Iterator[BinaryIO]:
        """Opens a file to write it anew; nobody else opens it meanwhile, as where a writer shares nothing."""
        with path.open("r+b", buffering=0) as writer:
            path.chmod(0)
            try:
                yield writer
            finally:
                path.chmod(0o644)


def test_a_file_that_is_read_can_be_renamed_and_deleted(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"{}")
    file = open_to_read(str(path))
    try:
        path.rename(tmp_path / "b.json").unlink()
        assert os.read(file, 9) == b"{}"
    finally:
        os.close(file)


def test_a_glob_is_for_whoever_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not expanded against the folder that one stands in, nor `~` and `%NAME%`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adef.txt").touch()
    (tmp_path / "key").write_text("s" * 40)
    given = ["a*", "~", "%TEMP%", "$TEMP"]
    options = [part for glob in given for part in ("--tasks", glob)]
    done = gateway("token", "--key", "key", *options)
    assert done.returncode == 0, done.stderr
    claims = done.stdout.split(b".")[1]
    assert json.loads(base64.urlsafe_b64decode(claims + b"=="))["tasks"] == given


@pytest.mark.skipif(sys.platform != "win32", reason="needs cmd")
def test_output_may_go_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "日本.json").write_bytes(b"{")
    command = f"{sys.executable} -m gateway check {tmp_path} > {tmp_path}\\out.txt"
    done = subprocess.run(["cmd", "/c", command], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count(b"Traceback")) == (1, 0)
    assert "error: 日本.json: is not JSON" in (tmp_path / "out.txt").read_text(encoding="utf-8")
