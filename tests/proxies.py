"""The committed configurations of nginx and Caddy, run by the real servers on ports of the test's own."""

import contextlib
import getpass
import socket
import ssl
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, connect_sse
from websockets.asyncio.client import connect
from websockets.typing import Origin

from tests.harness import Gateway, free_port, require, until
from tests.test_transport import make_certificate

NAME = "gateway.example"
BEHIND = ("--allowed-host", NAME, "--trusted-proxy", "127.0.0.1")
"""What the configurations tell their reader to start the gateways with."""

DEPLOY = Path(__file__).parent.parent / "deploy"

Edits = dict[str, str]
"""What stands in a configuration, and what is to stand there instead."""


class Proxy(ABC):
    """A proxy in front of gateways, with the committed configuration; `edits` make it a wrong one."""

    file = ""

    def __init__(self, folder: Path, *gateways: Gateway, edits: Edits | None = None) -> None:
        self.folder, self.port, self.plain_port = folder, free_port(), free_port()
        if not (folder / "cert.pem").exists():
            make_certificate(folder, NAME)
        text = (DEPLOY / self.file).read_text()
        for old, new in {**self._filled_in([f"127.0.0.1:{one.port}" for one in gateways]), **(edits or {})}.items():
            assert old in text, old
            text = text.replace(old, new)
        self.config = folder / self.file
        self.config.write_text(text)
        self.log = folder / "proxy.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self._argv(), stdout=log, stderr=log, env={"HOME": str(folder)})
        until(self._listens)

    @abstractmethod
    def _filled_in(self, gateways: list[str]) -> Edits: ...

    @abstractmethod
    def _argv(self) -> list[str]: ...

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The client's part

    @property
    def origin(self) -> str:
        return f"https://{NAME}:{self.port}"

    def client(self, *, http2: bool = True, address: str | None = None, **headers: str) -> httpx.Client:
        """A browser's connections to the proxy, from an address of this machine."""

        def to_name(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = NAME

        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Host": f"{NAME}:{self.port}", **{k.replace("_", "-"): v for k, v in headers.items()}},
            event_hooks={"request": [to_name]},
            transport=httpx.HTTPTransport(verify=self._trusting(), http2=http2, local_address=address),
            timeout=10,
        )

    def get(self, path: str, **more: Any) -> httpx.Response:
        with self.client(**more) as client:
            return client.get(path)

    @contextlib.contextmanager
    def sse(self, path: str, **more: Any) -> Iterator[Iterator[ServerSentEvent]]:
        with self.client(**more) as client, connect_sse(client, "GET", path) as source:
            source.response.raise_for_status()
            yield source.iter_sse()

    def websocket(self, path: str) -> connect:
        """Not the client with threads: before Python 3.13 two of them on one TLS connection now and then hang."""
        return connect(
            f"wss://{NAME}:{self.port}{path}",
            sock=socket.create_connection(("127.0.0.1", self.port), 10),
            ssl=self._trusting(),
            server_hostname=NAME,
            origin=Origin(self.origin),
        )

    def _trusting(self) -> ssl.SSLContext:
        """One for each client: httpx writes into it that it speaks HTTP/2."""
        return ssl.create_default_context(cafile=str(self.folder / "cert.pem"))


class Nginx(Proxy):
    file = "nginx.conf"

    def _filled_in(self, gateways: list[str]) -> Edits:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        scratch = "".join(f"{kind}_temp_path {self.folder}/{kind};\n" for kind in kinds)
        first, *others = [f"server {address} max_fails=0;" for address in gateways]
        return {
            "user www-data;": f"user {getpass.getuser()};\ndaemon off;",
            "worker_processes auto;": "worker_processes 1;",
            "worker_rlimit_nofile 65536;": "",  # not everybody may
            "worker_connections 32768;": "worker_connections 500;",
            "worker_shutdown_timeout 10s;": "worker_shutdown_timeout 1s;",
            "/run/nginx.pid": f"{self.folder}/nginx.pid",
            "/var/log/nginx/": f"{self.folder}/",
            "http {": f"http {{\n{scratch}",
            "server 127.0.0.1:8080 max_fails=0;": first,
            "server 127.0.0.1:8081 max_fails=0;": "\n".join(others),
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "/etc/ssl/gateway/": f"{self.folder}/",
        }

    def _argv(self) -> list[str]:
        return [require("nginx"), "-c", str(self.config), "-p", str(self.folder), "-e", str(self.folder / "error.log")]


class Caddy(Proxy):
    file = "Caddyfile"

    def _filled_in(self, gateways: list[str]) -> Edits:
        ports = f"admin off\n\tdefault_bind 127.0.0.1\n\thttp_port {self.plain_port}\n\thttps_port {self.port}"
        return {
            "grace_period 10s": f"grace_period 1s\n\t{ports}",
            "/etc/ssl/gateway/": f"{self.folder}/",
            "127.0.0.1:8080 127.0.0.1:8081": " ".join(gateways),
        }

    def _argv(self) -> list[str]:
        return [require("caddy"), "run", "--adapter", "caddyfile", "--config", str(self.config)]
