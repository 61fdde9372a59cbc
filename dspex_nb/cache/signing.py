"""Signed bytes: what comes from a shared server is looked at only if the user's own key has signed it.

    DSPEX-STEP-1 ‖ HMAC-SHA256(key, name ‖ content) ‖ content

The name is signed too, so that one result cannot stand in for another.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path

from dspex_nb.errors import CacheError

VARIABLE, FILE = "DSPEX_SIGNING_KEY", "signing.key"
SHORTEST = 16
_MAGIC = b"DSPEX-STEP-1\0"
_DIGEST_BYTES = 32
_OTHERS = 0o077


class SignatureError(Exception):
    """Bytes that this key has not signed under this name."""


class SigningKey:
    """A key; what it holds is never shown."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        if not isinstance(secret, str) or len(secret.strip()) < SHORTEST:
            raise CacheError(
                f"a signing key is a text of at least {SHORTEST} characters", hint="make one with secrets.token_hex(32)"
            )
        self._secret = secret.strip().encode()

    def sign(self, name: str, content: bytes) -> bytes:
        """Return the content with its signature."""
        return _MAGIC + self._digest(name, content) + content

    def checked(self, name: str, signed: bytes) -> bytes:
        """Return the content.

        Raises:
            SignatureError: It was not signed, or with another key or name, or changed since.
        """
        start = len(_MAGIC)
        digest, content = signed[start : start + _DIGEST_BYTES], signed[start + _DIGEST_BYTES :]
        if not signed.startswith(_MAGIC) or not hmac.compare_digest(digest, self._digest(name, content)):
            raise SignatureError(name)
        return content

    def reveal(self) -> str:
        """Return the secret, to hand it over a pipe to a worker of one's own."""
        return self._secret.decode()

    def _digest(self, name: str, content: bytes) -> bytes:
        return hmac.new(self._secret, name.encode() + b"\0" + content, hashlib.sha256).digest()

    def __repr__(self) -> str:
        return "SigningKey(***)"

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        raise TypeError("a signing key is not pickled")


def find_key(folder: Path) -> SigningKey | None:
    """Return the user's key: from the environment, else from the file `signing.key` in `folder`; None where there is none.

    Raises:
        CacheError: The file can be read by others, or the key is too short.
    """
    if os.environ.get(VARIABLE):
        return SigningKey(os.environ[VARIABLE])
    path = folder / FILE
    try:
        if path.stat().st_mode & _OTHERS:
            raise CacheError(f"{path} can be read by others, so it is no secret", hint=f"make another key, then chmod 600 {path}")
        return SigningKey(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None
