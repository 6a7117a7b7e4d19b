"""Keys that tokens are checked with: each is good for one algorithm, whatever a token says of itself."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")

SHORTEST = 32
"""Bytes of the shortest secret that is taken (RFC 7518, 3.2: as long as the hash), and 2,048 bits of RSA."""


class KeyFileError(ValueError):
    """A key that cannot be used; the text says why, and never shows it."""


class Key(NamedTuple):
    """A key and the one algorithm it is used with. `private` signs, where it is there."""

    algorithm: str
    public: Any
    private: Any = None
    kid: str = ""


def read_keys(text: bytes) -> list[Key]:
    """The keys in a file: PEM (public, or private for `gateway token` too), a JWK or JWK Set, or a secret as it is."""
    stripped = text.strip()
    if stripped.startswith(b"-----BEGIN"):
        return [_from_pem(stripped)]
    if stripped.startswith(b"{"):
        try:
            return from_jwks(json.loads(stripped))
        except ValueError as error:
            raise KeyFileError(f"not a JWK or JWK Set: {error}") from None
    if len(stripped) < SHORTEST:
        raise KeyFileError(f"a secret needs {SHORTEST} bytes or more")
    return [Key("HS256", stripped, stripped)]


def read_key_file(path: Path) -> list[Key]:
    try:
        return read_keys(path.read_bytes())
    except OSError as error:
        raise KeyFileError(f"cannot be read: {error.strerror}") from None


def texts_of(path: Path | None, secret: str) -> list[bytes]:
    """What a key file says, and a secret, checked. Raises ValueError, with the option that is wrong."""
    option, found = "--auth-key (GATEWAY_AUTH_KEY)", []
    try:
        if path:
            found.append(path.read_bytes())  # once: what was found good is what is used
            read_keys(found[-1])
        if secret:
            option = "--auth-secret (GATEWAY_AUTH_SECRET)"
            found.append(secret.encode())
            read_keys(found[-1])
    except OSError as error:
        raise KeyFileError(f"{option}: cannot be read: {error.strerror}") from None
    except KeyFileError as error:
        raise KeyFileError(f"{option}: {error}") from None
    return found


def from_jwks(document: Any) -> list[Key]:
    """The keys of a JWK or a JWK Set (RFC 7517) that can be used here; raises where there is none."""
    rows = document.get("keys", [document]) if isinstance(document, dict) else []
    keys = []
    for row in rows if isinstance(rows, list) else []:
        try:
            found = jwt.PyJWK(row).key
            public = found.public_key() if hasattr(found, "public_key") else found
            algorithm = _algorithm_of(public)
        except (jwt.PyJWTError, KeyFileError, AttributeError, TypeError, ValueError):
            continue  # a kind that we do not know: others may be known
        kid = str(row.get("kid", ""))
        if row.get("alg", algorithm) == algorithm and row.get("use", "sig") == "sig":
            keys.append(Key(algorithm, public, found if found is not public or algorithm == "HS256" else None, kid))
    if not keys:
        raise KeyFileError(f"no key for {', '.join(ALGORITHMS)} in it")
    return keys


def _from_pem(text: bytes) -> Key:
    try:
        if b"PRIVATE KEY" in text:
            private = load_pem_private_key(text, None)
            public = private.public_key()
        else:
            private, public = None, load_pem_public_key(text)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError("not a PEM key without password") from None
    return Key(_algorithm_of(public), public, private)


def _algorithm_of(key: Any) -> str:
    if isinstance(key, bytes):
        if len(key) < SHORTEST:
            raise KeyFileError(f"a secret needs {SHORTEST} bytes or more")
        return "HS256"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2_048:
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return "ES256"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    raise KeyFileError("RSA (2,048 bits), P-256 or Ed25519 is needed")
