"""Scopes (RFC 6749 §3.3): a set of case-sensitive words, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import shown

__all__ = ["scope_tokens"]

_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


def scope_tokens(scope: str | Iterable[str]) -> tuple[str, ...]:
    """Return the words of a scope, each once, in the order given.

    Raises:
        ValueError: a word has a character in it that RFC 6749 §3.3 does not allow.
    """
    text = [scope] if isinstance(scope, str) else scope
    words = [word for part in text for word in part.split(" ") if word]
    for word in words:
        if not _SCOPE_TOKEN.fullmatch(word):
            raise ValueError(
                f"{shown(word, 64)!r} is no scope: printable ASCII without quote and backslash (RFC 6749 §3.3)"
            )
    return tuple(dict.fromkeys(words))
