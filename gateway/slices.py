"""What one client's wish may cost at a time: a slice of the loop's time, and then others come first."""

import asyncio
from time import perf_counter

SLICE, REST = 0.001, 4
"""Seconds of the loop's time; so many times as long nothing more is done for that client.

So whatever one connection asks for costs a fifth of a core, and others are served in between.
"""


class Slice:
    """A slice that begins now."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = perf_counter()

    @property
    def over(self) -> bool:
        return perf_counter() - self._began > SLICE

    @property
    def rest(self) -> float:
        """Seconds to wait after it."""
        return (perf_counter() - self._began) * REST

    async def yield_if_over(self) -> "Slice":
        """The slice to go on in: this one, or another one after a rest."""
        if not self.over:
            return self
        await asyncio.sleep(self.rest)
        return Slice()
