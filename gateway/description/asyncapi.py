"""`/asyncapi.json` (AsyncAPI 3.0): what the streams of a task and of the collection say."""

from typing import Any

from gateway.description import schemas
from gateway.description.openapi import SHAPES, TASK_URLS, VERSION
from gateway.description.schemas import components

Json = dict[str, Any]

ABOUT = """\
The URLs are those of [/openapi.json](/openapi.json); a stream is asked for by `Accept`, or by a WebSocket upgrade.

- SSE: unnamed events are tasks, named ones say something of the stream. The `id` of an event resumes (`Last-Event-ID`):
  the cursor on the collection, the tag on a single task.
- NDJSON: a JSON object a line; an empty line is a heartbeat.
- WebSocket: a JSON object a message.

New: a snapshot, `synced`, then changes. Resumed: what was missed, `synced`, then changes; or `reset` and a snapshot.
"""

SSE_EVENTS = {
    "message": ("Task", "A task. Unnamed."),
    "synced": ("Synced", "All there was has been said: live from here."),
    "gone": ("Gone", "The file was deleted."),
    "invalid": ("Invalid", "The file cannot be shown; the last good state stays."),
    "reset": ("Nothing", "Forget what you hold, a snapshot follows."),
    "stale": ("Nothing", "An edge cannot reach its source."),
    "fresh": ("Nothing", "It is up to date again."),
}
"""By the name of the event on the collection: the schema of its data, and what it says."""

OWN_EVENTS = {"synced": "Nothing", "gone": "Gone", "invalid": "Invalid", "reset": "Nothing"}
"""The same on a single task's stream, whose unnamed events are what a poll answers."""


def _message(name: str, schema: str, content_type: str, summary: str = "") -> Json:
    found: Json = {"name": name, "contentType": content_type, "payload": {"$ref": f"#/components/schemas/{schema}"}}
    return {**found, "summary": summary} if summary else found


def _messages() -> Json:
    """Every message, by a key that tells transport and kind."""
    found = {
        f"sse_{name}": _message(name, schema, "application/json", summary)
        for name, (schema, summary) in SSE_EVENTS.items()
    }
    for dialect, shape in SHAPES.items():
        found[f"own_{dialect}"] = _message("message", shape, "application/json", f"The task, in the {dialect} dialect.")
    for name, schema in OWN_EVENTS.items():
        found[f"own_sse_{name}"] = _message(name, schema, "application/json")
    for kind, group in (("line", (*schemas.NDJSON, *schemas.OWN)), ("ws", schemas.MESSAGES)):
        for shape_type in group:
            media = "application/x-ndjson" if kind == "line" else "application/json"
            name = shape_type.__name__
            found[f"{kind}_{name}"] = _message(name, name, media, (shape_type.__doc__ or "").split("\n")[0])
    found["ask"] = _message("ask", "Ask", "application/json", "subscribe, unsubscribe or ping.")
    return found


def _keys(prefixes: tuple[str, ...], messages: Json) -> Json:
    return {key: {"$ref": f"#/components/messages/{key}"} for key in messages if key.startswith(prefixes)}


def _channels(messages: Json) -> Json:
    own_lines = tuple(f"line_{shape.__name__}" for shape in schemas.OWN)
    collection = _keys(("sse_", "line_", "ws_", "ask"), messages)
    channels: Json = {
        "collection": {
            "address": "/api/v1/tasks",
            "description": "Every task, or those of `?id=`.",
            "messages": {key: ref for key, ref in collection.items() if key not in own_lines},
        }
    }
    for number, (path, dialect) in enumerate(TASK_URLS.items(), 1):
        channels[f"task{number}"] = {
            "address": path if "{" in path else f"{path}?task_id={{id}}",
            "description": f"One task, in the {dialect} dialect; ends after its final state.",
            "parameters": {"id": {"description": "The task."}},
            "messages": _keys((f"own_{dialect}", "own_sse_", *own_lines), messages),
        }
    return channels


def asyncapi() -> Json:
    """The document."""
    messages = _messages()
    channels = _channels(messages)
    operations: Json = {
        f"follow_{name}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "messages": [{"$ref": f"#/channels/{name}/messages/{key}"} for key in channel["messages"] if key != "ask"],
        }
        for name, channel in channels.items()
    }
    operations["narrow"] = {
        "action": "receive",
        "summary": "What WebSocket clients of the collection may say.",
        "channel": {"$ref": "#/channels/collection"},
        "messages": [{"$ref": "#/channels/collection/messages/ask"}],
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "task-gateway", "version": VERSION, "description": ABOUT, "license": {"name": "MIT"}},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": components()},
    }
