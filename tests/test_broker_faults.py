"""Two publishers, a Redis and three edges, killed in turn under load, while clients hop between the edges."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest

from tests.harness import Gateway, flat, require, until
from tests.redisserver import RedisServer

FULL = os.environ.get("FULL") == "1"
ROUNDS = 50 if FULL else 12
FINAL = 100


class Client:
    """Follows everything, or one task, as NDJSON, at one edge after the other; resumes where it was."""

    def __init__(self, world: "World", id: str | None) -> None:
        self.world, self.id = world, id
        self.held: dict[str, int] = {}
        self.cursor = ""
        self.hops = self.resets = 0
        self.wrong: list[str] = []
        self.ended = False

    async def run(self) -> None:
        while not self.ended:
            edge = random.choice(self.world.edges)
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(random.uniform(0.5, 4)):
                    await self._connection(edge.port)
            self.hops += 1
            await asyncio.sleep(0.02)

    async def _connection(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        path = f"/api/task?task_id={self.id}" if self.id else "/api/v1/tasks"
        last = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n{last}\r\n".encode())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 204"):
                self.ended = True
            if not head.startswith(b"HTTP/1.1 200"):
                return
            whole = bool(self.cursor)
            while size := int(await reader.readuntil(b"\n"), 16):
                for line in (await reader.readexactly(size)).splitlines():
                    if line:
                        whole = self._take(json.loads(line), whole)
                await reader.readexactly(2)
        finally:
            writer.close()

    def _take(self, said: dict[str, Any], whole: bool) -> bool:
        event = said.get("event", "")
        if event == "reset":
            self.resets += 1
            self.held.clear()
            self.cursor, whole = "", False
        elif event == "gone":
            self.wrong.append(f"gone: {said}")
        elif event == "synced":
            whole = True
        elif task := said.get("task"):
            self._see(self.id or task["id"], task["data"]["n"])
        if whole or self.id:
            self.cursor = said.get("cursor") or self.cursor
        return whole

    def _see(self, id: str, n: int) -> None:
        if n < self.held.get(id, -1):
            self.wrong.append(f"{id} went back from {self.held[id]} to {n}, at hop {self.hops}")
        self.held[id] = n


class World:
    """Two backends that write, what carries it on, and who follows."""

    def __init__(self) -> None:
        self.redis = RedisServer()
        self.near = [Gateway("--broker", self.redis.url, "--namespace", name) for name in ("one", "two")]
        for gateway in self.near:
            gateway.tasks.mkdir(exist_ok=True)
        standby = Gateway("--broker", self.redis.url, "--namespace", "one", data=self.near[0].data)
        self.near.append(standby)
        self.edges = [Gateway("--broker", self.redis.url, folder=False) for _ in range(3)]
        self.truth: dict[str, int] = {}
        self.writing = True

    def close(self) -> None:
        for gateway in self.edges + self.near[::-1]:
            gateway.close()
        self.redis.close()

    def write(self, space: int, id: str, n: int) -> None:
        """Atomically, so that the newest file is always whole."""
        folder = self.near[space].tasks
        final = n == FINAL
        body = flat(id, "success" if final else "running", n, data={"n": n})
        (folder / f"{id}.part").write_bytes(body)
        (folder / f"{id}.part").rename(folder / f"{id}.json")
        self.truth[f"{('one', 'two')[space]}:{id}"] = n

    async def play(self, space: int, id: str, seconds: float) -> None:
        """A task from its start to its end."""
        for n in range(0, FINAL + 1, 2):
            self.write(space, id, n)
            await asyncio.sleep(seconds / 50)

    async def until_all_hold(self, client: Client, seconds: float = 30) -> None:
        wanted = self.truth if client.id is None else {client.id: self.truth[client.id]}
        async with asyncio.timeout(seconds):
            while client.held != wanted:
                await asyncio.sleep(0.02)


async def in_thread(function: Any, *args: Any) -> None:
    await asyncio.to_thread(function, *args)


async def break_and_mend(world: World, what: str) -> None:
    """One fault, and its end."""
    match what:
        case "edge" | "leader" | "near":
            gateway = random.choice(world.edges if what == "edge" else world.near)
            await in_thread(gateway.stop, signal.SIGKILL)
            await asyncio.sleep(random.uniform(0, 0.3))
            await in_thread(gateway.start)
        case "frozen":
            gateway = random.choice(world.edges + world.near)
            gateway.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(random.uniform(0.1, 0.6))
            gateway.process.send_signal(signal.SIGCONT)
        case "redis":
            world.redis.kill()
            await asyncio.sleep(random.uniform(0, 0.3))
            await in_thread(world.redis.start)
        case "paused":
            world.redis.pause()
            await asyncio.sleep(random.uniform(0.1, 0.6))
            world.redis.go_on()
        case "emptied":
            await in_thread(world.redis.client.flushall)


FAULTS = ("edge", "near", "redis", "frozen", "paused", "emptied")


@pytest.mark.timeout(400 if FULL else 150)
def test_each_part_killed_in_turn_loses_nothing() -> None:
    """Every client ends at the newest states of all tasks, whatever was killed; none is shown anything older, and
    followers of one task see its final state.
    """
    world = World()

    async def scenario() -> list[Client]:
        followers = [Client(world, None) for _ in range(6)]
        tasks = [asyncio.create_task(client.run()) for client in followers]
        owners: list[Client] = []
        for number in range(ROUNDS):
            played = [
                (space, f"t{number}-{space}-{k}", random.uniform(0.3, 1.5)) for space in range(2) for k in range(3)
            ]
            plays = [asyncio.create_task(world.play(*each)) for each in played]
            await asyncio.sleep(0)  # each has its first file
            for space, id, _ in played:
                owners.append(Client(world, f"{('one', 'two')[space]}:{id}"))
                tasks.append(asyncio.create_task(owners[-1].run()))
            await break_and_mend(world, FAULTS[number % len(FAULTS)])
            await asyncio.gather(*plays)
        await asyncio.gather(*[world.until_all_hold(client) for client in followers + owners])
        for client in followers:
            client.ended = True
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
        return followers + owners

    try:
        clients = asyncio.run(scenario())
        assert [client.wrong for client in clients if client.wrong] == []
        assert len(world.truth) == 6 * ROUNDS
        assert set(world.truth.values()) == {FINAL}
        assert sum(client.hops for client in clients) > 10 * ROUNDS
        assert not [line for one in world.near + world.edges for line in one.lines if "Traceback" in line]
    finally:
        world.close()


PARTED = "gateway-parted"
HERE, THERE, REDIS = "10.213.78.1", "10.213.78.2", "10.213.79.1"
NETWORK = f"""netns add {PARTED}
    link add {PARTED} type veth peer name eth0 netns {PARTED}
    addr add {HERE}/30 dev {PARTED}
    addr add {REDIS}/32 dev {PARTED}
    link set {PARTED} up
    -n {PARTED} addr add {THERE}/30 dev eth0
    -n {PARTED} link set eth0 up
    -n {PARTED} route add {REDIS}/32 via {HERE}"""


class Far(Gateway):
    """An edge on a machine of its own, as far as the network goes."""

    @property
    def url(self) -> str:
        return f"http://{THERE}:{self.port}"

    def start(self) -> None:
        ip, log = require("ip"), subprocess.DEVNULL
        argv = [sys.executable, "-m", "gateway", "serve", "--bind", f"{THERE}:{self.port}", *self.options]
        self.process = subprocess.Popen([ip, "netns", "exec", PARTED, *argv], stderr=log)  # type: ignore[assignment]
        self._reader = threading.Thread()
        until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.get("/readyz").status_code == 200
        return False

    def stop(self, sig: int = signal.SIGTERM) -> int:
        self.process.send_signal(sig)
        return self.process.wait(15)


def route(*words: str) -> None:
    subprocess.run([require("ip"), "-n", PARTED, "route", *words], check=True)


def test_an_edge_that_is_parted_from_redis() -> None:
    """Its clients stay, and are told; who comes from an edge that is not parted is shown nothing older."""
    ip = require("ip")
    with contextlib.ExitStack() as stack:
        stack.callback(subprocess.run, [ip, "netns", "del", PARTED], capture_output=True, check=False)
        for step in NETWORK.splitlines():
            if subprocess.run([ip, *step.split()], capture_output=True, check=False).returncode:
                pytest.skip("no network can be made here")
        redis = RedisServer("--bind", "127.0.0.1", REDIS, "--protected-mode", "no")
        stack.callback(redis.close)
        near = stack.enter_context(Gateway("--broker", redis.url))
        near.tasks.mkdir(exist_ok=True)
        near.write("a", progress=1)
        one = stack.enter_context(Gateway("--broker", redis.url, folder=False))
        url = f"redis://{REDIS}:{redis.port}"
        far = stack.enter_context(Far("--broker", url, "--allow-anonymous", "--heartbeat", "1", folder=False))
        with far.sse("/api/v1/tasks") as events:
            assert [next(events).event, next(events).event] == ["message", "synced"]
            route("replace", "blackhole", f"{REDIS}/32")
            assert next(events).event == "stale"
            near.write("a", progress=2)
            with one.sse("/api/task?task_id=a") as states:
                last = next(state for state in states if json.loads(state.data).get("progress") == 2)
            assert far.get("/api/task?task_id=a").json()["progress"] == 1
            with far.sse("/api/task?task_id=a", Last_Event_ID=last.id) as states:
                route("replace", f"{REDIS}/32", "via", HERE)
                assert {next(events).event, next(events).event} == {"fresh", "message"}
                near.write("a", progress=3)
                seen = (json.loads(state.data)["progress"] for state in states if state.event == "message")
                assert next(seen) == 3
