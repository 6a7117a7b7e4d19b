"""Where the gateway describes itself; each document is made when it is first asked for."""

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

HEADERS = {"Cache-Control": "no-cache"}


@cache
def document(name: str) -> bytes:
    """The JSON at `/{name}.json`."""
    from gateway.description.asyncapi import asyncapi  # noqa: PLC0415 - hundreds of types, and most never ask
    from gateway.description.openapi import openapi  # noqa: PLC0415
    from gateway.description.schemas import components  # noqa: PLC0415

    made: dict[str, Callable[[], dict[str, Any]]] = {
        "openapi": openapi,
        "asyncapi": asyncapi,
        "schemas": lambda: {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$defs": components("#/$defs/{name}"),
        },
    }
    return msgspec.json.encode(made[name]())


async def _answer(request: Request) -> Response:
    name = request.url.path.removeprefix("/").removesuffix(".json")
    return Response(document(name), media_type="application/json", headers=HEADERS)


DOCUMENTS = ("/openapi.json", "/asyncapi.json", "/schemas.json")


def routes() -> list[Route]:
    return [Route(path, _answer) for path in DOCUMENTS]
