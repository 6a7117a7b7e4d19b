"""The folder as a source: real files, the real watcher, and what it misses."""

import asyncio
import ctypes
import logging
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.parts import Parts
from gateway.sources.files import Signature, compare
from gateway.sources.folder import Folder
from gateway.store import Event, Kind, Store
from tests.harness import flat, until


class Source:
    """A running folder, and what it published."""

    def __init__(self, data: Path, **options: Any) -> None:
        self.store = Store(limit=options.get("recent_tasks", 10_000))
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.folder = Folder(data, self.store, self.events.put_nowait, **options)

    async def next(self) -> Event:
        async with asyncio.timeout(8):
            return await self.events.get()

    async def progress(self, id: str, value: int) -> None:
        """Waits until that state was published."""
        while True:
            event = await self.next()
            if event.id == id and event.task and event.task.progress == value:
                return


@asynccontextmanager
async def running(data: Path, **options: Any) -> AsyncIterator[Source]:
    source = Source(data, **options)
    async with source.folder.running(Parts()):
        await source.folder.scanned.wait()
        yield source


def link(path: Path, to: Path) -> None:
    if sys.platform != "win32":  # Wine makes none, without a word
        path.symlink_to(to)


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    (tmp_path / "Tasks").mkdir()
    return tmp_path / "Tasks"


def put(tasks: Path, id: str, progress: int = 50, status: str = "running") -> Path:
    path = tasks / f"{id}.json"
    path.write_bytes(flat(id, status, progress))
    return path


def test_what_is_there_is_read_oldest_first(tasks: Path) -> None:
    for n, id in enumerate("abc"):
        os.utime(put(tasks, id), (time.time() - 100 + n, time.time() - 100 + n))

    async def scenario() -> None:
        async with running(tasks.parent) as source:
            assert [(await source.next()).id for _ in "abc"] == ["a", "b", "c"]

    asyncio.run(scenario())


def test_writes_renames_and_deletions(tasks: Path) -> None:
    async def scenario() -> None:
        async with running(tasks.parent, reconcile=60) as source:
            path = put(tasks, "a", 1)
            await source.progress("a", 1)
            temporary = tasks / "a.json.tmp"
            temporary.write_bytes(flat("a", progress=2))
            temporary.replace(path)
            await source.progress("a", 2)
            put(tasks, "b", 3)
            await source.progress("b", 3)
            (tasks / "b.json").replace(path)  # one task onto another
            found = {(e.id, e.kind) for e in [await source.next(), await source.next()]}
            assert found == {("a", Kind.TASK), ("b", Kind.GONE)}
            path.unlink()
            assert (await source.next()).kind is Kind.GONE

    asyncio.run(scenario())


def test_only_task_files_are_read(tasks: Path) -> None:
    outside = tasks.parent / "outside.json"
    outside.write_bytes(flat("outside"))

    async def scenario() -> None:
        async with running(tasks.parent) as source:
            (tasks / "a.tmp").write_bytes(flat("a"))
            (tasks / ".b.json").write_bytes(flat("b"))
            (tasks / "c.json").mkdir()
            link(tasks / "d.json", outside)
            (tasks / "e.JSON.bak").write_bytes(flat("e"))
            if sys.platform != "win32":
                os.mkfifo(tasks / "f.json")
            (tasks / "sub").mkdir()
            (tasks / "sub" / "g.json").write_bytes(flat("g"))
            await source.folder.reconcile()
            for id in "abcdefg":
                assert source.folder.look(id) is None
            put(tasks, "last")
            assert (await source.next()).id == "last"

    asyncio.run(scenario())


@pytest.mark.parametrize("delay", [0.001, 0.02, 0.2, 0.5])
def test_a_torn_write_is_never_published(tasks: Path, delay: float) -> None:
    async def scenario() -> None:
        async with running(tasks.parent, reconcile=60) as source:
            path = put(tasks, "a", 1)
            await source.progress("a", 1)
            whole = flat("a", progress=2)
            with path.open("wb", buffering=0) as file:
                for part in (whole[:10], whole[10:40], whole[40:]):
                    file.write(part)
                    await asyncio.sleep(delay)
            event = await source.next()
            assert event.task
            assert event.task.progress == 2

    asyncio.run(scenario())


def test_a_broken_file_is_told_once_and_logged_once(tasks: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with running(tasks.parent, reconcile=0.05) as source:
            path = tasks / "a.json"
            path.write_bytes(b"{")
            assert (await source.next()).error == "not JSON"
            path.write_bytes(b"{{")
            for _ in range(10):
                await source.folder.reconcile()
                source.folder.look("a")
            put(tasks, "a", 5)
            event = await source.next()
            assert event.task, event
            path.unlink()
            assert (await source.next()).kind is Kind.GONE

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert [r.message for r in caplog.records] == ["task 'a' cannot be shown: not JSON"]


def test_a_file_that_cannot_be_read_is_read_when_it_can(tasks: Path) -> None:
    if sys.platform == "win32" or os.geteuid() == 0:
        pytest.skip("root can read everything")
    path = put(tasks, "a", 1)
    path.chmod(0)

    async def scenario() -> None:
        async with running(tasks.parent, reconcile=0.1) as source:
            assert (await source.next()).kind is Kind.INVALID
            path.chmod(0o600)
            await source.progress("a", 1)

    asyncio.run(scenario())


def test_the_folder_may_come_later_go_and_come_back(tmp_path: Path) -> None:
    tasks = tmp_path / "Tasks"

    async def scenario() -> None:
        async with running(tmp_path, reconcile=0.3) as source:
            tasks.mkdir()
            put(tasks, "a", 1)
            await source.progress("a", 1)
            away = tasks.rename(tmp_path / "Away")
            assert (await source.next()).kind is Kind.GONE
            away.rename(tasks)
            await source.progress("a", 1)
            put(tasks, "a", 2)
            await source.progress("a", 2)

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform == "win32", reason="Wine shows a deleted folder until its watcher lets go of it")
def test_the_folder_may_be_deleted_and_made_anew(tasks: Path) -> None:
    put(tasks, "a", 1)

    async def scenario() -> None:
        async with running(tasks.parent, reconcile=0.3) as source:
            await source.progress("a", 1)
            shutil.rmtree(tasks)
            assert (await source.next()).kind is Kind.GONE
            tasks.mkdir()
            put(tasks, "b", 3)
            await source.progress("b", 3)
            put(tasks, "b", 4)
            await source.progress("b", 4)
            assert source.folder.watching

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform == "win32", reason="Wine makes no links")
def test_a_folder_replaced_by_a_link_to_another(tmp_path: Path) -> None:
    tasks, other = tmp_path / "Tasks", tmp_path / "Other"
    tasks.mkdir()
    other.mkdir()
    put(tasks, "a", 1)
    put(other, "b", 2)

    async def scenario() -> None:
        async with running(tmp_path, reconcile=0.2) as source:
            await source.progress("a", 1)
            tasks.rename(tmp_path / "Away")
            tasks.symlink_to(other)
            await source.progress("b", 2)
            put(other, "b", 3)
            await source.progress("b", 3)
            assert source.store.get("a") is None

    asyncio.run(scenario())


def test_what_the_watcher_missed_is_found(tasks: Path) -> None:
    async def scenario() -> None:
        async with running(tasks.parent, watch=False, poll=0.05) as source:
            path = put(tasks, "a", 1)
            await source.progress("a", 1)
            put(tasks, "a", 2)
            await source.progress("a", 2)
            path.unlink()
            assert (await source.next()).kind is Kind.GONE

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform == "win32", reason="nothing else tells there that a file was written")
def test_two_writes_with_one_time_and_one_size(tasks: Path) -> None:
    """Stat cannot tell them apart: a file that is fresh is read again."""

    async def scenario() -> None:
        async with running(tasks.parent, watch=False, reconcile=60, poll=60) as source:
            now = time.time_ns()
            for n in range(10, 30):
                path = put(tasks, "a", n)
                os.utime(path, ns=(now, now))
                event = source.folder.look("a")
                assert event
                assert event.task
                assert event.task.progress == n
                await asyncio.sleep(0)  # who asks next comes later

    asyncio.run(scenario())


def test_years_of_finished_tasks_are_not_held(tasks: Path) -> None:
    for n in range(300):
        os.utime(put(tasks, f"old{n}", 100, "success"), (1e9 + n, 1e9 + n))
    for n in range(30):
        put(tasks, f"new{n}")

    async def scenario() -> None:
        async with running(tasks.parent, recent_tasks=20) as source:
            assert len(source.store) == 20
            event = source.folder.look("old7")
            assert event
            assert event.task
            assert event.offset == 0
            assert event.task.final
            assert len(source.store) == 20
            (tasks / "old7.json").unlink()
            while (event := await source.next()).id != "old7":
                pass
            assert event.kind is Kind.GONE

    asyncio.run(scenario())


def test_tasks_leave_memory_when_they_are_not_recent_any_more(tasks: Path) -> None:
    put(tasks, "a")

    async def scenario() -> None:
        async with running(tasks.parent, recent=0.5, reconcile=0.1) as source:
            place = source.store.cursor(source.store.head)
            async with asyncio.timeout(5):
                while len(source.store):
                    await asyncio.sleep(0.02)
            assert source.store.place(place) is not None
            put(tasks, "a", 2)
            await source.progress("a", 2)

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform == "win32", reason="no inotify there")
def test_no_watcher_falls_back_to_looking(tasks: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Uses up every inotify instance that this user may have."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if not limit.exists():
        pytest.skip("no inotify here")
    libc = ctypes.CDLL(None, use_errno=True)
    held: list[int] = []
    since = time.monotonic()

    def used_up() -> bool:
        """The kernel gives closed instances back late: until none has come for a while."""
        nonlocal since
        while (fd := libc.inotify_init1(os.O_CLOEXEC)) >= 0:
            held.append(fd)
            since = time.monotonic()
        return time.monotonic() - since > 0.7

    until(used_up)

    async def scenario() -> None:
        async with running(tasks.parent, poll=0.05) as source:
            put(tasks, "a", 1)
            await source.progress("a", 1)
            put(tasks, "a", 2)
            await source.progress("a", 2)
            assert not source.folder.watching

    try:
        with caplog.at_level(logging.WARNING):
            asyncio.run(scenario())
    finally:
        for fd in held:
            os.close(fd)
    assert "cannot watch" in caplog.text


def test_what_has_not_changed_is_read_no_more(tasks: Path) -> None:
    """Also where a listing says less of a file than opening it does, as on Windows."""
    for n in range(50):
        os.utime(put(tasks, f"t{n}"), (time.time() - 60, time.time() - 60))
        os.utime(put(tasks, f"old{n}"), (1e9, 1e9))

    async def scenario() -> None:
        async with running(tasks.parent, reconcile=60) as source:
            assert {(await source.next()).id for _ in range(50)} == {f"t{n}" for n in range(50)}
            for n in range(50):  # old ones are read when they are asked for, and are no news
                found = source.folder.look(f"old{n}")
                assert found
                assert found.offset == 0
            reads = source.folder.reader.reads
            for _ in range(3):
                await source.folder.reconcile()
                for n in range(50):
                    assert source.folder.look(f"t{n}")
            assert source.folder.reader.reads == reads
            assert source.folder.findings == 0
            assert source.events.empty()

    asyncio.run(scenario())


def test_hints_may_name_the_folder_by_another_path_and_say_less(tasks: Path) -> None:
    """As those of macOS: links are resolved, a rename is two changes of any kind, and some name the folder alone."""
    real = tasks.parent.resolve() / "elsewhere"

    async def scenario() -> None:
        async with running(tasks.parent, watch=False, reconcile=60, poll=60) as source:
            put(tasks, "a", 1)
            await source.folder.take_up([f"{real}{os.sep}a.json"])
            await source.progress("a", 1)
            (tasks / "a.json").rename(tasks / "b.json")
            await source.folder.take_up([f"{real}{os.sep}b.json", f"{real}{os.sep}a.json"])
            assert {(await source.next()).kind for _ in range(2)} == {Kind.TASK, Kind.GONE}
            put(tasks, "c", 1)
            await source.folder.take_up([str(tasks)])
            await source.progress("c", 1)

    asyncio.run(scenario())


def test_a_comparison_names_what_differs(tasks: Path) -> None:
    put(tasks, "same")
    put(tasks, "changed")
    identity, changed, gone, at = compare(tasks, {})
    seen = dict(changed)
    assert at == tasks.stat().st_mtime_ns
    assert identity == (tasks.stat().st_dev, tasks.stat().st_ino)
    assert sorted(seen) == ["changed", "same"]
    put(tasks, "changed", 512)
    put(tasks, "new")
    (tasks / "folder.json").mkdir()
    _, changed, gone, _ = compare(tasks, {**seen, "lost": seen["same"], "folder": seen["same"]})
    assert ([id for id, _ in changed], gone) == (["changed", "new"], ["lost", "folder"])
    assert compare(tasks / "nowhere", {"a": seen["same"]}) == (None, [], ["a"], 0)


def test_when_a_signature_can_be_trusted() -> None:
    now = time.time_ns()
    assert not Signature(now, 1, 1, now).settled()
    assert not Signature(now + 10**12, 1, 1, now).settled()  # a clock that was stepped back
    assert Signature(now // 1000 * 1000 + 1 - 10**8, 1, 1, now).settled()
    coarse = (now // 10**9 - 1) * 10**9  # a second ago, to the second: FAT says it within two
    assert not Signature(coarse, 1, 1, now).settled()
