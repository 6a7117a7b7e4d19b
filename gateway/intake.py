"""What a connection reads, and how fast: no faster than its answers are taken, and a bounded amount in one slice."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.slices import Slice

Take = Callable[[bytes, int], int]
"""Takes up bytes from a position on, a small piece of them, and tells how many; 0 for none before `go_on`."""


class Source(Protocol):
    """What is asked of a transport (`asyncio.ReadTransport`)."""

    def is_closing(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Intake:
    """The bytes that came and were not taken up yet: at most what one read of the transport gives.

    There are three reasons not to take them up: answers wait (`block`), a body is held (`pause_reading`, as uvicorn
    says it), or `take` is busy. In the first two the transport reads nothing either; in the third it does until
    something waits, because the client's end can only be seen by reading.
    """

    __slots__ = ("_at", "_blocked", "_held", "_loop", "_next", "_reads", "_source", "_take", "_waiting")

    def __init__(self, source: Source, take: Take, loop: asyncio.AbstractEventLoop, *, blocked: bool = False) -> None:
        self._source, self._take, self._loop = source, take, loop
        self._waiting, self._at = b"", 0
        self._blocked, self._held, self._reads = blocked, False, True
        self._next: asyncio.Handle | None = None

    def receive(self, data: bytes) -> None:
        """The transport has read something."""
        if self._waiting or self._next or self._blocked or self._held:
            self._waiting, self._at = self._waiting[self._at :] + data, 0
            self._reads = True
            self._balance()
            return
        self._waiting = data
        self._at = self._take(data, 0)
        if self._at < len(self._waiting):
            self._go()
        else:  # nearly always: a whole request, and nothing behind it
            self._waiting = b""
            if not self._reads:
                self._balance()

    def block(self) -> None:
        """Answers wait: their reader is not to ask for more."""
        self._blocked = True
        self._balance()

    def unblock(self) -> None:
        self._blocked = False
        self.go_on()

    def pause_reading(self) -> None:
        """Enough of a body is held."""
        self._held = True
        self._balance()

    def resume_reading(self) -> None:
        self._held = False
        self.go_on()

    def go_on(self, rest: float = 0) -> None:
        """`take` is not busy any more; it is asked again after so many seconds."""
        if self._waiting and not self._next:
            self._next = self._loop.call_later(rest, self._go) if rest else self._loop.call_soon(self._go)
        if self._waiting or not self._reads:
            self._balance()

    def end(self) -> bytes:
        """Takes up nothing any more, and holds the transport up no longer. Returns what is left."""
        left, self._waiting = self._waiting[self._at :], b""
        self._at = 0
        if self._next:
            self._next.cancel()
            self._next = None
        self._take = _nothing  # whose method it was is not held any more
        self._blocked = self._held = False
        self._balance()
        return left

    def _go(self) -> None:
        self._next = None
        slice = Slice()
        while self._waiting and not (self._blocked or self._held):
            taken = self._take(self._waiting, self._at)
            if not taken:
                break
            self._at += taken
            if self._at >= len(self._waiting):
                self._waiting, self._at = b"", 0
            elif slice.over:
                self.go_on(slice.rest)
                return
        self._balance()

    def _balance(self) -> None:
        """Has the transport read, or not."""
        reads = not (self._waiting or self._blocked or self._held)
        if reads is not self._reads and not self._source.is_closing():
            self._reads = reads
            if reads:
                self._source.resume_reading()
            else:
                self._source.pause_reading()


def _nothing(_data: bytes, _at: int) -> int:
    return 0
