"""What is wrong with settings, in a sentence for people."""

from pydantic import ValidationError


def option_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def sentence_of(error: ValidationError) -> str:
    """The first complaint, with the option and the variable that it is about. Never a value: it may be secret."""
    first = error.errors()[0]
    said = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return said
    name = str(first["loc"][0])
    return f"{option_of(name)} (GATEWAY_{name.upper()}): {'is needed' if first['type'] == 'missing' else said}"
