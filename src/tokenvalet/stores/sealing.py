"""Sealing: what leaves the process is encrypted with AES-256-GCM and bound to the token key that it is filed under.

A sealed value is text: ``tv1.<key id>.`` and then base64url of 12 random bytes and the ciphertext. The first key seals, all
open, so that keys can be rotated: put the new one first, and take the old one away when the longest lifetime has passed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..core.signing import KeyFault

__all__ = ["Sealer", "SealingFault", "new_key", "parse_keys"]

MAGIC = b"tv1"
KEY_BYTES = 32
NONCE_BYTES = 12
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SealingFault(KeyFault):
    """Keys that cannot be used, or a value that they do not open. The text shows nothing of either."""


class Sealer:
    """Seals with the first of its keys and opens with any.

    Args:
        keys: pairs of a key id and 32 bytes.
    """

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        if not keys:
            raise SealingFault("there is no key")
        self._sealing = keys[0][0]
        self._naming = keys[-1][1]
        self._ciphers = {key_id: AESGCM(secret) for key_id, secret in keys}

    def seal(self, content: bytes, key: str) -> bytes:
        """Return `content`, sealed for the token key `key`."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._ciphers[self._sealing].encrypt(nonce, content, _bound_to(self._sealing, key))
        return b".".join((MAGIC, self._sealing.encode("ascii"), base64.urlsafe_b64encode(nonce + sealed)))

    def open(self, value: bytes, key: str) -> bytes:
        """Return what was sealed for the token key `key`.

        Raises:
            SealingFault: it was not sealed, or with a key that is not there, or for another token key.
        """
        magic, _, rest = value.partition(b".")
        key_id, dot, sealed = rest.partition(b".")
        if magic != MAGIC or not dot:
            raise SealingFault("it is not sealed, or by another version")
        name = key_id.decode("ascii", "replace")
        cipher = self._ciphers.get(name)
        if cipher is None:
            named = f" {name}" if _KEY_ID.fullmatch(name) else ""
            raise SealingFault(f"it is sealed with the key{named}, which is not among the encryption keys")
        try:
            content = base64.b64decode(sealed, altchars=b"-_", validate=True)
            # Base64 has several spellings for one thing, and only ours is taken.
            if base64.urlsafe_b64encode(content) != sealed:
                raise ValueError
            return cipher.decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], _bound_to(name, key))
        except (InvalidTag, ValueError):
            raise SealingFault("it was changed, or sealed for another token key or with another key") from None

    def name(self, key: str) -> str:
        """Return what to file a token key under, 64 hexadecimal digits: one who has no key cannot guess at what is in it.

        It is made with the last key, so that processes with a new key in front and those without it find one another.
        """
        return hmac.digest(self._naming, key.encode("ascii"), "sha256").hex()

    def __repr__(self) -> str:
        return f"<Sealer with {len(self._ciphers)} keys>"


def _bound_to(key_id: str, key: str) -> bytes:
    return b"\0".join((MAGIC, key_id.encode("ascii"), key.encode("ascii")))


def parse_keys(content: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return the keys in a file of lines ``id:base64url of 32 bytes``, with ``#`` for comments.

    Raises:
        SealingFault: a line that is none, by its number.
    """
    keys: list[tuple[str, bytes]] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key_id, colon, encoded = text.partition(":")
        if not colon or not _KEY_ID.fullmatch(key_id):
            raise SealingFault(f"line {number} is not id:key, with an id of letters, digits, - and _")
        secret = _decoded(encoded.strip())
        if secret is None:
            raise SealingFault(f"line {number}: its key is not base64url of {KEY_BYTES} bytes")
        if any(key_id == other for other, _ in keys):
            raise SealingFault(f"line {number} has the id of a line before it")
        keys.append((key_id, secret))
    if not keys:
        raise SealingFault("there is no key in it: make one with tokenvalet keys new-store-key")
    return tuple(keys)


def _decoded(text: str) -> bytes | None:
    try:
        secret = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return secret if len(secret) == KEY_BYTES else None


def new_key(key_id: str | None = None) -> str:
    """Return a line for the file of encryption keys, with a new key; the id is made up where none is given."""
    name = key_id if key_id is not None else secrets.token_hex(4)
    if not _KEY_ID.fullmatch(name):
        raise SealingFault("an id has 1 to 64 letters, digits, - and _")
    return f"{name}:{base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode('ascii').rstrip('=')}"
