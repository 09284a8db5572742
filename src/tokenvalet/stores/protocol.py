"""What a store has to do: keep small values for a while, and give one process at a time the lease of a token key.

Stores block, and are called on the valet's own threads only, by several of them at once. They know neither tokens nor
encryption: values are bytes, and sealed where encryption keys are configured.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..core.messages import Lease

__all__ = ["Entry", "Lease", "Store", "StoreError"]


class StoreError(Exception):
    """A store cannot be used at the moment. The text says why, and has neither a value nor a password in it."""


class Entry(NamedTuple):
    """A stored value, and the seconds that it has left."""

    value: bytes
    left: float


class Store(Protocol):
    """A place that processes share. Every method raises StoreError where the store cannot be used, within its time-out.

    The names that they are given, one for each token key, are 64 hexadecimal digits; an owner is a word of its own for
    every renewal.
    """

    def read(self, key: str) -> Entry | None:
        """Return what is stored under `key`, or None. What has no end, or is past it, counts as missing."""

    def claim(self, key: str, owner: str, seconds: float) -> tuple[Lease, Entry | None]:
        """Take the lease of `key`, or prolong it if it is `owner`'s, and return how it stands and what is stored.

        A lease ends after `seconds`, or with the process, if it is not given back before.
        """

    def write(self, key: str, value: bytes, seconds: float, owner: str) -> None:
        """Store `value` for so many seconds, and give the lease back if it is `owner`'s."""

    def release(self, key: str, owner: str, pause: float) -> None:
        """Give the lease back if it is `owner`'s; for `pause` seconds nobody may have it."""

    def close(self) -> None:
        """Give up what the store has opened by itself."""
