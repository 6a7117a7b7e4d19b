"""What a backend says of a task at its own polling URLs, read back into a state. No I/O."""

import time
from urllib.parse import quote

import msgspec

from gateway.dialects import NOT_FOUND
from gateway.tasks import MAX_BYTES, SUCCEEDED, Fields, NotATaskError, Task, is_id, number_of, parse, spellings, text_of

PATHS = {
    "v1": "/api/v1/tasks/{}",
    "flat": "/api/task?task_id={}",
    "system": "/api/system/tasks?task_id={}",
}
"""Where each dialect is asked (contract; DESIGN section 4)."""

UNKNOWN_CODE = 4105
"""What the Go backend calls a task that it does not have, with status 200."""


class AnswerError(Exception):
    """An answer that is no state, or none at all; the text says what `who` did.

    `status` is the HTTP status for who waits for it, `retry_after` the seconds that the backend wants to be left alone.
    """

    def __init__(self, did: str, *, who: str = "The backend", status: int = 502, retry_after: float = 0) -> None:
        super().__init__(f"{who} {did}")
        self.status, self.retry_after = status, retry_after


class NotHereError(AnswerError):
    """What no backend documents: a bare 404 (`status` 404), or something else altogether. Perhaps no such URL."""


class _Body(msgspec.Struct):
    status: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    payload: msgspec.Raw = msgspec.Raw()


class _Payload(Fields):
    id: msgspec.Raw = msgspec.Raw()
    task_id: msgspec.Raw = msgspec.Raw()
    code: msgspec.Raw = msgspec.Raw()


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_payload = msgspec.json.Decoder(_Payload).decode


def url_of(dialect: str, id: str) -> str:
    """The path and query at which a backend of that dialect is asked for a task."""
    return PATHS[dialect].format(quote(id, safe=""))


def order_for(id: str) -> tuple[str, ...]:
    """The dialects, likeliest first: GUIDs are the Go backend's, time stamps the C backend's."""
    return ("v1", "system", "flat") if len(id) in {32, 36} else ("flat", "system", "v1")


def read(dialect: str, id: str, status: int, body: bytes) -> Task | None:
    """The state that an answer shows; None where it says that there is no such task. Raises AnswerError."""
    if len(body) > MAX_BYTES:
        raise AnswerError("sent more than 64 KB")
    try:
        outer = _decode_body(body)
        wrapped = bytes(outer.payload).startswith(b"{")
        payload = _decode_payload(outer.payload if wrapped else body)
        if bytes(payload.code) == b"%d" % UNKNOWN_CODE or text_of(outer.error) == NOT_FOUND:
            return None
        if status != 200:
            raise _refusal(status)
        if not text_of(payload.status) or not (wrapped or dialect == "flat"):
            raise NotHereError(f"said: {text_of(outer.error) or text_of(payload.message) or 'no status'}")
        own = _own_id(id, payload)
        now = int(time.time() * 1000)
        if dialect == "flat":
            return parse(own, body, now)
        return parse(own, flat(own, payload), _finished(payload, now))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotATaskError):
        raise (_refusal(status) if status != 200 else NotHereError("sent what is not JSON")) from None


def _refusal(status: int) -> AnswerError:
    return NotHereError("has no such URL", status=404) if status == 404 else AnswerError(f"answered {status}")


def _own_id(id: str, payload: _Payload) -> str:
    """The backend's own spelling of an id."""
    told = (text_of(raw) for raw in (payload.id, payload.task_id))
    return next((own for own in told if own in spellings(id) and is_id(own)), id)


def flat(id: str, fields: Fields) -> bytes:
    """A task file as its backend might have written it: so one file, one reading, one tag.

    `completed` is v1's word for `success`. A progress above 100, or one that a success leaves out, is 100: flat pollers
    wait for that number.
    """
    status = text_of(fields.status)
    done = status.strip().lower() in SUCCEEDED
    progress = number_of(fields.progress)
    if progress is None:
        progress = 100 if done else 0
    members = b'"status":%b,"task_id":%b,"progress":%d,"message":%b,"data":%b' % (
        msgspec.json.encode("success" if status == "completed" else status),
        msgspec.json.encode(id),
        int(min(max(progress, 0), 100)),
        msgspec.json.encode(text_of(fields.message)),
        bytes(fields.data) or b"null",
    )
    for name, value in ((b"started", fields.started), (b"finished", fields.finished)):
        if bytes(value):
            members += b',"%b":%b' % (name, bytes(value))
    return b"{%b}" % members


def pending(id: str) -> Task:
    """A task of which only the start is known."""
    message = '"Started"'
    fields = Fields(status=msgspec.Raw(b'"pending"'), message=msgspec.Raw(message.encode()), data=msgspec.Raw(b"{}"))
    return parse(id, flat(id, fields), int(time.time() * 1000))


def is_unfinished(task: Task) -> bool:
    """Whether a final state looks as if the rest of it were still being written: the Go backend sets the status of a
    task before its data."""
    if not task.final:
        return False
    fields = task.fields()
    if task.status.strip().lower() in SUCCEEDED:
        return bytes(fields.data) in {b"", b"null"}
    return not text_of(fields.message)


def _finished(fields: Fields, now: int) -> int:
    """When a task ended, in unix milliseconds, where the backend says so (seconds, 0 while it runs)."""
    seconds = number_of(fields.finished) or 0
    return int(seconds * 1000) if 0 < seconds * 1000 < now else now
