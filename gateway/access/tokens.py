"""Bearer tokens: signed JWTs, checked once and then known."""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence

import jwt

from gateway.access.grants import Grant, grant_for
from gateway.access.keys import Key
from gateway.cache import Cache

LEEWAY = 10
"""Seconds by which clocks may differ."""

KNOWN = 32 << 20
"""Bytes of tokens that were found good and are remembered."""

MOST_BYTES = 16_384


class TokenError(Exception):
    """A token that is not taken; the text says why, in words that help nobody to forge one."""


class UnknownKeyError(TokenError):
    """It names a key that is not known; it may be a new one."""


def fingerprint(token: str) -> bytes:
    """What a token that failed is remembered by."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


class Tokens:
    """Checks tokens against `keys`, which may change. `audience` and `issuer` are checked where they are set."""

    def __init__(
        self, keys: Callable[[], Sequence[Key]], *, audience: str, issuer: str, default_tasks: Iterable[str]
    ) -> None:
        self._keys = keys
        self._audience, self._issuer = audience or None, issuer or None
        self._default_tasks = tuple(default_tasks)
        self._good: Cache[str, tuple[Grant, Sequence[Key]]] = Cache(KNOWN)  # by the token

    def known(self, token: str) -> Grant | None:
        """What a token grants that was found good before, and still is."""
        found = self._good.get(token)
        if not found or found[1] is not self._keys() or time.time() > found[0].until + LEEWAY:
            return None
        return found[0]

    def check(self, token: str) -> Grant:
        """What a token grants. Raises TokenError."""
        keys = self._keys()
        grant = self._verify(token, keys)
        self._good.put(token, (grant, keys), 1_000 + 4 * len(token))
        return grant

    def _verify(self, token: str, keys: Sequence[Key]) -> Grant:
        if len(token) > MOST_BYTES:
            raise TokenError("The token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenError("The token is not a JWT") from None
        if "crit" in header:
            raise TokenError("The token asks for what is not known here")
        kid, algorithm = str(header.get("kid", "")), header.get("alg")
        named = [key for key in keys if key.kid == kid] if kid and any(key.kid for key in keys) else list(keys)
        if not named:
            raise UnknownKeyError("The token is signed by a key that is not known")
        for key in named:  # the key says which algorithm, the token only agrees
            if key.algorithm == algorithm and (grant := self._try(token, key)):
                return grant
        raise TokenError("The token's signature is wrong")

    def _try(self, token: str, key: Key) -> Grant | None:
        """None where it was not signed by this key."""
        try:
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["exp"], "verify_aud": self._audience is not None},
            )
        except jwt.InvalidSignatureError:
            return None
        except jwt.ExpiredSignatureError:
            raise TokenError("The token has expired") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise TokenError("The token is not good here") from None
        if not isinstance(claims["exp"], int | float):  # some take a string for a number
            raise TokenError("The token is not good here")
        return grant_for(claims, self._default_tasks)
