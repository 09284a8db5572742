"""Requests to pyreqwest's clients of a valet: they are sent by the shell, hop by hop, with a token.

They cannot be pyreqwest's own classes, which cannot be made, or made others of, outside of it. A request of theirs is inside
each, and is what a caller sees and sets; copies of it are sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pyreqwest.http import HeaderMap, Url
from pyreqwest.middleware.types import Middleware, SyncMiddleware
from pyreqwest.request import Request, RequestBody
from pyreqwest.response import Response, SyncResponse
from pyreqwest.types import ExtensionsType

from .leftovers import scrub
from .pyreqwest_outgoing import ALREADY_SENT, Outgoing, is_read
from .pyreqwest_shell import OWN_FRAMES, Shell
from .pyreqwest_steps import Sent, run, run_async

__all__ = ["ValetRequest", "ValetStreamRequest", "ValetSyncRequest", "ValetSyncStreamRequest"]


def _handed_on(name: str, doc: str) -> Any:
    """Return a property that is one of the request of pyreqwest."""

    def get(self: _Request) -> Any:
        return getattr(self._waiting().native, name)

    def put(self: _Request, value: Any) -> None:
        setattr(self._waiting().native, name, value)

    return property(get, put, doc=doc)


class _Request:
    __slots__ = ("_error_for_status", "_middlewares", "_outgoing", "_shell")

    def __init__(self, shell: Shell, outgoing: Outgoing, middlewares: tuple[Any, ...], error_for_status: bool) -> None:
        self._shell = shell
        self._outgoing: Outgoing | None = outgoing
        self._middlewares = middlewares
        self._error_for_status = error_for_status

    method: str = _handed_on("method", "The HTTP method.")
    url: Url = _handed_on("url", "The address.")
    headers: HeaderMap = _handed_on("headers", "The headers, without those of the token.")
    body: RequestBody | None = _handed_on("body", "The body.")

    @property
    def extensions(self) -> dict[str, Any]:
        """What goes along with the request inside the process; ``tokenvalet`` is for `TokenParameters`."""
        outgoing = self._waiting()
        outgoing.is_special = True
        extensions: dict[str, Any] = outgoing.native.extensions
        return extensions

    @extensions.setter
    def extensions(self, value: ExtensionsType) -> None:
        outgoing = self._waiting()
        outgoing.is_special = True
        outgoing.native.extensions = value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._outgoing.native if self._outgoing is not None else 'sent'}>"

    def _waiting(self) -> Outgoing:
        if self._outgoing is None:
            raise RuntimeError(ALREADY_SENT)
        self._outgoing.is_simple = False  # as far as is known: its headers and its address may be changed
        return self._outgoing

    def _gone(self) -> Outgoing:
        """Return what is to be sent, and hold on to it no more, nor to the connections that it was made for."""
        outgoing, self._outgoing = self._outgoing, None
        if outgoing is None:
            raise RuntimeError(ALREADY_SENT)
        return outgoing


class _Async(_Request):
    __slots__ = ()

    async def _answer(self, ends: bool) -> Sent:
        """Send the request, through the middlewares if there are any; `ends`: and read the answer to its end."""
        outgoing = self._gone()
        if not self._middlewares:
            return await self._send(outgoing, ends)
        outgoing.is_simple = False
        answers: list[Sent] = []

        async def last(request: Request) -> Response:
            answers.append(await self._send(_onward(outgoing, request), ends))
            response: Response = answers[-1].response
            return response

        chosen = None
        try:
            chosen = await _Next(self._middlewares, last).run(outgoing.native)
        finally:
            for sent in answers:
                if sent.response is not chosen and not ends:
                    await sent.end_async()
        return next((sent for sent in answers if sent.response is chosen), Sent(None, chosen))

    async def _send(self, outgoing: Outgoing, ends: bool) -> Sent:
        shell = self._shell
        sent: Sent | None = None
        native = shell.warm(outgoing)
        try:
            if native is not None:
                # What nearly all calls are needs nothing of the flow but its first step.
                sent = Sent(native, await native.__aenter__())
            if sent is None or not shell.is_settled(sent.response):
                sent = await run_async(shell.calls(outgoing, sent))
            if self._error_for_status:
                sent.response.error_for_status()
            if ends and (native is None or not is_read(sent.response)):
                await sent.response.bytes()
        except BaseException as error:
            if sent is not None:
                await sent.end_async()
            del native, sent
            scrub(error, OWN_FRAMES)
            raise
        return sent


class ValetRequest(_Async):
    """A request whose answer is read to its end when it is sent. It is sent once, as pyreqwest has it."""

    __slots__ = ()

    async def send(self) -> Response:
        """Send it, with a token where it belongs. Raises TokenValetError where it cannot be had."""
        response: Response = (await self._answer(ends=True)).response
        return response


class ValetStreamRequest(_Async):
    """A request whose answer is read as it comes: ``async with request as response``."""

    __slots__ = ("_sent",)

    async def __aenter__(self) -> Response:
        self._sent = await self._answer(ends=False)
        response: Response = self._sent.response
        return response

    async def __aexit__(self, *_: object) -> None:
        await self._sent.end_async()


class _Sync(_Request):
    __slots__ = ()

    def _answer(self, ends: bool) -> Sent:
        """Send the request, through the middlewares if there are any; `ends`: and read the answer to its end."""
        outgoing = self._gone()
        if not self._middlewares:
            return self._send(outgoing, ends)
        outgoing.is_simple = False
        answers: list[Sent] = []

        def last(request: Request) -> SyncResponse:
            answers.append(self._send(_onward(outgoing, request), ends))
            response: SyncResponse = answers[-1].response
            return response

        chosen = None
        try:
            chosen = _SyncNext(self._middlewares, last).run(outgoing.native)
        finally:
            for sent in answers:
                if sent.response is not chosen and not ends:
                    sent.end()
        return next((sent for sent in answers if sent.response is chosen), Sent(None, chosen))

    def _send(self, outgoing: Outgoing, ends: bool) -> Sent:
        shell = self._shell
        sent: Sent | None = None
        native = shell.warm(outgoing)
        try:
            if native is not None:
                # What nearly all calls are needs nothing of the flow but its first step.
                sent = Sent(native, native.__enter__())
            if sent is None or not shell.is_settled(sent.response):
                sent = run(shell.calls(outgoing, sent))
            if self._error_for_status:
                sent.response.error_for_status()
            if ends and (native is None or not is_read(sent.response)):
                sent.response.bytes()
        except BaseException as error:
            if sent is not None:
                sent.end()
            del native, sent
            scrub(error, OWN_FRAMES)
            raise
        return sent


class ValetSyncRequest(_Sync):
    """A request whose answer is read to its end when it is sent. It is sent once, as pyreqwest has it."""

    __slots__ = ()

    def send(self) -> SyncResponse:
        """Send it, with a token where it belongs. Raises TokenValetError where it cannot be had."""
        response: SyncResponse = self._answer(ends=True).response
        return response


class ValetSyncStreamRequest(_Sync):
    """A request whose answer is read as it comes: ``with request as response``."""

    __slots__ = ("_sent",)

    def __enter__(self) -> SyncResponse:
        self._sent = self._answer(ends=False)
        response: SyncResponse = self._sent.response
        return response

    def __exit__(self, *_: object) -> None:
        self._sent.end()


def _onward(outgoing: Outgoing, request: Request) -> Outgoing:
    """Return a request as the last of the middlewares hands it on."""
    if request is outgoing.native:
        return outgoing
    return Outgoing(request, outgoing.pool, outgoing.maker, outgoing.timeout, is_special=True)


class _Next:
    """The rest of the middlewares, as each of them is given it."""

    __slots__ = ("_last", "_middlewares")

    def __init__(self, middlewares: tuple[Middleware, ...], last: Callable[[Request], Awaitable[Response]]) -> None:
        self._middlewares = middlewares
        self._last = last

    async def run(self, request: Request) -> Response:
        if not self._middlewares:
            return await self._last(request)
        first, *others = self._middlewares
        return await first(request, _Next(tuple(others), self._last))  # type: ignore[arg-type]


class _SyncNext:
    """The rest of the middlewares, as each of them is given it."""

    __slots__ = ("_last", "_middlewares")

    def __init__(self, middlewares: tuple[SyncMiddleware, ...], last: Callable[[Request], SyncResponse]) -> None:
        self._middlewares = middlewares
        self._last = last

    def run(self, request: Request) -> SyncResponse:
        if not self._middlewares:
            return self._last(request)
        first, *others = self._middlewares
        return first(request, _SyncNext(tuple(others), self._last))  # type: ignore[arg-type]
