"""The bodies of responses of httpx2 and httpx, which are read as the library reads them, and count their calls out."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

from .leftovers import scrub
from .pools import Pool

__all__ = ["bodies_of"]


@functools.cache
def bodies_of(library: ModuleType) -> tuple[Any, Any]:
    """Return the classes of bodies, for threads and for event loops, of httpx2 or httpx.

    They are made for every call, and without a constructor, which would cost more than all that it does:

    Attributes:
        inner: the body of the library.
        pool: that the call is on, if it is on one; the call is counted out when the body is closed.
    """
    return _bodies_of(library)


def _bodies_of(library: Any) -> tuple[Any, Any]:
    class SyncBody(library.SyncByteStream):  # type: ignore[misc]
        inner: Any
        pool: Pool | None

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from self.inner
            except Exception as error:
                scrub(error)
                raise

        def close(self) -> None:
            pool, self.pool = self.pool, None
            try:
                self.inner.close()
            finally:
                if pool is not None and pool.leave():
                    pool.transport.close()

    class AsyncBody(library.AsyncByteStream):  # type: ignore[misc]
        inner: Any
        pool: Pool | None

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for part in self.inner:
                    yield part
            except Exception as error:
                scrub(error)
                raise

        async def aclose(self) -> None:
            pool, self.pool = self.pool, None
            try:
                await self.inner.aclose()
            finally:
                if pool is not None and pool.leave():
                    await pool.aclose()

    return SyncBody, AsyncBody
