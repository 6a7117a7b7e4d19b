"""Where the bytes for one consumer go when any ASGI server may be below: queues of at most a page or so."""

import asyncio
from collections.abc import AsyncIterator, Callable

from gateway.subscription import DONE

HIGH_WATER = 64 * 1024


def _nobody() -> None:
    """Stands where no hub has put its callback yet."""


class Pipe:
    """An outlet that is read as an async iterator of blocks. Holds what was written while its reader was busy."""

    def __init__(self) -> None:
        self.full = False
        self.drained: Callable[[], None] = _nobody
        self.code = DONE
        self._blocks: list[bytes] = []
        self._size = 0
        self._closed = False
        self._news = asyncio.Event()
        self._taken = asyncio.Event()

    def write(self, block: bytes) -> None:
        if block:
            self._blocks.append(block)
            self._size += len(block)
            self.full = self._size >= HIGH_WATER
            self._news.set()

    def close(self, code: int) -> None:
        self.code = code
        self._closed = True
        self._news.set()

    def abort(self) -> None:
        self._blocks.clear()
        self.close(DONE)

    async def emptied(self) -> None:
        """Waits until it is not full."""
        while self.full:
            self._taken.clear()
            await self._taken.wait()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields all that is waiting as one block. The next call says that the last block has been taken."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._blocks:
                block = b"".join(self._blocks)
                self._blocks.clear()
                yield block
                was_full, self._size, self.full = self.full, 0, False
                self._size = sum(map(len, self._blocks))
                self.full = self._size >= HIGH_WATER
                self._taken.set()
                if was_full and not self.full:
                    self.drained()
            if self._closed and not self._blocks:
                return


class Bell:
    """An outlet that carries no bytes: it rings when there is something new, until a deadline or the gateway's end."""

    def __init__(self, seconds: float) -> None:
        self.full = False
        self.drained: Callable[[], None] = _nobody
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._rang = asyncio.Event()
        self._closed = False

    def write(self, block: bytes) -> None:
        if block:
            self._rang.set()

    def close(self, _code: int) -> None:
        self._closed = True
        self._rang.set()

    def abort(self) -> None:
        self.close(DONE)

    async def heard(self) -> bool:
        """Waits for the next ring. False when there will be none any more."""
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._rang.wait()
        except TimeoutError:
            return False
        self._rang.clear()
        return not self._closed
