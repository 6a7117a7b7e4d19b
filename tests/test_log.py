"""The log of real gateways, and what becomes of its reader: closed, stopped, full, not there at all."""

import asyncio
import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.log import MOST, Json, Log, Text
from tests.harness import Gateway, flat, free_port, until

fcntl = pytest.importorskip("fcntl")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")

FORMATS = pytest.mark.parametrize("style", ["text", "json"])


class Served:
    """A gateway that a shell started, with the redirections that a test wants."""

    def __init__(self, folder: Path, redirection: str, *options: str, stderr: int | None = None) -> None:
        (folder / "Tasks").mkdir()
        self.tasks, self.port = folder / "Tasks", free_port()
        argv = [sys.executable, "-m", "gateway", "serve", "--bind", f"127.0.0.1:{self.port}", "--access-log"]
        argv += ["--data-path", str(folder), *options]
        self.process = subprocess.Popen(["sh", "-c", f'exec "$@" {redirection}', "sh", *argv], text=True, stderr=stderr)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)
        until(self._listens, 20)

    def _listens(self) -> bool:
        assert self.process.poll() is None
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def works(self, times: int = 20) -> None:
        """Answers, each of which is a line of the log, and pushes."""
        for n in range(times):
            assert self.http.get(f"/api/task?task_id=none{n}").status_code == 404
        with self.http.stream("GET", "/api/v1/tasks", headers={"Accept": "application/x-ndjson"}) as stream:
            lines = stream.iter_lines()
            (self.tasks / "a.json").write_bytes(flat("a", progress=7))
            assert any('"progress":7' in line for line in lines)
            (self.tasks / "a.json").unlink()

    def dropped(self) -> float:
        found = re.search(r"^gateway_log_dropped_total (\S+)$", self.http.get("/metrics").text, re.MULTILINE)
        assert found
        return float(found[1])

    def stop(self) -> int:
        self.process.terminate()
        code: int = self.process.wait(20)
        return code


@contextmanager
def served(folder: Path, redirection: str, *options: str, stderr: int | None = None) -> Iterator[Served]:
    one = Served(folder, redirection, *options, stderr=stderr)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait(20)
        if one.process.stderr:
            one.process.stderr.close()
        one.http.close()


@FORMATS
def test_its_reader_leaves(tmp_path: Path, style: str) -> None:
    with served(tmp_path, "", "--log-format", style, stderr=subprocess.PIPE) as one:
        reader = one.process.stderr
        assert reader
        until(lambda: reader.readline().startswith("Serving"))
        reader.close()
        one.works()
        until(lambda: one.dropped() >= 20)
        assert one.stop() == 0


@FORMATS
def test_its_disk_is_full(tmp_path: Path, style: str) -> None:
    with served(tmp_path, "2>/dev/full", "--log-format", style) as one:
        one.works()
        until(lambda: one.dropped() >= 20)
        assert one.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_client_gets_the_number_of_a_closed_descriptor(tmp_path: Path, workers: str) -> None:
    with served(tmp_path, "<&- >&- 2>&-", "--workers", workers) as one:
        one.works()
        for number in range(3):
            assert os.readlink(f"/proc/{one.process.pid}/fd/{number}") == "/dev/null"
        assert one.dropped() == 0
        assert one.stop() == 0


@FORMATS
def test_its_reader_is_stopped(tmp_path: Path, style: str) -> None:
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4_096)
    with served(tmp_path, "", "--log-format", style, stderr=theirs) as one:
        os.close(theirs)
        long = "x" * 3_000
        for _ in range(MOST // 3_000 + 50):
            one.http.get(f"/none/{long}")
        one.works()
        lost = one.dropped()
        assert lost > 0
        with open(ours, encoding="utf-8") as reader:
            lines = iter(reader.readline, "")
            assert any(line.startswith("Serving") for line in lines)
            told = next(
                filter(None, (re.search(r"(\d+) lines of the log could not be written", line) for line in lines))
            )
            assert int(told[1]) >= lost
            assert one.http.get("/none/after").status_code == 404
            assert any("/none/after" in line for line in lines)
        assert one.stop() == 0


def test_it_ends_though_nobody_reads(tmp_path: Path) -> None:
    with served(tmp_path, "", stderr=subprocess.PIPE) as one:
        for _ in range(200):
            one.http.get("/none/" + "x" * 1_000)
        assert one.stop() == 0  # with its pipe full


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_pipe_that_does_not_block_loses_nothing(tmp_path: Path, style: str) -> None:
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4_096)
    os.set_blocking(theirs, False)  # as a terminal that another program has set so
    with served(tmp_path, "", "--log-format", style, stderr=theirs) as one:
        os.close(theirs)
        for n in range(100):
            one.http.get(f"/none/{n}-" + "x" * 500)
        with open(ours, encoding="utf-8") as reader:
            lines = iter(reader.readline, "")
            for n in range(100):
                assert any(f"/none/{n}-" in line for line in lines)
        assert one.stop() == 0


def test_lines_are_whole_and_begin_with_time_and_level(start: Callable[..., Gateway]) -> None:
    one = start("--access-log", env={"COLUMNS": "80"})
    path = "/none/" + "x" * 3_000
    one.get(path)
    until(lambda: any(path in line for line in one.lines))
    (line,) = [line for line in one.lines if path in line]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d INFO uvicorn.access: ", line)


def test_what_was_logged_is_written_at_the_end(start: Callable[..., Gateway]) -> None:
    one = start("--access-log")
    for n in range(50):
        one.get(f"/none/{n}")
    assert one.stop() == 0
    assert all(f"/none/{n} " in "".join(one.lines) for n in range(50))


def formatted(formatter: logging.Formatter, message: str, error: BaseException | None = None) -> str:
    info = (type(error), error, None) if error else None
    return formatter.format(logging.LogRecord("a", logging.ERROR, "b", 1, message, None, info))


@given(st.text(), st.text())
def test_no_text_breaks_a_record(message: str, error: str) -> None:
    text = formatted(Text(), message, ValueError(error))
    assert re.match(r"\d{4}-", text)
    assert "\x1b" not in text
    assert "ValueError" in text
    assert len(formatted(Text(), message).splitlines()) <= 1 + sum(message.count(c) for c in "\u2028\u2029")
    line = json.loads(formatted(Json(), message, ValueError(error)))
    assert line["level"] == "error"
    assert "ValueError" in line["exception"]


class Narrow(io.RawIOBase):
    """Takes what it is told to, a few bytes at a time."""

    def __init__(self) -> None:
        self.taken, self.room = b"", 0

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        if not self.room:
            raise OSError(28, "No space left on device")
        count = min(7, len(data), self.room)
        self.room -= count
        self.taken += bytes(data[:count])
        return count


def test_a_line_that_was_torn_does_not_run_into_the_next() -> None:
    out = Narrow()
    log = Log(Text(), out)
    out.room = 10
    log.put("the first line that is told")
    log.flush()
    assert (out.taken, log.dropped) == (b"the first ", 1)
    out.room = 10_000
    log.put("the second")
    log.flush()
    first, second, told = out.taken.decode().splitlines()
    assert (first, second) == ("the first ", "the second")
    assert told.endswith("1 lines of the log could not be written")


def test_what_makes_no_text_is_said() -> None:
    out = Narrow()
    out.room = 10_000
    log = Log(Text(), out)
    log.handle(logging.LogRecord("a", logging.ERROR, "file.py", 12, "%d", ("x",), None))
    log.flush()
    assert b"a line from file.py:12 makes no text: TypeError" in out.taken


def test_who_logs_never_waits() -> None:
    """Not even where the loop logs more than anybody takes."""
    ours, theirs = os.pipe()
    with open(theirs, "wb", buffering=0) as out:
        log = Log(Text(), out)

        async def scenario() -> None:
            async with asyncio.timeout(30):
                for _ in range(2_000):
                    log.put("x" * 1_000)
                    await asyncio.sleep(0)

        asyncio.run(scenario())
        dropped = log.dropped
        assert dropped > 500
        os.close(ours)  # nothing of what waits can be written any more
        log.flush()
        until(lambda: log.dropped > dropped)
