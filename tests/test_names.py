"""Names in folders that take other spellings of them, on a real file system that does."""

import asyncio
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.minting import mint
from gateway.client import SyncClient
from gateway.sources.names import Names
from gateway.store import Kind
from gateway.tasks import fold
from tests.harness import CI, Gateway, flat, require, until
from tests.test_folder import put, running

NFC, NFD = unicodedata.normalize("NFC", "Grün"), unicodedata.normalize("NFD", "Grün")
if sys.platform == "win32":  # the two are different names there
    NFC = NFD

exact = pytest.mark.skipif(sys.platform == "win32", reason="no folder is exact there")


@contextlib.contextmanager
def mounted(scratch: Path, *options: str) -> Iterator[Path]:
    """A folder `Tasks` on a file system like that of macOS; on Windows on its own."""
    if sys.platform == "win32":
        (scratch / "kept/Tasks").mkdir(parents=True, exist_ok=True)
        yield scratch / "kept/Tasks"
        return
    require("fusermount3")
    if not importlib.util.find_spec("mfusepy"):
        (pytest.fail if CI else pytest.skip)("mfusepy is not installed")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("FUSE cannot be used here")
    kept, mount = scratch / "kept", scratch / "mounted"
    (kept / "Tasks").mkdir(parents=True, exist_ok=True)
    mount.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, "-m", "tests.foldingfs", str(kept), str(mount), *options])
    try:
        until(lambda: os.path.ismount(mount) or process.poll() is not None)
        if process.poll() is not None:
            pytest.skip("FUSE cannot be used here")
        yield mount / "Tasks"
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(mount)], check=False, capture_output=True)
        process.wait(10)


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path) as folder:
        yield folder


@given(st.text())
def test_what_a_file_system_may_take_for_one_name_folds_alike(name: str) -> None:
    for form in ("NFC", "NFD"):
        assert fold(unicodedata.normalize(form, name)) == fold(name)
    assert fold(name.upper()) == fold(name.casefold()) == fold(fold(name)) == fold(name)


@exact
def test_a_folder_that_is_exact_keeps_nothing(tmp_path: Path) -> None:
    known = {"abc", NFD}
    for id in known:
        (tmp_path / f"{id}.json").touch()
    names = Names(tmp_path, known)
    names.learn(known)
    assert not names.loose
    assert (names.spelled("ABC"), names.spelled(NFC), names.others("ABC")) == ("ABC", NFC, [])


@exact
def test_a_second_name_of_a_file_makes_no_folder_loose(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    (tmp_path / "a.JSON").hardlink_to(tmp_path / "a.json")
    names = Names(tmp_path, {"a"})
    names.learn({"a"})
    assert not names.loose


@pytest.mark.parametrize("options", [(), ("ro",)])
def test_the_spelling_on_disk_is_found(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Also where nothing can be written."""
    (tmp_path / "kept/Tasks").mkdir(parents=True)
    for id in ("MiXed", NFD, "new"):
        (tmp_path / f"kept/Tasks/{id}.json").touch()
    with mounted(tmp_path, *options) as folder:
        names = Names(folder, {"MiXed", NFD})
        names.learn(["MiXed", NFD])
        assert names.loose
        for id, own in {
            "MIXED": "MiXed",
            "MiXed": "MiXed",
            NFC: NFD,
            NFC.upper(): NFD,
            "NEW": "new",
            "No": "No",
        }.items():
            assert names.spelled(id) == own
        names.drop("MiXed")
        assert names.others("mixed") == []


def test_other_spellings_are_one_task_and_no_news(tasks: Path) -> None:
    put(tasks, "MiXed", 1)
    put(tasks, NFD, 2)

    async def scenario() -> None:
        async with running(tasks.parent, reconcile=60) as source:
            assert {(await source.next()).id for _ in range(2)} == {"MiXed", NFD}
            for id in ("MIXED", "mixed", "mIxEd", NFC, NFC.upper()):
                found = source.folder.look(id)
                assert found
                assert found.id in {"MiXed", NFD}
            assert source.folder.has("MIXED")
            assert len(source.folder.reader.seen) == len(source.store) == 2
            put(tasks, "mixed", 3)  # written by another spelling: the file keeps its own
            event = await source.next()
            assert (event.id, event.task and event.task.progress) == ("MiXed", 3)
            (tasks / "MIXED.json").unlink()
            event = await source.next()
            assert (event.id, event.kind) == ("MiXed", Kind.GONE)
            assert source.events.empty()

    asyncio.run(scenario())


def test_a_file_that_nobody_told_of_is_found_in_its_own_spelling(tasks: Path) -> None:
    async def scenario() -> None:
        async with running(tasks.parent, watch=False, reconcile=60, poll=60) as source:
            for id in ("First", "Second"):  # the first one also tells what the folder is like
                put(tasks, id)
                found = source.folder.look(id.upper())
                assert found
                assert (found.id, (await source.next()).id) == (id, id)
            assert [*source.folder.reader.seen] == ["First", "Second"]

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform == "win32", reason="Wine leaves the old spelling")
def test_one_that_is_renamed_to_another_spelling_is_another_task(tasks: Path) -> None:
    path = put(tasks, "abc")
    os.utime(path, (1e9, 1e9))

    async def scenario() -> None:
        async with running(tasks.parent, reconcile=60, recent=1e12) as source:
            assert (await source.next()).id == "abc"
            path.rename(tasks / "ABC.json")
            events = [await source.next(), await source.next()]
            assert [(event.id, event.kind) for event in events] == [("abc", Kind.GONE), ("ABC", Kind.TASK)]
            assert source.folder.findings == 0
            found = source.folder.look("abc")
            assert found
            assert found.id == "ABC"

    asyncio.run(scenario())


def test_rights_go_by_the_spelling_on_disk(tasks: Path) -> None:
    key = tasks.parent / "key"
    key.write_text("s" * 40)
    put(tasks, "abc", 1)
    put(tasks, "ABBA", 2)

    def bearer(*allowed: str) -> str:
        return "Bearer " + mint(key, tasks=[*allowed], scopes=[], seconds=60, sub="", aud="", iss="")

    with Gateway("--auth-key", str(key), data=tasks.parent) as one:
        upper, lower = bearer("A*"), bearer("a*")
        for id in ("abc", "ABC", "Abc"):
            for url in (f"/api/task?task_id={id}", f"/api/v1/tasks/{id}"):
                assert one.get(url, authorization=upper).status_code == 404
                assert one.get(url, authorization=lower).status_code == 200
            assert one.get(f"/api/v1/tasks?id={id}", authorization=upper).json()["payload"]["tasks"] == []
            listed = one.get(f"/api/v1/tasks?id={id}", authorization=lower).json()["payload"]["tasks"]
            assert [task["id"] for task in listed] == ["abc"]
        put(tasks, "aNew", 3)  # not told of yet
        assert one.get("/api/v1/tasks/ANew", authorization=upper).status_code == 404
        assert one.get("/api/v1/tasks?id=ANEW", authorization=upper).json()["payload"]["tasks"] == []
        assert one.get("/api/v1/tasks/ANEW", authorization=lower).json()["payload"]["id"] == "aNew"


def test_streams_of_other_spellings(tasks: Path) -> None:
    put(tasks, "MiXed", 1)
    with (
        Gateway(data=tasks.parent) as one,
        one.sse("/api/v1/tasks") as everything,
        one.sse("/api/v1/tasks?id=MIXED") as some,
        one.sse("/api/v1/tasks/mixed") as single,
    ):
        for events in (everything, some, single):
            assert json.loads(next(events).data).get("progress", 1) == 1
            assert next(events).event == "synced"
        for id in ("MIXED", "mixed", "mIXED"):
            assert one.get(f"/api/v1/tasks/{id}").json()["payload"]["id"] == "MiXed"
        (tasks / "MIXED.json").write_bytes(flat("x", "success", 100))
        for events in (everything, some, single):
            said = json.loads(next(events).data)
            assert said.get("payload", said)["id"] == "MiXed"


def test_clients_that_name_it_otherwise_see_its_end(tasks: Path) -> None:
    put(tasks, "MiXed", 100, "success")
    with Gateway(data=tasks.parent) as one:
        assert SyncClient(one.url).wait("MIXED").id == "MiXed"
        argv = [sys.executable, "-m", "gateway", "watch", "--url", one.url, "mixed"]
        done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
        assert (done.returncode, b"mixed" in done.stdout) == (0, True), done


def test_a_stream_waits_for_a_task_in_another_spelling(tasks: Path) -> None:
    put(tasks, "other")
    with Gateway("--task-wait", "1", data=tasks.parent) as one, one.ndjson("/api/v1/tasks") as hints:
        assert next(hints)["task"]["id"] == "other"
        answer = asyncio.run(_while_waiting(one, tasks))
        assert answer["payload"]["id"] == "MiXed"


async def _while_waiting(one: Gateway, tasks: Path) -> dict[str, dict[str, str]]:
    waiting = asyncio.create_task(asyncio.to_thread(_first, one))
    until(lambda: "gateway_subscribers" in one.get("/metrics").text)
    put(tasks, "MiXed")
    return await waiting


def _first(one: Gateway) -> dict[str, dict[str, str]]:
    with one.sse("/api/v1/tasks/MIXED") as events:
        found: dict[str, dict[str, str]] = json.loads(next(events).data)
        return found
