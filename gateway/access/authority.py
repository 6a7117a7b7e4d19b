"""Who is asking, and whether that is enough: tokens, tickets, cookies, proxies in; a grant or a refusal out."""

import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote_to_bytes

from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.failures import Failures, TooManyError
from gateway.access.first_message import after_first_message
from gateway.access.gate import UNTRUSTED
from gateway.access.grants import METRICS, NOTHING, UPSTREAM, Grant, grant_of, set_grant
from gateway.access.jwks import Jwks
from gateway.access.keys import Key, read_keys
from gateway.access.origins import is_preflight
from gateway.access.proxies import USER
from gateway.access.revocations import Revocations
from gateway.access.tickets import Tickets
from gateway.access.tokens import TokenError, Tokens, UnknownKeyError, fingerprint
from gateway.description.urls import DOCUMENTS
from gateway.limits import Refusal, peer_of
from gateway.parts import Parts
from gateway.settings import Settings

log = logging.getLogger("gateway.access")

TICKET_URL = "/auth/ticket"
_PUBLIC = frozenset({"/", "/docs", "/healthz", "/readyz", *DOCUMENTS})
_IN_URL = (b"access_token", b"ticket")
_SECRETS = "gateway.secrets"


class Authority:
    """Asks everybody who he is. `revoked` is called with what is revoked, whenever that changes."""

    def __init__(self, settings: Settings, revoked: Callable[[frozenset[str]], None]) -> None:
        self._cookie = settings.auth_cookie
        self._default = frozenset(settings.auth_tasks)
        self._jwks = Jwks(settings.auth_jwks) if settings.auth_jwks else None
        self._keys = _keys(settings)
        self._tokens = Tokens(
            self._jwks.keys if self._jwks else lambda: self._keys,
            audience=settings.auth_audience,
            issuer=settings.auth_issuer,
            default_tasks=settings.auth_tasks,
        )
        self._folder = settings.auth_folder
        self.tickets: Tickets
        self._revocations = Revocations(settings.auth_revoked, revoked)
        self._failures = Failures()

    def take(self, settings: Settings) -> None:
        """Goes on with the keys and the revocation list of these settings. What was let in stays."""
        self._keys = _keys(settings)
        self._revocations.look_at(settings.auth_revoked)

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            folder = self._folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-auth-")))
            self.tickets = Tickets(folder)
            if self._jwks:
                await stack.enter_async_context(self._jwks.running(parts))
            await stack.enter_async_context(self._revocations.running(parts))
            yield

    def take_secrets(self, scope: Scope) -> None:
        """Takes what is secret out of a URL, before anything else looks at it."""
        take_secrets(scope)

    def asks_first_message(self, scope: Scope) -> bool:
        """Whether a WebSocket that was let in still has to say who it is."""
        return scope["type"] == "websocket" and grant_of(scope) is NOTHING

    async def after_first_message(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Goes on with `app` once the first message of a WebSocket has brought a token."""
        check = partial(self.check, peer=peer_of(scope))
        await after_first_message(app, check, scope, receive, send)

    async def admit(self, scope: Scope, *, passed_on: bool) -> Refusal | None:
        """Puts what its sender may do into the scope of a request, or says why he is not let in.

        A WebSocket without any token is let in without a grant: its first message has to bring one.
        """
        set_grant(scope, NOTHING)
        if is_preflight(scope):  # browsers send nobody's token with one, and it is answered here
            return None
        if not passed_on and (scope["path"] in _PUBLIC or scope["path"].startswith("/static/")):
            return None
        try:
            grant = await self._grant(scope, scope.get(_SECRETS, {}))
        except TooManyError as error:
            return Refusal(429, str(error), error.wait)
        except TokenError as error:
            return Refusal(401, str(error))
        if grant is None:
            return None if scope["type"] == "websocket" and not passed_on else Refusal(401, "A token is needed")
        needed = UPSTREAM if passed_on else METRICS if scope["path"] == "/metrics" else ""
        if needed and needed not in grant.scopes:
            return Refusal(403, f"The scope {needed} is needed")
        set_grant(scope, grant)
        return None

    async def _grant(self, scope: Scope, in_url: dict[bytes, str]) -> Grant | None:
        peer = peer_of(scope)
        kind, _, token = _header(scope, b"authorization").partition(" ")
        if user := scope.get(USER):
            grant = Grant(subject=user, tasks=self._default, scopes=frozenset({UPSTREAM}))
        elif kind.lower() == "bearer":
            grant = await self.check(token.strip(), peer)
        elif ticket := in_url.get(b"ticket"):
            with self._failures.counted(peer):
                grant = self.tickets.take(ticket)
        elif token := in_url.get(b"access_token", ""):
            if not _is_private(scope):
                raise TokenError("access_token in a URL needs TLS: use a ticket")
            grant = await self.check(token, peer)
        elif not scope.get(UNTRUSTED) and (token := cookie_parser(_header(scope, b"cookie")).get(self._cookie, "")):
            grant = await self.check(token, peer)
        else:
            return None
        return self._unless_revoked(grant)

    async def check(self, token: str, peer: str) -> Grant:
        """What a token grants that came from an address. Raises TokenError."""
        if grant := self._tokens.known(token):
            return self._unless_revoked(grant)
        with self._failures.counted(peer, fingerprint(token).hex()):
            try:
                grant = self._tokens.check(token)
            except UnknownKeyError:
                if not self._jwks:
                    raise
                await self._jwks.look()
                grant = self._tokens.check(token)
        return self._unless_revoked(grant)

    def _unless_revoked(self, grant: Grant) -> Grant:
        if grant.is_in(self._revocations.revoked):
            raise TokenError("The token has been revoked")
        return grant


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _keys(settings: Settings) -> Sequence[Key]:
    return [key for text in settings.key_texts for key in read_keys(text)]


def _is_private(scope: Scope) -> bool:
    """Whether nobody on the way can read a URL."""
    if scope["scheme"] in {"https", "wss"} or not scope.get("client"):
        return True
    try:
        return ip_address(scope["client"][0]).is_loopback
    except ValueError:
        return False


def take_secrets(scope: Scope) -> None:
    """Takes the secrets out of a URL, before anything else is done: they are neither logged nor passed on."""
    query: bytes = scope["query_string"]
    if b"ticket=" not in query and b"access_token=" not in query:
        return
    kept, taken = [], {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name in _IN_URL:
            taken[name] = unquote_to_bytes(value).decode("latin-1")
        else:
            kept.append(part)
    scope["query_string"] = b"&".join(kept)
    scope[_SECRETS] = taken
