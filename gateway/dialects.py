"""How a task is shown at each polling URL: a state in, a JSON body out. No I/O.

`flat` is the file's own bytes, `v1` and `system` are envelopes, `item` is one entry of the collection. Every body but
the flat one is a single line.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gateway.tasks import LOCKED, SUCCEEDED, UNREADABLE, Fields, Task, text_of

TOO_LARGE = "Invalid task status file size (must be ≤64KB)"
NOT_FOUND = "Task ID not found"
MISSING = "Missing required parameter: task_id"

_json = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to show a task. `body` answers a poll, `line` is the same JSON on one line, for streams.

    `failure(sentence, code, id)` is the body of an answer that shows no task.
    """

    name: str
    body: Callable[[Task], bytes]
    line: Callable[[Task], bytes]
    failure: Callable[[str, int, str], bytes]


def v1_status(task: Task) -> str:
    """v1 knows three words, and shows no status that it does not document."""
    if not task.final:
        return "running"
    return "completed" if task.status.strip().lower() in SUCCEEDED else "error"


def _progress(task: Task, status: str) -> int:
    """Go clients decode it into an int: floored, and within 0..100."""
    if task.progress is None:
        return 100 if status == "completed" else 0
    return int(min(max(task.progress, 0), 100))


def _message(fields: Fields, status: str) -> str:
    """Always a string; some old files say the real error in their data."""
    message = text_of(fields.message)
    if status == "error" and message.strip() in {"", "Error Occured"} and bytes(fields.data).startswith(b"{"):
        inner = msgspec.json.decode(fields.data, type=Fields)
        return text_of(inner.message) or message
    return message


def _payload(task: Task, fields: Fields, status: str, shown: str, data: bytes) -> bytes:
    members = b'"id":%b,"status":%b,"progress":%d,"message":%b,"data":%b' % (
        _json(task.id),
        _json(shown),
        _progress(task, status),
        _json(_message(fields, status)),
        data or b"null",
    )
    for name, value in ((b"started", fields.started), (b"finished", fields.finished)):
        if bytes(value):  # the real backend sends them too
            members += b',"%b":%b' % (name, bytes(value))
    return members


def v1(task: Task) -> bytes:
    fields, status = task.fields(), v1_status(task)
    data = b"null"
    if status == "completed":  # "data: only present when completed", and then an object or a string
        data = bytes(fields.data)
        data = b"{}" if data in {b"", b"null"} else data
    return b'{"status":"success","payload":{%b}}' % _payload(task, fields, status, status, data)


def system(task: Task) -> bytes:
    fields = task.fields()
    shown = task.status or "running"
    return b'{"status":"success","payload":{%b}}' % _payload(task, fields, v1_status(task), shown, bytes(fields.data))


def item(task: Task) -> bytes:
    """An entry of the collection: the v1 payload, `updated`, and `data` as the file has it."""
    fields, status = task.fields(), v1_status(task)
    return b'{%b,"updated":%d}' % (_payload(task, fields, status, status, bytes(fields.data)), task.updated)


def fault(reason: str) -> str:
    """Why a task's file is not shown: the documents' one sentence for what is in it, or that it cannot be opened."""
    return f"Task status file is {reason}" if reason.startswith((LOCKED, UNREADABLE)) else TOO_LARGE


def error(sentence: str, _code: int = 0, _id: str = "") -> bytes:
    """The flat document's error body."""
    return _json({"error": sentence})


def _envelope_failure(sentence: str, code: int, id: str) -> bytes:
    """Ends every documented poller: not-ok for those that look at the code, `error` for those that read the body."""
    known = 4105 if code == 404 else code
    message = "Task does not exist" if code == 404 else sentence
    payload = {
        "id": id, "status": "error", "progress": 0, "message": message, "data": None, "code": known, "details": None,
    }  # fmt: skip
    return _json({"status": "error", "payload": payload})


FLAT = Dialect("flat", body=lambda task: task.body, line=lambda task: task.line, failure=error)
V1 = Dialect("v1", body=v1, line=v1, failure=_envelope_failure)
SYSTEM = Dialect("system", body=system, line=system, failure=_envelope_failure)
ITEM = Dialect("item", body=item, line=item, failure=error)
