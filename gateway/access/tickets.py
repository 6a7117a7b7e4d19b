"""One-time tickets for URLs: what stands in an address is seen by more than who it was meant for."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

import jwt

from gateway.access.grants import Grant, grant_for
from gateway.access.tokens import TokenError

SECONDS = 30
_AUDIENCE = "gateway-ticket"


class Tickets:
    """Makes tickets, and takes each once.

    `folder` is shared by all processes that serve: it holds the key, and a file for each ticket that was taken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = _shared_key(folder / "key")

    def make(self, grant: Grant) -> str:
        """A ticket that is good for what a grant is good for."""
        claims = {
            "aud": _AUDIENCE,
            "exp": min(time.time() + SECONDS, grant.until),
            "once": secrets.token_hex(16),
            "sub": grant.subject,
            "tasks": sorted(grant.tasks),
            "scope": " ".join(sorted(grant.scopes)),
            "until": min(grant.until, 1e12),
            "jti": grant.token,
        }
        return jwt.encode(claims, self._key, "HS256")

    def take(self, ticket: str) -> Grant:
        """What a ticket grants, to the first who brings it. Raises TokenError."""
        try:
            claims = jwt.decode(ticket, self._key, algorithms=["HS256"], audience=_AUDIENCE)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenError("The ticket is not good any more") from None
        if claims["until"] < time.time():  # a ticket lives no longer than what it was made for
            raise TokenError("The token has expired")
        self._sweep()
        try:
            with (self._folder / claims["once"]).open("x"):
                pass
        except FileExistsError:
            raise TokenError("The ticket has been used") from None
        return grant_for({**claims, "exp": claims["until"]}, ())

    def _sweep(self) -> None:
        """Takes away what stands for tickets that have expired."""
        oldest = time.time() - 2 * SECONDS
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.name != "key" and entry.stat().st_mtime < oldest:
                        os.unlink(entry)  # noqa: PTH108 - an entry is no Path


def _shared_key(path: Path) -> bytes:
    """The key in a file; whoever comes first makes it, whole from the start."""
    fresh = path.with_name(f"{secrets.token_hex(8)}.new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(secrets.token_bytes(32))
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_bytes()
