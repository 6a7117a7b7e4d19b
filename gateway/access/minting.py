"""Tokens of one's own: for development, and for operators who have no identity provider."""

import os
import secrets
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.access.keys import KeyFileError, read_key_file


def make_key(path: Path) -> None:
    """Writes a new Ed25519 key that only its owner can read. Raises FileExistsError where there is a file."""
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)


def mint(path: Path, *, tasks: list[str], scopes: list[str], seconds: float, **claims: str) -> str:
    """A token signed with the key in a file. `claims` are sub, aud and iss; empty ones are left out."""
    key = next((key for key in read_key_file(path) if key.private is not None), None)
    if key is None:
        raise KeyFileError("only public keys in it: the private one signs")
    now = int(time.time())
    payload: dict[str, object] = {
        "iat": now,
        "exp": now + int(seconds),
        "jti": secrets.token_hex(8),
        "tasks": tasks,
        "scope": " ".join(scopes),
        **{name: value for name, value in claims.items() if value},
    }
    return jwt.encode(payload, key.private, key.algorithm, headers={"kid": key.kid} if key.kid else None)
