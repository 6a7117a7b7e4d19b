"""`/openapi.json` (OpenAPI 3.1): every URL, parameter, code and body. Streams are in `/asyncapi.json`."""

from typing import Any

from gateway.description.schemas import components

Json = dict[str, Any]

TASK_URLS = {
    "/api/transactions/task": "flat",
    "/api/task": "flat",
    "/api/system/tasks": "system",
    "/api/v1/tasks/{id}": "v1",
    "/get-task-status/{id}": "v1",
    "/api/v1/get-task-status/{id}": "v1",
    "/api/v1/task/{id}": "v1",
}
"""The polling URLs of one task, each with the dialect that it answers in."""

VERSION = "1"
"""Of what is described, not of the program: nobody is told that."""

SHAPES = {"flat": "FlatTask", "v1": "V1Task", "system": "SystemTask"}
"""By dialect, what a task looks like."""

ABOUT = """\
Serves a backend's task files at the polling URLs that are documented for them, and pushes every change of them.

Every task URL answers by what the request asks for, in this order: a WebSocket upgrade; `Accept: text/event-stream`;
`Accept: application/x-ndjson`; `?wait=N` or `Prefer: wait=N`, a long-poll; else a poll, as it is described here.
What streams say is in [/asyncapi.json](/asyncapi.json).
"""


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/{name}"}


def _parameter(name: str, description: str, schema: Json, *, where: str = "query", **more: Any) -> Json:
    return {"name": name, "in": where, "description": description, "schema": schema, **more}


TEXT = {"type": "string"}
LIST: Json = {"type": "array", "items": TEXT}

PARAMETERS: dict[str, Json] = {
    "task_id": _parameter("task_id", "The task. `id` means the same.", TEXT),
    "id": _parameter("id", "The task.", TEXT),
    "path_id": _parameter("id", "The task.", {"type": "string", "minLength": 1}, where="path", required=True),
    "ids": _parameter("id", "Only these tasks; a WebSocket begins with none for an empty one. Repeatable.", LIST),
    "wait": _parameter("wait", "Long-poll: seconds until an answer must come.", {"type": "integer", "minimum": 0}),
    "limit": _parameter("limit", "Tasks a page.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
    "status": _parameter("status", "Only tasks of this status, in v1's words or the file's own.", TEXT),
    "after": _parameter("after", "The `next` of the page before.", {"type": "string", "pattern": r"^\d{1,20}-.*$"}),
    "recent": _parameter(
        "recent",
        "Streams: a snapshot only of what was written since.",
        {"type": "string", "pattern": r"^\d{1,9}[smhd]?$"},
    ),
    "cursor": _parameter("cursor", "Streams: where to resume, as `Last-Event-ID`.", TEXT),
    "files": _parameter("files", "NDJSON: the files themselves, for another gateway.", {"const": ""}),
    "access_token": _parameter("access_token", "A token, over TLS or on this machine.", TEXT),
    "ticket": _parameter("ticket", "What `/auth/ticket` gave.", TEXT),
    "if_none_match": _parameter("If-None-Match", "The `ETag` that the client has.", TEXT, where="header"),
    "last_event_id": _parameter(
        "Last-Event-ID", "Streams: the id of the last event that was seen.", TEXT, where="header"
    ),
    "prefer": _parameter("Prefer", "`wait=N`, as the parameter `wait` (RFC 7240).", TEXT, where="header"),
}


def _body(name: str) -> Json:
    return {"application/json": {"schema": _ref(f"schemas/{name}")}}


def _refusals(failure: str) -> Json:
    """Why anybody may be refused, in the shape that the URL's pollers read."""
    reasons = {
        "401": "No token, or one that is not good (where tokens are asked for).",
        "403": "A foreign page, or what the token does not allow.",
        "405": "Not GET or HEAD.",
        "421": "The gateway is not called so (`--allowed-host`).",
        "429": "Too many failed tokens, or streams from this address. See `Retry-After`.",
        "503": "Too many streams, or the source is not there. See `Retry-After`.",
    }
    return {code: {"description": why, "content": _body(failure)} for code, why in reasons.items()}


def _of_task(path: str, dialect: str) -> Json:
    failure = "FlatFailure" if dialect == "flat" else "EnvelopeFailure"
    in_path = path.endswith("{id}")
    given = ("path_id",) if in_path else ("task_id", "id")
    tag = {"ETag": {"description": "A hash of the file.", "schema": TEXT}}
    answers: Json = {
        "200": {"description": "The task.", "headers": tag, "content": _body(SHAPES[dialect])},
        "204": {"description": "Streams: this final state has been seen, there will be no other."},
        "304": {"description": "It is as the client has it.", "headers": tag},
        "400": {"description": "No task is named, or a parameter makes no sense.", "content": _body(failure)},
        "404": {"description": "There is no such task.", "content": _body(failure)},
        "500": {"description": "The file is larger than 64 KB, or not JSON.", "content": _body(failure)},
        "502": {"description": "The backend failed (`--upstream`).", "content": _body(failure)},
        "504": {"description": "The backend did not answer (`--upstream`).", "content": _body(failure)},
        **_refusals(failure),
    }
    summary = f"One task, in the {dialect} dialect"
    names = (*given, "wait", "cursor", "access_token", "ticket", "if_none_match", "last_event_id", "prefer")
    return _operations(summary, names, answers)


def _collection() -> Json:
    answers: Json = {
        "200": {"description": "A page.", "content": _body("Page")},
        "304": {"description": "It is as the client has it."},
        "400": {"description": "A parameter makes no sense.", "content": _body("FlatFailure")},
        **_refusals("FlatFailure"),
    }
    names = ("ids", "limit", "status", "after", "wait", "recent", "cursor", "files", "access_token", "ticket")
    return _operations("Every task, newest first", (*names, "if_none_match", "last_event_id", "prefer"), answers)


def _operations(summary: str, names: tuple[str, ...], answers: Json) -> Json:
    get = {
        "summary": summary,
        "tags": ["tasks"],
        "responses": answers,
        "security": [{}, {"bearer": []}, {"cookie": []}],
    }
    without_bodies = {code: {**answer, "content": {}} for code, answer in answers.items()}
    return {
        "parameters": [_ref(f"parameters/{name}") for name in names],
        "get": get,
        "head": {**get, "summary": f"{summary}: the headers", "responses": without_bodies},
    }


def _plain(summary: str, media_type: str, schema: Json | None = None, **more: Json) -> Json:
    ok = {"description": summary, "content": {media_type: {"schema": schema} if schema else {}}}
    return {"get": {"summary": summary, "tags": ["gateway"], "responses": {"200": ok, **more, "421": _NOT_CALLED_SO}}}


_NOT_CALLED_SO: Json = {"description": "The gateway is not called so.", "content": _body("FlatFailure")}


def _others() -> Json:
    not_ready = {"description": "Not all is well.", "content": _body("Ready")}
    refused = {code: answer for code, answer in _refusals("FlatFailure").items() if code in {"401", "403", "429"}}
    ticket = {
        "summary": "A ticket that lets its bearer in once, within 30 s",
        "tags": ["gateway"],
        "description": "Only where tokens are asked for.",
        "security": [{"bearer": []}, {"cookie": []}],
        "responses": {"200": {"description": "The ticket.", "content": _body("Ticket")}, **refused},
    }
    missing = {"description": "There is no such file."}
    file = _plain("A file of the page", "*/*", None, **{"404": missing, "304": {"description": "Unchanged."}})
    file["parameters"] = [_parameter("path", "Its name.", TEXT, where="path", required=True)]
    return {
        "/": _plain("The page", "text/html"),
        "/docs": _plain("This description, to read", "text/html"),
        "/static/{path}": file,
        "/healthz": _plain("Whether the process lives", "application/json", _ref("schemas/Alive")),
        "/readyz": _plain("Whether all is well", "application/json", _ref("schemas/Ready"), **{"503": not_ready}),
        "/metrics": _plain("Figures for Prometheus", "text/plain", TEXT, **refused),
        "/openapi.json": _plain("This document", "application/json", {"type": "object"}),
        "/asyncapi.json": _plain("What streams say", "application/json", {"type": "object"}),
        "/schemas.json": _plain("The JSON Schemas alone", "application/json", {"type": "object"}),
        "/auth/ticket": {"post": ticket},
    }


def openapi() -> Json:
    """The document."""
    paths = {path: _of_task(path, dialect) for path, dialect in TASK_URLS.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "task-gateway", "version": VERSION, "description": ABOUT, "license": {"name": "MIT"}},
        "paths": {**paths, "/api/v1/tasks": _collection(), **_others()},
        "components": {
            "schemas": components(),
            "parameters": PARAMETERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "gateway_token"},
            },
        },
    }
