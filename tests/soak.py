"""Hours of mixed clients and faults against one gateway: `make soak`, or `python -m tests.soak MINUTES`.

Tasks are played from start to end while each is followed over every transport; files are torn, renamed and deleted,
clients drop and come back, some stop reading, and the gateway is killed and restarted. A final state that one of its
followers never saw is lost; at the end the collection's followers must hold what the folder holds. Prints a line a
minute; exit status 1 when anything was lost or wrong.
"""

import asyncio
import contextlib
import json
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from gateway.bench.figures import Histogram
from tests.harness import Gateway, flat
from tests.test_scale import rss_mb

AT_ONCE, PATIENCE = 12, 30.0
STREAM = b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
TROUBLE = (httpx.HTTPError, OSError, WebSocketException, json.JSONDecodeError)


class Soak:
    def __init__(self, kill_every: float = 45.0) -> None:
        self.kill_every = kill_every
        self.gateway = Gateway("--reconcile", "2", "--heartbeat", "2")
        self.gateway.tasks.mkdir()
        self.client = httpx.AsyncClient(timeout=httpx.Timeout(5, read=20), limits=httpx.Limits(max_connections=None))
        self.latency = Histogram()
        self.stop = asyncio.Event()
        self.tasks = self.finals = self.lost = self.kills = self.reconnects = 0
        self.wrong: list[str] = []

    # The backend's part: one task from start to end, written in every way that backends write

    def write(self, path: Path, body: bytes) -> None:
        match random.randrange(4):
            case 0:
                temporary = path.with_suffix(".tmp")
                temporary.write_bytes(body)
                temporary.rename(path)
            case 1:
                with path.open("wb", buffering=0) as file:
                    file.write(body[: len(body) // 2])
                    file.write(body[len(body) // 2 :])
            case _:
                path.write_bytes(body)

    async def play(self, number: int) -> None:
        id = f"soak-{number}"
        path = self.gateway.tasks / f"{id}.json"
        self.write(path, flat(id, "pending", 0))
        ways = (self.by_sse, self.by_ndjson, self.by_websocket, self.by_long_poll, self.by_poll)
        followers = [asyncio.create_task(self.follow(way, id)) for way in ways]
        for step in range(random.randint(5, 40)):
            await asyncio.sleep(random.uniform(0, 0.2))
            if random.random() < 0.05:
                path.write_bytes(b'{"status": "run')  # torn for a while
                await asyncio.sleep(random.choice((0.001, 0.05, 0.5, 2)))
            if random.random() < 0.02:
                path.unlink()
            data = {"ts": time.time_ns(), "pad": "x" * random.choice((0, 500, 20_000))}
            self.write(path, flat(id, "running", step, data=data))
        self.write(path, flat(id, random.choice(("success", "error")), 100))
        self.finals += len(followers)
        _, late = await asyncio.wait(followers, timeout=PATIENCE)
        for follower in late:
            follower.cancel()
        self.lost += len(late)
        if late:
            self.wrong.append(f"{id}: {len(late)} followers did not see its end")
        self.tasks += 1

    # The clients' part: each way tells of states until the stream ends, and is begun anew until the final one came

    async def follow(self, way: Callable[[str, str], AsyncIterator[tuple[str, Any]]], id: str) -> None:
        cursor, seen = "", -1
        while True:
            with contextlib.suppress(*TROUBLE):
                async with contextlib.aclosing(way(id, cursor)) as states:  # type: ignore[type-var]
                    async for cursor, task in states:  # noqa: B007 - where it goes on from
                        if not isinstance(task, dict) or "status" not in task:
                            continue
                        if task["status"] in ("success", "error"):
                            return
                        if task["status"] == "running" and (stamp := task["data"].get("ts")):
                            if task["progress"] < seen:
                                self.wrong.append(f"{id} went backwards, {way.__name__}")
                            seen = task["progress"]
                            if way == self.by_sse:
                                self.latency.add((time.time_ns() - stamp) / 1e6)
                        if random.random() < 0.01:
                            break  # drops the connection
            self.reconnects += 1
            await asyncio.sleep(random.uniform(0.05, 0.5))

    async def by_sse(self, id: str, cursor: str) -> AsyncIterator[tuple[str, Any]]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
        name = ""
        async with self.client.stream("GET", f"{self.gateway.url}/api/task?task_id={id}", headers=headers) as response:
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    cursor = line[4:]
                elif line.startswith("event: "):
                    name = line
                elif line.startswith("data: ") and not name:
                    yield cursor, json.loads(line[6:])
                elif not line:
                    name = ""

    async def by_ndjson(self, id: str, cursor: str) -> AsyncIterator[tuple[str, Any]]:
        headers = {"Accept": "application/x-ndjson", "Last-Event-ID": cursor}
        async with self.client.stream("GET", f"{self.gateway.url}/api/task?task_id={id}", headers=headers) as response:
            async for line in response.aiter_lines():
                if line and "task" in (said := json.loads(line)):
                    yield said["cursor"], said["task"]

    async def by_websocket(self, id: str, cursor: str) -> AsyncIterator[tuple[str, Any]]:
        url = f"ws://127.0.0.1:{self.gateway.port}/api/task?task_id={id}"
        async with connect(url, compression=None, open_timeout=10) as socket:
            async for message in socket:
                yield "", json.loads(message)

    async def by_long_poll(self, id: str, cursor: str) -> AsyncIterator[tuple[str, Any]]:
        response = await self.client.get(
            f"{self.gateway.url}/api/task?task_id={id}&wait=5", headers={"If-None-Match": cursor} if cursor else {}
        )
        if response.status_code == 200:
            yield response.headers["etag"], response.json()

    async def by_poll(self, id: str, cursor: str) -> AsyncIterator[tuple[str, Any]]:
        response = await self.client.get(f"{self.gateway.url}/api/task?task_id={id}")
        if response.status_code == 200:
            yield "", response.json()

    async def hold_all(self, held: dict[str, Any]) -> None:
        """Follows the collection through everything that happens."""
        cursor = ""
        while not self.stop.is_set():
            with contextlib.suppress(*TROUBLE):
                headers = {"Accept": "application/x-ndjson", "Last-Event-ID": cursor}
                url = f"{self.gateway.url}/api/v1/tasks"
                async with self.client.stream("GET", url, headers=headers) as response:
                    async for line in response.aiter_lines():
                        if not line:
                            continue
                        said = json.loads(line)
                        cursor = said.get("cursor", cursor)
                        if "task" in said:
                            held[said["task"]["id"]] = said["task"]["status"]
                        elif said["event"] == "gone":
                            held.pop(said["id"], None)
                        elif said["event"] == "reset":
                            held.clear()
            await asyncio.sleep(0.2)

    async def stall(self) -> None:
        """Subscribes to everything and takes nothing for a while, again and again."""
        loop = asyncio.get_running_loop()
        while not self.stop.is_set():
            with contextlib.suppress(OSError), socket.socket() as s:
                s.setblocking(False)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await loop.sock_connect(s, ("127.0.0.1", self.gateway.port))
                await loop.sock_sendall(
                    s, b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
                )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(random.uniform(1, 20)):
                        await self.stop.wait()
            await asyncio.sleep(0.1)

    async def kill(self) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.kill_every):
                    await self.stop.wait()
                    return
            self.kills += 1
            await asyncio.to_thread(self.gateway.stop, random.choice((signal.SIGKILL, signal.SIGTERM)))
            await asyncio.to_thread(self.gateway.start)

    async def play_on(self, until: float, kills: int) -> None:
        while time.monotonic() < until or self.kills < kills:
            await self.play(random.randrange(1 << 60))

    def line(self, minute: int) -> str:
        pid = self.gateway.process.pid
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        text = (
            f"{minute:4} min  {self.tasks} tasks  {self.finals} finals  {self.lost} lost  {len(self.wrong)} wrong  "
            f"{self.kills} kills  {self.reconnects} reconnects  p50 {self.latency.quantile(0.5):.1f} ms  "
            f"p99 {self.latency.quantile(0.99):.1f} ms  {rss_mb(pid):.0f} MB  {files} descriptors"
        )
        self.latency = Histogram()
        return text

    async def report(self) -> None:
        minute = 0
        while True:
            await asyncio.sleep(60)
            minute += 1
            print(self.line(minute), flush=True)

    async def settle(self, held: list[dict[str, Any]]) -> None:
        """Waits until every follower of the collection holds what the folder holds; says who does not."""
        truth = {}
        for path in self.gateway.tasks.glob("*.json"):
            status = json.loads(path.read_bytes())["status"]
            truth[path.stem] = {"success": "completed"}.get(status, status)
        for _ in range(100):
            if all(h == truth for h in held):
                return
            await asyncio.sleep(0.1)
        self.wrong.append("a follower of the collection does not hold what the folder holds")

    async def run(self, minutes: float, kills: int = 0) -> int:
        """Runs for so long, and until there were so many kills. 0 when nothing was lost or wrong."""
        until = time.monotonic() + 60 * minutes
        held: list[dict[str, Any]] = [{} for _ in range(3)]
        beside: list[Awaitable[None]] = [
            *map(self.hold_all, held),
            self.stall(),
            self.stall(),
            self.kill(),
            self.report(),
        ]
        tasks = [asyncio.ensure_future(one) for one in beside]
        await asyncio.gather(*[self.play_on(until, kills) for _ in range(AT_ONCE)])
        await self.settle(held)
        self.stop.set()
        print("end: " + self.line(round(minutes)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.aclose()
        for complaint in self.wrong[:20]:
            print(complaint)
        self.gateway.close()
        return 1 if self.lost or self.wrong else 0


async def main() -> int:
    return await Soak().run(float(sys.argv[1]) if len(sys.argv) > 1 else 60)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
