"""Holds many subscriptions from a process of their own, and measures what arrives.

    python -m gateway.bench.subscribers '{"port": 8080, "count": 1000, "path": "/api/v1/tasks", "transport": "sse"}'

Prints a line when all of them stream, and a JSON object of figures when its input ends. An event is counted at each
`"ts":` in the stream; the number after it is the writer's clock in nanoseconds.
"""

import asyncio
import contextlib
import re
import sys
import time
from typing import cast

import msgspec

from gateway.bench.figures import Histogram

_STAMP = re.compile(rb'"ts":(\d{19})')
_CARRY = 32  # a stamp may be cut by a read
_CONNECTING = 100  # so many at once

CONNECTED_WITHIN = 60.0
"""Seconds until all subscribers must stream."""

_HEADERS = {
    "sse": "Accept: text/event-stream\r\n",
    "ndjson": "Accept: application/x-ndjson\r\n",
    "ws": "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
}


class Plan(msgspec.Struct):
    """What to hold: `path` may have a `{}` for the number of the subscriber."""

    port: int
    count: int
    path: str
    transport: str = "sse"

    @property
    def whole(self) -> bytes:
        """What says that all there was before has been told: news only are measured."""
        return b"HTTP/1.1 101" if self.transport == "ws" and "{}" in self.path else b"synced"


class Tally:
    """What all subscribers have seen since the clock began to run."""

    def __init__(self) -> None:
        self.running = False
        self.latency = Histogram()
        self.events = 0
        self.bytes = 0
        self.streaming = 0
        self.lost = 0


class Subscriber(asyncio.Protocol):
    """One subscription: reads, counts, and keeps nothing. It is `ready` once it has read `whole`."""

    __slots__ = ("_carry", "_ready", "_request", "_streams", "_tally", "_whole")

    def __init__(self, tally: Tally, request: bytes, ready: asyncio.Future[bool], whole: bytes) -> None:
        self._tally, self._request, self._ready, self._whole = tally, request, ready, whole
        self._carry = b""
        self._streams = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        tally = self._tally
        if not self._streams:
            self._streams = data.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101"))
            tally.streaming += self._streams
        if not self._ready.done() and not (self._streams and self._whole not in data):
            self._ready.set_result(self._streams)
        if not tally.running:
            return
        tally.bytes += len(data)
        now, data = time.time_ns(), self._carry + data
        end = 0
        for found in _STAMP.finditer(data):
            tally.events += 1
            tally.latency.add((now - int(found[1])) / 1e6)
            end = found.end()
        self._carry = data[max(end, len(data) - _CARRY) :]

    def connection_lost(self, _exc: Exception | None) -> None:
        self._tally.lost += self._streams
        if not self._ready.done():
            self._ready.set_result(False)


async def hold(plan: Plan) -> None:
    loop, tally, limit = asyncio.get_running_loop(), Tally(), asyncio.Semaphore(_CONNECTING)
    began = time.perf_counter()

    async def connect(number: int) -> asyncio.BaseTransport:
        head = (
            f"GET {plan.path.format(number)} HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\n{_HEADERS[plan.transport]}\r\n"
        )
        async with limit:
            ready: asyncio.Future[bool] = loop.create_future()
            transport, _ = await loop.create_connection(
                lambda: Subscriber(tally, head.encode(), ready, plan.whole), "127.0.0.1", plan.port
            )
            await ready
            return transport

    async with asyncio.timeout(CONNECTED_WITHIN):
        connections = await asyncio.gather(*map(connect, range(plan.count)))
    print(msgspec.json.encode({"connect_s": time.perf_counter() - began}).decode(), flush=True)  # noqa: T201 - its output
    await loop.run_in_executor(None, sys.stdin.readline)
    tally.running = True
    began = time.perf_counter()
    await loop.run_in_executor(None, sys.stdin.read)
    seconds = time.perf_counter() - began
    latency = tally.latency
    figures = {
        "streaming": tally.streaming - tally.lost,
        "events": tally.events,
        "events_per_s": tally.events / seconds,
        "megabytes_per_s": tally.bytes / seconds / 1e6,
        "p50_ms": latency.quantile(0.5),
        "p99_ms": latency.quantile(0.99),
        "max_ms": latency.most,
    }
    print(msgspec.json.encode(figures).decode(), flush=True)  # noqa: T201 - its output
    for connection in connections:
        connection.close()


if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(hold(msgspec.json.decode(sys.argv[1], type=Plan)))
