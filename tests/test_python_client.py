"""`gateway.client` against real gateways, real backends, and proxies that are in the way."""

import asyncio
import contextlib
import functools
import json
import logging
import os
import pickle
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, ParamSpec, assert_type

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway as package
from gateway.client import (
    Change,
    Client,
    ClientError,
    Gone,
    Invalid,
    Lost,
    RefusedError,
    Reset,
    SyncClient,
    Synced,
    Task,
    TaskError,
    TaskFailedError,
    TaskGoneError,
    TaskTimeoutError,
    TaskUnknownError,
    polling,
)
from gateway.client.attempts import LostError
from gateway.client.changes import Line, read_line
from gateway.client.following import LONGEST_LINE, Lines, Place, follow
from gateway.client.known import Known
from gateway.client.remote import Remote
from tests.harness import Backend, Gateway, free_port, until
from tests.test_access import SECRET, token
from tests.test_transport import make_certificate

Start = Callable[..., Gateway]
P = ParamSpec("P")

EXAMPLE = Path(__file__).parents[1] / "examples" / "client.py"
ODD = "a\u2028b\u2029c\u0085d\x0b\x0ce \U0001fa99 \\n"
"""All that some count as the end of a line, or as none."""


def looped(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs a test on an event loop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    return run


class Proxy:
    """Between client and gateway. `first` has the answers to the first requests: bytes, or None for never a byte."""

    def __init__(self, port: int, first: list[bytes | None], *, streams: bool) -> None:
        self.heads: list[str] = []
        self.left = asyncio.Event()  # a client has closed its connection
        self._gateway, self._first, self._streams = port, first, streams
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode())
                answer = self._first.pop(0) if self._first else b""
                if answer is None or (b"ndjson" in head and not self._streams):
                    writer.write(answer or b"")
                    await reader.read()
                elif answer:
                    writer.write(answer)
                    continue
                else:
                    await self._pass_on(head, reader, writer)
                break
        writer.close()
        self._open.discard(writer)
        self.left.set()

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._gateway)
        back.write(head)
        self._open.add(back)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while block := await source.read(65_536):
                    sink.write(block)
                    await sink.drain()

        ways = [asyncio.create_task(pump(reader, back)), asyncio.create_task(pump(there, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        back.close()
        self._open.discard(back)

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def proxied(
    gateway: Gateway | None = None, *first: bytes | None, streams: bool = True
) -> AsyncIterator[tuple[str, Proxy]]:
    proxy = Proxy(gateway.port if gateway else 0, list(first), streams=streams)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", proxy
    finally:
        server.close()
        proxy.cut()


def refusal(status: int, **headers: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n{more}\r\n".encode()


def streamed(*lines: bytes) -> bytes:
    """A stream that ends after these lines."""
    body = b"".join(line + b"\n" for line in lines)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def item(progress: int, status: str = "running", id: str = "t") -> bytes:
    task = {"id": id, "status": status, "progress": progress, "message": "", "data": None, "updated": 1}
    return json.dumps({"cursor": f"e-{progress}", "task": task}).encode()


SYNCED = b'{"cursor":"e-1","event":"synced"}'


@pytest.fixture(scope="module")
def one() -> Iterator[Gateway]:
    """A gateway, where it does not matter under which server."""
    with Gateway("--heartbeat", "1") as running:
        running.tasks.mkdir()
        yield running


async def each(states: AsyncIterator[Task], then: Callable[[Task], None]) -> None:
    async for state in states:
        then(state)


# One task


@looped
async def test_each_state_is_told_once_and_the_last_is_final(gateway: Gateway, name: str) -> None:
    gateway.write(name, "pending", 0, message="Waiting")
    states: list[Task] = []
    async for task in Client(gateway.url).watch(name):
        assert_type(task, Task)
        states.append(task)
        match len(states):
            case 1:
                gateway.write(name, "running", 45.9, message="Working")
            case 2:
                gateway.put(name, b'{"status": "run')  # torn
                gateway.write(name, "success", 99)  # not yet
            case 3:
                gateway.write(name, "success", 100, message="Done", data={"coins": [1, {"two": 2}]})
    assert [(task.status, task.progress, task.message, task.final) for task in states] == [
        ("running", 0, "Waiting", False),
        ("running", 45, "Working", False),
        ("running", 99, "Working", False),
        ("completed", 100, "Done", True),
    ]
    assert {task.id for task in states} == {name}
    assert states[-1].data == {"coins": [1, {"two": 2}]}
    assert abs(states[-1].updated / 1000 - time.time()) < 20
    with pytest.raises(AttributeError):
        states[-1].status = "running"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("status", "succeeds"), [("success", True), ("COMPLETED", True), ("error", False), ("cancelled", False)]
)
@looped
async def test_wait_gives_the_final_state_or_raises(one: Gateway, name: str, status: str, succeeds: bool) -> None:
    one.write(name)
    waiting = asyncio.create_task(Client(one.url).wait(name))
    await asyncio.sleep(0.05)
    one.write(name, status, 100, message="At an end")
    if succeeds:
        assert (await waiting).message == "At an end"
        return
    with pytest.raises(TaskFailedError, match=r"^At an end$") as failed:
        await waiting
    assert failed.value.id == name
    assert failed.value.task
    assert failed.value.task.status == "error"


@looped
async def test_there_is_no_such_task(one: Gateway, name: str) -> None:
    ids, began = (name, "no/id", ""), time.monotonic()
    waits = [Client(one.url).wait(id, patience=0.3) for id in ids]
    for id, error in zip(ids, await asyncio.gather(*waits, return_exceptions=True), strict=True):
        assert isinstance(error, TaskUnknownError)
        assert (str(error), error.id, error.task) == (f"There is no task {id}", id, None)
    assert time.monotonic() - began >= 0.3


@looped
async def test_a_file_may_come_late_and_again(one: Gateway, name: str) -> None:
    later = asyncio.get_running_loop().call_later
    later(0.2, one.write, name)
    seen = []

    def delete(task: Task) -> None:
        seen.append(task.progress)
        (one.tasks / f"{name}.json").unlink()
        if len(seen) == 1:
            later(0.2, functools.partial(one.write, name, progress=51))

    with pytest.raises(TaskGoneError, match="was deleted") as gone:
        await each(Client(one.url).watch(name, patience=0.4), delete)
    assert seen == [50, 51]
    assert gone.value.task
    assert gone.value.task.progress == 51


@looped
async def test_a_time_out_has_the_last_state(one: Gateway, name: str) -> None:
    one.write(name, progress=12)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"did not end within 0\.3 s") as late:
        await Client(one.url).wait(name, timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 1.3
    assert isinstance(late.value, TaskTimeoutError)
    assert late.value.task
    assert late.value.task.progress == 12
    with pytest.raises(TaskTimeoutError):
        await Client(f"http://127.0.0.1:{free_port()}").wait(name, timeout=0.1)


@looped
async def test_a_message_may_hold_what_others_take_for_the_end_of_a_line(one: Gateway, name: str) -> None:
    """In both ways that a stream is decoded with httpx here: by lines of bytes, and by httpx-sse."""
    one.write(name, "success", 100, message=ODD, data={"more": ODD})
    task = await Client(one.url).wait(name)
    assert (task.message, task.data) == (ODD, {"more": ODD})
    with one.sse(f"/api/v1/tasks?id={name}") as events:
        assert msgspec.json.decode(next(events).data, type=Task) == task


def test_another_spelling_of_an_id_is_the_same_task(one: Gateway) -> None:
    id = "b182cda3-0dd8-46a0-9299-d1f481c8b962"
    one.write(id.replace("-", ""), "success", 100)
    assert SyncClient(one.url).wait(id).id == id.replace("-", "")


@looped
async def test_a_thousand_quick_changes(gateway: Gateway, name: str) -> None:
    gateway.write(name, progress=0, message="0")

    def write() -> None:
        for number in range(1, 1000):
            gateway.write(name, progress=number / 10, message=f"{number}")
        gateway.write(name, "success", 100, message="1000")

    numbers: list[int] = []
    async for task in Client(gateway.url).watch(name):
        if not numbers:
            writing = asyncio.create_task(asyncio.to_thread(write))
        numbers.append(int(task.message))
    await writing
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (0, 1000)
    assert len(numbers) > 10


@looped
async def test_many_are_awaited_with_one_client(one: Gateway, name: str) -> None:
    """More than the connections that httpx has by itself."""
    ids, client = [f"{name}-{n}" for n in range(120)], Client(one.url)
    for id in ids:
        one.write(id)
    waiting = [asyncio.create_task(client.wait(id)) for id in ids]
    await asyncio.sleep(0.3)
    for id in ids:
        one.write(id, "success", 100)
    assert [task.id for task in await asyncio.gather(*waiting)] == ids


# Restarts


@looped
async def test_nothing_is_lost_or_told_twice_when_the_gateway_ends(start: Start, name: str) -> None:
    gateway = start()
    path = gateway.write(name, progress=1)
    seen: list[int] = []
    async for task in Client(gateway.url).watch(name):
        seen.append(task.progress)
        if task.progress == 1:
            await asyncio.to_thread(gateway.stop, signal.SIGTERM)
            await asyncio.to_thread(gateway.start)
            os.utime(path, (1, 1))  # the same, written again
            asyncio.get_running_loop().call_later(0.3, functools.partial(gateway.write, name, progress=2))
        elif task.progress == 2:
            await asyncio.to_thread(gateway.stop, signal.SIGKILL)
            gateway.write(name, progress=3)
            gateway.write(name, "success", 100)  # nobody is there to see it
            asyncio.get_running_loop().run_in_executor(None, gateway.start)
    assert seen == [1, 2, 100]


@looped
async def test_a_kill_in_the_midst_of_changes(start: Start, name: str) -> None:
    gateway = start()
    gateway.write(name, progress=0)

    def write() -> None:
        for progress in range(1, 100):
            gateway.write(name, progress=progress)
            if progress in (30, 60):
                gateway.stop(signal.SIGKILL)
                gateway.start()
            time.sleep(0.005)
        gateway.write(name, "success", 100)

    writing = asyncio.create_task(asyncio.to_thread(write))
    seen = [task.progress async for task in Client(gateway.url).watch(name)]
    await writing
    assert seen == sorted(set(seen))
    assert seen[-1] == 100


# Many tasks


@looped
async def test_all_that_changes_is_told_in_its_type(start: Start) -> None:
    gateway = start()
    gateway.write("old", "success", 100)
    gateway.write("runs")
    changes: list[Change] = []
    async for change in Client(gateway.url).watch_all():
        assert_type(change, Change)
        changes.append(change)
        match change:
            case Synced():
                gateway.write("new", progress=7)
            case Task(id="new"):
                gateway.put("runs", b"x" * 70_000)
            case Invalid():
                (gateway.tasks / "runs.json").unlink()
            case Gone(id):
                assert id == "runs"
                await asyncio.to_thread(gateway.stop, signal.SIGKILL)
                await asyncio.to_thread(gateway.start)
        if changes.count(Synced()) == 2:
            break
    kinds = [type(change).__name__ for change in changes if not isinstance(change, Lost)]
    tasks = ["Reset", "Task", "Task", "Synced"]
    assert kinds == [*tasks, "Task", "Invalid", "Gone", *tasks]
    invalid = next(change for change in changes if isinstance(change, Invalid))
    assert (invalid.id, invalid.error) == ("runs", "larger than 64 KB")
    assert {change.id for change in changes[-4:] if isinstance(change, Task)} == {"old", "new"}


async def until_synced(client: Client, **which: Any) -> set[str]:
    """The tasks that a stream begins with."""
    found = set()
    async with aclosing(client.watch_all(**which)) as changes:
        async for change in changes:
            if isinstance(change, Task):
                found.add(change.id)
            if isinstance(change, Synced):
                break
    return found


@looped
async def test_some_tasks_recent_ones_and_none(start: Start) -> None:
    gateway = start()
    for id in ("a", "b", "c"):
        path = gateway.write(id)
    os.utime(path, (time.time() - 7200,) * 2)
    client = Client(gateway.url)
    assert await until_synced(client) == {"a", "b", "c"}
    assert await until_synced(client, ids=["a", "c", "d"]) == {"a", "c"}
    assert await until_synced(client, ids=[]) == set()
    assert await until_synced(client, recent="1h") == {"a", "b"}
    with pytest.raises(RefusedError, match="400") as refused:
        await until_synced(client, recent="soon")
    assert refused.value.status == 400


@looped
async def test_who_is_slow_ends_right(one: Gateway, name: str) -> None:
    ids = [f"{name}-{n}" for n in range(5)]
    for id in ids:
        one.write(id, progress=0)

    def write() -> None:
        for number in range(1, 400):
            for id in ids:
                one.write(id, progress=number / 4, data={"pad": "x" * 5_000})
        for id in ids:
            one.write(id, "success", 100)

    last: dict[str, int] = {}
    writing: asyncio.Task[None] | None = None
    async for change in Client(one.url).watch_all(ids):
        if isinstance(change, Synced):
            writing = asyncio.create_task(asyncio.to_thread(write))
        if isinstance(change, Task):
            assert change.progress >= last.get(change.id, 0)
            last[change.id] = change.progress
            if not writing or not writing.done():
                await asyncio.sleep(0.02)  # so slow
        if set(last.values()) == {100}:
            break
    assert set(last) == set(ids)


# Who asks


@pytest.fixture(scope="module")
def guarded() -> Iterator[Gateway]:
    with Gateway(env={"GATEWAY_AUTH_SECRET": SECRET}) as one:
        one.write("mine", "success", 100)
        one.write("theirs", "success", 100)
        yield one


@looped
async def test_a_token_may_be_a_text_or_a_function(guarded: Gateway) -> None:
    made = token(tasks=["mine"])

    async def later() -> str:
        await asyncio.sleep(0)
        return made

    for bearer in (made, f" {made}\n", lambda: made, later):
        assert (await Client(guarded.url, bearer).wait("mine")).succeeded
        with pytest.raises(TaskUnknownError):
            await Client(guarded.url, bearer).wait("theirs", patience=0.1)


@looped
async def test_a_token_that_is_not_taken(guarded: Gateway) -> None:
    asked = []

    def wrong() -> str:
        asked.append("asked")
        return token(exp=time.time() - 100)

    for bearer in (None, "", "no-token", token(key="k" * 40), wrong):
        for use in (Client(guarded.url, bearer).wait("mine"), until_synced(Client(guarded.url, bearer))):
            with pytest.raises(RefusedError, match="answered 401") as refused:
                await use
            assert refused.value.status == 401
            assert not isinstance(bearer, str) or not bearer or bearer not in str(refused.value)
    assert len(asked) == 4  # a function may know better: it is asked twice
    with pytest.raises(RefusedError, match="no header can hold") as odd:
        await Client(guarded.url, "secret\r\nX: y").wait("mine")
    assert "secret" not in str(odd.value)


@looped
async def test_what_a_token_function_raises_is_raised(guarded: Gateway) -> None:
    def fails() -> str:
        raise TimeoutError("the vault is shut")

    for use in (
        Client(guarded.url, fails).wait("mine", timeout=10),
        until_synced(Client(guarded.url, fails)),
    ):
        with pytest.raises(TimeoutError, match="the vault is shut") as failed:
            await use
        assert not isinstance(failed.value, ClientError)


@looped
async def test_a_token_that_ends_is_renewed(guarded: Gateway) -> None:
    given: list[str] = []

    def renewed() -> str:
        if given:
            asyncio.get_running_loop().call_later(0.2, guarded.write, "long", "success", 100)
        given.append(token(exp=time.time() + (3600 if given else 0.5)))
        return given[-1]

    guarded.write("long")
    assert [task.progress async for task in Client(guarded.url, renewed).watch("long")] == [50, 100]
    assert len(given) == 2


# What is in the way


@looped
async def test_refusals_pass_and_retry_after_is_obeyed(one: Gateway, name: str) -> None:
    one.write(name, "success", 100)
    async with proxied(one, refusal(502), refusal(503, Retry_After="1")) as (url, _):
        began = time.monotonic()
        assert (await Client(url).wait(name)).succeeded
        assert time.monotonic() - began > 1


@looped
async def test_a_connection_that_is_cut_is_resumed(one: Gateway, name: str) -> None:
    one.write(name)
    async with proxied(one) as (url, proxy):
        changes: list[Change] = []
        async for change in Client(url).watch_all([name]):
            changes.append(change)
            if change == Synced() and changes.count(Synced()) == 1:
                one.write(name, progress=51)
            if isinstance(change, Task) and change.progress == 51:
                proxy.cut()
                one.write(name, progress=52)
            if changes.count(Synced()) == 2:
                break
    kinds = [type(change).__name__ for change in changes]
    assert kinds == ["Reset", "Task", "Synced", "Task", "Lost", "Task", "Synced"]  # without what it has already
    assert "last-event-id" in proxy.heads[-1].lower()


@looped
async def test_it_resumes_from_the_last_cursor_but_not_from_inside_a_snapshot() -> None:
    answers = (
        streamed(item(1)),
        streamed(item(1), SYNCED, item(2)),
        streamed(b'{"event":"reset"}', item(1)),
        streamed(SYNCED, b"no JSON", item(9)),
        streamed(item(5), b'{"event":"of a later version"}', item(6, "completed")),
    )
    async with proxied(None, *answers) as (url, proxy):
        assert [task.progress async for task in Client(url).watch("t")] == [1, 2, 1, 5, 6]
    cursors = [dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2]).get("last-event-id") for head in
               map(str.lower, proxy.heads)]  # fmt: skip
    assert cursors == [None, None, "e-2", None, "e-1"]


@looped
async def test_a_line_without_an_end_is_given_up() -> None:
    async with proxied(None, streamed(SYNCED, b"x" * (LONGEST_LINE + 99_999)), streamed(item(9, "completed"))) as (
        url,
        _,
    ):
        reasons = [change.reason async for change in first(Client(url).watch_all(), Task) if isinstance(change, Lost)]
    assert reasons == ["a line is longer than any that a gateway sends"]


@looped
async def test_a_refusal_without_an_end_is_not_read_to_it() -> None:
    endless = b"HTTP/1.1 404 No\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * (2 * LONGEST_LINE)
    async with proxied(None, endless) as (url, proxy):
        with pytest.raises(RefusedError, match="404 No"):
            await until_synced(Client(url))
        await asyncio.wait_for(proxy.left.wait(), 1)


async def first(changes: AsyncIterator[Change], kind: type[Change]) -> AsyncIterator[Change]:
    """All to the first of a kind."""
    async for change in changes:
        yield change
        if isinstance(change, kind):
            return


@looped
async def test_silence_is_a_dead_connection() -> None:
    async with proxied(None, None) as (url, _):
        async for said in follow(Remote(url, silence=0.3), read_line):
            assert said == Lost("nothing came for 0.3 s", silent=True)
            break


@looped
async def test_where_a_stream_is_held_back_polls_go_on(one: Gateway, name: str) -> None:
    one.write(name, data={"while": "running"})
    async with proxied(one, streams=False) as (url, _):
        states = []
        async for task in Client(url, silence=0.4, interval=0.1).watch(name):
            states.append(task)
            one.write(name, "success", 100)
    assert [(task.progress, task.data) for task in states] == [(50, {"while": "running"}), (100, {})]


@looped
async def test_a_name_that_leads_nowhere_and_a_url_that_is_none() -> None:
    for url in ("ftp://localhost", "http://localhost:notaport", "http://", "http:///tasks"):
        with pytest.raises(RefusedError, match="cannot be asked"):
            Client(url)
    with pytest.raises(RefusedError, match="cannot be reached") as refused:
        await Client("http://ann:secret@no-such-host.invalid").wait("t")
    assert refused.value.status == 0
    assert "secret" not in str(refused.value)


@looped
async def test_what_is_lost_is_in_the_log(caplog: pytest.LogCaptureFixture, one: Gateway, name: str) -> None:
    one.write(name, "success", 100)
    caplog.set_level(logging.INFO, "gateway.client")
    async with proxied(one, refusal(503)) as (url, _):
        await Client(url).wait(name)
    assert [record.getMessage() for record in caplog.records if record.name == "gateway.client"] == [
        f"Trying {url} again: it answered 503 No"
    ]


@looped
async def test_a_certificate_is_trusted_or_refused(start: Start, name: str, tmp_path: Path) -> None:
    make_certificate(tmp_path, "first")
    gateway = start("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    gateway.write(name, "success", 100)
    secure = f"https://localhost:{gateway.port}"
    trusts = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    async with proxied(None, *[refusal(307, Location=f"{secure}/api/v1/tasks?id={name}")] * 2) as (url, _):
        for address in (secure, url):
            assert (await Client(address, tls=trusts).wait(name)).succeeded
            with pytest.raises(RefusedError, match=r"cannot be reached: .*certificate verify failed"):
                await Client(address).wait(name)
    usual = os.environ | {"SSL_CERT_FILE": str(tmp_path / "cert.pem")}
    assert await asyncio.to_thread(told_by, str(EXAMPLE), name, secure, env=usual) == (0, "100% Working\n", "")


# How it is left


@looped
async def test_it_closes_its_connection_at_once(gateway: Gateway, name: str) -> None:
    gateway.write(name)
    async with proxied(gateway) as (url, proxy):
        client = Client(url)

        async def cancelled() -> None:
            seen = asyncio.Event()

            async def watch() -> None:
                async for _ in client.watch(name):
                    seen.set()

            watching = asyncio.create_task(watch())
            await seen.wait()
            watching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching

        async def broken_off() -> None:
            async for _ in client.watch(name):
                break

        async def closed() -> None:
            async with aclosing(client.watch_all()) as changes:
                await anext(changes)

        async def timed_out() -> None:
            with pytest.raises(TaskTimeoutError):
                await client.wait(name, timeout=0.3)

        for leave in (cancelled, broken_off, closed, timed_out):
            proxy.left.clear()
            await leave()
            await asyncio.wait_for(proxy.left.wait(), 1)


LEAVES = """
import asyncio, sys
from gateway.client import Client

async def main(url, name):
    client = Client(url, silence=float(sys.argv[3]), interval=0.1)
    async for task in client.watch(name):
        async for change in client.watch_all():
            return print(task.progress)

asyncio.run(main(*sys.argv[1:3]))
"""


def told_by(*argv: str, **more: Any) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=20, check=False, **more)
    return done.returncode, done.stdout, done.stderr


def test_a_program_that_ends_in_the_midst_of_it_ends_quietly(one: Gateway, name: str) -> None:
    one.write(name)
    assert told_by("-W", "error", "-c", LEAVES, one.url, name, "35") == (0, "50\n", "")


@pytest.mark.parametrize("polls", [False, True])
def test_one_that_is_left_open_when_its_loop_ends_says_nothing(start: Start, polls: bool) -> None:
    with backend("v1") if polls else contextlib.nullcontext() as behind:
        if behind:
            put(behind, "t")
            url = behind.url
        else:
            gateway = start()
            gateway.write("t")
            url = gateway.url
        script = LEAVES.replace("        async for change in client.watch_all():\n    ", "")
        kept = script.replace("client.watch(name)", "kept(client.watch(name))") + "\n"
        kept = kept.replace(
            "async def main", "held = []\ndef kept(it):\n    held.append(it)\n    return it\n\nasync def main"
        )
        assert told_by("-W", "error", "-c", kept, url, "t", "35") == (
            0,
            "50\n" if not polls else "0\n",
            "",
        )


# Where there is no stream


@contextlib.contextmanager
def backend(dialect: str, *options: str) -> Iterator[Backend]:
    one = Backend("tests.taskbackend", "--dialect", dialect, "--seconds", "0.6", *options)
    try:
        yield one
    finally:
        one.stop()


def put(behind: Backend, id: str, **task: Any) -> None:
    httpx.put(f"{behind.url}/-/tasks/{id}", json=task).raise_for_status()


GUID = "bdc8e99d-dd8a-40e9-8840-f9f8eef16c71"


@pytest.mark.parametrize("dialect", ["v1", "flat", "system"])
@looped
async def test_a_backend_is_polled_in_its_dialect(dialect: str) -> None:
    with backend(dialect, "--etags") as behind:
        imports = "/api/v1/import" if dialect == "v1" else "/api/transactions/import"
        reply = httpx.post(behind.url + imports).json()
        id = reply["payload"]["id"] if "payload" in reply else reply["task_id"]
        client = Client(behind.url, interval=0.1)
        unknown = asyncio.create_task(client.wait("Jan-31-25_03-45-12-PM", patience=0.5))
        put(behind, "still")
        still = asyncio.create_task(client.wait("still", timeout=0.6))
        states = [task async for task in client.watch(id)]
        with pytest.raises(TaskUnknownError):
            await unknown
        with pytest.raises(TaskTimeoutError):
            await still
        asked = httpx.get(f"{behind.url}/-/asked").json()
        with pytest.raises(RefusedError, match="404"):
            await until_synced(Client(behind.url))
    progress = [task.progress for task in states]
    assert progress == sorted(progress)
    assert len(states) > 1
    assert [task.final for task in states].count(True) == 1
    assert states[-1].succeeded
    assert states[-1].data["receipt_id"] == id  # the Go backend sets it after the status
    assert {task.id for task in states} == {id}
    assert asked["statuses"].get("304", 0) > 0


@looped
async def test_a_backend_that_fails_forgets_and_comes_back(name: str) -> None:
    with backend("flat") as behind:

        def say(status: int, **headers: str) -> None:
            body = {"status": status, "headers": headers} if status else None
            httpx.put(f"{behind.url}/-/instead", content=json.dumps(body)).raise_for_status()

        client, loop = Client(behind.url, interval=0.1), asyncio.get_running_loop()
        say(500)
        loop.call_later(0.4, say, 0)
        put(behind, "t", progress=1)
        seen, said = [], 0.0

        def react(task: Task) -> None:
            nonlocal said
            seen.append(task.progress)
            if task.progress == 1:
                put(behind, "t", progress=2)
                say(503, **{"Retry-After": "1"})
                said = time.monotonic()
                loop.call_later(0.5, say, 0)
            else:
                assert time.monotonic() - said > 1
                httpx.delete(f"{behind.url}/-/tasks/t")

        with pytest.raises(TaskGoneError) as gone:
            await each(client.watch("t", patience=0.4), react)
    assert seen == [1, 2]
    assert gone.value.task
    assert gone.value.task.progress == 2


@looped
async def test_a_failure_that_is_polled(name: str) -> None:
    with backend("v1") as behind:
        put(behind, GUID, status="error", progress=30, message="RAIDA network unreachable")
        with pytest.raises(TaskFailedError, match=r"^RAIDA network unreachable$"):
            await Client(behind.url, interval=0.1).wait(GUID)
        put(behind, "silent", status="error", progress=30, message="")  # has no message, and is asked for it twice
        put(behind, "empty", status="success", progress=100, data=None)
        waits = [Client(behind.url, interval=0.1).wait(id) for id in ("silent", "empty")]
        silent, empty = await asyncio.gather(*waits, return_exceptions=True)
        assert isinstance(silent, TaskFailedError)
        assert isinstance(empty, Task)
        assert empty.data is None


@looped
async def test_a_stream_is_taken_up_once_there_is_one(monkeypatch: pytest.MonkeyPatch, start: Start, name: str) -> None:
    monkeypatch.setattr(polling, "AGAIN", 0.3)
    gateway = start("--access-log")
    gateway.stop()
    gateway.write(name, progress=2)
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>"
    task = json.dumps({"status": "running", "progress": 1, "message": "", "data": {}}).encode()
    poll = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(task) + task
    async with proxied(gateway, page, page, poll, *[poll] * 3) as (url, proxy):
        seen = []
        async for state in Client(url, interval=0.3).watch(name):
            seen.append(state.progress)
            if state.progress == 1:
                await asyncio.to_thread(gateway.start)
            if state.progress == 2:
                gateway.write(name, "success", 100)
    assert seen == [1, 2, 100]
    assert "/api/task?" in proxy.heads[2]
    assert sum("ndjson" in head for head in proxy.heads) > 1


@pytest.mark.parametrize(
    "answer",
    [
        refusal(404),
        refusal(405),
        refusal(501),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>",
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"tasks": []}',
    ],
)
@looped
async def test_a_server_that_has_no_tasks_at_all(answer: bytes) -> None:
    async with proxied(None, *[answer] * 6) as (url, proxy):
        with pytest.raises(RefusedError, match=r"it is no gateway|404|405|501"):
            await Client(url).wait("t")
        assert len(proxy.heads) == 5  # a stream, and four kinds of polls
        with pytest.raises(RefusedError, match=r"it is no gateway|404|405|501"):
            await until_synced(Client(url))


# Without an event loop


def test_the_twin_without_a_loop(gateway: Gateway, name: str) -> None:
    client, threads = SyncClient(gateway.url), threading.active_count()
    gateway.write(name, progress=1)
    seen = []
    for task in client.watch(name):
        assert_type(task, Task)
        assert threading.active_count() == threads
        seen.append(task.progress)
        gateway.write(name, *(("running", 2) if task.progress == 1 else ("success", 100)))
    assert seen == [1, 2, 100]
    assert client.wait(name).progress == 100
    kinds = []
    for change in client.watch_all([name]):
        kinds.append(type(change))
        if isinstance(change, Synced):
            break
    assert kinds == [Reset, Task, Synced]


def test_the_twin_raises_the_same(one: Gateway, guarded: Gateway, name: str) -> None:
    client = SyncClient(one.url)
    one.write(name)
    began = time.monotonic()
    with pytest.raises(TaskTimeoutError):
        client.wait(name, timeout=0.4)
    assert 0.4 <= time.monotonic() - began < 1.4
    one.write(name, "error", 1, message="No")
    with pytest.raises(TaskFailedError, match=r"^No$"):
        client.wait(name)
    with pytest.raises(TaskUnknownError):
        list(client.watch(f"{name}-none", patience=0.1))
    with pytest.raises(RefusedError, match="401"):
        list(SyncClient(guarded.url).watch("mine"))
    assert SyncClient(guarded.url, token).wait("mine").succeeded


@looped
async def test_the_twin_is_not_for_where_a_loop_runs(one: Gateway, name: str) -> None:
    client = SyncClient(one.url)
    uses: list[Callable[[], object]] = [
        lambda: client.wait(name),
        lambda: next(client.watch(name)),
        lambda: next(client.watch_all()),
    ]
    for use in uses:
        with pytest.raises(RuntimeError, match=r"use gateway\.client\.Client"):
            use()
    one.write(name, "success", 100)
    assert (await asyncio.to_thread(client.wait, name)).succeeded


def test_the_twin_through_a_kill_and_at_its_own_pace(start: Start, name: str) -> None:
    gateway = start()
    gateway.write(name, progress=1)
    seen = []
    for task in SyncClient(gateway.url, silence=0.5).watch(name):
        seen.append(task.progress)
        if task.progress == 1:
            gateway.write(name, progress=2)
            time.sleep(0.6)  # longer than a connection may be silent
        if task.progress == 2:
            gateway.stop(signal.SIGKILL)
            gateway.write(name, "success", 100)
            gateway.start()
    assert seen == [1, 2, 100]


def test_the_twin_is_broken_off_at_once(start: Start, name: str) -> None:
    gateway = start()
    gateway.write(name)

    def subscribers() -> bool:
        return 'subscribers{transport="ndjson"} 1' in gateway.get("/metrics").text

    for _ in SyncClient(gateway.url).watch(name):
        until(subscribers)
        break
    until(lambda: not subscribers(), 1)


def test_ctrl_c_ends_the_twin(one: Gateway, name: str) -> None:
    one.write(name)
    script = (
        "import sys\nfrom gateway.client import SyncClient\ntry:\n"
        "    for task in SyncClient(sys.argv[1]).watch(sys.argv[2]): print(task.progress, flush=True)\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    argv = [sys.executable, "-W", "error", "-c", script, one.url, name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "50\n"
        time.sleep(0.2)  # so that it waits for the next
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=5) == ("interrupted\n", "")


# The example


def test_the_example(one: Gateway, name: str) -> None:
    endings = {"success": (0, ""), "failed": (1, "Failed: At an end\n"), "": (3, "There is no task {}\n")}
    with contextlib.ExitStack() as stack:
        running = {}
        for status in endings:
            if status:
                one.write(name + status, message="Working")
            argv = [sys.executable, str(EXAMPLE), name + status, one.url]
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            running[status] = stack.enter_context(process)
            stack.callback(process.kill)
        for status, (code, said) in endings.items():
            process = running[status]
            assert process.stdout
            assert not status or process.stdout.readline() == "50% Working\n"
            if status:
                one.write(name + status, status, 100, message="At an end")
            out, err = process.communicate(timeout=20)
            assert (process.returncode, err) == (code, said.format(name))
            assert out == ("100% At an end\n" if status else "")


# Parts


def test_it_is_light_to_import_and_typed() -> None:
    heavy = "['aiohttp', 'pydantic', 'starlette', 'typer', 'uvicorn', 'uvloop', 'watchfiles', 'websockets']"
    script = f"import sys, gateway.client; print([name for name in {heavy} if name in sys.modules])"
    assert told_by("-c", script) == (0, "[]\n", "")
    assert Path(package.__file__).with_name("py.typed").exists()


@looped
async def test_tens_of_thousands_of_lines_a_second() -> None:
    count = 50_000
    body = streamed(SYNCED, *[item(number, id=f"task-{number}") for number in range(count)])
    async with proxied(None, body) as (url, _):
        began, read = time.process_time(), 0
        async for change in Client(url).watch_all():
            read += isinstance(change, Task)
            if read == count:
                break
        assert time.process_time() - began < count / 20_000


TEXTS = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))


@given(st.lists(TEXTS, max_size=9), st.lists(st.integers(1, 20)))
def test_lines_are_the_same_in_whatever_blocks(texts: list[str], sizes: list[int]) -> None:
    body, lines, found = b"".join(text.encode() + b"\n" for text in texts), Lines(), []
    for size in [*sizes, len(body)]:
        found += lines.of(body[:size])
        body = body[size:]
    assert found == [text.encode() for text in texts if text]


def test_a_line_may_be_long_but_not_endless() -> None:
    lines = Lines()
    assert lines.of(b"x" * LONGEST_LINE) == []
    assert lines.of(b"\n") == [b"x" * LONGEST_LINE]
    with pytest.raises(LostError):
        [lines.of(b"x" * 65_536) for _ in range(17)]


def test_a_place_is_one_to_resume_from_only_when_whole() -> None:
    place = Place()
    assert place.begin()
    assert not place.take(Line("task", "e-1"))
    assert place.headers == {}
    assert place.take(Line("synced", "e-2"))
    assert place.headers == {"Last-Event-ID": "e-2"}
    assert not place.begin()
    place.take(Line("task", "e-3"))
    place.take(Line("gone"))
    assert place.headers == {"Last-Event-ID": "e-3"}
    place.take(Line("reset"))
    place.take(Line("task", "f-1"))
    assert place.headers == {}


def test_a_task_is_missed_only_while_somebody_could_tell() -> None:
    known, task = Known("t", 5), Task("t", "running", 1, "", 1)
    for change, now, deadline in (
        (Reset(), 0, None),
        (Synced(), 1, 6),
        (Gone("t"), 2, 6),
        (Lost("cut"), 3, None),
        (Synced(), 4, 9),
        (Invalid("t", "torn"), 5, None),  # it is there, whatever it is
        (Synced(), 6, None),
    ):
        assert known.take(change, now) is None
        assert known.deadline == deadline
    assert isinstance(known.missed(), TaskUnknownError)
    assert known.take(task, 7) is task
    assert known.take(msgspec.structs.replace(task, updated=2), 8) is None
    assert known.take(Reset(), 9) or known.take(Synced(), 10) is None
    assert known.deadline == 15
    assert isinstance(known.missed(), TaskGoneError)
    assert known.take(msgspec.structs.replace(task, data={"one": 1}), 11)
    assert known.take(msgspec.structs.replace(task, data={"one": True}), 11)
    assert known.deadline is None


def test_errors_survive_a_process_pool() -> None:
    task = Task("t", "error", 3, "No", 1)
    for error in (TaskFailedError("No", "t", task), TaskTimeoutError("Late", "t", task), RefusedError("No", 401)):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
        assert isinstance(copy, ClientError)
    assert issubclass(TaskTimeoutError, TaskError)
