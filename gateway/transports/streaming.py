"""SSE and NDJSON over any ASGI server."""

from collections.abc import Callable

from sse_starlette.sse import EventSourceResponse
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.hub import Hub, Outlet, Subscription
from gateway.outlets import Pipe
from gateway.wire import Encoding, Sse

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}

Subscribe = Callable[[Outlet], Subscription]
"""Makes the subscription that a request asked for, onto the outlet it is given, and starts it."""


async def stream(
    hub: Hub, subscribe: Subscribe, *, encoding: Encoding, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answers with the subscription's blocks until either side ends it."""
    pipe = Pipe()
    response: Response
    if isinstance(encoding, Sse):
        response = EventSourceResponse(aiter(pipe), headers=HEADERS, ping=0)  # the hub's heartbeats serve all
    else:
        response = StreamingResponse(aiter(pipe), media_type="application/x-ndjson", headers=HEADERS)
    subscription = subscribe(pipe)
    try:
        await response(scope, receive, send)
    finally:
        hub.unsubscribe(subscription)
