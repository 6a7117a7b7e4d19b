"""examples/shell: waiting and following with curl and jq, against real gateways and a backend that only polls."""

import json
import signal
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.harness import Backend, Gateway, require, until
from tests.test_go_client import polled, put, running, streams

SHELL = Path(__file__).parents[1] / "examples" / "shell"

Start = Callable[..., Gateway]

__all__ = ["polled"]


def script(name: str) -> list[str]:
    require("curl"), require("jq")
    return [require("bash"), str(SHELL / name)]


@pytest.fixture(scope="module")
def wait() -> list[str]:
    return script("wait.sh")


@pytest.fixture(scope="module")
def follow() -> list[str]:
    return script("follow.sh")


def test_waiting_for_a_success(gateway: Gateway, wait: list[str], name: str) -> None:
    id = f"{name} & sons, 50%"
    gateway.write(id, "pending", 0, message="Queued")
    with running(*wait, id, gateway.url) as program:
        program.sees("0% Queued")
        gateway.write(id, "success", 99, message="Grading\u2028 coins… 100%\\")
        program.sees("99% Grading\u2028 coins… 100%\\")
        gateway.write(id, "success", 100, message="\x1f Done", data={"coins": ["🪙" * 5_000]})
        assert program.ends() == (0, "")
    assert program.seen[2:] == ["100% \x1f Done"]


def test_waiting_for_a_failure_and_for_nothing(gateway: Gateway, wait: list[str], name: str) -> None:
    gateway.write(name, "CANCELLED", 45, message="RAIDA\nunreachable")
    for id, expected in ((name, (1, "Failed: RAIDA unreachable\n")), ("none", (3, "There is no such task\n"))):
        with running(*wait, id, gateway.url) as program:
            assert program.ends() == expected


def test_a_server_that_does_not_stream(polled: Callable[[str], Backend], wait: list[str], follow: list[str]) -> None:
    backend = polled("v1")
    put(backend, "a", "running", 10)
    with running(*wait, "a", backend.url) as program:
        assert program.ends() == (2, "The server does not stream: poll.sh is for it\n")
    with running(*follow, "", backend.url) as program:
        assert program.ends() == (2, f"{backend.url} answers HTTP 404 instead of a stream\n")


def test_a_killed_gateway_is_come_back_to(start: Start, wait: list[str], name: str) -> None:
    gateway = start("--access-log")
    gateway.write(name, progress=1)
    with running(*wait, name, gateway.url) as program:
        program.sees("1% Working")
        gateway.stop(signal.SIGKILL)
        del gateway.lines[:]
        gateway.start()  # nothing was written: nothing is told again
        until(lambda: any(name in line for line in gateway.lines))
        gateway.write(name, progress=2)
        program.sees("2% Working")
        gateway.stop(signal.SIGKILL)
        gateway.write(name, "success", 100)  # ends while nobody is there
        gateway.start()
        assert program.ends()[0] == 0
    assert program.seen == ["1% Working", "2% Working", "100% Working"]


def test_a_silent_connection_is_given_up(start: Start, wait: list[str], name: str) -> None:
    gateway = start("--heartbeat", "1")
    gateway.write(name, progress=1)
    with running(*wait, name, gateway.url, env={"GATEWAY_SILENCE": "2"}) as program:
        program.sees("1% Working")
        gateway.process.send_signal(signal.SIGSTOP)
        try:
            assert program.process.stderr
            assert program.process.stderr.readline().startswith("The stream ended (HTTP 200), trying again in 0.")
        finally:
            gateway.process.send_signal(signal.SIGCONT)
        gateway.write(name, "success", 100, message="Awake")
        program.sees("100% Awake")
        assert program.ends()[0] == 0
    until(lambda: streams(gateway) == 0)  # the silent one has no curl behind it any more


def test_a_gateway_that_has_too_many_streams_is_left_alone_for_as_long_as_it_asks(
    start: Start, wait: list[str]
) -> None:
    gateway = start("--max-streams", "1")
    with gateway.ndjson("/api/v1/tasks") as stream, running(*wait, "a", gateway.url) as program:
        next(stream)
        assert program.process.stderr
        assert program.process.stderr.readline().startswith("The stream ended (HTTP 503), trying again in 5.")


def test_following_resumes_where_it_was_ended(start: Start, follow: list[str], tmp_path: Path) -> None:
    gateway, place = start("--task-wait", "0.1"), str(tmp_path / "cursor")
    gateway.write("old", "success", 100, data={"exact": 2**60 + 1})
    with running(*follow, place, gateway.url) as program:
        assert json.loads(program.line()) == {"event": "reset"}
        assert program.event("task")["task"]["data"] == {"exact": 2**60 + 1}
        program.event("synced")
        gateway.write("one")
        program.event("task")
        until(lambda: Path(place).read_text().endswith("-2\n"))
        program.process.terminate()
        program.ends()
    gateway.put("two", b"x" * 70_000)
    gateway.write("three")
    until(lambda: any("larger" in line for line in gateway.lines))
    (gateway.tasks / "one.json").unlink()
    with running(*follow, place, gateway.url) as program:
        program.event("gone")
        assert not any('"old"' in line or "reset" in line for line in program.seen)
        gateway.stop(signal.SIGKILL)
        gateway.write("four")
        gateway.start()
        program.event("reset")
        program.event("synced")
        after = program.seen[program.seen.index('{"event":"reset"}') :]
        assert {json.loads(line)["task"]["id"] for line in after if '"task"' in line} == {"old", "three", "four"}
        program.process.send_signal(signal.SIGINT)
        assert program.ends()[0] == -signal.SIGINT
    until(lambda: streams(gateway) == 0)


def test_a_place_inside_a_snapshot_is_none_to_resume_from(follow: list[str]) -> None:
    """A gateway cannot be told to end there, so something else says its lines."""
    item, synced, reset = '{"cursor":"e-%d","task":{}}', '{"cursor":"e-%d","event":"synced"}', '{"event":"reset"}'
    turns = [[item % 1], [item % 2, synced % 2, item % 3], [reset, item % 4], [synced % 5]]
    after: list[str | None] = []

    class Teller(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            after.append(self.headers["Last-Event-ID"])
            self.send_response(200 if turns else 410)
            self.send_header("Content-Type", "application/x-ndjson")
            self.end_headers()
            self.wfile.write("".join(f"{line}\n" for line in (turns.pop(0) if turns else [])).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Teller) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with running(*follow, "", f"http://127.0.0.1:{server.server_port}") as program:
            assert program.ends()[0] == 2
        server.shutdown()
    assert after == [None, None, "e-3", None, "e-5"]


def test_of_a_task_written_200_times_the_last_line_is_the_file(start: Start, follow: list[str]) -> None:
    gateway = start()
    gateway.tasks.mkdir()
    with running(*follow, "", gateway.url) as program:
        program.event("synced")
        for n in range(200):
            gateway.write("a", progress=n // 2, message=str(n))
        gateway.write("a", "success", 100, message="200")
        seen = [0]
        while seen[-1] != 200:
            seen.append(int(program.event("task")["task"]["message"]))
    assert seen[1:] == sorted(set(seen[1:]))


def test_a_reader_that_leaves_ends_it(start: Start, follow: list[str]) -> None:
    gateway = start()
    gateway.write("a")
    with running(*follow, "", gateway.url) as program:
        program.event("synced")
        assert program.process.stdout
        program.process.stdout.close()
        gateway.write("a", progress=60)
        program.process.wait(10)
    until(lambda: streams(gateway) == 0)
