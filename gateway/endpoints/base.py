"""What all endpoints share: methods, errors, and the way from a request to its transport."""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from gateway.access.grants import EVERYTHING, grant_of
from gateway.dialects import Dialect
from gateway.engine import Engine
from gateway.limits import Refusal, Seat, Throttle
from gateway.sources.answers import AnswerError
from gateway.subscription import Subscription
from gateway.transports.reply import ALWAYS, JSON, LongReply, Reply, send_reply
from gateway.transports.request import BadRequestError, Query, Transport, transport
from gateway.transports.websocket import Incoming, error
from gateway.wire import Encoding

Awaited = TypeVar("Awaited")

_ALLOW = (JSON, (b"allow", b"GET, HEAD"))


class RefusedError(Exception):
    """A client is not served now."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal


class Endpoint(ABC):
    """An ASGI app for one URL: negotiates, and leaves the rest to `poll`, `long_poll`, `stream` and `converse`.

    Each returns the answer to send, or None where it has answered itself.
    """

    dialect: Dialect

    def __init__(self, engine: Engine, sse: Encoding, ndjson: Encoding, messages: Encoding) -> None:
        self.engine = engine
        self.sse, self.ndjson, self.messages = sse, ndjson, messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = Query(scope)
        try:
            reply: Reply | LongReply | None
            if grant_of(scope) is not EVERYTHING and (hidden := self.hide(query, scope)):
                reply = hidden
            elif scope["type"] == "websocket":
                with self._seat(scope) as seat:
                    await receive()  # the handshake: what comes next is that the client has left
                    reply = await self.converse(query, scope, receive, send, seat=seat)
            elif scope["method"] not in ("GET", "HEAD"):
                reply = Reply(405, self.dialect.failure("Method not allowed", 405, ""), _ALLOW)
            else:
                reply = await self._answer(query, scope, receive, send)
        except BadRequestError as wrong:
            reply = Reply(400, self.dialect.failure(str(wrong), 400, ""))
        except AnswerError as failure:
            reply = self.unavailable(failure)
        except RefusedError as refused:
            reply = self._no(refused.refusal)
        if reply:
            self.engine.replies[self.dialect.name, reply.status] += 1
            if isinstance(reply, Reply):
                await send_reply(scope, send, reply)
            else:
                await while_connected(receive, reply.send(scope, send))

    async def _answer(self, query: Query, scope: Scope, receive: Receive, send: Send) -> Reply | LongReply | None:
        how, wait = transport(query, self.engine.settings.longest_wait)
        if how is Transport.POLL or scope["method"] == "HEAD":
            limits = self.engine.limits
            if limits.unsent.used and (refusal := limits.refuse_answer(scope, large=False)):
                return self._no(refusal)
            return self.poll_now(query, scope) or await self.poll(query, scope)
        with self._seat(scope) as seat:
            if how is Transport.LONG_POLL:
                reply = await while_connected(receive, self.long_poll(query, scope, wait))
                ended = reply and not self.engine.is_good(grant_of(scope))
                return Reply(401, self.dialect.failure("The token has ended", 401, "")) if ended else reply
            encoding = self.sse if how is Transport.SSE else self.ndjson
            return await self.stream(query, scope, receive, send, encoding=encoding, seat=seat)

    def _seat(self, scope: Scope) -> Seat:
        """A place among the streams, taken before anything is awaited. Raises RefusedError."""
        found = self.engine.limits.admit(scope)
        if isinstance(found, Refusal):
            raise RefusedError(found)
        return found

    def _no(self, refusal: Refusal) -> Reply:
        body = self.dialect.failure(refusal.sentence, refusal.status, "")
        return Reply(refusal.status, body, (*ALWAYS, (b"retry-after", b"%d" % refusal.wait)))

    def throttled(self, incoming: Incoming) -> Incoming:
        """The same for one connection, and no more messages a second than it may send."""
        throttle = Throttle()

        def counted(subscription: Subscription, message: str | bytes) -> bytes:
            most = self.engine.settings.max_messages
            if not (excess := throttle.exceeds(most)):
                return incoming(subscription, message)
            return error("too_many_messages", f"at most {most} messages a second") if excess == 1 else b""

        return counted

    def unavailable(self, failure: AnswerError) -> Reply:
        """Says that it is not known what there is, and why."""
        retry = ((b"retry-after", b"%d" % math.ceil(failure.retry_after)),) if failure.retry_after else ()
        return Reply(failure.status, self.dialect.failure(str(failure), failure.status, ""), (*ALWAYS, *retry))

    def hide(self, query: Query, scope: Scope) -> Reply | None:
        """The answer to who may not see what he asks for; it tells nothing of whether that is there."""
        return None

    def poll_now(self, query: Query, scope: Scope) -> Reply | None:
        """The answer to a poll where nothing has to be waited for."""
        return None

    @abstractmethod
    async def poll(self, query: Query, scope: Scope) -> Reply | LongReply: ...

    @abstractmethod
    async def long_poll(self, query: Query, scope: Scope, wait: float) -> Reply | LongReply: ...

    @abstractmethod
    async def stream(
        self, query: Query, scope: Scope, receive: Receive, send: Send, *, encoding: Encoding, seat: Seat
    ) -> Reply | None: ...

    @abstractmethod
    async def converse(
        self, query: Query, scope: Scope, receive: Receive, send: Send, *, seat: Seat
    ) -> Reply | None: ...


async def while_connected(receive: Receive, waiting: Coroutine[Any, Any, Awaited]) -> Awaited | None:
    """What is waited for, or None where the client leaves before it comes: it should wait here no longer."""

    async def client_leaves() -> None:
        while not (await receive())["type"].endswith(".disconnect"):
            pass

    comes, leaves = asyncio.create_task(waiting), asyncio.create_task(client_leaves())
    try:
        await asyncio.wait((comes, leaves), return_when=asyncio.FIRST_COMPLETED)
        return comes.result() if comes.done() else None
    finally:
        comes.cancel()
        leaves.cancel()


def last_event(query: Query) -> str | None:
    """Where a stream left off; EventSource says it in a header that is newer than its URL."""
    return query.header(b"last-event-id") or query.param("cursor") or None
