"""What becomes of connections that fail: another is made after a while that grows, or they are given up for good."""

import random
import socket
import ssl

import httpx
import msgspec

from gateway.client.changes import Lost
from gateway.client.errors import RefusedError
from gateway.client.remote import Remote

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
LONGEST_RETRY_AFTER = 300.0


class LostError(Exception):
    """A connection that ended, or was refused for now. `pause` is how many seconds the gateway asks to stay away."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


FAILURES = (
    LostError,
    RefusedError,
    httpx.HTTPError,
    httpx.InvalidURL,
    msgspec.MsgspecError,  # these three: what came is none of the gateway's
    UnicodeDecodeError,
    RecursionError,
)


class Attempts:
    """Told how connections to one remote fare; says of each failure what is to be done."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._failures = 0
        self._reached = self._heard = self._denied = False

    def begin(self) -> None:
        self._heard = False

    def stand(self) -> None:
        self._reached, self._denied = True, False

    def hear(self) -> None:
        self._heard = True

    def succeed(self) -> None:
        self._failures = 0

    def fail(self, error: Exception) -> tuple[Lost, float]:
        """What to say, and how many seconds to wait. Raises RefusedError where trying again is of no use.

        A token that can be renewed is, once; a name that cannot be found, or a certificate, may be a passing trouble
        once the gateway was reached.
        """
        if isinstance(error, RefusedError):
            if not (error.status == 401 and self._remote.renews) or self._denied:
                raise error
            self._denied = True
        if not self._reached and (cause := _lasting(error)):
            raise RefusedError(f"{self._remote.shown} {cause}") from None
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1)
        self._failures += 1
        if isinstance(error, httpx.ReadTimeout):
            return Lost(f"nothing came for {self._remote.silence:g} s", silent=not self._heard), pause
        asked = error.pause if isinstance(error, LostError) else 0.0
        return Lost(str(error) or type(error).__name__), pause + asked


def _lasting(error: BaseException) -> str:
    """What there is to say of an error that the next connection would have, too."""
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects)):
        return f"cannot be asked: {error}"
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, (socket.gaierror, ssl.SSLError)):
            return f"cannot be reached: {cause.strerror or cause}"
        cause = cause.__cause__ or cause.__context__
    return ""


def may_pass(status: int) -> bool:
    """Whether another try may be answered better than with this HTTP status."""
    return (status >= 500 and status != 501) or status in (408, 425, 429)


def seconds(retry_after: str) -> float:
    """The Retry-After header where it says seconds; a date is left to the usual pauses."""
    return min(float(retry_after), LONGEST_RETRY_AFTER) if retry_after.isascii() and retry_after.isdecimal() else 0.0
