"""Behind nginx and Caddy: the committed configurations over the real servers, and what happens with wrong ones."""

import asyncio
import contextlib
import itertools
import json
import re
import signal
import statistics
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import httpx
import pytest
from httpx_sse import connect_sse
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from tests.harness import Backend, Gateway, require, until
from tests.proxies import BEHIND, NAME, Caddy, Edits, Nginx, Proxy
from tests.test_access import SECRET, bearer, token

SSE, NDJSON = "text/event-stream", "application/x-ndjson"
KINDS = (Nginx, Caddy)
BUFFERED = {"proxy_buffering off;": "proxy_ignore_headers X-Accel-Buffering;"}

Start = Callable[..., Gateway]
Put = Callable[..., Proxy]


@pytest.fixture(scope="module")
def quick() -> Iterator[Gateway]:
    """A gateway with quick heartbeats, in front of a backend."""
    backend = Backend("tests.backend")
    with Gateway("--heartbeat", "1", "--access-log", "--upstream", backend.url, *BEHIND) as running:
        running.tasks.mkdir()
        yield running
    backend.stop()


@pytest.fixture(scope="module")
def slow() -> Iterator[Gateway]:
    """A gateway whose streams stay silent for as long as any test takes."""
    with Gateway("--heartbeat", "60", *BEHIND) as running:
        running.write("a")
        yield running


@pytest.fixture(scope="module")
def stopped() -> Iterator[Gateway]:
    with Gateway(*BEHIND) as one:
        one.stop()
        yield one


@pytest.fixture(scope="module", params=KINDS)
def proxy(request: pytest.FixtureRequest, quick: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Each proxy with the committed configuration."""
    with request.param(tmp_path_factory.mktemp(request.param.__name__), quick) as running:
        yield running


@pytest.fixture
def put(tmp_path: Path) -> Iterator[Put]:
    """Puts proxies before gateways, and takes them away."""
    with contextlib.ExitStack() as stack:
        count = itertools.count()

        def putter(kind: type[Proxy], *gateways: Gateway, edits: Edits | None = None) -> Proxy:
            folder = tmp_path / str(next(count))
            folder.mkdir()
            return stack.enter_context(kind(folder, *gateways, edits=edits))

        yield putter


def subscribers(one: Gateway) -> float:
    return sum(map(float, re.findall(r"^gateway_subscribers\{.*\} (\S+)$", one.get("/metrics").text, re.MULTILINE)))


def callers(one: Gateway, marker: str) -> list[tuple[str, str]]:
    """Address and port of each request with that in its URL, from the gateway's log."""
    return re.findall(rf'(\S+):(\d+) - "\S+ \S*{marker}', "".join(one.lines))


@contextlib.contextmanager
def raw(proxy: Proxy, accept: str, *, http2: bool = True, seconds: float = 10) -> Iterator[Iterator[bytes]]:
    """The parts of a stream as they come, compressed where the proxy does that."""
    with (
        proxy.client(http2=http2, Accept=accept) as client,
        client.stream("GET", "/api/v1/tasks", timeout=seconds) as answer,
    ):
        assert answer.status_code == 200
        yield answer.iter_raw()


# As committed


def test_polls_go_through(proxy: Proxy, quick: Gateway, name: str) -> None:
    path = quick.write(name)
    with proxy.client() as client:
        answer = client.get(f"/api/task?task_id={name}")
        assert (answer.http_version, answer.content) == ("HTTP/2", path.read_bytes())
        tag = answer.headers["etag"]
        assert client.get(f"/api/task?task_id={name}", headers={"If-None-Match": tag}).status_code == 304
        assert client.head(f"/api/v1/tasks/{name}").status_code == 200
        assert client.get("/static/gateway.js").status_code == 200
        assert client.get("/metrics").status_code == 404
        quick.write(name, progress=51)
        changed = client.get(f"/api/task?task_id={name}", headers={"If-None-Match": tag})
        assert (changed.status_code, changed.json()["progress"]) == (200, 51)
    moved = httpx.get(f"http://127.0.0.1:{proxy.plain_port}/api/task?task_id=a", headers={"Host": NAME})
    assert moved.headers["location"].startswith(f"https://{NAME}")
    assert moved.headers["location"].endswith("/api/task?task_id=a")


@pytest.mark.parametrize("http2", [True, False])
@pytest.mark.parametrize("accept", [SSE, NDJSON])
def test_streams_arrive_event_by_event(proxy: Proxy, quick: Gateway, name: str, accept: str, http2: bool) -> None:
    quick.write(name, progress=0)
    started = time.monotonic()
    with raw(proxy, accept, http2=http2) as parts:
        assert next(parts)
        assert time.monotonic() - started < 0.5
        late = []
        for n in range(1, 11):
            written = time.monotonic()
            quick.write(name, progress=n)
            while f'"id":"{name}","status":"running","progress":{n},' not in next(parts).decode():
                pass
            late.append(time.monotonic() - written)
    assert statistics.median(late) < 0.05
    until(lambda: subscribers(quick) == 0, 2)  # who has left is not kept


def test_a_websocket_goes_through(proxy: Proxy, quick: Gateway, name: str) -> None:
    async def talking() -> None:
        async with proxy.websocket("/api/v1/tasks?id=") as talk:
            assert json.loads(await talk.recv())["type"] == "synced"
            await talk.send(json.dumps({"type": "subscribe", "ids": [name]}))
            assert json.loads(await talk.recv())["type"] == "synced"
            quick.write(name, "success", 100)
            assert json.loads(await talk.recv())["task"]["status"] == "completed"
        async with proxy.websocket(f"/api/v1/tasks/{name}") as talk:
            assert json.loads(await talk.recv())["payload"]["id"] == name
            with pytest.raises(ConnectionClosedOK):
                await talk.recv()

    asyncio.run(asyncio.wait_for(talking(), 10))


def test_a_long_poll_answers_at_the_change(proxy: Proxy, quick: Gateway, name: str) -> None:
    quick.write(name, progress=1)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(proxy.get, f"/api/v1/tasks/{name}?wait=8")
        until(lambda: bool(callers(quick, name)) or subscribers(quick) > 0)
        quick.write(name, progress=2)
        assert waiting.result(5).json()["payload"]["progress"] == 2


def test_large_bodies_go_on_to_the_backend(proxy: Proxy) -> None:
    with proxy.client(http2=False) as client:
        assert client.post("/count", content=b"x" * 3_000_000).json() == 3_000_000


def test_the_gateway_sees_who_asks(proxy: Proxy, quick: Gateway, name: str) -> None:
    assert proxy.get(f"/api/task?task_id={name}", address="127.0.0.3").status_code == 404
    proxy.get(f"/api/task?task_id={name}", address="127.0.0.4", X_Forwarded_For="10.9.8.7")
    until(lambda: len(callers(quick, name)) == 2)
    assert [address for address, _ in callers(quick, name)] == ["127.0.0.3", "127.0.0.4"]


def test_limits_count_clients_behind_two_proxies(start: Start, put: Put) -> None:
    """This test plays the outer one, at 127.0.0.1."""
    one, path = start("--max-streams-per-address", "1", *BEHIND), "/api/v1/tasks"
    believes = {"lb_policy": "trusted_proxies 127.0.0.1/32\n\t\tlb_policy"}  # else Caddy forgets what others say
    for proxy in put(Nginx, one), put(Caddy, one, edits=believes):
        first, second = (proxy.sse(path, X_Forwarded_For=address) for address in ("192.0.2.1", "192.0.2.2"))
        with first as events, second as others:
            assert next(events).event == next(others).event == "synced"
            refused = proxy.get(path, Accept=SSE, X_Forwarded_For="192.0.2.1")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        until(lambda: subscribers(one) == 0)


def test_no_secret_of_a_url_is_in_the_access_log(slow: Gateway, put: Put) -> None:
    proxy = put(Nginx, slow)
    proxy.get("/api/task?task_id=a&access_token=hidden")
    log = proxy.folder / "access.log"
    until(lambda: "GET /api/task 200" in log.read_text())
    assert "hidden" not in log.read_text()


# Two gateways


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway]]:
    data = tmp_path_factory.mktemp("shared")
    with Gateway("--access-log", *BEHIND, data=data) as first, Gateway("--access-log", *BEHIND, data=data) as second:
        yield first, second


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_comes_back_to_its_gateway(two: tuple[Gateway, Gateway], put: Put, kind: type[Proxy]) -> None:
    proxy, marker = put(kind, *two), f"of-{kind.__name__}"
    for n in range(2, 18):
        with proxy.client(address=f"127.0.0.{n}") as client:
            for _ in range(3):
                client.get(f"/api/task?task_id={marker}")
    until(lambda: sum(len(callers(one, marker)) for one in two) == 48)
    shares = [Counter(address for address, _ in callers(one, marker)) for one in two]
    assert all(shares)  # both have work
    assert set(shares[0].values()) == set(shares[1].values()) == {3}  # and nobody goes to both


@pytest.mark.parametrize(("kind", "told"), [(Nginx, "hash $remote_addr consistent;"), (Caddy, "lb_policy ip_hash")])
def test_a_client_goes_to_both_where_it_is_not_told(
    two: tuple[Gateway, Gateway], put: Put, kind: type[Proxy], told: str
) -> None:
    proxy, marker = put(kind, *two, edits={told: ""}), f"anywhere-{kind.__name__}"
    with proxy.client() as client:
        for _ in range(40):
            client.get(f"/api/task?task_id={marker}")
    until(lambda: sum(len(callers(one, marker)) for one in two) == 40)
    assert all(callers(one, marker) for one in two)


@pytest.mark.parametrize("kind", KINDS)
def test_gateways_restarted_in_turn_lose_nothing(two: tuple[Gateway, Gateway], put: Put, kind: type[Proxy]) -> None:
    proxy, id = put(kind, *two), kind.__name__
    two[0].write(id, progress=0)
    seen: list[int] = []
    connections = []

    def follow() -> None:
        last = ""
        with proxy.client() as client:
            while True:
                with connect_sse(client, "GET", f"/api/task?task_id={id}", headers={"Last-Event-ID": last}) as source:
                    connections.append(source.response.status_code)
                    for event in source.iter_sse() if connections[-1] == 200 else ():
                        if not event.event or event.event == "message":
                            seen.append(json.loads(event.data)["progress"])
                            last = event.id
                if connections[-1] != 200 or (seen and seen[-1] == 100):
                    return

    following = Thread(target=follow)
    following.start()
    progress = 0
    for one in two:
        until(lambda: bool(seen) and seen[-1] == progress)
        one.stop()
        two[0].write(id, progress=(progress := progress + 1))
        until(lambda: seen[-1] == progress)
        one.start()
    two[0].write(id, "success", 100)
    following.join(10)
    assert not following.is_alive()
    assert seen == [0, 1, 2, 100]  # each once, and none missing
    assert set(connections) == {200}
    assert len(connections) >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_collection_goes_on_at_another_gateway_with_a_reset(
    two: tuple[Gateway, Gateway], put: Put, kind: type[Proxy]
) -> None:
    proxy = put(kind, *two)
    two[0].write("a")
    with proxy.sse("/api/v1/tasks?id=a") as events:
        cursor = next(event.id for event in events if event.event == "synced")
        with proxy.sse("/api/v1/tasks?id=a", Last_Event_ID=cursor) as again:
            assert next(again).event == "synced"  # the same gateway knows it
        serving = two[0] if subscribers(two[0]) else two[1]
        serving.stop()
        list(events)
    with proxy.sse("/api/v1/tasks?id=a", Last_Event_ID=cursor) as events:
        assert [next(events).event for _ in range(3)] == ["reset", "message", "synced"]
    serving.start()


@pytest.mark.parametrize("http2", [True, False])
@pytest.mark.parametrize(
    ("kind", "edits", "status"),
    [
        (Nginx, {}, 0),
        (Nginx, {"error_page 502 504 = @down;": ""}, 502),
        (Caddy, {"lb_try_duration 5s": ""}, 0),
        (Caddy, {"lb_try_duration 5s": "", "abort": "respond {err.status_code}"}, 502),
    ],
)
def test_while_no_gateway_runs_there_is_no_answer(
    stopped: Gateway, put: Put, kind: type[Proxy], edits: Edits, status: int, http2: bool
) -> None:
    """EventSource gives up for good at a 502, and comes back where a connection ends (WHATWG, "Server-sent events")."""
    proxy = put(kind, stopped, edits=edits)
    if status:
        assert proxy.get("/api/task?task_id=a", http2=http2).status_code == status
    else:
        with pytest.raises(httpx.RemoteProtocolError):
            proxy.get("/api/task?task_id=a", http2=http2)


def test_caddy_lets_requests_wait_for_a_gateway(start: Start, put: Put) -> None:
    one = start(*BEHIND)
    one.write("a")
    proxy = put(Caddy, one)
    one.stop()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(proxy.get, "/api/task?task_id=a")
        one.start()
        assert asking.result(8).status_code == 200


# What happens if it is not told


def test_silence_is_cut_and_heartbeats_are_not(quick: Gateway, slow: Gateway, put: Put) -> None:
    """Caddy has no such timeout unless it is told one."""
    short: dict[type[Proxy], Edits] = {
        Nginx: {"proxy_read_timeout 75s;": "proxy_read_timeout 1500ms;"},
        Caddy: {"dial_timeout 2s": "dial_timeout 2s\n\t\t\tread_timeout 1500ms"},
    }
    with contextlib.ExitStack() as stack:
        silent, beating = (
            [stack.enter_context(raw(put(kind, one, edits=short[kind]), SSE)) for kind in KINDS]
            for one in (slow, quick)
        )
        started = time.monotonic()
        for parts in beating:
            assert any(time.monotonic() - started > 2.5 for _ in parts)
        with pytest.raises(httpx.RemoteProtocolError):
            list(silent[0])
        list(silent[1])  # of Caddy's a clean end: no client can tell it from the stream's own
        assert time.monotonic() - started < 5


def test_nginx_gives_up_what_is_silent_for_its_read_timeout(slow: Gateway, put: Put) -> None:
    """Long-polls before they answer, and WebSockets."""
    proxy = put(Nginx, slow, edits={"proxy_read_timeout 75s;": "proxy_read_timeout 500ms;"})
    with pytest.raises(httpx.RemoteProtocolError):
        proxy.get("/api/task?task_id=a&wait=3")

    async def listening() -> None:
        async with proxy.websocket("/api/v1/tasks?id=") as talk:
            assert "synced" in str(await talk.recv())
            await talk.recv()

    with pytest.raises(ConnectionClosedError):
        asyncio.run(asyncio.wait_for(listening(), 5))


@pytest.mark.parametrize("http2", [True, False])
def test_nginx_that_buffers(slow: Gateway, put: Put, http2: bool) -> None:
    """The gateway's X-Accel-Buffering is enough; without, a client over HTTP/1.1 sees not even the head."""
    for accept in (SSE, NDJSON):
        with raw(put(Nginx, slow, edits={"proxy_buffering off;": ""}), accept, http2=http2) as parts:
            assert next(parts)
        proxy = put(Nginx, slow, edits=BUFFERED)
        if http2:
            with raw(proxy, accept) as parts:
                assert next(parts)
        else:
            with pytest.raises(httpx.ReadTimeout), raw(proxy, accept, http2=False, seconds=0.4):
                pass


def test_nginx_that_compresses(slow: Gateway, put: Put) -> None:
    """Flushed event by event, unless it buffers as well."""
    gzip = "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 0;"
    with raw(put(Nginx, slow, edits={"proxy_buffering off;": gzip}), SSE) as parts:
        inflate = zlib.decompressobj(wbits=31)
        shown = b""
        while b"synced" not in shown:
            shown += inflate.decompress(next(parts))
        slow.write("a", progress=77)
        while b'"progress":77' not in shown:
            shown += inflate.decompress(next(parts))
    proxy = put(Nginx, slow, edits={"proxy_buffering off;": gzip + BUFFERED["proxy_buffering off;"]})
    with pytest.raises(httpx.ReadTimeout), raw(proxy, SSE, seconds=0.4):
        pass


def test_nginx_over_http_1_0(start: Start, slow: Gateway, put: Put) -> None:
    """Streams and WebSocket work; each poll opens a connection."""
    one = start("--access-log", "--allowed-host", NAME)  # trusts no proxy, so that its log has the proxy's ports
    one.write("a")
    ports = []
    for edits in ({}, {"proxy_http_version 1.1;": ""}):
        proxy = put(Nginx, one, edits=edits)
        before = len(callers(one, "task_id=a"))
        with proxy.client() as client:
            for _ in range(10):
                assert client.get("/api/task?task_id=a").status_code == 200
        until(lambda: len(callers(one, "task_id=a")) == before + 10)  # noqa: B023 - called at once
        ports.append(len({port for _, port in callers(one, "task_id=a")[before:]}))
    assert ports == [1, 10]
    proxy = put(Nginx, slow, edits={"proxy_http_version 1.1;": ""})
    with raw(proxy, SSE) as parts:
        assert next(parts)

    async def talking() -> None:
        async with proxy.websocket("/api/v1/tasks?id=") as talk:
            assert "synced" in str(await talk.recv())

    asyncio.run(asyncio.wait_for(talking(), 5))


@pytest.mark.parametrize(
    ("without", "status"),
    [
        (["proxy_set_header Host $http_host;"], 421),
        (["proxy_set_header Upgrade $http_upgrade;", "proxy_set_header Connection $connection_upgrade;"], 200),
        (["proxy_set_header X-Forwarded-Proto $scheme;"], 403),
    ],
)
def test_nginx_without_headers_for_a_websocket(slow: Gateway, put: Put, without: list[str], status: int) -> None:
    proxy = put(Nginx, slow, edits=dict.fromkeys(without, ""))
    assert proxy.get("/api/task?task_id=a").status_code == (421 if status == 421 else 200)

    async def opening() -> None:
        async with proxy.websocket("/api/v1/tasks"):
            pass

    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(opening())
    assert refused.value.response.status_code == status


def test_nginx_with_its_own_limits(quick: Gateway, slow: Gateway, put: Put) -> None:
    few = put(Nginx, slow, edits={"worker_connections 500;": "worker_connections 12;"})
    with contextlib.ExitStack() as stack:
        codes = []
        for _ in range(8):
            client = stack.enter_context(few.client(Accept=SSE))
            answer = client.send(client.build_request("GET", "/api/v1/tasks"), stream=True)
            stack.callback(answer.close)
            codes.append(answer.status_code)
    assert set(codes) == {200, 500}
    assert "12 worker_connections are not enough" in (few.folder / "error.log").read_text()
    small = put(Nginx, quick, edits={"client_max_body_size 0;": ""})
    with small.client(http2=False) as client:
        assert client.post("/count", content=b"x" * 1_100_000).status_code == 413


def test_nginx_that_is_reloaded(quick: Gateway, put: Put) -> None:
    told, untold = put(Nginx, quick), put(Nginx, quick, edits={"worker_shutdown_timeout 1s;": ""})
    with raw(told, SSE, http2=False) as ended, raw(untold, SSE, http2=False) as kept:
        for proxy, parts in ((told, ended), (untold, kept)):
            next(parts)
            proxy.process.send_signal(signal.SIGHUP)
        started = time.monotonic()
        with pytest.raises(httpx.RemoteProtocolError):
            list(ended)
        assert any(time.monotonic() - started > 1.5 for _ in kept)  # its old worker lives on for it
    assert told.get("/healthz").status_code == 200


def test_caddy_that_is_stopped(quick: Gateway, put: Put) -> None:
    told, untold = put(Caddy, quick), put(Caddy, quick, edits={"grace_period 1s": ""})
    with raw(told, SSE, http2=False) as ended, raw(untold, SSE, http2=False) as kept:
        for proxy, parts in ((told, ended), (untold, kept)):
            next(parts)
            proxy.process.terminate()
        started = time.monotonic()
        assert told.process.wait(3) == 0
        assert any(time.monotonic() - started > 1.5 for _ in kept)
        assert untold.process.poll() is None  # it waits for the stream


def test_caddy_that_is_told_to_flush(slow: Gateway, put: Put) -> None:
    """It does anyway; told so, it does not see that a client has left until the next write."""
    version = subprocess.run([require("caddy"), "version"], capture_output=True, text=True, check=True).stdout
    if not version.lstrip("v").startswith("2.6"):
        pytest.skip("other versions may do otherwise")
    with raw(put(Caddy, slow, edits={"lb_policy": "flush_interval -1\n\t\tlb_policy"}), NDJSON) as parts:
        next(parts)
    with pytest.raises(AssertionError, match="did not come about"):
        until(lambda: subscribers(slow) == 0, 1)
    for n in range(4):  # the writes that it sees it by
        slow.write("a", progress=n)
        time.sleep(0.05)
    until(lambda: subscribers(slow) == 0, 5)


def test_a_gateway_that_trusts_no_proxy(start: Start, put: Put) -> None:
    """All clients are the proxy: a page is a foreign one, and who guesses tokens locks out all others."""
    env = {"GATEWAY_AUTH_SECRET": SECRET}
    for options, page, others in ((["--allowed-host", NAME], 403, 429), (BEHIND, 401, 200)):
        one = start(*options, env=env)
        for kind, address in zip(KINDS, ("127.0.0.2", "127.0.0.3"), strict=True):
            proxy = put(kind, one)
            with proxy.client(address=address, Authorization=f"Bearer {address}") as client:
                assert client.post("/auth/ticket", headers={"Origin": proxy.origin}).status_code == page
                codes = [client.get("/api/v1/tasks").status_code for _ in range(25)]
            assert codes[-1] == 429
            good = bearer(token())["Authorization"]
            assert proxy.get("/api/v1/tasks", address="127.0.0.9", Authorization=good).status_code == others


def test_a_gateway_that_is_not_told_its_name(start: Start, put: Put) -> None:
    one = start("--trusted-proxy", "127.0.0.1")
    assert [put(kind, one).get("/").status_code for kind in KINDS] == [421, 421]


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_opens_a_local_gateway_to_everybody(slow: Gateway, put: Put, kind: type[Proxy]) -> None:
    """The gateway asks for tokens at network addresses only: here it does not know of one."""
    assert put(kind, slow).get("/api/v1/tasks").status_code == 200
