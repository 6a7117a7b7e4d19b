"""Bad input by the million: `python -m tests.fuzz [CASES] [REQUESTS] [SEED]`.

Cases go to the pure parts (task files, ids, queries, headers, WebSocket frames), requests to a gateway over real
sockets. Each is made from good input and broken a few times over. Only the errors that a part names may come out of
it, and only the answers that the contract names out of the gateway. Prints what was tried; exit status 1 at a finding.
"""

import asyncio
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable

from gateway.dialects import FLAT, ITEM, SYSTEM, V1
from gateway.direct import Socket
from gateway.endpoints.collection import _after
from gateway.store import Event, Kind
from gateway.tasks import NotATaskError, is_id, parse, spellings
from gateway.transports.request import BadRequestError, Query, number, period, tags, transport
from gateway.wire import Messages, Ndjson, Sse
from tests.harness import Gateway, flat

FILES = [
    flat("a", "success", 100, data={"list": [1, 2.5, None, True], "text": "ä\n\u2028"}),
    json.dumps({"status": "success", "payload": {"id": "x", "status": "completed", "progress": "99 %"}}).encode(),
    b'{"status":"error","progress":1e308,"message":null,"data":{"message":"inner"}}',
    b"\xef\xbb\xbf{}",
]
NAMES = [b"Jan-31-25_03-45-12-PM", b"0A1B2C3D-0000-1111-2222-333344445555", b"a.b", "größe".encode(), b"../x", b"con"]
QUERIES = [
    b"task_id=a&wait=3", b"id=a&id=b&limit=5&status=running", b"after=17-a&recent=2h", b"task_id=%2e%2e%2fx",
    b"cursor=e-1",
]  # fmt: skip
VALUES = [
    b"text/event-stream;q=0.5, */*", b"application/x-ndjson", b"wait=5, respond-async", b'W/"x", "y", *', b"0-0",
    b"1e9", b'"ab12"', b"abcdef012345-17", b"e" * 300,
]  # fmt: skip
PATHS = [
    b"/api/task", b"/api/transactions/task", b"/api/system/tasks", b"/api/v1/tasks", b"/api/v1/tasks/a",
    b"/get-task-status/a", b"/api/v1/task/a", b"/", b"/static/gateway.js", b"/healthz", b"/readyz", b"/nowhere",
]  # fmt: skip
FRAMES = [
    b"\x81\x85\0\0\0\0hello", b"\x81\x9d\0\0\0\0" + b'{"type":"subscribe","ids":[]}', b"\x89\x80\0\0\0\0",
    b"\x01\x81\0\0\0\0a\x80\x81\0\0\0\0b", b"\x88\x82\0\0\0\0\x03\xe8", b"\x82\xfe\x00\x80\0\0\0\0" + b"x" * 128,
]  # fmt: skip
HANDSHAKE = (
    b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ODD = [b"", b"\0", b"\r\n", b"\n", b"%00", b"%", b"/", b"..", b'"', b"{", b"}", b"[", b"\\", b"\xff", b"\xed\xa0\x80",
       b"&", b"=", b";", b",", b"9" * 40, b"-1", b"1e999", b"NaN", b"null", b" ", b"\t", b"\\ud800",
       b"a" * 5_000]  # fmt: skip

ANSWERS = {101, 200, 204, 304, 400, 404, 405, 408, 421, 426, 431, 503}
AT_ONCE, PATIENCE = 100, 0.2


def broken(chance: random.Random, text: bytes) -> bytes:
    """The text with up to five things wrong in it."""
    for _ in range(chance.randrange(6)):
        at, to = sorted((chance.randint(0, len(text)), chance.randint(0, len(text))))
        match chance.randrange(5):
            case 0:
                text = text[:at] + chance.choice(ODD) + text[at:]
            case 1:
                text = text[:at] + text[to:]
            case 2:
                text = text[:at] + chance.randbytes(1) + text[at + 1 :]
            case 3:
                text = text[:to] + text[at:to] + text[to:]
            case 4:
                text = text[:at]
    return text


# The pure parts


def file(chance: random.Random) -> None:
    body = broken(chance, chance.choice(FILES))
    try:
        task = parse("a", body, 0)
    except NotATaskError:
        return
    for dialect in (FLAT, V1, SYSTEM, ITEM):
        json.loads(dialect.line(task))
        event = Event(1, Kind.TASK, "a", task)
        assert Sse(dialect).block([event], "e").count(b"\n") == 3
        assert Ndjson(dialect).block([event], "e").count(b"\n") == 1
        assert Messages(dialect).block([event], "e").count(b"\n") == 1
    assert 0 <= json.loads(ITEM.line(task))["progress"] <= 100


def id(chance: random.Random) -> None:
    name = broken(chance, chance.choice(NAMES)).decode("utf-8", "surrogateescape")
    if is_id(name):
        assert not set(name) & set("/\\\0\n")
        assert all(map(is_id, spellings(name)))


def request(chance: random.Random) -> None:
    names = (b"accept", b"prefer", b"if-none-match", b"last-event-id", b"other")
    headers = [(chance.choice(names), broken(chance, chance.choice(VALUES))) for _ in range(chance.randrange(4))]
    query = Query({"headers": headers, "query_string": broken(chance, chance.choice(QUERIES))})
    try:
        _, wait = transport(query, 60)
        assert 0 <= wait <= 60
        assert "" not in tags(query.header(b"if-none-match"))
        assert 1 <= number(query, "limit", 100, 1000) <= 1000
        _after(query)
        assert period(query.param("recent") or "1h") >= 0
    except BadRequestError:
        pass


class Wire(asyncio.Transport):
    """Takes what a connection writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def frames(chance: random.Random) -> None:
    asyncio.run(talk(chance))


async def talk(chance: random.Random) -> None:
    wire = Wire()
    socket = Socket(wire, set(), 65_536)
    socket.incoming = lambda message: b'{"said":%d}\n' % len(message)
    sent = broken(chance, b"".join(chance.choices(FRAMES, k=chance.randint(1, 4))))
    while sent and not wire.closed:
        size = chance.randint(1, len(sent))
        socket.data_received(sent[:size])
        sent = sent[size:]
        await asyncio.sleep(0)
    if wire.closed and wire.written:
        assert re.search(rb"\x88.(\x03[\xe8-\xf7]|)", wire.written, re.DOTALL), wire.written


PURE: list[Callable[[random.Random], None]] = [file, id, request, frames]


def fuzz_parts(cases: int, seed: int) -> Counter[str]:
    """Raises what a part should not have raised, with what it was given to find it again."""
    tried: Counter[str] = Counter()
    for case in range(cases):
        part = PURE[case % len(PURE)]
        try:
            part(random.Random(f"{seed} {case}"))
        except Exception as error:
            error.add_note(f"{part.__name__}(random.Random('{seed} {case}'))")
            raise
        tried[part.__name__] += 1
    return tried


# The gateway


def head(chance: random.Random) -> bytes:
    method = chance.choice([b"GET"] * 6 + [b"HEAD", b"POST", b"OPTIONS", b"get", b"PRI"])
    path = chance.choice(PATHS) + (b"?" + chance.choice(QUERIES) if chance.random() < 0.6 else b"")
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: localhost"]
    for _ in range(chance.randrange(5)):
        name = chance.choice(
            [b"Accept", b"Prefer", b"If-None-Match", b"Last-Event-ID", b"Upgrade", b"Connection", b"Expect", b"Range",
             b"Content-Length", b"Transfer-Encoding"]
        )  # fmt: skip
        good = {b"Upgrade": b"websocket", b"Connection": b"Upgrade", b"Expect": b"100-continue", b"Range": b"bytes=0-1",
                b"Content-Length": b"3", b"Transfer-Encoding": b"chunked"}  # fmt: skip
        lines.append(b"%b: %b" % (name, good.get(name) or chance.choice(VALUES)))
    whole = b"\r\n".join(lines) + b"\r\n\r\n"
    return whole if chance.random() < 0.4 else broken(chance, whole)


async def ask(port: int, sent: bytes, answers: Counter[int]) -> None:
    """Sends bytes, and holds the answer against the contract; none at all is one, too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.readuntil(b"\r\n\r\n")
            if answer.startswith(b"HTTP/1.1 100 "):
                answer = await reader.readuntil(b"\r\n\r\n")
            status = int(answer[9:12])
            answers[status] += 1
            assert answer.startswith(b"HTTP/1.1 "), (sent, answer)
            assert status in ANSWERS or (b"range" in sent.lower() and status in (206, 416)), (sent, answer)
            size = re.search(rb"content-length: (\d+)", answer)
            if size and b"application/json" in answer and not sent.startswith(b"HEAD") and status != 304:
                json.loads(await reader.readexactly(int(size[1])))
            if status == 101:
                assert not (await reader.read(1 << 16)).startswith(b"HTTP")
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        answers[0] += 1
    finally:
        writer.transport.abort()


async def fuzz_gateway(port: int, requests: int, seed: int) -> Counter[int]:
    answers: Counter[int] = Counter()
    cases = iter(range(requests))

    async def one_after_the_other() -> None:
        for case in cases:
            chance = random.Random(f"{seed} {case}")
            sent = head(chance)
            if case % 10 == 0:
                sent = HANDSHAKE + broken(chance, b"".join(chance.choices(FRAMES, k=3)))
            await ask(port, sent, answers)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())
    return answers


def main(cases: int = 1_000_000, requests: int = 100_000, seed: int = 0) -> int:
    print(f"{cases} cases: {dict(fuzz_parts(cases, seed))}", flush=True)
    with Gateway() as gateway:
        gateway.write("a")
        print(f"{requests} requests: {dict(asyncio.run(fuzz_gateway(gateway.port, requests, seed)))}")
        assert gateway.get("/api/task?task_id=a").status_code == 200
        trouble = [line for line in gateway.lines if "ERROR" in line or "Traceback" in line]
    print(*trouble[:5], sep="")
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
