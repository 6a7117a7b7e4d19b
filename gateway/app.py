"""The composition root: settings in, an ASGI app out. The only place where everything meets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.dialects import FLAT, SYSTEM, V1
from gateway.endpoints.collection import CollectionEndpoint
from gateway.endpoints.task import TaskEndpoint, in_path, in_query
from gateway.engine import Engine
from gateway.settings import Settings

_HERE = Path(__file__).parent
STATIC = next((p for p in (_HERE / "static", _HERE.parent / "static") if p.is_dir()), _HERE)
"""The pages: within the package where it is installed, beside it in a checkout."""


def create_app(settings: Settings | None = None) -> Starlette:
    """The gateway as an ASGI app; its Engine is at `app.state.engine`. Without settings, those of the environment."""
    engine = Engine(settings or Settings())

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with engine.running():
            yield

    app = Starlette(routes=routes(engine), lifespan=lifespan, exception_handlers={HTTPException: _json_error})
    app.state.engine = engine
    return app


def routes(engine: Engine) -> list[BaseRoute]:
    flat = TaskEndpoint(engine, FLAT, in_query)
    system = TaskEndpoint(engine, SYSTEM, in_query)
    v1 = TaskEndpoint(engine, V1, in_path)
    endpoints: dict[str, ASGIApp] = {
        "/api/transactions/task": flat,
        "/api/task": flat,
        "/api/v1/tasks": CollectionEndpoint(engine),
        "/api/v1/tasks/{id:path}": v1,
        "/get-task-status/{id:path}": v1,
        "/api/v1/get-task-status/{id:path}": v1,
        "/api/v1/task/{id:path}": v1,
        "/api/system/tasks": system,
    }
    found: list[BaseRoute] = []
    for path, endpoint in endpoints.items():
        found += [Route(path, endpoint), WebSocketRoute(path, endpoint)]
    pages = StaticFiles(directory=STATIC, html=True)
    return [*found, Mount("/static", StaticFiles(directory=STATIC)), Route("/", _Page(pages, "index.html"))]


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
