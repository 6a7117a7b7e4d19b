"""Under a service manager, which the tests play: a socket that is passed on, readiness, a watchdog, restarts."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.sockets import BindError, address_of, listen
from gateway.supervisor import Supervisor
from tests.harness import flat, until

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX") or not hasattr(os, "fork"), reason="POSIX only")

AS_FD_3 = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"


class Manager:
    """systemd's part: the socket, the data path, and the ear that is spoken to."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self.folder, self.listener = folder, listener
        (folder / "Tasks").mkdir()
        (folder / "Tasks" / "a.json").write_bytes(flat("a"))
        self._address = str(folder / "notify")
        self.ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ear.bind(self._address)
        self.ear.settimeout(15)
        self.process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/api/task?task_id=a"

    def start(self, *options: str, **environment: str) -> None:
        argv = ["-m", "gateway", "serve", "--bind", "fd:3", "--data-path", str(self.folder), *options]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", AS_FD_3, str(self.listener.fileno()), *argv],
            pass_fds=[self.listener.fileno()],
            env={**os.environ, "NOTIFY_SOCKET": self._address, "COLUMNS": "200", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True).start()

    def _read(self, stream: Any) -> None:
        with stream:
            for line in stream:
                self.lines.append(line)

    def hears(self, first: str) -> list[str]:
        """The lines of the next message that begins with this; signs of life in between are passed over."""
        while True:
            lines = self.ear.recv(4_096).decode().split("\n")
            if lines[0] == first:
                return lines
            assert lines[0] == "WATCHDOG=1", lines

    def send(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def stop(self) -> int:
        assert self.process
        self.process.terminate()
        return self.process.wait(15)

    def workers(self) -> list[int]:
        assert self.process
        return workers_of(self.process.pid)


def workers_of(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children")
    if not found.exists():
        pytest.skip("no /proc here")
    return [int(p) for p in found.read_text().split() if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]


@contextlib.contextmanager
def managed(folder: Path, listener: socket.socket) -> Iterator[Manager]:
    manager = Manager(folder, listener)
    try:
        yield manager
    finally:
        if manager.process and manager.process.poll() is None:
            manager.send(signal.SIGCONT)
            manager.stop()
        manager.ear.close()
        listener.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    listener = socket.create_server(("127.0.0.1", 0))
    with managed(tmp_path, listener) as found:
        yield found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_connection_made_before_the_gateway_runs_is_answered(manager: Manager, workers: str) -> None:
    early = socket.create_connection(manager.listener.getsockname())
    early.sendall(b"GET /api/task?task_id=a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    manager.start("--workers", workers)
    early.settimeout(15)
    assert early.makefile("rb").readline().startswith(b"HTTP/1.1 200")
    early.close()
    ready = manager.hears("READY=1")
    port = manager.listener.getsockname()[1]
    assert ready[1] == f"STATUS=Serving {manager.folder} at http://127.0.0.1:{port}"
    assert manager.stop() == 0
    assert manager.hears("STOPPING=1")
    manager.ear.setblocking(False)
    with pytest.raises(BlockingIOError):  # a worker says nothing of its own
        manager.ear.recv(100)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_restart_with_the_same_socket_refuses_nobody(manager: Manager, workers: str) -> None:
    manager.start("--workers", workers)
    manager.hears("READY=1")
    codes: list[int | str] = []
    over = threading.Event()

    def polls() -> None:
        while not over.is_set():
            try:
                codes.append(httpx.get(manager.url, timeout=20).status_code)  # on a connection of its own
            except httpx.HTTPError as error:
                codes.append(repr(error))

    clients = [threading.Thread(target=polls) for _ in range(3)]
    for client in clients:
        client.start()
    for _ in range(2):
        before = len(codes)
        until(lambda before=before: len(codes) > before + 20)  # type: ignore[misc]
        assert manager.stop() == 0
        manager.hears("STOPPING=1")
        manager.start("--workers", workers)
        manager.hears("READY=1")
    over.set()
    for client in clients:
        client.join(25)
    assert set(codes) == {200}


def test_workers_end_when_their_streams_have(manager: Manager) -> None:
    manager.start("--workers", "2")
    manager.hears("READY=1")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(timeout=15)) for _ in range(8)]
        headers = {"Accept": "text/event-stream"}
        streams = [stack.enter_context(client.stream("GET", manager.url, headers=headers)) for client in clients]
        parts = [stream.iter_text() for stream in streams]
        assert all(next(part) for part in parts)
        assert manager.stop() == 0
        for part in parts:
            list(part)  # a stream that was cut off raises


def test_who_has_just_connected_is_answered_at_the_end(manager: Manager) -> None:
    manager.start()
    manager.hears("READY=1")
    address = manager.listener.getsockname()
    with socket.create_connection(address) as slow, socket.create_connection(address) as silent:
        assert httpx.get(manager.url).status_code == 200  # both were accepted before
        manager.send(signal.SIGTERM)
        manager.hears("STOPPING=1")
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with slow.makefile("rb") as answer:
            said = answer.read()  # up to its end
        assert said.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in said.lower()
        silent.settimeout(10)
        assert silent.recv(1) == b""
    assert manager.process
    assert manager.process.wait(10) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reload_is_told(manager: Manager, workers: str) -> None:
    manager.start("--workers", workers)
    serving = manager.hears("READY=1")[1]
    (key := manager.folder / "key").write_text("k" * 40)
    manager.stop()
    manager.hears("STOPPING=1")
    manager.start("--workers", workers, "--auth-key", str(key))
    manager.hears("READY=1")
    manager.send(signal.SIGHUP)
    assert manager.hears("RELOADING=1")[1].startswith("MONOTONIC_USEC=")
    assert manager.hears("READY=1") == ["READY=1", serving]  # the inherited socket was looked at again
    key.write_text("short")
    manager.send(signal.SIGHUP)
    manager.hears("RELOADING=1")
    assert "the settings stay as they were: --auth-key" in manager.hears("READY=1")[1]
    manager.send(signal.SIGHUP)
    manager.hears("RELOADING=1")
    manager.hears("READY=1")
    assert manager.stop() == 0


@pytest.mark.parametrize("stopped", ["alone", "parent", "worker"])
def test_who_is_stopped_gives_no_sign_of_life(manager: Manager, stopped: str) -> None:
    manager.start("--workers", "1" if stopped == "alone" else "2", WATCHDOG_USEC="400000")
    manager.hears("READY=1")
    for _ in range(3):
        since = time.monotonic()
        manager.hears("WATCHDOG=1")
        assert time.monotonic() - since < 2
    assert manager.process
    victim = manager.workers()[0] if stopped == "worker" else manager.process.pid
    os.kill(victim, signal.SIGSTOP)
    manager.ear.settimeout(0.9)
    heard = 0
    with contextlib.suppress(TimeoutError):
        while heard < 6:
            manager.hears("WATCHDOG=1")
            heard += 1
    assert heard < 6  # those that were on their way, and the parent's patience with a worker
    os.kill(victim, signal.SIGCONT)
    manager.ear.settimeout(10)
    manager.hears("WATCHDOG=1")


def test_a_worker_that_is_replaced_does_not_bite_the_watchdog(manager: Manager) -> None:
    manager.start("--workers", "2", WATCHDOG_USEC="3000000")
    manager.hears("READY=1")
    victim = manager.workers()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(manager.workers()) == 2 and victim not in manager.workers())
    manager.ear.settimeout(3)
    for _ in range(3):
        manager.hears("WATCHDOG=1")


def refusal(folder: Path, listener: socket.socket, *options: str) -> str:
    argv = ["-m", "gateway", "serve", "--data-path", str(folder), *options]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", AS_FD_3, str(listener.fileno()), *argv],
        pass_fds=[listener.fileno()],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_a_socket_that_others_reach_needs_tokens(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        said = refusal(tmp_path, listener, "--bind", "fd:3")
        assert f"0.0.0.0:{listener.getsockname()[1]} is open to the network" in said
    with managed(tmp_path, socket.create_server(("0.0.0.0", 0))) as manager:
        manager.start("--allow-anonymous")
        manager.hears("READY=1")
        assert httpx.get(manager.url).status_code == 200
        assert httpx.get(manager.url, headers={"Host": "evil.example"}).status_code == 421


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    with socket.socket() as silent:
        assert "fd:3 is not a socket that listens" in refusal(tmp_path, silent, "--bind", "fd:3")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert "fd:3 is not a socket that listens" in refusal(tmp_path, datagrams, "--bind", "fd:3")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert "fd:9: this process was started without" in refusal(tmp_path, listener, "--bind", "fd:9")
        assert "'fd:x' is not fd:NUMBER" in refusal(tmp_path, listener, "--bind", "fd:x")


def test_an_inherited_socket_is_looked_at_and_left_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        bind = f"fd:{one.fileno()}"
        assert address_of(bind) == f"127.0.0.1:{one.getsockname()[1]}"
        (adopted,) = listen([bind, bind])
        assert adopted.fileno() == one.fileno()
        with pytest.raises(BindError):
            listen([bind, "127.0.0.1"])
        assert one.getsockname()
        adopted.detach()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        assert address_of(f"fd:{six.fileno()}") == f"[::1]:{six.getsockname()[1]}"
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0gateway-test-{os.getpid()}")
        abstract.listen()
        assert address_of(f"fd:{abstract.fileno()}") == f"unix:@gateway-test-{os.getpid()}"


def test_the_path_of_an_inherited_unix_socket_stays(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as short:  # a socket's path may not be long
        path = f"{short}/s"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        with managed(tmp_path, listener) as manager, httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client:
            manager.start()
            assert f"unix:{path}" in manager.hears("READY=1")[1]
            assert client.get("http://whatever/api/task?task_id=a").status_code == 200
            assert manager.stop() == 0
            assert Path(path).exists()
            manager.hears("STOPPING=1")
            manager.start()
            assert client.get("http://whatever/api/task?task_id=a", timeout=15).status_code == 200


def hear(address: str, speak: Callable[[Supervisor], None], **environment: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        ear.settimeout(5)
        speak(Supervisor({"NOTIFY_SOCKET": address, **environment}))
        return ear.recv(4_096).decode()


def test_messages(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert hear(path, lambda one: one.ready("two\nlines")) == "READY=1\nSTATUS=two lines"
    assert hear(f"@gateway-{os.getpid()}", Supervisor.alive) == "WATCHDOG=1"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, second = hear(str(tmp_path / "t"), Supervisor.reloading).split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_without_a_manager_nothing_is_said(tmp_path: Path) -> None:
    Supervisor({}).ready("nobody hears")
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready("nobody hears either")
    address = {"NOTIFY_SOCKET": str(tmp_path / "none")}
    assert Supervisor({"WATCHDOG_USEC": "1000000"}).beat is None
    assert Supervisor({**address, "WATCHDOG_USEC": "1000000"}).beat == 0.5
    assert Supervisor({**address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}).beat == 0.5
    assert Supervisor({**address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).beat is None
    assert Supervisor({**address, "WATCHDOG_USEC": "soon"}).beat is None
