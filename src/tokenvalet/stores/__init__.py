"""Where tokens are kept beyond this process: a folder for one host, Redis or Valkey for many, or a store of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .protocol import Entry, Lease, Store, StoreError

if TYPE_CHECKING:
    from .file import FileStore
    from .redis import RedisStore

__all__ = ["Entry", "FileStore", "Lease", "RedisStore", "Store", "StoreError"]


def __getattr__(name: str) -> Any:
    if name == "FileStore":
        from .file import FileStore

        return FileStore
    if name == "RedisStore":
        from .redis import RedisStore

        return RedisStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
