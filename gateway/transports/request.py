"""What a request asks for: which task, by which transport, from where on. Pure: a scope in, values out."""

import re
from enum import Enum, auto
from urllib.parse import parse_qs

from starlette.types import Scope

_WAIT = re.compile(r"(?i)(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])")
_PERIOD = re.compile(r"(\d{1,9})([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class BadRequestError(ValueError):
    """A parameter that cannot be understood; the text says which and why."""


class Transport(Enum):
    POLL = auto()
    LONG_POLL = auto()
    SSE = auto()
    NDJSON = auto()


_HEADERS = frozenset({b"accept", b"prefer", b"if-none-match", b"last-event-id"})


class Query:
    """The headers and the parameters of one request that mean something here; of a repeated header all values."""

    __slots__ = ("_headers", "_params", "_raw")

    def __init__(self, scope: Scope) -> None:
        self._headers = [header for header in scope["headers"] if header[0] in _HEADERS]
        self._raw: bytes = scope["query_string"]
        self._params: dict[str, list[str]] | None = None

    def plain(self) -> bool:
        """Whether nothing in it can ask for anything but a poll."""
        return b"wait=" not in self._raw and all(
            name == b"if-none-match" or value == b"*/*" for name, value in self._headers
        )

    def header(self, name: bytes) -> str:
        found = [value for key, value in self._headers if key == name]
        return b",".join(found).decode("latin-1") if found else ""

    def param(self, name: str) -> str | None:
        found = self.params(name)
        return found[0] if found else None

    def params(self, name: str) -> list[str] | None:
        if self._params is None:
            self._params = _parse(self._raw.decode("latin-1"))
        return self._params.get(name)


def _parse(query: str) -> dict[str, list[str]]:
    if "&" not in query and "%" not in query and "+" not in query:  # nearly always: one plain parameter
        name, _, value = query.partition("=")
        return {name: [value]} if name else {}
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=10_000)
    except ValueError:
        raise BadRequestError("Too many parameters") from None


def transport(query: Query, longest_wait: float) -> tuple[Transport, float]:
    """Which transport was asked for, in the order of the contract, and for a long-poll how many seconds it waits."""
    if query.plain():
        return Transport.POLL, 0
    accepted = _media_types(query.header(b"accept"))
    if "text/event-stream" in accepted:
        return Transport.SSE, 0
    if "application/x-ndjson" in accepted:
        return Transport.NDJSON, 0
    if (text := query.param("wait")) is not None:
        if not re.fullmatch(r"\d{1,9}", text):
            raise BadRequestError("Invalid parameter: wait must be a number of seconds")
        return Transport.LONG_POLL, min(float(text), longest_wait)
    if preferred := _WAIT.search(query.header(b"prefer")):  # what cannot be understood is ignored (RFC 7240)
        return Transport.LONG_POLL, min(float(preferred[1]), longest_wait)
    return Transport.POLL, 0


def _media_types(accept: str) -> set[str]:
    """The types an Accept header names, without those it refuses by `q=0`."""
    if not accept or accept == "*/*":
        return set()
    named = set()
    for entry in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        if not any(re.fullmatch(r"q=0(\.0*)?", p) for p in parameters):
            named.add(kind)
    return named


def tags(header: str) -> set[str]:
    """The entity tags of an If-None-Match header, `*` included; weak ones count (RFC 9110, 13.1.2)."""
    return {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")} - {""}


def period(text: str) -> float:
    """`90`, `90s`, `15m`, `1h`, `2d` in seconds."""
    if not (match := _PERIOD.fullmatch(text)):
        raise BadRequestError("Invalid parameter: recent must be a period such as 90s, 15m, 1h or 2d")
    return float(match[1]) * _SECONDS[match[2]]


def number(query: Query, name: str, default: int, most: int) -> int:
    """A positive whole parameter, at most `most`."""
    text = query.param(name)
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise BadRequestError(f"Invalid parameter: {name} must be a whole number from 1 to {most}")
    return min(int(text), most)
