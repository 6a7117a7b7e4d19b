"""A command's options are the settings: named, explained and checked there."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gateway.complaints import sentence_of
from gateway.envfile import EnvFileError
from gateway.log import say
from gateway.settings import Settings


class Refusal(typer.Exit):
    """Ends the command with one sentence and exit status 2."""

    def __init__(self, sentence: str) -> None:
        say(f"gateway: {sentence}")
        super().__init__(2)


def settings_of(given: dict[str, Any]) -> Settings:
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise Refusal(sentence_of(error)) from None
    except EnvFileError as error:
        raise Refusal(str(error)) from None


def add_options(command: Callable[..., None], *leave_out: str) -> None:
    """Gives a command an option for every setting. One that is not given is left to the environment and `.env`."""

    def option(name: str, field: FieldInfo) -> inspect.Parameter:
        kind = {bool: bool, int: int, float: float, Path: Path}.get(field.annotation or str, str)  # type: ignore[arg-type]
        text = f"{field.description} \\[env: GATEWAY_{name.upper()}]"
        if field.default not in (None, "", []):
            shown = ", ".join(field.default) if isinstance(field.default, list) else field.default
            text += f" \\[default: {shown}]"
        hint = (list[str] if isinstance(field.default, list) else kind) | None
        annotation = Annotated[hint, typer.Option(help=text, show_default=False)]  # type: ignore[valid-type]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    fields = [option(name, field) for name, field in Settings.model_fields.items() if name not in leave_out]
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    command.__signature__ = inspect.Signature([*own, *fields])  # type: ignore[attr-defined]
