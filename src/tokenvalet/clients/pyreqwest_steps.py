"""The steps of a call with pyreqwest: what there is to wait for, and who waits. A step needs no cleaning up after itself."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ..core.token import AccessToken
from ..pending import Waiting
from ..waiting import wait, wait_async

__all__ = ["Flow", "ForAnswer", "ForEnd", "ForToken", "Sent", "run", "run_async"]


class Sent:
    """A request as it was sent, and its answer."""

    __slots__ = ("_native", "response")

    def __init__(self, native: Any, response: Any) -> None:
        self.response = response
        self._native = native  # None where a middleware has answered by itself

    def end(self) -> None:
        """Let go of the answer; if it was not read to its end by now, its connection is closed."""
        native, self._native = self._native, None
        if native is not None:
            native.__exit__(None, None, None)

    async def end_async(self) -> None:
        """As `end`, for asyncio."""
        native, self._native = self._native, None
        if native is not None:
            await native.__aexit__(None, None, None)


class ForToken:
    """Wait for a renewal."""

    __slots__ = ("waiting",)

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting

    def take(self) -> AccessToken:
        return wait(self.waiting)

    async def take_async(self) -> AccessToken:
        return await wait_async(self.waiting)


class ForAnswer:
    """Send a request, and wait for its answer."""

    __slots__ = ("native",)

    def __init__(self, native: Any) -> None:
        self.native = native

    def take(self) -> Any:
        return self.native.__enter__()

    async def take_async(self) -> Any:
        return await self.native.__aenter__()


class ForEnd:
    """Let go of an answer that nobody is to see."""

    __slots__ = ("sent",)

    def __init__(self, sent: Sent) -> None:
        self.sent = sent

    def take(self) -> None:
        self.sent.end()

    async def take_async(self) -> None:
        await self.sent.end_async()


Flow = Generator[ForToken | ForAnswer | ForEnd, Any, Sent]


def run(flow: Flow) -> Sent:
    """Take the steps of a call, blocking this thread where there is something to wait for."""
    resume: Any = flow.send
    value: Any = None
    while True:
        try:
            step = resume(value)
        except StopIteration as end:
            sent: Sent = end.value
            return sent
        try:
            resume, value = flow.send, step.take()
        except BaseException as error:  # noqa: BLE001  the call decides what becomes of it
            resume, value = flow.throw, error


async def run_async(flow: Flow) -> Sent:
    """Take the steps of a call, without blocking the event loop."""
    resume: Any = flow.send
    value: Any = None
    while True:
        try:
            step = resume(value)
        except StopIteration as end:
            sent: Sent = end.value
            return sent
        try:
            resume, value = flow.send, await step.take_async()
        except BaseException as error:  # noqa: BLE001  the call decides what becomes of it
            resume, value = flow.throw, error
