"""What not everybody needs is installed by an extra of the package, and asked for where it is used."""

from collections.abc import Iterator
from contextlib import contextmanager


class ExtraError(ValueError):
    """Something is not installed; the text says how to install it."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports: raises ExtraError where what the extra installs is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("gateway"):
            raise
        raise ExtraError(f"needs {error.name}: pip install 'task-gateway[{extra}]'") from None
