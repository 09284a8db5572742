"""What is left of a call that is not wanted: the rest of a response, and the frames of an error with its headers in them."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any

from ..waiting import running_loop

__all__ = ["discard", "discard_async", "discard_raw", "scrub"]

# They know the parts of a body, and no headers but its own.
READERS_OF_BODIES = frozenset(
    f"{library}.{module}" for library in ("httpx2", "httpx") for module in ("_content", "_multipart")
)
LONGEST_DISCARDED = 64 * 1024
LONGEST_DISCARD_SECONDS = 1.0


def scrub(error: BaseException, packages: frozenset[str] = frozenset()) -> None:
    """Cut the frames of the HTTP library out of an error: their local variables hold the headers as they were sent.

    packages: those that the request went through, up to code of the caller's own; left out for httpx2 and httpx, whose
        readers of bodies are known by name.
    """
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        trace = one.__traceback__
        one.__traceback__ = _of_the_caller(trace, packages) if packages else _of_the_body(trace)
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def _of_the_body(trace: TracebackType | None) -> TracebackType | None:
    """Return the frames that read the caller's own body, where a fault of the caller's code is to be found, or None."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") not in READERS_OF_BODIES:
        trace = trace.tb_next
    return trace


def _of_the_caller(trace: TracebackType | None, packages: frozenset[str]) -> TracebackType | None:
    """Return the frames from the first one outside these packages on: of a body, or of a hook, of the caller's own."""
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] in packages:
        trace = trace.tb_next
    return trace


def discard(response: Any, extensions: dict[str, Any]) -> None:
    """Read the rest of a response that is not wanted, within bounds, so that its connection can serve again.

    extensions: those that its request was sent with, in which the library looks for timeouts when it begins to read.
    """
    deadline = time.monotonic() + LONGEST_DISCARD_SECONDS
    # The caller may have allowed for any silence, but not for one in an answer that is never seen.
    extensions["timeout"] = {**extensions.get("timeout", {}), "read": LONGEST_DISCARD_SECONDS}
    left = LONGEST_DISCARDED
    try:
        for part in response.stream:
            left -= len(part)
            if left < 0 or time.monotonic() > deadline:
                break
    except Exception as error:  # noqa: BLE001  it was not wanted anyway
        scrub(error)
    finally:
        response.close()


def discard_raw(response: Any) -> None:
    """As `discard`, for a response of requests."""
    raw = response.raw
    read = getattr(raw, "read1", None)  # what has come, without waiting for more; older urllib3 cannot
    sock = getattr(getattr(raw, "connection", None), "sock", None)
    deadline = time.monotonic() + LONGEST_DISCARD_SECONDS
    left = LONGEST_DISCARDED
    try:
        if sock is not None:
            sock.settimeout(LONGEST_DISCARD_SECONDS)
        while read is not None and (part := read(LONGEST_DISCARDED, decode_content=False)):
            left -= len(part)
            if left < 0 or time.monotonic() > deadline:
                break
    except Exception as error:  # noqa: BLE001  it was not wanted anyway
        scrub(error)
    finally:
        response.close()


async def discard_async(response: Any) -> None:
    left = LONGEST_DISCARDED
    try:
        if isinstance(running_loop(), asyncio.AbstractEventLoop):
            async with asyncio.timeout(LONGEST_DISCARD_SECONDS):
                async for part in response.stream:
                    left -= len(part)
                    if left < 0:
                        break
        else:
            import trio

            with trio.move_on_after(LONGEST_DISCARD_SECONDS) as scope:
                async for part in response.stream:
                    left -= len(part)
                    if left < 0:
                        # Where a `break` would leave the library's generators unfinished, of which trio warns.
                        scope.cancel()
    except Exception as error:  # noqa: BLE001  it was not wanted anyway
        scrub(error)
    finally:
        await response.aclose()
