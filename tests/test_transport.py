"""TLS and Unix sockets, under real servers."""

import contextlib
import datetime
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.sync.client import connect, unix_connect

from gateway.sockets import BindError, close, listen
from tests.harness import Gateway, flat, until
from tests.test_server import ended, run

Start = Callable[..., Gateway]


def make_certificate(folder: Path, name: str) -> None:
    """Writes cert.pem and key.pem for localhost and that name, each at once."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    known_as = [x509.DNSName("localhost"), x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
    names = x509.SubjectAlternativeName(known_as)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for file, content in (("key.pem", pem), ("cert.pem", certificate.public_bytes(Encoding.PEM))):
        (folder / "new").write_bytes(content)
        (folder / "new").rename(folder / file)


def common_name(port: int) -> str:
    """Whose certificate a new connection is shown."""
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=5)
    found = x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value)


@pytest.fixture
def secure(start: Start, tmp_path: Path) -> Iterator[tuple[Gateway, httpx.Client, ssl.SSLContext]]:
    make_certificate(tmp_path, "first")
    one = start("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"), "--heartbeat", "1")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with httpx.Client(base_url=f"https://localhost:{one.port}", verify=trusting, timeout=10) as client:
        yield one, client, trusting


def test_everything_goes_over_tls(secure: tuple[Gateway, httpx.Client, ssl.SSLContext]) -> None:
    one, client, trusting = secure
    one.write("a", progress=1)
    assert client.get("/api/task?task_id=a").json()["progress"] == 1
    with client.stream("GET", "/api/task?task_id=a", headers={"Accept": "application/x-ndjson"}) as stream:
        lines = (json.loads(line) for line in stream.iter_lines() if line)
        assert next(lines)["task"]["progress"] == 1
        one.write("a", "success", 100, message="x" * 60_000)
        assert any(line.get("task", {}).get("progress") == 100 for line in lines)
    with connect(f"wss://localhost:{one.port}/api/v1/tasks", ssl=trusting) as talk:
        assert json.loads(talk.recv(5))["task"]["id"] == "a"


def test_old_versions_and_plain_http_are_refused(secure: tuple[Gateway, httpx.Client, ssl.SSLContext]) -> None:
    one, _, trusting = secure
    trusting.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        trusting.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        pytest.raises(OSError, match=r"(?i)alert|version|protocol"),
        socket.create_connection(("127.0.0.1", one.port), 5) as s,
    ):
        trusting.wrap_socket(s, server_hostname="localhost")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{one.port}/healthz")


def test_a_new_certificate_drops_no_connection(
    secure: tuple[Gateway, httpx.Client, ssl.SSLContext], tmp_path: Path
) -> None:
    one, client, _ = secure
    one.write("a", progress=1)
    assert common_name(one.port) == "first"
    with client.stream("GET", "/api/task?task_id=a", headers={"Accept": "application/x-ndjson"}) as stream:
        lines = (json.loads(line) for line in stream.iter_lines() if line)
        assert next(lines)["task"]["progress"] == 1
        (tmp_path / "cert.pem").write_text("nonsense")
        until(lambda: any("not taken" in line for line in one.lines))
        assert common_name(one.port) == "first"
        make_certificate(tmp_path, "second")
        until(lambda: common_name(one.port) == "second")
        one.write("a", "success", 100)
        assert any(line.get("task", {}).get("progress") == 100 for line in lines)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tls-cert", "/no/such"], "No such file"),
        (["--tls-cert", "pyproject.toml"], "not a certificate with its key"),
        (["--tls-key", "pyproject.toml"], "--tls-key needs --tls-cert"),
        (["--bind", "unix:/no/such/folder/s"], "cannot be bound"),
        (["--bind", "unix:pyproject.toml"], "no socket"),
        (["--unix-mode", "999"], "--unix-mode"),
    ],
)
def test_what_cannot_be_served(options: list[str], says: str) -> None:
    done = run("serve", "--data-path", ".", *options)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets there")
def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    (tmp_path / "Tasks").mkdir()
    (tmp_path / "Tasks/a.json").write_bytes(flat("a", progress=7))
    group = str(os.getgid())
    argv = [sys.executable, "-m", "gateway", "serve", "--data-path", str(tmp_path), "--bind", f"unix:{path}"]
    argv += ["--unix-mode", "600", "--unix-group", group if not group.isdecimal() else "root"]
    for _ in range(2):  # the second one finds what a killed one left
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        with ended(process):
            assert process.stderr
            assert f"unix:{path}" in process.stderr.readline()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://whatever") as client:
                assert client.get("/api/task?task_id=a").json()["progress"] == 7
                with client.stream("GET", "/api/v1/tasks", headers={"Accept": "application/x-ndjson"}) as stream:
                    assert json.loads(next(filter(None, stream.iter_lines())))["task"]["id"] == "a"
            with unix_connect(str(path), uri="ws://whatever/api/v1/tasks") as talk:
                assert json.loads(talk.recv(5))["task"]["id"] == "a"
            with pytest.raises(BindError, match="is taken"):
                listen([f"unix:{path}"])
            process.kill()
            process.wait()
        assert path.exists()
    close(listen([f"unix:{path}"]))
    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets there")
def test_a_unix_socket_goes_with_its_gateway(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "gateway", "serve", "--data-path", str(tmp_path), "--bind", f"unix:{tmp_path}/s"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    with ended(process):
        assert process.stderr
        assert process.stderr.readline()
        process.terminate()
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
    assert not (tmp_path / "s").exists()


def test_a_port_and_a_path_at_once(tmp_path: Path) -> None:
    sockets = listen(["127.0.0.1:0", f"unix:{tmp_path}/s"], mode=0o640)
    with contextlib.closing(sockets[0]):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o640
    close(sockets[1:])
