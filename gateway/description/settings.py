"""`docs/settings.md`: every setting as it stands in the code. `make docs` writes it."""

from types import UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.settings import Settings

SECRET = {"auth_secret", "source_token"}
"""Not on a command line, where others can see it."""

HEAD = """\
# Settings

Made from the code (`make docs`). Each is an option of `gateway serve`, a variable in the environment, or a line in
`.env`; an option counts before a variable, and that before the file. Several values of a repeatable one are parted by
commas in a variable.

| option | variable | default | |
|---|---|---|---|
"""

TAIL = """
Any ASGI server can run it too: `GATEWAY_DATA_PATH=DIR uvicorn --factory gateway.app:create_app`. What that listens on
is its own affair: tell `GATEWAY_ALLOWED_HOST` the names, and `GATEWAY_AUTH_KEY` the key where others get there.
"""


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value in (None, "", [], PydanticUndefined):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def _choices(annotation: Any) -> str:
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    found = [str(each) for kind in kinds if get_origin(kind) is Literal for each in get_args(kind)]
    return f" One of {', '.join(found)}." if found else ""


def _row(name: str, field: FieldInfo) -> str:
    dashed = name.replace("_", "-")
    option = "" if name in SECRET else f"`--{dashed}`"
    if isinstance(field.default, bool) and field.default:
        option = f"`--{dashed}`, `--no-{dashed}`"
    text = (field.description or "").replace("|", "\\|") + _choices(field.annotation)
    return f"| {option} | `GATEWAY_{name.upper()}` | {_default(field)} | {text} |"


def page() -> str:
    """The page, in Markdown."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items() if name != "auth_folder"]
    return HEAD + "\n".join(rows) + "\n" + TAIL


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - its output
