"""`gateway check`: what it says of files, and that it says nothing of good ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.check import check
from tests.harness import flat

GUID = "0b919313-43a5-4cb3-84ae-da8f495f52c1"


def found(tmp_path: Path, name: str, body: bytes) -> list[tuple[str, str]]:
    (tmp_path / name).write_bytes(body)
    return [(level, text) for file, level, text in check(tmp_path) if file == name]


@pytest.mark.parametrize(
    "body",
    [
        flat("a"),
        flat("a", "pending", 0),
        flat("a", "success", 100, data={"coins": 3}),
        flat("a", "success", 100, data="OK"),
        flat("a", "error", 30, message="No such wallet", data=None),
        flat("a", "cancelled", 99.5),
        flat("a", more={"of": ["its", "own"]}),
    ],
)
def test_a_good_file_is_not_mentioned(tmp_path: Path, body: bytes) -> None:
    assert found(tmp_path, "a.json", body) == []


@pytest.mark.parametrize(
    ("body", "level", "says"),
    [
        (b"", "error", "is empty: polls answer 500"),
        (b'{"status"', "error", "is not JSON"),
        (b"[1]", "error", "is not a JSON object"),
        (b'{"status":"\xff"}', "error", "is not UTF-8"),
        (b"x" * 70_000, "error", "larger than 64 KB"),
        (b'{"progress":1,"message":""}', "error", "has no status"),
        (flat("a", "paused"), "error", "is in no document"),
        (flat("a", "success", 99), "error", "is a success at 99 %: pollers wait for 100"),
        (flat("a", "Running"), "warning", "flat pollers compare it with 'running'"),
        (flat("a", "completed", 100), "warning", "v1's word"),
        (flat("a", progress="50"), "warning", "progress is the text"),
        (flat("a", progress=None), "warning", "progress should be a number, and is null"),
        (flat("a", progress=101), "warning", "progress is 101"),
        (flat("a", "error", 1, message=""), "warning", "nobody is told why"),
        (flat("a", message=5), "warning", "message should be a string, and is 5"),  # type: ignore[arg-type]
        (flat("b"), "warning", "task_id says 'b'"),
        (b"\xef\xbb\xbf" + flat("a"), "warning", "byte order mark"),
        (
            b'{"status":"success","payload":{"status":"running","progress":5,"message":"m"}}',
            "warning",
            "holds the v1 envelope",
        ),
        (flat("a", data=[1]), "warning", "differs from the schema: Expected"),
    ],
)
def test_what_pollers_have_trouble_with(tmp_path: Path, body: bytes, level: str, says: str) -> None:
    assert any(each == level and says in text for each, text in found(tmp_path, "a.json", body))


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_names_links_and_twins(tmp_path: Path) -> None:
    assert found(tmp_path, "con.json", flat("con")) == [("error", "no poller can ask for a task of this name")]
    os.symlink(tmp_path / "con.json", tmp_path / "link.json")
    (tmp_path / "folder.json").mkdir()
    for name in (GUID, GUID.replace("-", "")):
        (tmp_path / f"{name}.json").write_bytes(flat(name))
    (tmp_path / "notes.txt").write_text("not a task")
    told = {file: text for file, _, text in check(tmp_path)}
    assert told["link.json"] == told["folder.json"] == "is not served: it is no plain file"
    assert told[f"{GUID.replace('-', '')}.json"].startswith(f"is the same task as {GUID}.json")
    assert "notes.txt" not in told


@given(st.binary(max_size=200) | st.builds(lambda d: json.dumps(d).encode(), st.dictionaries(st.text(), st.text())))
def test_any_bytes_are_judged(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    found(tmp_path_factory.getbasetemp(), "any.json", body)


def cli(*arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "gateway", "check", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_the_command(tmp_path: Path) -> None:
    tasks = tmp_path / "Tasks"
    tasks.mkdir()
    (tasks / "a.json").write_bytes(flat("a"))
    (tasks / "b.json").write_bytes(flat("c"))
    done = cli(str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "warning: b.json: task_id says 'c': the file's name counts\n")
    (tasks / "c.json").write_bytes(b"")
    done = cli(str(tasks), "--json")
    assert done.returncode == 1
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == ["b.json", "c.json"]
    done = cli(str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"gateway: {tmp_path / 'nowhere'}: ")
    assert len(done.stderr.splitlines()) == 1
