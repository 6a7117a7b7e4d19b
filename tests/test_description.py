"""The gateway's descriptions of itself, held against what it does."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from playwright.sync_api import Browser, expect
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Mount, Route
from websockets.sync.client import connect

from gateway.app import create_app
from gateway.description.asyncapi import OWN_EVENTS, SSE_EVENTS, asyncapi
from gateway.description.openapi import PARAMETERS, SHAPES, TASK_URLS, openapi
from gateway.description.schemas import components
from gateway.settings import Settings
from tests.harness import Gateway, flat

OPENAPI, ASYNCAPI = openapi(), asyncapi()
TASKS = {
    "running": flat("running", progress=41.7, data=None),
    "done": flat("done", "success", 100, data={"coins": 3}, started=1, finished=2),
    "odd": b'{"status": 7, "progress": "x", "message": null}',
    "failed": flat("failed", "error", 5, message="no", data="text"),
    "torn": b'{"status"',
    "large": b"x" * 70_000,
}


@pytest.fixture(scope="module")
def one() -> Iterator[Gateway]:
    with Gateway("--longest-wait", "0.1", "--task-wait", "0.1") as gateway:
        for id, body in TASKS.items():
            gateway.put(id, body)
        yield gateway


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": components("#/$defs/{name}")})


def fits(value: Any, *names: str) -> bool:
    return any(validator(name).is_valid(value) for name in names)


# The documents


def test_the_documents_are_valid_and_served(one: Gateway) -> None:
    validate(OPENAPI)
    for name in components():
        Draft202012Validator.check_schema(validator(name).schema)
    assert one.get("/openapi.json").json() == OPENAPI
    assert one.get("/asyncapi.json").json() == ASYNCAPI
    assert set(one.get("/schemas.json").json()["$defs"]) == set(components())


def test_every_url_is_described_and_every_description_has_its_url(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x" * 32)
    app = create_app(Settings(data_path=tmp_path, auth_key=tmp_path / "key"))
    served = {
        f"{route.path}/{{path}}" if isinstance(route, Mount) else route.path.replace(":path", "")
        for route in app.routes
        if isinstance(route, Route | Mount)
    }
    assert served == set(OPENAPI["paths"])
    assert {channel["address"].partition("?")[0] for channel in ASYNCAPI["channels"].values()} == {
        *TASK_URLS,
        "/api/v1/tasks",
    }


def test_every_parameter_that_is_read_is_described_and_none_else() -> None:
    """Where the code asks a query for a parameter or a header, it names it."""
    code = "".join(path.read_text() for path in Path("gateway").rglob("*.py") if "description" not in path.parts)
    read = set(re.findall(r'(?:param|params)\("(\w+)"\)|(?:number|_seconds)\(query, "(\w+)"', code))
    headers = set(re.findall(r'header\(b"([\w-]+)"\)', code)) - {"accept"}
    described = {p["name"].lower() for p in PARAMETERS.values()}
    secrets = {"access_token", "ticket"}
    assert secrets < described
    assert described - secrets == {a or b for a, b in read} | headers | {"wait"}


def test_all_references_lead_somewhere() -> None:
    for document in (OPENAPI, ASYNCAPI):
        for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
            place: Any = document
            for part in reference.split("/"):
                place = place[part]


# What is answered


@pytest.mark.parametrize("path", TASK_URLS)
def test_answers_are_as_described(one: Gateway, path: str) -> None:
    shape = SHAPES[TASK_URLS[path]]
    failure = "FlatFailure" if TASK_URLS[path] == "flat" else "EnvelopeFailure"
    described = OPENAPI["paths"][path]["get"]["responses"]
    for id in (*TASKS, "never", ""):
        url = path.replace("{id}", id) if "{id}" in path else f"{path}?task_id={id}"
        for more in ({}, {"If_None_Match": "*"}, {"Host": "elsewhere.example"}, {"Prefer": "wait=1"}):
            answer = one.get(url, **more)
            assert str(answer.status_code) in described, (url, more)
            if answer.content:
                assert fits(answer.json(), shape if answer.status_code == 200 else failure), answer.text


def test_pages_are_as_described(one: Gateway) -> None:
    described = OPENAPI["paths"]["/api/v1/tasks"]["get"]["responses"]
    for query in ("", "?limit=1", "?status=error", "?id=done&id=torn", "?limit=x", "?after=x", "?wait=0"):
        answer = one.get(f"/api/v1/tasks{query}")
        assert str(answer.status_code) in described
        assert fits(answer.json(), "Page" if answer.status_code == 200 else "FlatFailure"), answer.text
    assert fits(one.get("/readyz").json(), "Ready")
    assert fits(one.get("/healthz").json(), "Alive")


schema = schemathesis.openapi.from_dict(OPENAPI).exclude(path="/auth/ticket")


def _ok(found: Any) -> Any:
    return found.ok()


OPERATIONS = {f"{op.method.upper()} {op.path}": op for op in map(_ok, schema.get_all_operations())}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("operation", OPERATIONS)
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_asked_the_answer_is_described(operation: str, data: st.DataObject, one: Gateway) -> None:
    case = data.draw(OPERATIONS[operation].as_strategy())
    answer = case.call(base_url=one.url, timeout=20)
    checks = CHECKS[1:] if answer.status_code == 500 and "64KB" in answer.text else CHECKS
    case.validate_response(answer, checks=checks)


# What streams say


def test_recorded_streams_are_as_described() -> None:
    """Everything but `stale` and `fresh`, which only edges say."""
    with Gateway("--task-wait", "1") as one:
        one.write("a", progress=1)
        cursor = "elsewhere-1"
        with (
            one.sse("/api/v1/tasks", Last_Event_ID=cursor) as events,
            one.ndjson(f"/api/v1/tasks?cursor={cursor}") as lines,
            one.ndjson(f"/api/v1/tasks?files&cursor={cursor}") as copies,
            connect(f"ws://127.0.0.1:{one.port}/api/v1/tasks?cursor={cursor}") as socket,
        ):
            one.get("/api/v1/tasks")
            for message in ('{"type":"ping"}', "nonsense"):
                socket.send(message)
            one.write("a", progress=2)
            one.get("/api/task?task_id=a")
            one.put("b", b"x" * 70_000)
            one.get("/api/task?task_id=b")
            (one.tasks / "a.json").unlink()
            recorded = [(event.event, json.loads(event.data)) for event in until_gone(events, lambda e: e.event)]
            said = until_gone(lines, lambda line: line.get("event"))
            files = until_gone(copies, lambda line: line.get("event"))
            heard = until_gone(map(json.loads, socket), lambda message: message["type"])
    assert {name for name, _ in recorded} == set(SSE_EVENTS) - {"stale", "fresh"}
    for name, data in recorded:
        assert fits(data, SSE_EVENTS[name][0]), (name, data)
    for line in said:
        assert fits(line, "TaskLine", "GoneLine", "InvalidLine", "SyncedLine", "NoticeLine"), line
    for line in files:
        assert fits(line, "FileLine", "NoticeLine"), line
    messages = {"task", "gone", "invalid", "synced", "reset", "pong", "error"}
    assert {message["type"] for message in heard} == messages
    for message in heard:
        assert fits(message, f"{message['type'].capitalize()}Message"), message


@pytest.mark.parametrize("path", TASK_URLS)
def test_recorded_streams_of_one_task_are_as_described(one: Gateway, path: str) -> None:
    shape = SHAPES[TASK_URLS[path]]
    url = path.replace("{id}", "done") if "{id}" in path else f"{path}?task_id=done"
    with one.sse(url) as events:
        for event in events:
            expected = shape if event.event == "message" else OWN_EVENTS[event.event]
            assert fits(json.loads(event.data), expected)
    with one.ndjson(url) as lines:
        for line in lines:
            assert fits(line, "OwnTaskLine", "OwnNoticeLine")
            assert "task" not in line or fits(line["task"], shape)
    with connect(f"ws://127.0.0.1:{one.port}{url}") as socket:
        assert [fits(json.loads(message), shape) for message in socket] == [True]


def until_gone(said: Iterator[Any], kind: Any) -> list[Any]:
    found = []
    for each in said:
        found.append(each)
        if kind(each) == "gone":
            return found
    raise AssertionError(f"no end: {found}")


# To read


def test_the_page_of_the_description(one: Gateway, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{one.url}/docs")
        expect(page.get_by_role("heading", name="GET /api/v1/tasks", exact=True)).to_be_visible()
        page.get_by_role("link", name="V1Task").first.click()
        expect(page.locator("#schema-V1Task")).to_be_in_viewport()
        assert all(url.startswith(one.url) for url in asked)
