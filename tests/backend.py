"""A backend to stand in front of: `python -m tests.backend PORT`. Tells what it was asked, and what it has open."""

import asyncio
import sys

from aiohttp import WSMsgType, web

OPEN = web.AppKey("open", set[int])
MEGABYTE = b"m" * (1 << 20)


async def mirror(request: web.Request) -> web.Response:
    """What came, as JSON; `?status=` and two headers of one name."""
    asked = {
        "method": request.method,
        "path": request.raw_path,
        "headers": {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers},
        "body": (await request.read()).decode(),
    }
    answer = web.json_response(asked, status=int(request.query.get("status", 200)))
    answer.headers.add("Set-Cookie", "a=1")
    answer.headers.add("Set-Cookie", "b=2")
    answer.headers["Connection"] = "X-Hop"
    answer.headers["X-Hop"] = "of this connection"
    return answer


async def kilobyte(_request: web.Request) -> web.Response:
    return web.Response(body=MEGABYTE[:1024])


async def large(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(int(request.query["megabytes"])):
        await answer.write(MEGABYTE)
    return answer


async def count(request: web.Request) -> web.Response:
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
    return web.json_response(size)


async def echo(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    if "json" in request.query:
        answer.content_type = "application/json"
    await answer.prepare(request)
    async for part in request.content.iter_any():
        await answer.write(part)
    return answer


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    request.app[OPEN].add(id(request))
    try:
        while True:
            await answer.write(b"tick\n")
            await asyncio.sleep(0.01)
    finally:
        request.app[OPEN].discard(id(request))


async def opened(request: web.Request) -> web.Response:
    return web.json_response(len(request.app[OPEN]))


async def silent(_request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


async def half(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "100"})
    await answer.prepare(request)
    await answer.write(b"half")
    assert request.transport
    request.transport.abort()
    return answer


async def talk(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=["chat"])
    await socket.prepare(request)
    async for message in socket:
        if message.data == "leave":
            await socket.close(code=4001)
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(f"you said {message.data}")
        else:
            await socket.send_bytes(message.data[::-1])
    return socket


async def flood(request: web.Request) -> web.WebSocketResponse:
    """Sends for ever, whether anybody reads or not."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    while not socket.closed:
        await socket.send_bytes(MEGABYTE[:32_768])
    return socket


def main(port: int) -> None:
    app = web.Application(client_max_size=1 << 40)
    app[OPEN] = set()
    for path, handle in {
        "/kilobyte": kilobyte, "/large": large, "/count": count, "/echo": echo, "/endless": endless, "/open": opened,
        "/silent": silent, "/half": half, "/ws": talk, "/flood": flood, "/{any:.*}": mirror,
    }.items():  # fmt: skip
        app.router.add_route("*", path, handle)
    web.run_app(app, host="127.0.0.1", port=port, print=None, handler_cancellation=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
