"""Waiting for a renewal, in a thread or on an event loop of asyncio or trio.

The future of a renewal is one for all who wait. On a loop each has an event of its own, set from the renewer's thread in
the loop's own way, so that nothing is shared between loops and a waiter that is cancelled leaves no trace.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from .core.token import AccessToken
from .pending import Waiting

__all__ = ["running_loop", "wait", "wait_async"]


def wait(waiting: AccessToken | Waiting) -> AccessToken:
    """Return the token, blocking this thread until it is there. Raises the renewal's error."""
    if isinstance(waiting, AccessToken):
        return waiting
    with contextlib.suppress(FutureTimeoutError):
        # Only to wait: the error is raised below as one of this caller's own.
        waiting.future.exception(waiting.seconds)
    return waiting.result()


async def wait_async(waiting: AccessToken | Waiting) -> AccessToken:
    """Return the token, waiting on the running event loop until it is there. Raises the renewal's error."""
    if isinstance(waiting, AccessToken):
        return waiting
    if not waiting.future.done():
        if isinstance(running_loop(), asyncio.AbstractEventLoop):
            await _wait_asyncio(waiting.future, waiting.seconds)
        else:
            await _wait_trio(waiting.future, waiting.seconds)
    return waiting.result()


def running_loop() -> Any:
    """Return what stands for the running event loop: asyncio's loop, or trio's token. Raises RuntimeError outside one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        if "trio" not in sys.modules:
            raise
    import trio

    return trio.lowlevel.current_trio_token()


async def _wait_asyncio(future: Future[AccessToken], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def wake(_: Future[AccessToken]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed by then
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(wake)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()


async def _wait_trio(future: Future[AccessToken], seconds: float) -> None:
    import trio

    token = trio.lowlevel.current_trio_token()
    done = trio.Event()

    def wake(_: Future[AccessToken]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    future.add_done_callback(wake)
    with trio.move_on_after(seconds):
        await done.wait()
