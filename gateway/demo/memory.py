"""A backend that keeps its tasks in memory, has no folder, and is polled: as the v1 document shows it."""

import asyncio
import random
import socket
import uuid
from collections import Counter
from typing import Any

import aiohttp
from aiohttp import web

from gateway.demo.plays import play_one
from gateway.dialects import V1
from gateway.tasks import parse


class MemoryBackend:
    """Imports at `/api/v1/import`, its tasks at `/api/v1/tasks/{id}`, and at `/polls` how often each was asked for."""

    def __init__(self) -> None:
        self._tasks: dict[str, bytes] = {}
        self._polls: Counter[str] = Counter()
        self._plays: set[asyncio.Task[str]] = set()

    async def _start(self, _request: web.Request) -> web.Response:
        id = str(uuid.uuid4())
        play = asyncio.create_task(play_one(self._keep, seconds=random.uniform(8, 25), id=id))
        self._plays.add(play)
        play.add_done_callback(self._plays.discard)
        return web.json_response({"status": "success", "payload": {"id": id, "status": "running", "progress": 0}})

    def _keep(self, id: str, task: dict[str, Any]) -> None:
        self._tasks[id] = web.json_response(task).body  # type: ignore[assignment]

    async def _show(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        self._polls[id] += 1
        if id not in self._tasks:
            return web.Response(body=V1.failure("", 404, id), content_type="application/json")
        return web.Response(body=V1.body(parse(id, self._tasks[id], 0)), content_type="application/json")

    async def _count(self, _request: web.Request) -> web.Response:
        return web.json_response(self._polls)

    async def serve(self, listening: socket.socket) -> None:
        """Serves until it is cancelled."""
        app = web.Application()
        app.router.add_route("*", "/api/v1/import", self._start)
        app.router.add_get("/api/v1/tasks/{id}", self._show)
        app.router.add_get("/polls", self._count)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.SockSite(runner, listening.dup()).start()  # it is closed
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


async def busy(listening: socket.socket, gateway: str) -> None:
    """A backend, and a front end that starts an import at the gateway now and then."""

    async def front_end() -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.post(f"{gateway}/api/v1/import") as reply:
                    await reply.read()
                await asyncio.sleep(random.uniform(3, 8))

    async with asyncio.TaskGroup() as group:
        group.create_task(MemoryBackend().serve(listening))
        group.create_task(front_end())
