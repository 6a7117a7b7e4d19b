"""What stands in Redis, read like a client's input: it is what a gateway writes, or UnreadableError. No I/O."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from gateway.records import EPOCH, LATEST
from gateway.tasks import is_name, is_space
from gateway.unreadable import UnreadableError

SEQUENCE = 20
"""Bits of an offset below the millisecond: a stream's ids are `milliseconds-sequence`."""

NOWHERE = b"0-0"
"""Before the first change."""

_ENTRY = re.compile(rb"([0-9]{1,13})-([0-9]{1,7})")
_EPOCH = re.compile(EPOCH.encode())
_TIME = re.compile(rb"[0-9]{1,13}")


class Row(NamedTuple):
    """What is held of a task: the newest change, and the bytes of its record."""

    id: str
    entry: bytes
    record: bytes


class Told(NamedTuple):
    """That the publisher of a namespace had told everything, in which epoch and when."""

    space: str
    epoch: str
    pulse: bytes


def offset_of(entry: bytes) -> int:
    """A stream's id as an offset."""
    found = _ENTRY.fullmatch(entry)
    if not found or int(found[1]) > LATEST or int(found[2]) >= 1 << SEQUENCE:
        raise UnreadableError("not the place of a change")
    return int(found[1]) << SEQUENCE | int(found[2])


def epoch_of(value: bytes | None) -> str:
    """The epoch's name; empty where none has begun."""
    if value is None:
        return ""
    if not _EPOCH.fullmatch(value):
        raise UnreadableError("not the name of an epoch")
    return value.decode()


def head_of(value: bytes | None) -> bytes:
    """The newest change."""
    if value is None:
        return NOWHERE
    offset_of(value)
    return value


def previous_of(fields: Mapping[bytes, bytes]) -> bytes:
    """The change before the one with these fields."""
    if b"p" not in fields:
        raise UnreadableError("of no publisher")
    return head_of(fields[b"p"] or None)


def floor_of(value: bytes | None) -> int:
    """The offset up to which deletions are forgotten: that millisecond is over."""
    if value is None:
        return 0
    if not _TIME.fullmatch(value) or int(value) > LATEST:
        raise UnreadableError("not a time in milliseconds")
    return ((int(value) + 1) << SEQUENCE) - 1


def id_of(field: bytes) -> str:
    """Which task a field is of."""
    id = _text(field)
    if not is_name(id):
        raise UnreadableError("of what cannot be a task")
    return id


def row_of(field: bytes, value: bytes) -> Row:
    """A field of the tasks and its value. The record has still to be read."""
    entry, _, record = value.partition(b" ")
    if not offset_of(entry):
        raise UnreadableError("before the first change")
    return Row(id_of(field), entry, record)


def told_of(field: bytes, value: bytes) -> Told:
    """A field of the namespaces and its value."""
    space = _text(field)
    if space and not is_space(space):
        raise UnreadableError("of what cannot be a namespace")
    epoch, _, pulse = value.partition(b" ")
    floor_of(pulse)
    return Told(space, epoch_of(epoch), pulse)


def _text(field: bytes) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError:
        raise UnreadableError("not UTF-8") from None
