"""Base64url without padding (RFC 7515 §2) and compact JSON: the two encodings that every JWT is made of."""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

__all__ = ["b64url", "b64url_decode", "compact_json"]

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


def b64url(data: bytes) -> bytes:
    """Return `data` in base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=")


def b64url_decode(text: str) -> bytes:
    """Return the bytes of base64url `text` without padding. Raises ValueError for anything else."""
    if not _BASE64URL.fullmatch(text):
        raise ValueError("not base64url")
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("not base64url") from None


def compact_json(members: Mapping[str, Any]) -> bytes:
    """Return `members` as JSON in UTF-8 without white space."""
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
