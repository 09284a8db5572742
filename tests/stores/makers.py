"""What the tests of this folder share: token keys, tokens as they are stored, listeners, encryption keys."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from tokenvalet import Event
from tokenvalet.core.response import Granted

PLANTED = "planted-token-planted"


def key_of(name: object) -> str:
    """Return a token key: 64 hexadecimal digits."""
    return hashlib.sha256(str(name).encode()).hexdigest()


KEY, OTHER = key_of("one"), key_of("another")


def granted(value: str = PLANTED, **members: Any) -> Granted:
    return Granted(**{"access_token": value, "token_type": "Bearer", "lifetime": 100.0, "scope": None, **members})


def secret_of(number: int) -> bytes:
    """Return 32 bytes that are easy to find again."""
    return bytes([number]) * 32


def line_of(key_id: str, number: int) -> str:
    """Return a line of a file of encryption keys."""
    return f"{key_id}:{base64.urlsafe_b64encode(secret_of(number)).decode().rstrip('=')}"


class Heard:
    """A listener that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def names(self) -> list[str]:
        return [event.name for event in self.events]
