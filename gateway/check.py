"""`gateway check`: what pollers would have trouble with in a folder of task files."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from gateway.description.schemas import TaskFile
from gateway.sources.files import read
from gateway.tasks import FINAL, MAX_BYTES, SUCCEEDED, Fields, NotATaskError, Task, is_id, parse, spellings, text_of

BOM = b"\xef\xbb\xbf"
KNOWN = FINAL | {"pending", "running"}


class Finding(NamedTuple):
    """A file, and what is the matter: an `error` is one that some documented poller stumbles over or never ends at."""

    file: str
    level: Literal["error", "warning"]
    text: str


def check(folder: Path) -> Iterator[Finding]:
    """What is found in the task files of a folder, file by file. Raises OSError where it cannot be read."""
    by_name: defaultdict[frozenset[str], list[str]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.suffix != ".json" or path.name.startswith("."):
            continue
        yield from (Finding(path.name, *found) for found in _of_file(path))
        by_name[frozenset(name.lower() for name in spellings(path.stem))].append(path.name)
    for names in by_name.values():
        for name in names[1:]:
            yield Finding(name, "warning", f"is the same task as {names[0]}: each is shown to who spells it so")


Found = tuple[Literal["error", "warning"], str]


def _of_file(path: Path) -> Iterator[Found]:
    if not is_id(path.stem):
        yield "error", "no poller can ask for a task of this name"
        return
    try:
        signature, body = read(str(path), MAX_BYTES + 1)
    except OSError as error:
        yield "error", f"cannot be read: {error.strerror}"
        return
    if signature is None:
        yield "error", "is not served: it is no plain file"
        return
    if len(body) > MAX_BYTES:
        yield "error", "is larger than 64 KB: polls answer 500"
        return
    try:
        task = parse(path.stem, body, signature.mtime_ns // 1_000_000)
    except NotATaskError as error:
        yield "error", f"is {error}: polls answer 500"
        return
    if body.startswith(BOM):
        yield "warning", "begins with a byte order mark: it is served, and some JSON parsers refuse it"
    yield from _of_task(task)


def _of_task(task: Task) -> Iterator[Found]:
    fields = task.fields()
    found = [*_of_status(task, fields), *_of_progress(task, fields), *_of_words(task, fields)]
    yield from found
    if found or bytes(fields.payload):
        return
    try:
        msgspec.json.decode(task.line, type=TaskFile)
    except msgspec.ValidationError as error:
        yield "warning", f"differs from the schema: {error}"


def _of_status(task: Task, fields: Fields) -> Iterator[Found]:
    word = task.status.strip().lower()
    if not word:
        yield "error", "has no status: pollers never end"
    elif word not in KNOWN:
        yield "error", f"status {task.status!r} is in no document: v1 says running, and pollers never end"
    elif task.status != word:
        yield "warning", f"status is {task.status!r}: flat pollers compare it with {word!r}"
    if word in SUCCEEDED and not task.final:
        yield "error", f"is a {word} at {task.progress:g} %: pollers wait for 100"
    if word == "completed" and not bytes(fields.payload):
        yield "warning", "status is v1's word 'completed': flat pollers wait for 'success'"


def _of_progress(task: Task, fields: Fields) -> Iterator[Found]:
    written = bytes(fields.progress)
    if task.progress is None:
        if written or task.status.strip().lower() not in SUCCEEDED:
            yield "warning", f"progress should be a number, and is {written.decode() or 'not there'}"
    elif written.startswith(b'"'):
        yield "warning", f"progress is the text {written.decode()}: flat pollers want a number"
    elif not 0 <= task.progress <= 100:
        yield "warning", f"progress is {task.progress:g}: v1 shows it within 0 and 100, flat pollers as it is"


def _of_words(task: Task, fields: Fields) -> Iterator[Found]:
    """What is told to people."""
    failed = task.final and task.status.strip().lower() not in SUCCEEDED
    if failed and not text_of(fields.message):
        yield "warning", "ended without a message: nobody is told why"
    elif not bytes(fields.message).startswith(b'"'):
        yield "warning", f"message should be a string, and is {bytes(fields.message).decode() or 'not there'}"
    members = msgspec.json.decode(task.line, type=dict[str, object])
    if (claimed := members.get("task_id", task.id)) != task.id:
        yield "warning", f"task_id says {claimed!r}: the file's name counts"
    if isinstance(members.get("payload"), dict) and "progress" not in members:
        yield "warning", "holds the v1 envelope: flat pollers find no progress in it"
