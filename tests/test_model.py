"""A whole gateway against a model of the folder: hypothesis writes, tears, deletes, connects, stalls, drops, kills.

The guarantees are the invariants: everybody ends at the files' states (1), final ones included (2), no task goes
backwards and nothing torn is shown (3), and who keeps up gets every state that a poll has shown (4).
"""

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from tests.harness import Gateway, flat

FULL = os.environ.get("FULL") == "1"
IDS = [f"t{n}" for n in range(4)]
PADDING = "x" * 20_000  # a few of these fill the buffers of who does not read

State = tuple[str, int]
"""A status, and a number that grows with every write of the example."""

NEW: State = ("", -1)


class Client:
    """Follows all tasks, or one, as NDJSON, and resumes where it left off. A stalled one reads nothing."""

    def __init__(self, model: "Model", id: str | None) -> None:
        self.model, self.id = model, id
        self.held: dict[str, State] = {}
        self.newest: dict[str, State] = {}
        self.cursor = ""
        self.socket: socket.socket | None = None
        self.stalled = self.synced = False
        self.owed: set[tuple[str, State]] = set()

    def connect(self) -> None:
        path = "/api/v1/tasks" if self.id is None else f"/api/task?task_id={self.id}"
        self.drop()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        self.socket.connect(("127.0.0.1", self.model.gateway.port))
        last = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n{last}\r\n"
        self.socket.sendall(head.encode())
        self.socket.setblocking(False)
        self._rest = b""

    def drop(self) -> None:
        if self.socket:
            self.socket.close()
        self.socket, self.stalled, self.synced = None, False, False
        self.owed.clear()

    def read(self) -> None:
        """Takes in what has arrived."""
        while self.socket and not self.stalled:
            try:
                part = self.socket.recv(1 << 16)
            except BlockingIOError:
                return
            except ConnectionError:
                part = b""
            *lines, self._rest = (self._rest + part).split(b"\n")
            for line in lines:
                if line.startswith(b"{"):  # all others are of HTTP
                    self._take(json.loads(line))
                elif line.startswith(b"HTTP/1.1 404"):
                    self.held.clear()
            if not part:
                self.drop()

    def _take(self, said: dict[str, Any]) -> None:
        self.cursor = said.get("cursor", self.cursor)
        match said.get("event"):
            case None if "task" in said:
                task = said["task"]
                id = task.get("id") or task["task_id"]
                state = ({"completed": "success"}.get(task["status"], task["status"]), task["data"]["n"])
                assert state in self.model.written[id], f"{id}: {state} was never written"
                assert state[1] >= self.newest.get(id, NEW)[1], f"{id} went backwards"
                self.held[id] = self.newest[id] = state
                self.owed.discard((id, state))
            case "gone":
                self.held.pop(said["id"], None)
            case "reset":
                self.held.clear()
            case "synced":
                self.synced = True

    def wants(self) -> dict[str, State]:
        """What it must hold in the end."""
        if self.id is None:
            return self.model.shown
        return {id: state for id, state in self.model.shown.items() if id == self.id}

    def settled(self) -> bool:
        if self.id in self.model.torn and self.id not in self.model.shown:
            return True  # the gateway that knew the last whole state is gone: whoever saw it may keep it
        return self.held == self.wants() and not self.owed


class Model(RuleBasedStateMachine):
    clients = Bundle("clients")
    number = 0  # of the last write, over all examples

    def __init__(self) -> None:
        super().__init__()
        self.gateway = shared()
        for path in self.gateway.tasks.iterdir():
            path.unlink()
        for id in IDS:  # the last example's are forgotten
            while self.gateway.get(f"/api/task?task_id={id}").status_code != 404:
                pass
        self.everyone: list[Client] = []
        self.shown: dict[str, State] = {}  # what is to be seen
        self.written: dict[str, set[State]] = {id: set() for id in IDS}
        self.torn: set[str] = set()
        self.kills = 0

    # The backend

    @rule(id=st.sampled_from(IDS), status=st.sampled_from(["running", "running", "success"]), how=st.integers(0, 2))
    def write(self, id: str, status: str, how: int) -> None:
        if how == 2 and id in self.shown:
            self.poll(id)
        Model.number += 1
        state = (status, Model.number)
        self.written[id].add(state)
        body = flat(id, status, 100 if status == "success" else 50, data={"n": Model.number, "padding": PADDING})
        path = self.gateway.tasks / f"{id}.json"
        match how:
            case 0:
                path.write_bytes(body)
            case 1:
                path.with_suffix(".tmp").write_bytes(body)
                path.with_suffix(".tmp").rename(path)
            case 2:
                with path.open("wb", buffering=0) as file:
                    file.write(body[:1000])
                    if id in self.shown:  # else it would wait for the file to become whole
                        assert self.gateway.get(f"/api/task?task_id={id}").json()["data"]["n"] == self.shown[id][1]
                    file.write(body[1000:])
        self.shown[id] = state
        self.torn.discard(id)

    @rule(id=st.sampled_from(IDS))
    def tear(self, id: str) -> None:
        """The last whole state stays, once it has been seen; so does a deletion."""
        self.poll(id)
        (self.gateway.tasks / f"{id}.json").write_bytes(flat(id)[:-20])
        self.torn.add(id)

    @rule(id=st.sampled_from(IDS))
    def delete(self, id: str) -> None:
        (self.gateway.tasks / f"{id}.json").unlink(missing_ok=True)
        self.shown.pop(id, None)
        self.torn.discard(id)

    # The clients

    @precondition(lambda self: len(self.everyone) < 6)
    @rule(target=clients, id=st.none() | st.sampled_from(IDS))
    def follow(self, id: str | None) -> Client:
        client = Client(self, id)
        self.everyone.append(client)
        client.connect()
        return client

    @rule(client=clients)
    def connect(self, client: Client) -> None:
        client.connect()

    @rule(client=clients)
    def drop(self, client: Client) -> None:
        client.drop()

    @rule(client=consumes(clients))
    def leave(self, client: Client) -> None:
        client.drop()
        self.everyone.remove(client)

    @rule(client=clients)
    def stall(self, client: Client) -> None:
        client.stalled = client.socket is not None
        client.owed.clear()

    @rule(client=clients)
    def read_again(self, client: Client) -> None:
        client.stalled = client.synced = False  # it is behind now

    @rule(id=st.sampled_from(IDS))
    def poll(self, id: str) -> None:
        """A poll sees every write that ended before it came, and whoever keeps up is owed what it showed."""
        state = self.shown.get(id)
        if state is None and id in self.torn:
            return  # it would wait for the file to become whole
        response = self.gateway.get(f"/api/task?task_id={id}")
        if state is None:
            assert response.status_code == 404
            return
        task = response.json()
        assert (task["status"], task["data"]["n"]) == state
        for client in self.everyone:
            if client.id is None and client.synced and client.newest.get(id) != state:
                client.owed.add((id, state))

    # The gateway

    @precondition(lambda self: self.kills < 1 and self.shown)
    @rule(sig=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def restart(self, sig: int) -> None:
        self.kills += 1
        self.gateway.stop(sig)
        for client in self.everyone:
            client.stalled = False
            client.read()
            client.drop()
        self.gateway.start()
        for id in self.torn:  # there is nobody left who knows the last whole state
            self.shown.pop(id, None)

    # What holds

    @invariant()
    def everybody_reads(self) -> None:
        for client in self.everyone:
            client.read()

    @rule()
    def settle(self) -> None:
        """Whoever reads ends right soon."""
        self._until([client for client in self.everyone if client.socket and not client.stalled])

    def teardown(self) -> None:
        try:
            for client in self.everyone:
                client.stalled = False
                client.read()
                if not client.socket:
                    client.connect()
            self._until(self.everyone)
        finally:
            for client in self.everyone:
                client.drop()

    def _until(self, clients: list[Client]) -> None:
        end = time.monotonic() + 10
        while waiting := [client for client in clients if not client.settled()]:
            left = end - time.monotonic()
            assert left > 0, [(client.id, client.held, client.wants(), client.owed) for client in waiting]
            select.select([client.socket for client in waiting if client.socket], [], [], min(left, 0.2))
            for client in waiting:
                client.read()
                if not client.socket and not client.settled():  # the stream of a task ends with it
                    client.connect()


_shared: list[Gateway] = []


def shared() -> Gateway:
    """One gateway for all examples, killed and restarted by them."""
    if not _shared:
        one = Gateway("--reconcile", "1", "--task-wait", "1")
        one.tasks.mkdir()
        _shared.append(one)
        atexit.register(end)
    return _shared[0]


def end() -> None:
    with contextlib.suppress(IndexError):
        _shared.pop().close()


@pytest.mark.timeout(900)
class TestModel(Model.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(
        max_examples=1_000 if FULL else 200,
        stateful_step_count=30,
        phases=[Phase.generate],  # a failure is told of at once: shrinking would take an hour of real seconds
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    @classmethod
    def tearDownClass(cls) -> None:
        end()
