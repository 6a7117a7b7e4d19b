"""Who is let in: names, origins, tokens, tickets, cookies, proxies. Real servers, and real attacks."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gateway.access.grants import Grant, View, grant_for, view_of
from gateway.access.hosts import Hosts, name_of
from gateway.access.keys import KeyFileError, read_keys
from gateway.access.origins import Origins
from gateway.access.proxies import USER, Proxies
from gateway.access.tickets import Tickets
from gateway.access.tokens import TokenError, Tokens, UnknownKeyError
from tests.harness import Backend, Gateway, until
from tests.test_poll_to_push import Tasks

Start = Callable[..., Gateway]

SECRET = "s" * 40
PRIVATE_RSA = rsa.generate_private_key(65_537, 2_048)
PRIVATE_EC = ec.generate_private_key(ec.SECP256R1())
PRIVATE_ED = ed25519.Ed25519PrivateKey.generate()


def token(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token that sees everything for an hour, unless its claims say otherwise; a claim that is None is left out."""
    claims = {"exp": time.time() + 3600, "tasks": ["*"], **claims}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm, headers=headers)


def bearer(made: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {made}"}


def pem(private: Any) -> bytes:
    found: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return found


def public_pem(private: Any) -> bytes:
    found: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def raw(port: int, head: str) -> bytes:
    """The answer to a request as it stands."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(head.replace("\n", "\r\n").encode("latin-1"))
        s.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: s.recv(65_536), b""))


# Names


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST.:80", True),
        ("127.0.0.1:9999", True),
        ("[::1]:1", True),
        ("gw.example", True),
        ("gw.example:443", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("localhost@evil.example", False),
        ("evil.example:localhost", False),
        ("127.0.0.1.evil.example", False),
        ("10.0.0.7", True),  # where this client has connected to
        ("10.0.0.8", False),
        ("", False),
        ("a b", False),
        ("[::1", False),
        ("localhost:123456", False),
    ],
)
def test_which_hosts_are_ours(host: str, ours: bool) -> None:
    hosts = Hosts(["localhost:8080"], ["GW.example"])
    assert hosts.names(host.encode(), {"server": ("10.0.0.7", 8080)}) is ours


@given(st.text(max_size=40))
def test_any_host_is_read(host: str) -> None:
    assert name_of(host) == name_of(host).lower()


def test_a_page_whose_name_leads_here_is_not_answered(gateway: Gateway, name: str) -> None:
    gateway.write(name)
    for path in (f"/api/task?task_id={name}", "/api/v1/tasks", "/", "/static/gateway.js", "/metrics", "/nowhere"):
        answer = gateway.get(path, Host="evil.example")
        assert (answer.status_code, name in answer.text) == (421, False)
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{gateway.port}/api/v1/tasks", additional_headers={"Host": "evil.example"})
    assert refused.value.response.status_code in {400, 421}  # two Host headers: this client adds its own


@pytest.mark.parametrize("hosts", ["", "Host: localhost\nHost: localhost\n", "Host: localhost\nHost: evil\n"])
def test_one_host_is_needed(gateway: Gateway, hosts: str) -> None:
    assert raw(gateway.port, f"GET /healthz HTTP/1.1\n{hosts}Connection: close\n\n").startswith(b"HTTP/1.1 400 ")


def test_a_refusal_ends_the_pollers_that_read_no_status(gateway: Gateway) -> None:
    assert gateway.get("/api/v1/tasks/a", Host="evil.example").json()["payload"]["status"] == "error"
    assert "error" in gateway.get("/api/task?task_id=a", Host="evil.example").json()


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "some.host:0"])
def test_the_network_is_not_served_unasked(bind: str, tmp_path: Path) -> None:
    from tests.test_server import run  # noqa: PLC0415 - a helper

    done = run("serve", "--data-path", str(tmp_path), "--bind", bind)
    assert done.returncode == 2
    assert "is open to the network" in done.stderr
    assert "--allow-anonymous" in done.stderr


# Origins


@pytest.mark.parametrize(
    ("allowed", "origin", "trusted"),
    [
        (["loopback"], "http://localhost:3000", True),
        (["loopback"], "https://127.0.0.1", True),
        (["loopback"], "http://[::1]:3000", True),
        (["loopback"], "http://localhost.evil.example", False),
        (["loopback"], "https://evil.example", False),
        (["loopback"], "null", False),
        (["loopback"], "file://", False),
        (["loopback"], "http://[", False),
        (["https://app.example"], "https://app.example", True),
        (["https://app.example/"], "https://app.example", True),
        (["https://app.example"], "http://app.example", False),
        (["https://app.example"], "https://app.example:444", False),
        (["https://app.example"], "http://localhost:3000", False),
        (["https://app.example"], "http://gw:8080", True),  # its own
        (["*"], "https://evil.example", False),
    ],
)
def test_which_origins_are_trusted(allowed: list[str], origin: str, trusted: bool) -> None:
    assert Origins(allowed).trusts(origin, {"scheme": "http"}, "gw:8080") is trusted


def test_pages_from_this_machine_may_read(gateway: Gateway, name: str) -> None:
    gateway.write(name, "success", 100)
    origin = "http://localhost:3000"
    paths = [f"/api/task?task_id={name}", "/api/v1/tasks/nowhere", "/api/v1/tasks", "/healthz", "/metrics", "/static/x"]
    answers = [gateway.get(path, Origin=origin) for path in paths]
    answers.append(gateway.get(f"/api/task?task_id={name}", Origin=origin, Accept="text/event-stream"))
    answers.append(gateway.get("/api/task", Origin=origin))
    for answer in answers:
        assert answer.headers.get_list("access-control-allow-origin") == [origin]
        assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Origin" in answers[0].headers["vary"]
    assert "Origin" in answers[-2].headers["vary"]


def test_foreign_pages_may_not(gateway: Gateway, name: str) -> None:
    gateway.write(name)
    for path in (f"/api/task?task_id={name}", "/api/v1/tasks/nowhere", "/api/v1/tasks"):
        answer = gateway.get(path, Origin="https://evil.example")
        assert "access-control-allow-origin" not in answer.headers
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{gateway.port}/api/v1/tasks", additional_headers={"Origin": "https://evil.example"})
    assert refused.value.response.status_code == 403
    here = {"Origin": "http://localhost:1"}
    with connect(f"ws://127.0.0.1:{gateway.port}/api/v1/tasks", additional_headers=here) as talk:
        assert talk.recv(5)


def test_preflights(gateway: Gateway) -> None:
    asked = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "if-none-match, authorization",
        "Access-Control-Request-Private-Network": "true",
    }
    answer = httpx.options(f"{gateway.url}/api/v1/tasks", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
    assert answer.headers["access-control-allow-headers"] == "if-none-match, authorization"
    assert answer.headers["access-control-allow-private-network"] == "true"
    foreign = httpx.options(f"{gateway.url}/api/v1/tasks", headers={**asked, "Origin": "https://evil.example"})
    assert (foreign.status_code, "access-control-allow-origin" in foreign.headers) == (403, False)


def test_all_origins_and_never_with_credentials(start: Start) -> None:
    one = start("--cors-origin", "*", env={"GATEWAY_AUTH_SECRET": SECRET})
    one.write("a")
    cookie = f"gateway_token={token()}"
    foreign = one.get("/api/task?task_id=a", Origin="https://evil.example", Cookie=cookie)
    assert (foreign.status_code, foreign.headers["access-control-allow-origin"]) == (401, "*")
    assert "access-control-allow-credentials" not in foreign.headers
    assert one.get("/api/task?task_id=a", Cookie=cookie).status_code == 200
    let_in = one.get("/api/task?task_id=a", Origin="https://evil.example", **bearer(token()))
    assert (let_in.status_code, let_in.headers["access-control-allow-origin"]) == (200, "*")


def test_foreign_pages_change_nothing_at_the_backend(start: Start) -> None:
    backend = Backend("tests.backend")
    one = start("--upstream", backend.url, "--upstream-tasks", "off")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = httpx.request(method, f"{one.url}/x", headers={"Origin": "https://evil.example"})
        assert (answer.status_code, "method" in answer.json()) == (403, False)
        assert httpx.request(method, f"{one.url}/x", headers={"Origin": "http://localhost:1"}).status_code == 200
    read = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    assert httpx.get(f"{one.url}/api/transactions/import?files=a", headers=read).status_code == 403
    frame = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert httpx.get(f"{one.url}/api/transactions/import?files=a", headers=frame).status_code == 403
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}  # an import is started by GET
    assert httpx.get(f"{one.url}/api/transactions/import?files=a", headers=image).status_code == 403
    assert httpx.get(f"{one.url}/x", headers={**image, "Sec-Fetch-Mode": "navigate"}).status_code == 200
    assert httpx.get(f"{one.url}/x", headers={**image, "Sec-Fetch-Site": "same-site"}).status_code == 200
    ahead = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Purpose": "prefetch;prerender"}
    assert httpx.get(f"{one.url}/api/transactions/import?files=a", headers=ahead).status_code == 403
    backend.stop()


FETCHED = {"Sec-Fetch-Site": "cross-site"}
FOREIGN = {
    "image": {**FETCHED, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    "frame": {**FETCHED, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    "ahead of time": {**FETCHED, "Sec-Fetch-Mode": "navigate", "Sec-Purpose": "prefetch"},
    "script": {**FETCHED, "Sec-Fetch-Mode": "cors", "Origin": "https://evil.example"},
    "old script": {"Origin": "https://evil.example"},
    "file": {"Origin": "null"},
}
OWN: dict[str, dict[str, str]] = {
    "program": {},
    "link": {**FETCHED, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    "own page": {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
    "page of this machine": {**FETCHED, "Sec-Fetch-Mode": "cors", "Origin": "http://localhost:3000"},
}
TASK_URLS = [
    *("/api/v1/tasks/{}", "/get-task-status/{}", "/api/v1/task/{}", "/api/v1/get-task-status/{}"),
    *("/api/v1/tasks?id={}", "/api/task?task_id={}", "/api/transactions/task?id={}", "/api/system/tasks?task_id={}"),
    "/api%2Fv1%2Ftasks/{}",
]


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_foreign_pages_have_nothing_polled_at_the_backend(start: Start, accept: str) -> None:
    backend = Tasks("--dialect", "v1")
    one = start("--upstream", backend.url, "--task-wait", "0", folder=False)
    for url in TASK_URLS:
        for headers in FOREIGN.values():
            assert httpx.get(one.url + url.format("a"), headers={**headers, "Accept": accept}).status_code == 403
            assert httpx.head(one.url + url.format("a"), headers=headers).status_code == 403
    assert backend.asked()["polls"] == {}
    for n, headers in enumerate(OWN.values()):
        backend.put(f"b{n}", "success", 100, data={"a": 1})
        assert one.get(f"/api/v1/tasks/b{n}", **headers).status_code == 200
        assert backend.polls(f"b{n}") == 1
    backend.stop()


@pytest.mark.parametrize("options", [["--upstream-tasks", "off"], []])
def test_where_nothing_is_polled_foreign_pages_get_what_they_cannot_read(start: Start, options: list[str]) -> None:
    one = start(*(["--upstream", "http://127.0.0.1:9", *options] if options else []))
    one.write("a")
    for headers in FOREIGN.values():
        answer = httpx.get(f"{one.url}/api/v1/tasks/a", headers=headers)
        assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (200, False)


# Tokens


def tokens(*files: bytes, audience: str = "", issuer: str = "") -> Tokens:
    keys = tuple(key for file in files for key in read_keys(file))
    return Tokens(lambda: keys, audience=audience, issuer=issuer, default_tasks=())


@pytest.mark.parametrize(
    ("file", "key", "algorithm"),
    [
        (SECRET.encode(), SECRET, "HS256"),
        (public_pem(PRIVATE_RSA), PRIVATE_RSA, "RS256"),
        (public_pem(PRIVATE_EC), PRIVATE_EC, "ES256"),
        (pem(PRIVATE_ED), PRIVATE_ED, "EdDSA"),
    ],
    ids=["HS256", "RS256", "ES256", "EdDSA"],
)
def test_each_kind_of_key(file: bytes, key: Any, algorithm: str) -> None:
    checked = tokens(file).check(token(key, algorithm, sub="ann", scope="metrics upstream", jti="x"))
    assert (checked.subject, set(checked.scopes), checked.token) == ("ann", {"metrics", "upstream"}, "x")
    with pytest.raises(TokenError):
        tokens(file).check(token(key, algorithm)[:-4] + "AAAA")


def encoded(header: dict[str, Any], payload: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    parts = b".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in (header, payload))
    return (parts + b"." + base64.urlsafe_b64encode(sign(parts)).rstrip(b"=")).decode()


CLAIMS = {"exp": 4e9, "tasks": ["*"]}
RSA_FILE = public_pem(PRIVATE_RSA)


def with_public_key(parts: bytes) -> bytes:
    return hmac.new(RSA_FILE, parts, hashlib.sha256).digest()


@pytest.mark.parametrize(
    "forged",
    [
        encoded({"alg": "none"}, CLAIMS, lambda _: b""),
        encoded({"alg": "None"}, CLAIMS, lambda _: b""),
        encoded({"alg": "HS256"}, CLAIMS, with_public_key),
        encoded({"alg": "HS256", "kid": "../../../dev/null"}, CLAIMS, lambda p: hmac.digest(b"", p, "sha256")),
        encoded({"alg": "HS256", "kid": "' OR 1=1 --"}, CLAIMS, with_public_key),
        encoded({"alg": "RS256", "jwk": {"kty": "oct", "k": "AAAA"}}, CLAIMS, with_public_key),
        encoded({"alg": "RS256", "jku": "http://127.0.0.1:1/keys"}, CLAIMS, with_public_key),
        encoded({"alg": "RS256", "x5u": "http://127.0.0.1:1/cert"}, CLAIMS, with_public_key),
        encoded({"alg": ["RS256"]}, CLAIMS, with_public_key),
        encoded({}, CLAIMS, with_public_key),
        token(rsa.generate_private_key(65_537, 2_048), "RS256"),
        token(PRIVATE_RSA, "RS384"),
        token(PRIVATE_RSA, "PS256"),
        token(PRIVATE_RSA, "RS256", {"crit": ["x"], "x": 1}),
        token(PRIVATE_RSA, "RS256", exp=None),
        token(PRIVATE_RSA, "RS256", exp=time.time() - 60),
        token(PRIVATE_RSA, "RS256", exp="tomorrow"),
        token(PRIVATE_RSA, "RS256", exp="4000000000", aud="us", iss="idp"),
        token(PRIVATE_RSA, "RS256", nbf=time.time() + 60),
        token(PRIVATE_RSA, "RS256", aud="others", iss="idp"),
        token(PRIVATE_RSA, "RS256", aud="us", iss="others"),
        token(PRIVATE_RSA, "RS256", aud="us"),
        token(PRIVATE_RSA, "RS256", iss="idp"),
        "",
        ".",
        "..",
        "a.b.c",
        "é" * 10,
        "x" * 20_000,
        "." * 5_000,
    ],
    ids=count(),  # the same in every process: these are signed anew in each
)
def test_forged_and_unfit_tokens(forged: str) -> None:
    with pytest.raises(TokenError):
        tokens(RSA_FILE, audience="us", issuer="idp").check(forged)


def test_a_fit_token_is_taken_and_small_leeway_given() -> None:
    checks = tokens(RSA_FILE, audience="us", issuer="idp")
    claims: dict[str, Any] = {"aud": ["others", "us"], "iss": "idp"}
    checks.check(token(PRIVATE_RSA, "RS256", exp=time.time() - 5, nbf=time.time() + 5, **claims))


@given(st.text(max_size=60))
def test_any_text_is_no_token(text: str) -> None:
    with pytest.raises(TokenError):
        tokens(SECRET.encode()).check(text)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (b"short", "32 bytes"),
        (b"", "32 bytes"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "not a PEM key"),
        (b'{"keys": []}', "no key"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "no key"),
        (b'{"keys": 5}', "no key"),
        (b"{", "not a JWK"),
        (public_pem(rsa.generate_private_key(65_537, 1_024)), "2,048"),
        (public_pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
    ],
)
def test_keys_that_cannot_be_used(file: bytes, why: str) -> None:
    with pytest.raises(KeyFileError, match=why):
        read_keys(file)


# What may be seen


@pytest.mark.parametrize(
    ("patterns", "seen", "unseen"),
    [
        (["a"], ["a"], ["b", "A", "aa", ""]),
        (["a*", "b?"], ["a", "abc", "b1"], ["b", "b12", "c"]),
        (["[ab]"], ["a", "b"], ["c", "[ab]"]),
        (["Jan-31-25_03-45-12-PM"], ["Jan-31-25_03-45-12-pm"], ["Jan-31-25_03-45-13-PM"]),
        (["0A1B2C3D-0000-1111-2222-333344445555"], ["0a1b2c3d000011112222333344445555"], ["0a1b2c3d"]),
        ([], [], ["a", "", "*"]),
    ],
)
def test_which_tasks_a_claim_shows(patterns: list[str], seen: list[str], unseen: list[str]) -> None:
    view = View(frozenset(patterns))
    assert [id for id in seen + unseen if view.sees(id)] == seen


@pytest.mark.parametrize("claim", [None, 5, {}, [], [5, None], "", {"a": 1}])
def test_a_claim_that_is_none_shows_nothing(claim: Any) -> None:
    grant = grant_for({"tasks": claim}, ["default"])
    assert not grant.sees("a")
    assert not grant.sees("default")


def test_without_a_claim_the_default_is_seen() -> None:
    assert grant_for({}, ["d*"]).sees("default")
    assert not grant_for({}, []).sees("default")
    assert view_of(frozenset({"*", "a"})) is None
    assert view_of(frozenset({"a"})) is view_of(frozenset({"a"}))


@pytest.fixture(scope="module")
def guarded() -> Iterator[Gateway]:
    with Gateway("--task-wait", "0.2", env={"GATEWAY_AUTH_SECRET": SECRET}) as one:
        one.write("mine-1", progress=1)
        one.write("theirs", progress=2)
        yield one


MINE = token(tasks=["mine-*"], jti="mine")


@pytest.mark.parametrize("path", ["/api/task?task_id={}", "/api/v1/tasks/{}", "/api/system/tasks?task_id={}"])
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "application/x-ndjson"])
def test_what_may_not_be_seen_is_not_found(guarded: Gateway, path: str, accept: str) -> None:
    hidden = guarded.get(path.format("theirs"), Accept=accept, **bearer(MINE))
    missing = guarded.get(path.format("mine-0"), Accept=accept, **bearer(MINE))
    assert (hidden.status_code, hidden.text) == (404, missing.text.replace("mine-0", "theirs"))
    assert guarded.get(path.format("mine-1"), **bearer(MINE)).status_code == 200
    assert guarded.get(path.format("theirs")).status_code == 401


def test_the_collection_shows_what_may_be_seen(guarded: Gateway) -> None:
    def ids(path: str) -> list[str]:
        tasks = guarded.get(path, **bearer(MINE)).json()["payload"]["tasks"]
        return [task["id"] for task in tasks]

    assert (
        ids("/api/v1/tasks") == ids("/api/v1/tasks?id=mine-1&id=theirs") == ids("/api/v1/tasks?limit=1") == ["mine-1"]
    )
    assert len(guarded.get("/api/v1/tasks", **bearer(token())).json()["payload"]["tasks"]) == 2
    for more in ("", "?id=theirs&id=mine-1"):
        headers = {"Accept": "application/x-ndjson"} | bearer(MINE)
        with httpx.stream("GET", f"{guarded.url}/api/v1/tasks{more}", headers=headers, timeout=10) as stream:
            lines = (json.loads(line) for line in stream.iter_lines() if line)
            assert [next(lines)["task"]["id"], next(lines).get("event")] == ["mine-1", "synced"]
            guarded.write("theirs", progress=50 + len(more))
            guarded.put("theirs-too", b"torn")
            guarded.write("mine-1", progress=60 + len(more))
            assert next(lines)["task"]["progress"] == 60 + len(more)
    (guarded.tasks / "theirs-too.json").unlink()


def test_a_websocket_cannot_subscribe_to_what_it_may_not_see(guarded: Gateway) -> None:
    with connect(f"ws://127.0.0.1:{guarded.port}/api/v1/tasks?id=", additional_headers=bearer(MINE)) as talk:
        talk.send(json.dumps({"type": "subscribe", "ids": ["theirs", "mine-1"]}))
        messages = (json.loads(message) for message in talk)
        assert next(m for m in messages if m["type"] == "task")["task"]["id"] == "mine-1"
        guarded.write("theirs", progress=70)
        guarded.write("mine-1", progress=71)
        assert next(m for m in messages if m["type"] == "task")["task"]["progress"] == 71
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{guarded.port}/api/v1/tasks/theirs", additional_headers=bearer(MINE))
    assert refused.value.response.status_code == 404


def test_bytes_are_shared_by_those_who_see_the_same(guarded: Gateway) -> None:
    others = [token(tasks=["mine-*"], sub=str(n)) for n in range(5)]
    streams = []
    for made in [*others, token()]:
        headers = {"Accept": "application/x-ndjson", **bearer(made)}
        streams.append(httpx.Client(timeout=10).stream("GET", f"{guarded.url}/api/v1/tasks", headers=headers))
    lines = [(json.loads(line) for line in stream.__enter__().iter_lines() if line) for stream in streams]
    for each in lines:
        assert any(line.get("event") == "synced" for line in each)
    guarded.write("theirs", progress=80)
    guarded.write("mine-1", progress=81)
    for each in lines[:5]:
        assert next(each)["task"]["progress"] == 81
    assert any(line["task"]["progress"] == 80 for line in lines[5])
    for stream in streams:
        stream.__exit__(None, None, None)


# Where a token may be


def test_pages_need_no_token_and_figures_need_their_scope(guarded: Gateway) -> None:
    for path in ("/", "/static/gateway.js", "/healthz", "/readyz"):
        assert guarded.get(path).status_code == 200
    assert guarded.get("/metrics").status_code == 401
    assert guarded.get("/metrics", **bearer(token())).status_code == 403
    assert guarded.get("/metrics", **bearer(token(scope="metrics"))).status_code == 200
    assert guarded.get("/nowhere").status_code == 401


def test_what_is_passed_on_needs_its_scope(start: Start) -> None:
    backend = Backend("tests.backend")
    one = start("--upstream", backend.url, "--upstream-tasks", "off", env={"GATEWAY_AUTH_SECRET": SECRET})
    assert one.get("/any").status_code == 401
    assert httpx.post(f"{one.url}/").status_code == 401
    asks = {"Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{one.url}/x?access_token=a", headers=asks).status_code == 401
    page = httpx.options(f"{one.url}/x", headers={**asks, "Origin": "http://localhost:1"})
    assert (page.status_code, page.content) == (204, b"")  # answered here: nobody's word reaches the backend
    assert one.get("/any", **bearer(token())).status_code == 403
    assert one.get("/any?access_token=" + token(scope="upstream") + "&a=b").json()["path"] == "/any?a=b"
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{one.port}/ws")
    assert refused.value.response.status_code == 401
    backend.stop()


@pytest.mark.parametrize("how", ["header", "cookie", "url"])
def test_a_token_in_each_of_its_places(guarded: Gateway, how: str) -> None:
    headers = {"header": bearer(MINE), "cookie": {"Cookie": f"a=b; gateway_token={MINE}"}, "url": {}}[how]
    query = f"?access_token={MINE}" if how == "url" else ""
    assert guarded.get(f"/api/v1/tasks/mine-1{query}", **headers).status_code == 200
    with connect(f"ws://127.0.0.1:{guarded.port}/api/v1/tasks{query}", additional_headers=headers) as talk:
        assert json.loads(talk.recv(5))["task"]["id"] == "mine-1"


def test_a_token_in_the_first_message(guarded: Gateway) -> None:
    for path in ("/api/v1/tasks", "/api/v1/tasks/mine-1"):
        with connect(f"ws://127.0.0.1:{guarded.port}{path}") as talk:
            talk.send(json.dumps({"type": "auth", "token": MINE}))
            assert "mine-1" in str(talk.recv(5))
    for said in (
        json.dumps({"type": "auth", "token": MINE[:-3]}),
        "nonsense",
        json.dumps({"type": "subscribe"}),
        b"\xff",
    ):
        with connect(f"ws://127.0.0.1:{guarded.port}/api/v1/tasks") as talk:
            talk.send(said)
            with pytest.raises(ConnectionClosed) as closed:
                talk.recv(5)
            assert closed.value.rcvd
            assert closed.value.rcvd.code == 1008
    with connect(f"ws://127.0.0.1:{guarded.port}/api/v1/tasks/theirs") as talk:
        talk.send(json.dumps({"type": "auth", "token": MINE}))
        with pytest.raises(ConnectionClosed) as closed:
            talk.recv(5)
        assert closed.value.rcvd
        assert "404" in closed.value.rcvd.reason


def test_a_ticket_is_taken_once(guarded: Gateway) -> None:
    assert httpx.post(f"{guarded.url}/auth/ticket").status_code == 401
    assert guarded.get("/auth/ticket", **bearer(MINE)).status_code == 405
    reply = httpx.post(f"{guarded.url}/auth/ticket", headers=bearer(MINE)).json()
    assert reply["expires_in"] == 30
    url = f"/api/v1/tasks?ticket={reply['ticket']}"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: guarded.get(url), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    let_in = next(answer for answer in answers if answer.status_code == 200)
    assert [task["id"] for task in let_in.json()["payload"]["tasks"]] == ["mine-1"]
    assert guarded.get(f"/api/v1/tasks?ticket={MINE}").status_code == 401  # a token is no ticket
    assert guarded.get("/api/v1/tasks", **bearer(reply["ticket"])).status_code == 401  # and a ticket no token


def test_a_ticket_lives_no_longer_than_its_token(tmp_path: Path) -> None:
    tickets = Tickets(tmp_path)
    ended = Grant(tasks=frozenset({"*"}), until=time.time() - 1)
    with pytest.raises(TokenError):
        tickets.take(tickets.make(ended))
    assert tickets.take(tickets.make(Grant(until=time.time() + 60))).until < time.time() + 61


def test_trailers_are_no_headers(guarded: Gateway) -> None:
    head = "GET /api/v1/tasks HTTP/1.1\nTransfer-Encoding: chunked\nConnection: close\n"
    late = f"\n0\nAuthorization: Bearer {MINE}\n\n"
    assert raw(guarded.port, f"{head}Host: localhost\n{late}").startswith(b"HTTP/1.1 401 ")
    assert raw(guarded.port, f"{head}\n0\nHost: localhost\n\n").startswith(b"HTTP/1.1 400 ")
    many = "".join(f"x{n}: {'y' * 8_000}\n" for n in range(20))
    with contextlib.suppress(OSError):  # cut: the client finds out as it can
        raw(guarded.port, f"{head}Host: localhost\n\n0\n{many}")
    assert guarded.get("/healthz").status_code == 200


def test_a_ticket_is_taken_once_by_all_workers(start: Start) -> None:
    one = start("--workers", "2", env={"GATEWAY_AUTH_SECRET": SECRET})
    for _ in range(2):
        made = httpx.post(f"{one.url}/auth/ticket", headers=bearer(token())).json()["ticket"]
        with ThreadPoolExecutor(8) as pool:
            codes = list(pool.map(lambda made: one.get(f"/api/v1/tasks?ticket={made}").status_code, [made] * 8))
        assert sorted(codes) == [200] + [401] * 7


def test_secrets_in_urls_are_not_logged(start: Start) -> None:
    one = start("--access-log", "--log-level", "debug", env={"GATEWAY_AUTH_SECRET": SECRET})
    made = token()
    assert one.get(f"/api/v1/tasks?limit=7&access_token={made}").status_code == 200
    with one.sse(f"/api/v1/tasks?access_token={made}&limit=8") as events:
        assert next(events).event == "synced"
    assert one.get(f"/api/v1/tasks?limit=9&access_token={made[:-3]}").status_code == 401
    assert one.get(f"/api/v1/tasks?access_token={made}", Host="evil.example").status_code == 421
    with socket.create_connection(("127.0.0.1", one.port), 5) as s:  # the next one has only begun to come
        head = f"GET /api/v1/tasks?limit=6&access_token={made} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        s.sendall(head.encode() + b"GET /api/v1/ta")
        assert s.recv(12) == b"HTTP/1.1 200"
        s.sendall(f"sks?access_token={made} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        s.recv(65_536)
    until(lambda: all(f"limit={n}" in "".join(one.lines) for n in (7, 8, 9)))
    assert made[:40] not in "".join(one.lines)
    assert not [line for line in one.lines if "Error" in line]


# When it ends


def test_a_stream_ends_when_its_token_does(guarded: Gateway) -> None:
    made = token(exp=time.time() + 2)
    with ThreadPoolExecutor() as pool:

        def stream(accept: str) -> str:
            answer = guarded.get("/api/v1/tasks", Accept=accept, **bearer(made))
            return answer.text

        streams = [pool.submit(stream, accept) for accept in ("text/event-stream", "application/x-ndjson")]
        long_poll = pool.submit(guarded.get, "/api/v1/tasks?wait=30", **bearer(made))
        with connect(f"ws://127.0.0.1:{guarded.port}/api/v1/tasks", additional_headers=bearer(made)) as talk:
            with pytest.raises(ConnectionClosed) as closed:
                list(iter(partial(talk.recv, 10), None))
            assert closed.value.rcvd
            assert closed.value.rcvd.code == 1008
        for each in streams:
            assert "synced" in each.result()
            assert "reset" not in each.result()
        assert long_poll.result().status_code == 401


def test_a_revoked_token_ends_its_streams(start: Start, tmp_path: Path) -> None:
    revoked = tmp_path / "revoked"
    one = start("--auth-revoked", str(revoked), env={"GATEWAY_AUTH_SECRET": SECRET})
    one.write("a")
    first, second, other = token(jti="first"), token(jti="second", sub="ann"), token(jti="other")

    def follow(made: str) -> str:
        return one.get("/api/v1/tasks", Accept="text/event-stream", **bearer(made)).text

    with (
        ThreadPoolExecutor() as pool,
        httpx.stream(
            "GET", f"{one.url}/api/v1/tasks", headers={"Accept": "application/x-ndjson", **bearer(other)}, timeout=10
        ) as stays,
    ):
        lines = stays.iter_lines()
        assert any("synced" in line for line in lines)
        following = [pool.submit(follow, made) for made in (first, second)]
        until(lambda: one.get("/metrics", **bearer(token(scope="metrics"))).text.count('transport="sse"} 2') == 1)
        revoked.write_text("# who left\nfirst\n")
        assert "synced" in following[0].result(5)
        assert one.get("/api/task?task_id=a", **bearer(first)).status_code == 401
        assert one.get("/api/task?task_id=a", **bearer(second)).status_code == 200
        revoked.write_text("first\nsub:ann # all of hers\n")
        assert "synced" in following[1].result(5)
        assert one.get("/api/task?task_id=a", **bearer(second)).status_code == 401
        one.write("a", progress=77)
        assert any('"progress":77' in line for line in lines)


def test_who_fails_too_often_waits(start: Start) -> None:
    one = start(env={"GATEWAY_AUTH_SECRET": SECRET})
    known = token()
    assert one.get("/api/v1/tasks", **bearer(known)).status_code == 200
    codes = [one.get("/api/v1/tasks", **bearer(f"{known}{n}")).status_code for n in range(25)]
    assert codes == [401] * 20 + [429] * 5
    refused = one.get("/api/v1/tasks", **bearer(token(sub="new")))
    assert (refused.status_code, 0 < int(refused.headers["retry-after"]) <= 60) == (429, True)
    assert one.get("/api/v1/tasks", **bearer(known)).status_code == 200  # nothing of it has to be checked


# Keys of a provider


class Provider:
    """A JWK Set over HTTP that can change."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                body = json.dumps({"keys": provider.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        Thread(target=self.server.serve_forever, daemon=True).start()


def jwk(private: Any, kid: str) -> dict[str, Any]:
    algorithm: Any = jwt.get_algorithm_by_name("RS256" if isinstance(private, rsa.RSAPrivateKey) else "EdDSA")
    found: dict[str, Any] = algorithm.to_jwk(private.public_key(), as_dict=True)
    return {**found, "kid": kid}


def test_a_providers_keys_are_fetched_and_rotated(start: Start) -> None:
    provider = Provider()
    provider.keys = [jwk(PRIVATE_RSA, "one"), {"kty": "unknown"}]
    one = start(env={"GATEWAY_AUTH_JWKS": provider.url})
    ours, theirs = token(PRIVATE_RSA, "RS256", {"kid": "one"}), token(PRIVATE_ED, "EdDSA", {"kid": "two"})
    for _ in range(5):
        assert one.get("/api/v1/tasks", **bearer(ours)).status_code == 200
    assert provider.asked == 1
    for _ in range(5):
        assert one.get("/api/v1/tasks", **bearer(theirs)).status_code == 401
    assert provider.asked == 1  # a key that is not known is asked for, and not again and again
    assert one.get("/api/v1/tasks", **bearer(ours)).status_code == 200
    provider.server.shutdown()
    provider.server.server_close()


def test_a_new_key_is_asked_for() -> None:
    from gateway.access.jwks import Jwks  # noqa: PLC0415

    async def scenario() -> None:
        provider = Provider()
        provider.keys = [jwk(PRIVATE_RSA, "one")]
        jwks = Jwks(provider.url)
        await jwks.look()
        checks = Tokens(jwks.keys, audience="", issuer="", default_tasks=())
        old, new = token(PRIVATE_RSA, "RS256", {"kid": "one"}), token(PRIVATE_ED, "EdDSA", {"kid": "two"})
        checks.check(old)
        provider.keys = [jwk(PRIVATE_ED, "two")]
        with pytest.raises(UnknownKeyError):
            checks.check(new)
        jwks._tried -= 60  # as if time had passed
        await jwks.look()
        checks.check(new)
        assert checks.known(old) is None
        with pytest.raises(UnknownKeyError):
            checks.check(old)  # what the provider has taken away is not good any more
        provider.server.shutdown()
        provider.server.server_close()
        jwks._tried -= 60
        await jwks.look()  # no answer: the last keys go on
        checks.check(new)

    asyncio.run(scenario())


# Proxies


@pytest.mark.parametrize(
    ("client", "forwarded", "seen"),
    [
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),  # what a client said itself is not believed
        ("10.0.0.1", "1.2.3.4, 10.0.0.9", "1.2.3.4"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("9.9.9.9", "1.2.3.4", "9.9.9.9"),
    ],
)
def test_who_a_proxy_speaks_for(client: str, forwarded: str, seen: str) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode()), (b"x-user", b"ann"), (b"x-forwarded-proto", b"https")]
    scope: Scope = {"type": "http", "client": (client, 1), "headers": headers, "scheme": "http"}
    Proxies(["10.0.0.0/8"], "X-User").listen_to(scope)
    assert (scope["client"][0], scope.get(USER)) == (seen, "ann" if client.startswith("10.") else None)
    assert scope["scheme"] == ("https" if client.startswith("10.") else "http")


def test_a_trusted_proxys_user_is_let_in(start: Start) -> None:
    proxied = ["--trusted-proxy", "127.0.0.1", "--trusted-header", "X-User", "--cors-origin", "https://app.example"]
    one = start(*proxied, "--auth-tasks", "mine-*")
    one.write("mine-1")
    assert one.get("/api/v1/tasks/mine-1").status_code == 401
    assert one.get("/api/v1/tasks/mine-1", X_User="ann").status_code == 200
    assert one.get("/api/v1/tasks/theirs", X_User="ann").status_code == 404
    page = {"X-User": "ann", "X-Forwarded-Proto": "https", "Origin": f"https://localhost:{one.port}"}
    with connect(f"ws://localhost:{one.port}/api/v1/tasks", additional_headers=page) as talk:
        assert talk.recv(5)
    other = start("--trusted-proxy", "10.0.0.0/8", "--trusted-header", "X-User", "--auth-tasks", "*")
    assert other.get("/api/v1/tasks", X_User="ann").status_code == 401


def test_limits_count_who_a_proxy_speaks_for(start: Start) -> None:
    one = start("--trusted-proxy", "127.0.0.1", "--max-streams-per-address", "1")
    headers = {"Accept": "application/x-ndjson", "X-Forwarded-For": "1.2.3.4"}
    with httpx.stream("GET", f"{one.url}/api/v1/tasks", headers=headers) as stream:
        lines = stream.iter_lines()  # one that is let go closes the answer
        assert next(lines) is not None
        assert httpx.get(f"{one.url}/api/v1/tasks", headers=headers).status_code == 429
        other = {**headers, "X-Forwarded-For": "1.2.3.5"}
        with httpx.stream("GET", f"{one.url}/api/v1/tasks", headers=other) as allowed:
            assert allowed.status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/tasks/{}", "/api/task?task_id={}", "/static/{}", "/{}", "/auth/{}"])
@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%00", "a%0d%0ab", "%ff", "CON", "x" * 5_000, "{{7*7}}"])
def test_answers_give_nothing_away(guarded: Gateway, path: str, name: str) -> None:
    for headers in ({}, bearer(token(scope="metrics"))):
        answer = guarded.get(path.format(name), **headers)
        assert answer.status_code in {400, 401, 404}
        said = str(answer.headers).lower() + answer.text.lower()
        for word in (str(guarded.data).lower(), "traceback", "python", "uvicorn", "starlette", "root:"):
            assert word not in said


# At a terminal


def test_a_token_is_minted_and_watched_with(start: Start, tmp_path: Path) -> None:
    from tests.test_server import run  # noqa: PLC0415 - a helper

    key = str(tmp_path / "key.pem")
    made = run(
        "token", "--key", key, "--new", "--tasks", "mine-*", "--scope", "metrics", "--expires", "5m"
    ).stdout.strip()
    assert Path(key).stat().st_mode & 0o777 == 0o600
    one = start("--auth-key", key)
    one.write("mine-1", "success", 100)
    assert one.get("/metrics", **bearer(made)).status_code == 200
    assert run("watch", "mine-1", "--url", one.url, "--token", made).returncode == 0
    assert run("watch", "theirs", "--url", one.url, "--token", made).returncode == 3
    refused = run("watch", "mine-1", "--url", one.url)
    assert (refused.returncode, "401 A token is needed" in refused.stderr) == (2, True)
    for wrong, says in (
        (["--key", key, "--new"], "File exists"),
        (["--key", "/no/such"], "No such file"),
        (["--key", key, "--expires", "soon"], "--expires must be a period"),
    ):
        done = run("token", *wrong)
        assert (done.returncode, says in done.stderr) == (2, True)


def test_a_grant_that_nobody_gave_sees_nothing() -> None:
    assert not Grant().sees("a")
    assert Grant().scopes == frozenset()
