"""Standard input, output and error, as a program of Unix treats them."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.log import say

BROKEN_PIPE = 141
"""What a shell says of a program whose reader has left (128 + SIGPIPE)."""


def fill() -> None:
    """Opens the null device where one of the three was closed: else a socket would get its number, and a client read
    what is meant for the terminal."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(opened, True)
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115 - open from now on
            setattr(sys, name, stream)


class OutputError(OSError):
    """Stdout cannot be written to; the text says why."""


class LeftError(OutputError):
    """Who read stdout has left. That is no error of the program's."""


class Stdout(io.TextIOWrapper):
    """Raises OutputError, whoever writes."""

    def write(self, text: str) -> int:
        with written():
            return super().write(text)

    def flush(self) -> None:
        with written():
            super().flush()


@contextmanager
def written() -> Iterator[None]:
    """Around what is written to stdout. Raises OutputError; nothing is tried again then."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())  # else the interpreter tries once more at its end, and complains
        os.close(sink)
        if error.errno in {errno.EPIPE, errno.EINVAL}:  # the latter on Windows
            raise LeftError("its reader has left") from None
        raise OutputError(f"stdout: {error.strerror}") from None


def tell(text: str) -> None:
    """Prints a line. Raises OutputError."""
    with written():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@contextmanager
def ended() -> Iterator[None]:
    """Around a whole program: where stdout fails it ends without a traceback, and quietly where nobody reads it."""
    if isinstance(old := sys.stdout, io.TextIOWrapper):
        encoding, errors, lines = old.encoding, old.errors, old.line_buffering
        sys.stdout = Stdout(old.detach(), encoding, errors, line_buffering=lines)
    try:
        yield
    except LeftError:
        raise SystemExit(BROKEN_PIPE) from None
    except OutputError as error:
        say(f"gateway: {error}")
        raise SystemExit(1) from None
