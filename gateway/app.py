"""The composition root: settings in, an ASGI app out. The only place where everything meets."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.gate import Gate, beside
from gateway.access.grants import grant_of
from gateway.access.origins import is_preflight, preflight, requested_method
from gateway.description import urls as description
from gateway.description.urls import DOCUMENTS
from gateway.dialects import FLAT, SYSTEM, V1, error
from gateway.endpoints.base import Endpoint
from gateway.endpoints.collection import CollectionEndpoint
from gateway.endpoints.task import TaskEndpoint, in_path, in_query
from gateway.engine import Engine
from gateway.health import ready
from gateway.limits import Refusal
from gateway.parts import is_cancelled
from gateway.settings import Settings
from gateway.transports.reply import ALWAYS, BESIDE, Header, Reply, send_reply

if TYPE_CHECKING:
    from gateway.access.authority import Authority
    from gateway.upstream.passing import Upstream

_HERE = Path(__file__).parent
STATIC = next((p for p in (_HERE / "static", _HERE.parent / "static") if p.is_dir()), _HERE)
"""The pages: within the package where it is installed, beside it in a checkout."""


class Gateway(Starlette):
    """A Starlette app that looks for polls first: its own routing would cost each of them as much as the answer."""

    def __init__(self, engine: Engine) -> None:
        self._upstream = upstream = _upstream(engine)

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            try:
                async with AsyncExitStack() as stack:
                    await stack.enter_async_context(engine.running())
                    if self._authority:
                        await stack.enter_async_context(self._authority.running(engine.parts))
                    if upstream:
                        await stack.enter_async_context(upstream.running())
                    yield
            except BaseException:
                if not is_cancelled():
                    engine.parts.fail("the app has ended")
                raise

        self.engine = engine
        self._authority = authority = _authority(engine)
        self._gate = Gate(engine.settings)
        self._by_query, self._by_path = endpoints(engine)
        self._below = ("/static/", *self._by_path)
        self._polling = (*self._by_query, *self._by_path) if engine.settings.polls_backend else ()
        super().__init__(
            routes=[
                *routes(self._by_query, self._by_path),
                *operators_routes(engine),
                *([Route(TICKET_URL, _ticket_office(authority), methods=["POST"])] if authority else []),
            ],
            lifespan=lifespan,
            exception_handlers={HTTPException: _json_error},
        )
        self.router.redirect_slashes = False  # a wrong URL is not found; no page is sent where its Host header says

    def take(self, settings: Settings) -> None:
        """Goes on with these settings, in all that does not need a restart; see gateway/reload.py."""
        self.engine.take(settings)
        if self._authority:
            self._authority.take(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await super().__call__(scope, receive, send)
        if self._authority:
            self._authority.take_secrets(scope)
        path: str = scope["path"]
        upstream = self._upstream if self._upstream and not self._is_own(scope, path) else None
        refusal = self._gate.refuse(scope, acts=upstream is not None or path.startswith(self._polling))
        if self._authority and not refusal:
            refusal = await self._authority.admit(scope, passed_on=upstream is not None)
        if BESIDE in scope:
            send = beside(scope, send)
        if refusal:
            return await send_reply(scope, send, self._no(path, refusal))
        if scope.get("method") == "OPTIONS" and is_preflight(scope) and (self._authority or not upstream):
            here = b"POST" if path == TICKET_URL else b"GET, HEAD"
            return await send_reply(scope, send, preflight(scope, _PASSED_ON if upstream else here))
        if upstream:
            return await upstream(scope, receive, send)
        app = self._route(scope, path)
        if self._authority and self._authority.asks_first_message(scope):
            return await self._authority.after_first_message(app, scope, receive, send)
        return await app(scope, receive, send)

    def _route(self, scope: Scope, path: str) -> ASGIApp:
        """What answers a request here."""
        if scope["type"] == "http":
            if endpoint := self._by_query.get(path):
                return endpoint
            cut = path.rfind("/") + 1
            if endpoint := self._by_path.get(path[:cut]):
                scope["path_params"] = {"id": path[cut:]}
                return endpoint
        return super().__call__

    def _no(self, path: str, refusal: Refusal) -> Reply:
        """A refusal in the dialect of its URL: pollers that read no status codes have to end, too."""
        endpoint = self._by_query.get(path) or self._by_path.get(path[: path.rfind("/") + 1])
        body = (endpoint.dialect.failure if endpoint else error)(refusal.sentence, refusal.status, "")
        headers: tuple[Header, ...] = ALWAYS
        if refusal.status == 401:
            headers += ((b"www-authenticate", b"Bearer"),)
        if refusal.wait:
            headers += ((b"retry-after", b"%d" % math.ceil(refusal.wait)),)
        return Reply(refusal.status, body, headers)

    def _is_own(self, scope: Scope, path: str) -> bool:
        """Whether a request is answered here, where a backend would answer it else. What changes anything never is."""
        known = path in self._by_query or path.startswith(self._below)
        if scope["type"] == "websocket":
            return known
        if path == TICKET_URL and self._authority:
            return True
        method = requested_method(scope) if is_preflight(scope) else scope["method"]
        return method in {"GET", "HEAD"} and (known or path in OPERATORS or path in PAGES or path in DOCUMENTS)


def _authority(engine: Engine) -> "Authority | None":
    if not engine.settings.asks:
        return None
    from gateway.access.authority import Authority  # noqa: PLC0415 - cryptography takes long to load

    return Authority(engine.settings, engine.revoke)


def _upstream(engine: Engine) -> "Upstream | None":
    settings = engine.settings
    if not settings.upstream:
        return None
    from gateway.upstream.passing import Upstream  # noqa: PLC0415 - its client takes long to load, and most need none

    return Upstream(
        settings.upstream,
        engine.backend.learn if engine.backend else _learns_nothing,
        host=settings.upstream_host,
        forwarded=settings.upstream_forwarded,
        user_header=settings.trusted_header,
        connect=settings.upstream_connect,
        idle=settings.upstream_idle,
        max_message=settings.upstream_message,
    )


def _learns_nothing(_id: str) -> None:
    """At an edge: its source will tell of the task."""


def create_app(settings: Settings | None = None) -> Gateway:
    """The gateway as an ASGI app. Without settings, those of the environment."""
    return Gateway(Engine(settings or Settings()))


Endpoints = dict[str, Endpoint]


def endpoints(engine: Engine) -> tuple[Endpoints, Endpoints]:
    """The URLs whose task is in the query, and those, ending in a slash, whose task is the rest of the path."""
    flat = TaskEndpoint(engine, FLAT, in_query)
    v1 = TaskEndpoint(engine, V1, in_path)
    by_query: Endpoints = {
        "/api/transactions/task": flat,
        "/api/task": flat,
        "/api/system/tasks": TaskEndpoint(engine, SYSTEM, in_query),
        "/api/v1/tasks": CollectionEndpoint(engine),
    }
    by_path: Endpoints = dict.fromkeys(
        ("/api/v1/tasks/", "/get-task-status/", "/api/v1/get-task-status/", "/api/v1/task/"), v1
    )
    return by_query, by_path


def routes(by_query: Endpoints, by_path: Endpoints) -> list[BaseRoute]:
    found: list[BaseRoute] = []
    for path, endpoint in {
        **by_query,
        **{f"{path}{{id:path}}": endpoint for path, endpoint in by_path.items()},
    }.items():
        found += [Route(path, endpoint), WebSocketRoute(path, endpoint)]
    files = _Files(directory=STATIC)
    pages = [Route(path, _Page(files, name)) for path, name in PAGES.items()]
    return [*found, Mount("/static", files), *pages, *description.routes()]


def operators_routes(engine: Engine) -> list[BaseRoute]:
    """What operators and their tools ask."""

    async def alive(_request: Request) -> Response:
        lives = not engine.parts.failure
        return JSONResponse({"alive": lives}, 200 if lives else 503, NO_STORE)

    async def is_ready(_request: Request) -> Response:
        well, body = ready(engine)
        return JSONResponse(body, 200 if well else 503, NO_STORE)

    async def metrics(request: Request) -> Response:
        figures = await asyncio.to_thread(import_module, "gateway.metrics")  # it would slow the start
        body, content_type = figures.exposition(engine, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type, **NO_STORE})

    return [Route(path, answer) for path, answer in zip(OPERATORS, (alive, is_ready, metrics), strict=True)]


def _ticket_office(authority: "Authority") -> Callable[[Request], Awaitable[Response]]:
    """Gives who is let in a ticket for a URL, such as an EventSource's, that lets him in once."""

    async def ticket(request: Request) -> Response:
        made = authority.tickets.make(grant_of(request.scope))
        return JSONResponse({"ticket": made, "expires_in": TICKET_SECONDS}, headers=NO_STORE)

    return ticket


_PASSED_ON = b"GET, HEAD, POST, PUT, PATCH, DELETE"

TICKET_URL, TICKET_SECONDS = "/auth/ticket", 30

PAGES = {"/": "index.html", "/docs": "docs.html"}
OPERATORS = ("/healthz", "/readyz", "/metrics")
NO_STORE = {"Cache-Control": "no-store"}


PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; worker-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked for again, and mostly answered by 304: modules of two versions do not mix
}


class _Files(StaticFiles):
    """The static folder, as strict pages want it. Also for modules: a worker has the policy that it came with."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        return response


class _Page:
    """One file of the static folder at a URL of its own."""

    def __init__(self, files: StaticFiles, name: str) -> None:
        self._files, self._name = files, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._files.get_response(self._name, scope)
        await response(scope, receive, send)


async def _json_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)
