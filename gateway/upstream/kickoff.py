"""Replies that start a task: which one it is, and where it can be followed. No I/O.

They carry `task_id`, or a `payload` with an `id`, and on newer backends an absolute `url` (contract, "Kick-off
replies").
"""

import zlib
from typing import NamedTuple

import msgspec
from yarl import URL

from gateway.tasks import is_id, looks_generated, text_of

MOST = 65_536
"""Bytes of the largest reply that is looked into: a task file is no larger."""

_HERE = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104 - a name that a backend may give itself
_FAILED = {"error", "failed", "failure"}


class KickOff(NamedTuple):
    """A task that was started, and the reply as the client gets it."""

    id: str
    body: bytes


class _Reply(msgspec.Struct):
    status: msgspec.Raw = msgspec.Raw()
    task_id: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    url: msgspec.Raw = msgspec.Raw()
    payload: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Reply).decode


class Home:
    """The backend's address: its own, and the one it is told as `host`."""

    def __init__(self, base: URL, host: str) -> None:
        self._base = base
        self._path = base.raw_path.rstrip("/")
        self._host = host

    def left(self, url: str, own: str) -> str:
        """A URL of the backend's at the gateway's address `own` (scheme://host:port); any other as it is."""
        try:
            there = URL(url, encoded=True)
            is_home = there.scheme in {"http", "https"} and self._names(there)
        except ValueError:
            return url
        path = there.raw_path_qs
        if not is_home or not path.startswith(self._path):
            return url
        return own + path[len(self._path) :] + (f"#{there.raw_fragment}" if there.raw_fragment else "")

    def _names(self, there: URL) -> bool:
        if there.raw_authority == self._host:
            return True
        same_host = there.host == self._base.host or {there.host, self._base.host} <= _HERE
        return same_host and there.port == self._base.port


def read(body: bytes, home: Home, own: str) -> KickOff | None:
    """What a JSON reply starts, if it starts anything; its `url` then leads to `own`."""
    if b'"task_id"' not in body and b'"payload"' not in body:
        return None
    try:
        outer = _decode(body)
        if _text(outer.status).lower() in _FAILED:
            return None
        inner = _decode(outer.payload) if bytes(outer.payload).startswith(b"{") else _Reply()
        id = _id(outer, inner)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if id is None:
        return None
    for url in filter(None, (bytes(outer.url), bytes(inner.url))):
        body = _moved(body, url, home, own)
    return KickOff(id, body)


def _id(outer: _Reply, inner: _Reply) -> str | None:
    """`payload.id` may be a wallet's, too: a task's looks like one, or has a status beside it."""
    for raw in (outer.task_id, inner.task_id):
        if is_id(id := _text(raw)):
            return id
    id = _text(inner.id)
    return id if is_id(id) and (looks_generated(id) or bytes(inner.status)) else None


def _text(raw: msgspec.Raw) -> str:
    return text_of(raw) if bytes(raw).startswith(b'"') else ""


def _moved(body: bytes, url: bytes, home: Home, own: str) -> bytes:
    """The body with one URL replaced, and every other byte as it was."""
    if not url.startswith(b'"'):
        return body
    there: str = msgspec.json.decode(url)
    here = home.left(there, own)
    return body if here == there else body.replace(url, msgspec.json.encode(here))


def plain(body: bytes, encoding: bytes) -> bytes | None:
    """A body without its Content-Encoding; None where that is none we know, or it is too large without it."""
    if encoding in {b"", b"identity"}:
        return body
    if encoding not in {b"gzip", b"deflate"}:
        return None
    decoder = zlib.decompressobj(wbits=47)  # either of the two
    try:
        decoded = decoder.decompress(body, MOST + 1)
    except zlib.error:
        return None
    return decoded if decoder.eof and len(decoded) <= MOST else None
