"""SSE and NDJSON: over the bare connection where our own server offers it, over plain ASGI anywhere else."""

from collections.abc import Callable
from functools import partial

from starlette.types import Receive, Scope, Send

from gateway.direct import EXTENSION
from gateway.hub import Hub
from gateway.limits import Seat
from gateway.outlets import Pipe
from gateway.subscription import Outlet, Subscription
from gateway.transports.reply import head_of
from gateway.wire import Encoding, Sse

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept, Origin"}

Subscribe = Callable[[Outlet, Encoding], Subscription]
"""Makes the subscription that a request asked for, onto the outlet and in the encoding given, and starts it."""


async def stream(
    hub: Hub, subscribe: Subscribe, *, seat: Seat, encoding: Encoding, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answers with the subscription's blocks until either side ends it."""
    media_type = "text/event-stream; charset=utf-8" if isinstance(encoding, Sse) else "application/x-ndjson"
    if direct := scope.get("extensions", {}).get(EXTENSION):
        headers = {"Content-Type": media_type, **HEADERS}.items()
        if outlet := direct.hand_over(head_of((name.lower().encode(), value.encode()) for name, value in headers)):
            framed = encoding.direct if direct.chunked else encoding
            seat.handed_on = True
            outlet.lost = partial(leave, hub, subscribe(outlet, framed), seat)
        return
    from sse_starlette.sse import EventSourceResponse  # noqa: PLC0415 - our own server needs none

    pipe = Pipe()
    # NDJSON, too: this response ends when its server is told to, where others hold up its end. The hub's heartbeats do.
    response = EventSourceResponse(aiter(pipe), media_type=media_type, headers=HEADERS, ping=0)
    subscription = subscribe(pipe, encoding)
    try:
        await response(scope, receive, send)
    finally:
        hub.unsubscribe(subscription)


def leave(hub: Hub, subscription: Subscription, seat: Seat) -> None:
    """A client has left."""
    hub.unsubscribe(subscription)
    seat.leave()
