"""examples/go: the stream client and its commands, against real gateways and a backend that only polls."""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import Backend, Gateway, free_port, require, until
from tests.test_operations import figures

MODULE = Path(__file__).parents[1] / "examples" / "go"
OFFLINE = {"GO111MODULE": "on", "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOWORK": "off", "GOTOOLCHAIN": "local"}

pytestmark = pytest.mark.timeout(300)  # the first build of Go's net/http

Start = Callable[..., Gateway]


def go(*arguments: str) -> str:
    ran = subprocess.run(
        [require("go"), *arguments], cwd=MODULE, env=os.environ | OFFLINE, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("go")
    go("build", "-o", str(folder), "./cmd/...")
    return folder


class Program:
    """A command at work. `sees` reads what it prints up to a line, `ends` awaits its exit."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.seen: list[str] = []

    def line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"it ended: {self.seen} {self.ends()}"
        self.seen.append(line.rstrip("\n"))
        return self.seen[-1]

    def sees(self, text: str) -> None:
        while self.line() != text:
            pass

    def event(self, kind: str) -> dict[str, Any]:
        """The next event of a kind, of all that it prints as JSON."""
        while (said := json.loads(self.line())).get("kind", said.get("event", "task")) != kind:
            pass
        return dict(said)

    def ends(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=30)
        self.seen += out.split("\n")[:-1]
        return self.process.returncode, err


@contextlib.contextmanager
def running(*argv: str | Path, env: dict[str, str] | None = None) -> Iterator[Program]:
    with subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="strict",
        env={**os.environ, **(env or {})},
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


@pytest.fixture
def polled() -> Iterator[Callable[[str], Backend]]:
    """Starts a backend that only polls, in the given dialect."""
    with contextlib.ExitStack() as ends:

        def starter(dialect: str) -> Backend:
            backend = Backend("tests.taskbackend", "--dialect", dialect)
            ends.callback(backend.stop)
            return backend

        yield starter


def put(backend: Backend, id: str, status: str, progress: int, **more: Any) -> None:
    httpx.put(f"{backend.url}/-/tasks/{id}", json={"status": status, "progress": progress, **more}).raise_for_status()


def streams(gateway: Gateway) -> float:
    return figures(gateway).get("gateway_subscribers/ndjson", 0)


# The module


def test_it_is_formatted_vetted_and_passes_its_own_tests() -> None:
    assert subprocess.check_output([require("gofmt"), "-l", str(MODULE)], text=True) == ""
    go("vet", "./...")
    go("test", ".")


def test_it_needs_nothing_but_the_standard_library() -> None:
    used = go("list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./...").split()
    assert set(used) == {"example.com/taskgateway"} | {
        f"example.com/taskgateway/cmd/{one}" for one in ("wait", "watch")
    }
    assert sorted(path.name for path in MODULE.glob("go.*")) == ["go.mod"]


# WaitForCompletion


def test_it_waits_as_the_document_does(gateway: Gateway, programs: Path, name: str) -> None:
    id = f"{name} & sons, 50%"
    gateway.write(id, "pending", 0, message="Queued")
    with running(programs / "wait", id, gateway.url) as program:
        program.sees("Progress: 0% - Queued")
        gateway.write(id, "running", 45, message="Grading\u2028 coins…")
        program.sees("Progress: 45% - Grading\u2028 coins…")
        gateway.write(id, "success", 99, message="Nearly there")  # not final yet
        program.sees("Progress: 99% - Nearly there")
        gateway.write(id, "success", 100, message="Done", data={"coins": ["🪙" * 5_000]})
        assert program.ends() == (0, "")
    assert program.seen[0] == f"Waiting for task {id} to complete..."
    assert program.seen[4:7] == ["Progress: 100% - Done", "Task completed successfully!", "Data:"]
    assert json.loads("\n".join(program.seen[7:])) == {"coins": ["🪙" * 5_000]}


@pytest.mark.parametrize(
    ("file", "error", "code"),
    [
        ({"status": "error", "progress": 45, "message": "No 100%"}, "task failed: No 100%", 1),
        ({"status": "CANCELLED", "progress": 45, "message": "By hand"}, "task failed: By hand", 1),
        ({"status": "failed", "message": ""}, "task failed: ", 1),
        ({"status": "success", "payload": {"id": "x", "status": "error", "message": "In an envelope"}},
         "task failed: In an envelope", 1),
        ({"status": "running", "progress": 4.5}, "cannot unmarshal number 4.5 into Go struct field", 2),
        ({"status": "success", "progress": 100, "data": "OK"}, "cannot unmarshal string into Go struct field", 2),
        ({"status": "running", "data": "x" * 70_000}, 'HTTP 500: {"error":"Invalid task status file size', 2),
        (None, 'HTTP 404: {"error":"Task ID not found"}', 3),
    ],
)  # fmt: skip
def test_its_errors_are_those_of_the_document(
    gateway: Gateway, programs: Path, name: str, file: dict[str, Any] | None, error: str, code: int
) -> None:
    if file:
        gateway.put(name, json.dumps(file).encode())
    with running(programs / "wait", name, gateway.url) as program:
        ended, said = program.ends()
    assert (ended, said[: len("Error: ")]) == (code, "Error: ")
    assert error in said
    assert "Task completed successfully!" not in program.seen


def test_a_success_that_states_no_progress_is_one(gateway: Gateway, programs: Path, name: str) -> None:
    gateway.put(name, b'{"status":"success","message":"Done"}')
    with running(programs / "wait", name, gateway.url) as program:
        assert program.ends() == (0, "")
    assert program.seen[1:3] == ["Progress: 0% - Done", "Task completed successfully!"]


def test_a_file_that_becomes_too_large_ends_it_and_a_deleted_one(start: Start, programs: Path, name: str) -> None:
    gateway = start("--task-wait", "0.1")
    for change, error in ((b"x" * 70_000, "HTTP 500: "), (None, "HTTP 404: ")):
        gateway.write(name)
        with running(programs / "wait", name, gateway.url) as program:
            program.sees("Progress: 50% - Working")
            if change:
                gateway.put(name, change)
            else:
                (gateway.tasks / f"{name}.json").unlink()
            assert program.ends()[1].startswith(f"Error: {error}")


def test_a_torn_file_ends_nothing_while_polls_show_the_state_before(start: Start, programs: Path, name: str) -> None:
    gateway = start()
    gateway.write(name)
    with running(programs / "wait", name, gateway.url) as program:
        program.sees("Progress: 50% - Working")
        gateway.put(name, b'{"status": "succ')
        until(lambda: any("cannot be shown" in line for line in gateway.lines))
        gateway.write(name, "success", 100)
        assert program.ends() == (0, "")


def test_without_a_server_it_ends_at_once(programs: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with running(programs / "wait", "a", url) as program:
        code, said = program.ends()
    assert code == 2
    assert said.startswith(f'Error: Get "{url}/api/task?task_id=a": dial tcp ')


# Faults


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_a_killed_gateway_is_come_back_to(start: Start, programs: Path, name: str, command: str) -> None:
    gateway = start("--access-log")
    argv = [name, gateway.url] if command == "wait" else ["-url", gateway.url, name]
    shown = "Progress: {}% - Working" if command == "wait" else "{}% Working"
    gateway.write(name, progress=1)
    with running(programs / command, *argv) as program:
        program.sees(shown.format(1))
        gateway.stop(signal.SIGKILL)
        del gateway.lines[:]
        gateway.start()  # nothing was written: nothing is told again
        until(lambda: any(name in line for line in gateway.lines))
        gateway.write(name, progress=2)
        program.sees(shown.format(2))
        gateway.stop(signal.SIGKILL)
        gateway.write(name, progress=3)
        gateway.write(name, "success", 100)  # ends while nobody is there
        gateway.start()
        assert program.ends()[0] == 0
    assert [line for line in program.seen if "Working" in line] == [shown.format(n) for n in (1, 2, 100)]


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_of_a_task_written_200_times_the_last_state_is_the_file(
    gateway: Gateway, programs: Path, name: str, command: str
) -> None:
    argv = [name, gateway.url] if command == "wait" else ["-url", gateway.url, name]
    gateway.write(name, progress=0, message="0")
    with running(programs / command, *argv) as program:
        while "0%" not in program.line():
            pass
        for n in range(1, 200):
            gateway.write(name, progress=n // 2, message=str(n))
        gateway.write(name, "success", 100, message="200")
        assert program.ends() == (0, "")
    told = [int(line.split()[-1]) for line in program.seen if "%" in line]
    assert told[-1] == 200
    assert told == sorted(set(told))  # none goes backwards, none is told again


def test_a_silent_connection_is_given_up(start: Start, programs: Path, name: str) -> None:
    gateway = start("--heartbeat", "1")
    gateway.write(name, progress=1)
    with running(programs / "watch", "-heartbeat", "1s", "-url", gateway.url, name) as program:
        program.sees("1% Working")
        gateway.process.send_signal(signal.SIGSTOP)
        try:
            assert program.process.stderr
            assert program.process.stderr.readline().startswith("nothing came for 2s, trying again in ")
        finally:
            gateway.process.send_signal(signal.SIGCONT)
        gateway.write(name, "success", 100, message="Awake")
        program.sees("100% Awake")
        assert program.ends()[0] == 0


def test_a_gateway_that_has_too_many_streams_is_polled(start: Start, programs: Path, name: str) -> None:
    gateway = start("--max-streams", "1")
    gateway.write(name)
    argv = (programs / "watch", "-url", gateway.url, name)
    with gateway.ndjson("/api/v1/tasks") as stream, running(*argv) as program:
        next(stream)
        program.sees("50% Working")
        assert program.process.stderr
        said = program.process.stderr.readline()
    assert re.fullmatch(r'HTTP 503: \{"status":"error",.*\}, trying again in 5\.\d+s\n', said)
    gateway.write(name, "success", 100)
    with gateway.ndjson("/api/v1/tasks") as stream, running(*argv) as program:
        next(stream)
        assert program.ends() == (0, "")  # it need not come back


# A server that only polls


def test_a_backend_is_polled(polled: Callable[[str], Backend], programs: Path) -> None:
    backend = polled("flat")
    put(backend, "a", "running", 10)
    with running(programs / "wait", "a", backend.url) as program:
        program.sees("Progress: 10% - Working")
        until(lambda: httpx.get(f"{backend.url}/-/asked").json()["polls"]["a"] >= 2)  # it goes on
        put(backend, "a", "success", 100, data={"coins": 3})
        assert program.ends() == (0, "")
    assert program.seen[1:] == [
        "Progress: 10% - Working", "Progress: 100% - Working", "Task completed successfully!",
        "Data:", "{", '  "coins": 3', "}",
    ]  # fmt: skip


def test_a_backend_says_what_failed_and_what_it_does_not_know(polled: Callable[[str], Backend], programs: Path) -> None:
    flat, v1 = polled("flat"), polled("v1")
    for backend in (flat, v1):
        put(backend, "bad", "error", 10, message="Unreachable")
    for argv, expected in (
        (("wait", "bad", flat.url), (1, "Error: task failed: Unreachable\n")),
        (("wait", "none", flat.url), (3, 'Error: HTTP 404: {"error": "Task ID not found"}\n')),
        (("watch", "-url", v1.url, "bad"), (1, "failed: Unreachable\n")),
        (("watch", "-url", v1.url, "none"), (3, "there is no such task\n")),  # 200, and 4105 in the body
        (("watch", "-url", v1.url), (2, "HTTP 404: 404: Not Found\n")),  # a collection is the gateway's alone
    ):
        with running(programs / argv[0], *argv[1:]) as program:
            assert program.ends() == expected


def test_a_backend_that_a_gateway_takes_the_place_of(
    start: Start, polled: Callable[[str], Backend], programs: Path, name: str
) -> None:
    backend, gateway = polled("v1"), start()
    gateway.stop()
    put(backend, name, "running", 10)
    with running(programs / "watch", "-url", backend.url, name) as program:
        program.sees("10% Working")
        backend.stop()
        gateway.write(name, progress=20)
        gateway.port = backend.port
        gateway.start()
        program.sees("20% Working")
        assert streams(gateway) == 1
        gateway.write(name, "success", 100)
        assert program.ends()[0] == 0


# Watch and WatchAll


def test_a_context_that_is_cancelled_ends_its_stream(start: Start, programs: Path, name: str) -> None:
    gateway = start()
    gateway.write(name)
    for argv in (["-url", gateway.url, name], ["-url", gateway.url]):
        with running(programs / "watch", *argv) as program:
            program.line()
            until(lambda: streams(gateway) == 1)
            program.process.send_signal(signal.SIGINT)
            assert program.ends() == (130, "context canceled\n")
        until(lambda: streams(gateway) == 0)


def test_everything_is_told_and_resumed(start: Start, programs: Path) -> None:
    gateway = start("--task-wait", "0.1")
    gateway.write("a", "success", 100, data={"coins": 2**60})
    with running(programs / "watch", "-url", gateway.url) as program:
        assert json.loads(program.line()) == {"kind": "reset"}
        task = program.event("task")["task"]
        assert (task["id"], task["status"], task["data"]) == ("a", "completed", {"coins": 2**60})
        assert task["updated"] > 1e12
        program.event("synced")
        gateway.write("b")
        cursor = program.event("task")["cursor"]
        gateway.put("b", b"x" * 70_000)
        assert program.event("invalid")["error"] == "larger than 64 KB"
        (gateway.tasks / "b.json").unlink()
        assert program.event("gone")["id"] == "b"
    with running(programs / "watch", "-url", gateway.url, "-after", cursor) as program:
        assert json.loads(program.line())["kind"] in ("gone", "invalid")  # what came after, and no reset
        program.event("synced")
        assert not any('"id":"a"' in line for line in program.seen)


def test_nothing_of_all_is_lost_while_the_gateway_is_killed(start: Start, programs: Path) -> None:
    gateway = start()
    gateway.tasks.mkdir()
    with running(programs / "watch", "-url", gateway.url) as program:
        program.event("synced")
        for kill in range(3):
            for n in range(20):
                gateway.write(f"t{n}", progress=10 * kill + 1)
            gateway.stop(signal.SIGKILL)
            gateway.write("while-away", progress=kill)
            for n in range(0, 20, 2):
                gateway.write(f"t{n}", progress=10 * kill + 2)
            gateway.start()
        gateway.write("the-end", "success", 100)
        held: dict[str, int] = {}
        synced = True
        while not synced or held.get("the-end") != 100:
            said = json.loads(program.line())
            if said["kind"] == "reset":
                held, synced = {}, False
            elif task := said.get("task"):
                assert task["progress"] >= held.get(task["id"], 0)
                held[task["id"]] = task["progress"]
            synced = synced or said["kind"] == "synced"
    files = {path.stem: json.loads(path.read_text())["progress"] for path in gateway.tasks.glob("*.json")}
    assert held == files


def test_a_task_of_all_that_is_written_200_times(start: Start, programs: Path) -> None:
    gateway = start()
    gateway.tasks.mkdir()
    with running(programs / "watch", "-url", gateway.url) as program:
        program.event("synced")
        for n in range(200):
            gateway.write("a", progress=n // 2, message=str(n))
        gateway.write("a", "success", 100, message="200")
        told = [0]
        while told[-1] != 200:
            told.append(int(program.event("task")["task"]["message"]))
    assert told[1:] == sorted(set(told[1:]))
