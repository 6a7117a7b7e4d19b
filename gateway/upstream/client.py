"""The client's side of an exchange that is passed on."""

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope

from gateway.transports.reply import has_body

PATIENCE = 0.05
"""Seconds after which it is looked whether a client without a body to send has left: most are answered by then."""


class Client:
    """A request's body as it comes, and whether its client has left: one reads, for both come by `receive`."""

    def __init__(self, scope: Scope, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        self.left = False
        self.has_body = has_body(scope["headers"])
        self._receive = receive
        self._exchange = asyncio.current_task(loop)  # asked for without it, the loop costs a system call in Python 3.11
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._reading: asyncio.Task[None] | None = None
        delay = 0 if self.has_body else PATIENCE
        self._timer = loop.call_later(delay, self._start)

    def _start(self) -> None:
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        """Ends the exchange when the client leaves."""
        while (message := await self._receive())["type"] != "http.disconnect":
            if message.get("body"):
                await self._parts.put(message["body"])
            if not message.get("more_body"):
                await self._parts.put(None)
        self.left = True
        if self._exchange:
            self._exchange.cancel()

    async def body(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part

    def done(self) -> None:
        self._timer.cancel()
        if self._reading:
            self._reading.cancel()
