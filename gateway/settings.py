"""Every setting and its default, in one place: from the command line, `GATEWAY_…` in the environment, or `.env`."""

from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.access.proxies import UNIX
from gateway.certificate import Certificate
from gateway.envfile import encoding_of
from gateway.extras import needs
from gateway.sockets import BindError, address_of, is_local
from gateway.tasks import is_space

DOCUMENTED = ["localhost:8080", "localhost:8006"]
"""Where the documented backends listen, and the documented clients call."""


ENV_FILE = Path(".env")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="GATEWAY_", env_file=ENV_FILE, extra="ignore")

    data_path: Path | None = Field(None, description="The backend's data path: its Tasks folder is served.")
    bind: Annotated[list[str], NoDecode] = Field(
        DOCUMENTED,
        description="HOST:PORT to listen on, unix:/path, or fd:N, a socket that was passed on. A name is taken "
        "on IPv4 and IPv6. Repeatable.",
    )
    allowed_host: Annotated[list[str], NoDecode] = Field(
        [], description="Names that clients may call the gateway by, beside those it is bound to. Repeatable."
    )
    cors_origin: Annotated[list[str], NoDecode] = Field(
        ["loopback"],
        description="Origins of pages that may use it: https://host, loopback (pages from this machine), "
        "or * (all, without cookies). Repeatable.",
    )
    allow_anonymous: bool = Field(False, description="Serve a network without asking who is there.")
    auth_key: Path | None = Field(None, description="File that tokens are checked with: PEM, JWK Set, or a secret.")
    auth_secret: SecretStr | None = Field(None, description="The same as text.")
    auth_jwks: str | None = Field(None, pattern=r"^https?://\S+$", description="URL of an identity provider's keys.")
    auth_audience: str = Field("", description="What a token's aud must be.")
    auth_issuer: str = Field("", description="What a token's iss must be.")
    auth_tasks: Annotated[list[str], NoDecode] = Field(
        [], description="Tasks (ids, globs) for tokens without the claim tasks, and for a proxy's users. Repeatable."
    )
    auth_cookie: str = Field("gateway_token", description="Name of the cookie that may hold a token.")
    auth_revoked: Path | None = Field(None, description="File that lists revoked tokens: a jti or sub:NAME a line.")
    auth_folder: Path | None = Field(None, description="Folder that processes share for tickets; a new one if empty.")
    trusted_proxy: Annotated[list[str], NoDecode] = Field(
        [],
        description="Networks whose X-Forwarded-For and -Proto are believed, such as 10.0.0.0/8, or unix. Repeatable.",
    )
    trusted_header: str = Field("", description="Header in which a trusted proxy names the user it let in.")
    tls_cert: Path | None = Field(None, description="Certificate file (PEM, with its chain): serve HTTPS.")
    tls_key: Path | None = Field(None, description="Its key, where that is not in the same file.")
    http2: bool = Field(False, description="Speak HTTP/2 beside HTTP/1.1: by ALPN over TLS, by prior knowledge else.")
    unix_mode: str = Field("660", pattern=r"^[0-7]{3}$", description="Who may use a Unix socket, as octal bits.")
    unix_group: str = Field("", description="Group of a Unix socket.")
    upstream: str | None = Field(
        None,
        pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$",
        description="URL of a backend that all else is passed on to.",
    )
    upstream_host: str = Field(
        "", description="What the backend is told as Host: its own address if empty, what the client said for `*`."
    )
    upstream_forwarded: Literal["x", "rfc7239", "both", "off"] = Field(
        "x", description="How it is told who asked: X-Forwarded-For, -Host and -Proto, Forwarded, both, or not."
    )
    upstream_connect: float = Field(5, gt=0, description="Seconds until a connection to the backend must stand.")
    upstream_idle: float = Field(300, gt=0, description="Seconds that the backend may say nothing in an answer.")
    upstream_message: int = Field(
        16 << 20, ge=128, description="Most bytes of a WebSocket message to the backend or from it."
    )
    upstream_tasks: Literal["auto", "v1", "flat", "system", "off"] = Field(
        "auto", description="In which dialect the backend is polled for tasks that have no file; off: not at all."
    )
    upstream_interval: float = Field(1, ge=0.05, le=60, description="Seconds between two polls of a task, about.")
    upstream_polls: int = Field(32, ge=1, description="Most polls of the backend at once.")
    upstream_unknown: int = Field(
        100, ge=1, description="Most ids that the backend may not know polled at once for one client."
    )
    upstream_unknown_rate: float = Field(50, gt=0, description="Most times a second that it is asked for such ids.")
    broker: str | None = Field(
        None,
        repr=False,
        description="URL of a Redis: published to with a data path, without one the source of what is served.",
    )
    broker_name: str = Field("gateway", pattern=r"^[^{}\s]+$", description="What its keys begin with.")
    broker_history: float = Field(3_600, gt=0, description="Seconds that changes are kept in its stream.")
    broker_entries: int = Field(50_000, ge=100, description="Most changes in its stream, about.")
    broker_keep: float = Field(86_400, gt=0, description="Seconds that it keeps a task which changes no more.")
    broker_tasks: int = Field(50_000, ge=1, description="Most tasks that it keeps.")
    broker_bytes: int = Field(256 << 20, ge=1 << 20, description="Most bytes of it, about.")
    namespace: str = Field(
        "", description="What tells this backend's tasks from others' at the broker; an edge shows only those."
    )
    source: str | None = Field(
        None, pattern=r"^https?://[^/?#@\s]+/?$", description="URL of another gateway, whose tasks are served."
    )
    source_token: SecretStr | None = Field(None, description="Token that it is shown.")
    source_silence: float = Field(
        20, ge=2, description="Seconds without a byte from it, also no heartbeat, after which what is held may be old."
    )
    workers: int = Field(1, ge=1, le=256, description="Processes that serve, each on the same addresses.")
    recent: float = Field(86_400, gt=0, description="Seconds for which an unchanged task stays in snapshots.")
    recent_tasks: int = Field(10_000, ge=1, description="Most tasks held in memory for snapshots.")
    recent_bytes: int = Field(128 << 20, ge=65_536, description="Most bytes of task files held in memory.")
    task_wait: float = Field(5, ge=0, description="Seconds a stream waits for a task that has no file yet.")
    heartbeat: int = Field(15, ge=1, description="Seconds between the comments that keep idle streams open.")
    watch: bool = Field(True, description="Watch the folder; off: look at it every --poll seconds.")
    step: int = Field(1, ge=1, description="Milliseconds without a change after which hints are taken up.")
    debounce: int = Field(5, ge=1, description="Milliseconds that hints are held back at most.")
    reconcile: float = Field(5, gt=0, description="Seconds between comparisons of the whole folder.")
    poll: float = Field(0.25, gt=0, description="Seconds between comparisons where the folder is not watched.")
    grace: int = Field(4, ge=0, description="Seconds that open requests have to end on shutdown.")
    max_streams: int = Field(20_000, ge=1, description="Most streams and long-polls at once; polls go on beyond it.")
    max_streams_per_address: int = Field(200, ge=1, description="Most of them from one address but this machine's.")
    max_unsent: int = Field(
        64 << 20, ge=65_536, description="Most bytes of answers that clients have not taken yet; then 503."
    )
    max_unsent_per_address: int = Field(
        16 << 20, ge=65_536, description="Most of them for one address but this machine's."
    )
    max_ids: int = Field(1_000, ge=1, description="Most task ids in a query, and on a WebSocket.")
    max_message: int = Field(65_536, ge=128, description="Most bytes of a message from a WebSocket client.")
    max_messages: int = Field(50, ge=1, description="Most messages a second from a WebSocket client.")
    max_head: int = Field(65_536, ge=1_024, description="Most bytes of a request's head.")
    head_deadline: float = Field(10, gt=0, description="Seconds within which a request's head must have come.")
    write_deadline: int = Field(60, ge=1, description="Seconds after which a stream that takes nothing is closed.")
    longest_wait: float = Field(60, ge=0, description="Most seconds that a long-poll waits.")
    access_log: bool = Field(False, description="Log a line a request.")
    log_format: Literal["text", "json"] = Field("text", description="Logs for people, or a JSON object a line.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)
    _bound: list[str] = PrivateAttr(default_factory=list)
    _key_texts: list[bytes] = PrivateAttr(default_factory=list)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given, _env_file_encoding=encoding_of(ENV_FILE))
        self._given = given

    def read_again(self) -> "Settings":
        """What was given stays; the environment, `.env`, and the files that settings name are read anew."""
        return Settings(**self._given)

    def differences(self, other: "Settings") -> list[str]:
        """What others have another value of; a key also where its file says something else."""
        differ = {name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)}
        in_file = self.auth_key and self._key_texts[:1] != other._key_texts[:1]
        return sorted(differ | ({"auth_key"} if in_file else set()))

    def with_those(self, names: Collection[str], other: "Settings") -> "Settings":
        """These, with some of another's."""
        found = self.model_copy(update={name: getattr(other, name) for name in names})
        found._key_texts = other._key_texts if "auth_key" in names else self._key_texts
        return found

    @property
    def key_texts(self) -> list[bytes]:
        """What tokens are checked with, as it was when the settings were read."""
        return self._key_texts

    @property
    def bound(self) -> list[str]:
        """The addresses of `bind`, with what an inherited socket is bound to in place of its number."""
        return self._bound

    @property
    def asks(self) -> bool:
        """Whether clients are asked who they are."""
        return bool(self.auth_key or self.auth_secret or self.auth_jwks or self.trusted_header)

    @property
    def polls_backend(self) -> bool:
        """Whether a backend is a source of tasks."""
        return bool(self.upstream) and self.upstream_tasks != "off"

    @property
    def copies(self) -> bool:
        """Whether what is served is another's order: at an edge."""
        return bool(self.source or (self.broker and not self.data_path and not self.polls_backend))

    @field_validator("broker")
    @classmethod
    def _is_redis(cls, url: str | None) -> str | None:
        if url:
            with needs("redis"):
                from gateway.broker.connection import check  # noqa: PLC0415 - most need no Redis
            check(url)
        return url

    @field_validator("http2")
    @classmethod
    def _has_parser(cls, http2: bool) -> bool:
        if http2 and not find_spec("zttp"):
            raise ValueError("needs zttp: pip install 'task-gateway[http2]'")
        return http2

    @field_validator("namespace")
    @classmethod
    def _is_space(cls, space: str) -> str:
        if space and not is_space(space):
            raise ValueError("must be up to 40 letters, digits, dots, dashes and underscores")
        return space

    @field_validator("bind", "allowed_host", "cors_origin", "auth_tasks", "trusted_proxy", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("data_path")
    @classmethod
    def _is_folder(cls, path: Path | None) -> Path | None:
        if path and not path.is_dir():
            raise ValueError(f"there is no folder {path}")
        return path.resolve() if path else None

    @field_validator("auth_key", "auth_secret", "auth_jwks", "trusted_header")
    @classmethod
    def _can_ask(cls, given: Path | SecretStr | str | None) -> Path | SecretStr | str | None:
        """Whoever lets in only some also makes tickets for them, which are tokens, too."""
        if given:
            with needs("auth"):
                import_module("jwt")
        return given

    @model_validator(mode="after")
    def _has_keys(self) -> "Settings":
        if self.auth_key or self.auth_secret:
            from gateway.access.keys import texts_of  # noqa: PLC0415 - cryptography takes long to load

            self._key_texts = texts_of(self.auth_key, self.auth_secret.get_secret_value() if self.auth_secret else "")
        return self

    @model_validator(mode="after")
    def _has_certificate(self) -> "Settings":
        if self.tls_cert:
            Certificate(self.tls_cert, self.tls_key)
        elif self.tls_key:
            raise ValueError("--tls-key needs --tls-cert")
        return self

    @field_validator("trusted_proxy")
    @classmethod
    def _are_networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            if network != UNIX:
                ip_network(network, strict=False)  # says itself what is wrong
        return networks

    @model_validator(mode="after")
    def _is_guarded(self) -> "Settings":
        if self.trusted_header and not self.trusted_proxy:
            raise ValueError("--trusted-header needs --trusted-proxy: anybody else could send it")
        try:
            self._bound = [address_of(bind) for bind in self.bind]  # now: workers know the sockets by other numbers
        except BindError as error:
            raise ValueError(f"--bind (GATEWAY_BIND): {error}") from None
        open_to_all = next((bind for bind in self.bound if ":" in bind and not is_local(bind)), None)
        if open_to_all and not (self.asks or self.allow_anonymous):
            raise ValueError(
                f"{open_to_all} is open to the network: let it ask for tokens (--auth-key FILE, --auth-jwks URL), "
                "or say --allow-anonymous"
            )
        return self

    @model_validator(mode="after")
    def _has_a_source(self) -> "Settings":
        if not (self.data_path or self.polls_backend or self.broker or self.source):
            raise ValueError(
                "--data-path (GATEWAY_DATA_PATH): is needed, or --upstream with tasks to poll, --broker or --source"
            )
        if self.source and (self.data_path or self.polls_backend or self.broker):
            raise ValueError("--source: is the only source of tasks where it is given (--upstream-tasks off)")
        return self
