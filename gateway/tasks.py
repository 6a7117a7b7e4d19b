"""What a task file is: which names are ids, what its bytes say, and whether it will change again. No I/O."""

import hashlib
import math
import re
import unicodedata

import msgspec

MAX_BYTES = 65_536
"""The largest task file that is served (flat document: "max 64KB file size")."""

FINAL = frozenset({"success", "completed", "error", "failed", "cancelled"})
SUCCEEDED = frozenset({"success", "completed"})

LOCKED, UNREADABLE = "locked by another program", "unreadable"
"""Why a file cannot be shown, where that is not in the file."""

_BOM = b"\xef\xbb\xbf"
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
_SPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³"
}
_GUID = re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_STAMP = re.compile(r"(?i)([a-z]{3})(-\d\d-\d\d_\d\d-\d\d-\d\d-)([ap]m)(-[0-9a-f]+)?")


class NotATaskError(ValueError):
    """The bytes are not a whole JSON object: torn, empty, or something else altogether."""


class Task(msgspec.Struct, frozen=True, gc=False):
    """One whole state of one task.

    `id` is the file's name without `.json`, whatever its content claims. `body` is the file's bytes, `line` the same
    JSON without white space or newlines. `tag` is a hash of the content; `updated` is in unix milliseconds. `status`
    is the file's own word; `progress` is None where the file states none that is a number.
    """

    id: str
    body: bytes
    line: bytes
    tag: str
    updated: int
    status: str
    progress: float | None
    final: bool

    def fields(self) -> "Fields":
        return _fields(self.line)


class Fields(msgspec.Struct):
    """The documented members of a task file, each as the raw JSON that stands there (empty where absent)."""

    status: msgspec.Raw = msgspec.Raw()
    progress: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    started: msgspec.Raw = msgspec.Raw()
    finished: msgspec.Raw = msgspec.Raw()
    payload: msgspec.Raw = msgspec.Raw()


_decode_fields = msgspec.json.Decoder(Fields).decode


def is_id(text: str) -> bool:
    """Whether `text` can be a task's id: a file name that is safe on every platform, and is not hidden."""
    return (
        0 < len(text) <= 200
        and text[0] not in ". "
        and text[-1] not in ". "
        and not _UNSAFE.search(text)
        and text.partition(".")[0].rstrip(" ").upper() not in _DEVICES  # "nul .txt" is one, too
        and len(text.encode()) <= 250
    )


def is_name(text: str) -> bool:
    """Whether a task can be called so: by its id, or, where there are several backends, `namespace:id`."""
    space, colon, id = text.rpartition(":")
    return is_id(id) and (not colon or is_space(space))


def is_space(text: str) -> bool:
    """Whether `text` can be the namespace of a backend."""
    return bool(_SPACE.fullmatch(text))


def fold(name: str) -> str:
    """The same for all spellings that some file system takes for one name; also for a few that none does."""
    whole = unicodedata.normalize("NFD", name).upper().casefold()
    return unicodedata.normalize("NFD", whole)


def looks_generated(id: str) -> bool:
    """Whether an id is made as backends make them: a GUID, or a time stamp (contract: "Ids")."""
    return bool(_GUID.fullmatch(id) or _STAMP.fullmatch(id))


def spellings(name: str) -> tuple[str, ...]:
    """What a task may be called that is asked for as `name`, as it is given first.

    A GUID is taken with and without dashes, a time stamp id in either case (contract: "Ids").
    """
    space, colon, id = name.rpartition(":")
    return tuple([f"{space}:{found}" for found in _spellings(id)]) if colon else _spellings(id)


def _spellings(id: str) -> tuple[str, ...]:
    found: tuple[str, ...] = (id,)
    if _GUID.fullmatch(id):
        plain = id.replace("-", "").lower()
        dashed = "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))
        found = (id, dashed, plain, dashed.upper(), plain.upper())
    elif stamp := _STAMP.fullmatch(id):
        month, digits, half, suffix = stamp[1].capitalize(), stamp[2], stamp[3], (stamp[4] or "").lower()
        found = (
            id,
            *(f"{month}{digits}{h}{s}" for h in (half.upper(), half.lower()) for s in (suffix, suffix.upper())),
        )
    return tuple(dict.fromkeys(found))


def parse(id: str, body: bytes, updated: int) -> Task:
    """Reads one task file. Raises NotATaskError, whose text says what is wrong."""
    text = body.removeprefix(_BOM)
    try:
        text.decode()  # the decoder passes over strings that nobody asks for, whatever their bytes
        line = msgspec.json.format(text, indent=-1)
        line = body if line == body else line  # held once
        fields = _fields(line)
    except msgspec.ValidationError:
        raise NotATaskError("not a JSON object") from None
    except UnicodeDecodeError:
        raise NotATaskError("not UTF-8") from None
    except RecursionError:
        raise NotATaskError("nested too deep") from None
    except msgspec.DecodeError:
        raise NotATaskError("not JSON" if text.strip() else "empty") from None
    status, progress = text_of(fields.status), number_of(fields.progress)
    return Task(
        id=id,
        body=body,
        line=line,
        tag=hashlib.blake2b(body, digest_size=12).hexdigest(),
        updated=updated,
        status=status,
        progress=progress,
        final=_is_final(status, progress),
    )


def text_of(raw: msgspec.Raw) -> str:
    """A member's text: a string as it reads, nothing for null or an absent one, any other value as its JSON."""
    if not (json := bytes(raw)) or json == b"null":
        return ""
    return msgspec.json.decode(json, type=str) if json.startswith(b'"') else json.decode()


def _fields(line: bytes) -> Fields:
    """The members of the flat object, or of the payload where the file holds the v1 envelope."""
    fields = _decode_fields(line)
    if bytes(fields.payload).startswith(b"{") and not bytes(fields.progress):
        inner = _decode_fields(fields.payload)
        if bytes(inner.status):
            return inner
    return fields


def number_of(raw: msgspec.Raw) -> float | None:
    """A member that is a number, also one in a string; None for any other."""
    try:
        number = float(bytes(raw).strip(b'" %'))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_final(status: str, progress: float | None) -> bool:
    """Contract, "Which states are final": a success that states less than 100 is still under way."""
    word = status.strip().lower()
    if word in SUCCEEDED:
        return progress is None or progress >= 100
    return word in FINAL
