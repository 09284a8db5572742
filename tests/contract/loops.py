"""Event loops in threads of their own, so that one test, written without `await`, drives any library.

A call that is under way is a future of `concurrent.futures`; cancelling it cancels the task, or the scope, in which it
runs, in the loop's own way.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import trio

__all__ = ["AsyncioLoop", "Loop", "Loops", "TrioLoop"]

T = TypeVar("T")
PATIENCE = 30.0


class Loop(Protocol):
    """An event loop in a thread."""

    def submit(self, function: Callable[..., Awaitable[T]], *args: Any) -> Future[T]:
        """Run a coroutine function there."""
        ...

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run a coroutine function there, and wait for what it returns."""
        ...

    def close(self) -> None:
        """End the loop as `asyncio.run` and `trio.run` end theirs, and the thread."""
        ...


class AsyncioLoop:
    """asyncio in a thread."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="asyncio loop", daemon=True)
        self._thread.start()
        self._ready.wait(PATIENCE)

    async def _main(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._ended.wait()

    def submit(self, function: Callable[..., Awaitable[T]], *args: Any) -> Future[T]:
        async def call() -> T:
            return await function(*args)

        return asyncio.run_coroutine_threadsafe(call(), self._loop)

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        return self.submit(function, *args).result(PATIENCE)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(PATIENCE)


class TrioLoop:
    """trio in a thread."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: trio.run(self._main), name="trio loop", daemon=True)
        self._thread.start()
        self._ready.wait(PATIENCE)

    async def _main(self) -> None:
        self._token, self._ended = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._ready.set()
            await self._ended.wait()
            nursery.cancel_scope.cancel()

    def submit(self, function: Callable[..., Awaitable[T]], *args: Any) -> Future[T]:
        future: Future[T] = Future()
        scope = trio.CancelScope()

        def cancel(one: Future[T]) -> None:
            if one.cancelled():
                self._token.run_sync_soon(scope.cancel)

        async def call() -> None:
            value: Any = None
            error: BaseException | None = None
            with scope:
                try:
                    value = await function(*args)
                except Exception as raised:
                    error = raised
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            elif scope.cancelled_caught:
                future.set_exception(CancelledError())
            else:
                future.set_result(value)

        future.add_done_callback(cancel)
        self._token.run_sync_soon(functools.partial(self._nursery.start_soon, call))
        return future

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        return self.submit(function, *args).result(PATIENCE)

    def close(self) -> None:
        self._token.run_sync_soon(self._ended.set)
        self._thread.join(PATIENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loops:
    """The event loops that all tests of a process share."""

    asyncio: AsyncioLoop
    trio: TrioLoop
