"""Requests to pyreqwest's clients of a valet: they are sent by the shell, hop by hop, with a token.

They cannot be pyreqwest's own classes, which cannot be made, or made others of, outside of it. A request of theirs is inside
each, and is what a caller sees and sets; copies of it are sent.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

from pyreqwest.http import HeaderMap, Url
from pyreqwest.request import Request, RequestBody
from pyreqwest.response import Response, SyncResponse
from pyreqwest.types import ExtensionsType

from ..core.token import AccessToken
from .leftovers import scrub
from .pyreqwest_connections import undressed
from .pyreqwest_middlewares import Next, SyncNext, onward
from .pyreqwest_outgoing import ALREADY_SENT, Outgoing, is_read
from .pyreqwest_shell import OWN_FRAMES, dress
from .pyreqwest_steps import Sent, run, run_async

__all__ = ["ValetRequest", "ValetStreamRequest", "ValetSyncRequest", "ValetSyncStreamRequest"]


class Plan(Protocol):
    """What a request is made with: its builder, where it was told all that there is to know.

    Attributes:
        pool: whose connections it was made for.
        is_plain: whether it is nothing special, has a body that can be copied if any, and goes where a token may.
        is_bare: whether it has neither a body, nor headers or a query that were told apart.
        is_dressed: whether its request wears the token that its connections were made with, as long as nobody looks at it.
        is_special: whether there is something about it beyond method, address, headers and body.
        raises: whether an answer of 4xx or 5xx is an error; None: as on the client.
        time_limit: of each sending.
    """

    settings: Any
    pool: Any
    is_plain: bool
    is_bare: bool
    is_dressed: bool
    is_special: bool
    raises: bool | None
    middlewares: tuple[Any, ...]
    time_limit: timedelta | None

    def anew(self, maker: Any) -> Any: ...

    def let_go(self) -> Any: ...


def _handed_on(name: str, doc: str) -> Any:
    """Return a property that is one of the request of pyreqwest."""

    def get(self: _Request) -> Any:
        return getattr(self._waiting(), name)

    def put(self: _Request, value: Any) -> None:
        setattr(self._waiting(), name, value)

    return property(get, put, doc=doc)


class _Request:
    __slots__ = ("_builder", "_connections", "_native")

    def __init__(self, builder: Plan, native: Any, connections: Any) -> None:
        self._builder = builder
        self._native = native  # None once it was sent, so that it holds on to no connections
        self._connections = connections  # whose token it wears, as long as nobody looked at it

    method: str = _handed_on("method", "The HTTP method.")
    url: Url = _handed_on("url", "The address.")
    headers: HeaderMap = _handed_on("headers", "The headers, without those of the token.")
    body: RequestBody | None = _handed_on("body", "The body.")

    @property
    def extensions(self) -> dict[str, Any]:
        """What goes along with the request inside the process; ``tokenvalet`` is for `TokenParameters`."""
        self._builder.is_special = True
        extensions: dict[str, Any] = self._waiting().extensions
        return extensions

    @extensions.setter
    def extensions(self, value: ExtensionsType) -> None:
        self._builder.is_special = True
        self._waiting().extensions = value

    def __repr__(self) -> str:
        if self._native is None:
            return f"<{type(self).__name__}: sent>"
        # pyreqwest's own would say that there is a header of the token, and show the query.
        url = self._native.url
        return f"<{type(self).__name__}: {self._native.method} {url.origin_ascii or ''}{url.path}>"

    def _token(self) -> AccessToken | None:
        """Return the token that bare requests are made with."""
        token: AccessToken | None = self._builder.pool.transport.token
        return token

    def _waiting(self) -> Any:
        if self._native is None:
            raise RuntimeError(ALREADY_SENT)
        self._builder.is_plain = False  # as far as is known: its headers and its address may be changed
        self._connections = None
        return undressed(self._native, self._token())

    def _gone(self) -> Outgoing:
        """Return what is to be sent, and hold on to it no more."""
        native, self._native = self._native, None
        if native is None:
            raise RuntimeError(ALREADY_SENT)
        builder = self._builder
        return Outgoing(
            undressed(native, self._token()),
            builder.pool,
            builder.let_go(),
            builder.time_limit,
            is_special=builder.is_special,
        )

    def _once_more(self, native: Any, maker: Any, token: AccessToken | None) -> Outgoing:
        """Return a request, undressed, for what follows its first sending, which is over, and was with this token."""
        builder = self._builder
        outgoing = Outgoing(native, builder.pool, maker, builder.time_limit, is_special=False)
        outgoing.token = token
        return outgoing

    def _raises(self) -> bool:
        builder = self._builder
        return builder.raises if builder.raises is not None else bool(builder.settings.error_for_status)


class _Async(_Request):
    __slots__ = ()

    async def _answer(self, ends: bool) -> Sent:
        """Send the request, through the middlewares if there are any; `ends`: and read the answer to its end."""
        middlewares = self._builder.settings.middlewares + self._builder.middlewares
        if not middlewares:
            return await self._send(self._gone(), None, ends)
        outgoing = self._gone()
        answers: list[Sent] = []

        async def last(request: Request) -> Response:
            answers.append(await self._send(onward(outgoing, request), None, ends))
            response: Response = answers[-1].response
            return response

        chosen = None
        try:
            chosen = await Next(middlewares, last).run(outgoing.native)
        finally:
            for sent in answers:
                if sent.response is not chosen and not ends:
                    await sent.end_async()
        return next((sent for sent in answers if sent.response is chosen), Sent(None, chosen))

    async def _send(self, outgoing: Outgoing, sent: Sent | None, ends: bool) -> Sent:
        """Go through the whole flow of a call; `sent` is its first step, if that was taken by now."""
        try:
            sent = await run_async(self._builder.settings.shell.calls(outgoing, sent))
            if self._raises():
                sent.response.error_for_status()
            if ends:
                await sent.response.bytes()
        except BaseException as error:
            if sent is not None:
                await sent.end_async()
            del sent, outgoing
            scrub(error, OWN_FRAMES)
            raise
        return sent


class ValetRequest(_Async):
    """A request whose answer is read to its end when it is sent. It is sent once, as pyreqwest has it."""

    __slots__ = ()

    async def send(self) -> Response:
        """Send it, with a token where it belongs. Raises TokenValetError where it cannot be had."""
        # First what nearly all calls are, in as few steps as can be: as it was made, with the token that it was made with.
        connections, native = self._connections, self._native
        if (
            connections is None
            or native is None
            # As `AtHand.is_current` has it, in one step less.
            or (at_hand := connections.at_hand).monotonic() >= at_hand.until
            or at_hand.entry.token is not at_hand.token
            or at_hand.wall() >= at_hand.until_wall
            or at_hand.serial < at_hand.client.valid_from
            or at_hand.observers.every_call
            or at_hand.renewer.must_be_asked
            or (maker := connections.native) is None
        ):
            del native
            return await self._send_dressed()
        self._native = None
        try:
            response: Response = await native.__aenter__()
            if response.status < 300:
                length = response.get_header("content-length")
                if (length is None or len(length) > 4) and not is_read(response):  # in one step less where it is short
                    await response.bytes()
                return response
            outgoing = self._once_more(self._builder.anew(maker), maker, connections.token)
        except BaseException as error:
            # What an error leads to holds on to no connections.
            del native, maker, connections
            scrub(error, OWN_FRAMES)
            raise
        sent = Sent(native, response)
        del native, response
        return (await self._send(outgoing, sent, ends=True)).response  # type: ignore[no-any-return]

    async def _send_dressed(self) -> Response:
        """As `send`, with a token that is put on now, if it is at hand."""
        builder, native = self._builder, self._native
        shell = builder.settings.shell
        token = shell.fresh(builder.pool) if builder.is_plain and native is not None else None
        maker = builder.let_go() if token is not None else None
        if token is None or maker is None:
            del native
            return (await self._answer(ends=True)).response  # type: ignore[no-any-return]
        self._native = None
        connections, is_bare = builder.pool.transport, builder.is_bare
        # One that can be made anew is sent itself, and dressed as it was made.
        twin = native if is_bare else native.copy()
        try:
            if connections.token is not token or not builder.is_dressed:
                dress(twin, token.authorization, None)
                connections.is_used = True
            response: Response = await twin.__aenter__()
            if response.status < 300 and not shell.observers.every_request:
                length = response.get_header("content-length")
                if (length is None or len(length) > 4) and not is_read(response):  # in one step less where it is short
                    await response.bytes()
                return response
            native = builder.anew(maker) if is_bare else undressed(native, connections.token)
            outgoing = self._once_more(native, maker, token)
        except BaseException as error:
            # What an error leads to holds on to no connections.
            del twin, native, maker, connections
            scrub(error, OWN_FRAMES)
            raise
        sent = Sent(twin, response)
        del twin, response
        return (await self._send(outgoing, sent, ends=True)).response  # type: ignore[no-any-return]


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
        middlewares = self._builder.settings.middlewares + self._builder.middlewares
        if not middlewares:
            return self._send(self._gone(), None, ends)
        outgoing = self._gone()
        answers: list[Sent] = []

        def last(request: Request) -> SyncResponse:
            answers.append(self._send(onward(outgoing, request), None, ends))
            response: SyncResponse = answers[-1].response
            return response

        chosen = None
        try:
            chosen = SyncNext(middlewares, last).run(outgoing.native)
        finally:
            for sent in answers:
                if sent.response is not chosen and not ends:
                    sent.end()
        return next((sent for sent in answers if sent.response is chosen), Sent(None, chosen))

    def _send(self, outgoing: Outgoing, sent: Sent | None, ends: bool) -> Sent:
        """Go through the whole flow of a call; `sent` is its first step, if that was taken by now."""
        try:
            sent = run(self._builder.settings.shell.calls(outgoing, sent))
            if self._raises():
                sent.response.error_for_status()
            if ends:
                sent.response.bytes()
        except BaseException as error:
            if sent is not None:
                sent.end()
            del sent, outgoing
            scrub(error, OWN_FRAMES)
            raise
        return sent


class ValetSyncRequest(_Sync):
    """A request whose answer is read to its end when it is sent. It is sent once, as pyreqwest has it."""

    __slots__ = ()

    def send(self) -> SyncResponse:
        """Send it, with a token where it belongs. Raises TokenValetError where it cannot be had."""
        # First what nearly all calls are, in as few steps as can be: as it was made, with the token that it was made with.
        connections, native = self._connections, self._native
        if (
            connections is None
            or native is None
            # As `AtHand.is_current` has it, in one step less.
            or (at_hand := connections.at_hand).monotonic() >= at_hand.until
            or at_hand.entry.token is not at_hand.token
            or at_hand.wall() >= at_hand.until_wall
            or at_hand.serial < at_hand.client.valid_from
            or at_hand.observers.every_call
            or at_hand.renewer.must_be_asked
            or (maker := connections.native) is None
        ):
            del native
            return self._send_dressed()
        self._native = None
        try:
            response: SyncResponse = native.__enter__()
            if response.status < 300:
                response.bytes()  # less than to look whether it has been read to its end; the caller's costs less then
                return response
            outgoing = self._once_more(self._builder.anew(maker), maker, connections.token)
        except BaseException as error:
            # What an error leads to holds on to no connections.
            del native, maker, connections
            scrub(error, OWN_FRAMES)
            raise
        sent = Sent(native, response)
        del native, response
        return (self._send(outgoing, sent, ends=True)).response  # type: ignore[no-any-return]

    def _send_dressed(self) -> SyncResponse:
        """As `send`, with a token that is put on now, if it is at hand."""
        builder, native = self._builder, self._native
        shell = builder.settings.shell
        token = shell.fresh(builder.pool) if builder.is_plain and native is not None else None
        maker = builder.let_go() if token is not None else None
        if token is None or maker is None:
            del native
            return (self._answer(ends=True)).response  # type: ignore[no-any-return]
        self._native = None
        connections, is_bare = builder.pool.transport, builder.is_bare
        # One that can be made anew is sent itself, and dressed as it was made.
        twin = native if is_bare else native.copy()
        try:
            if connections.token is not token or not builder.is_dressed:
                dress(twin, token.authorization, None)
                connections.is_used = True
            response: SyncResponse = twin.__enter__()
            if response.status < 300 and not shell.observers.every_request:
                response.bytes()
                return response
            native = builder.anew(maker) if is_bare else undressed(native, connections.token)
            outgoing = self._once_more(native, maker, token)
        except BaseException as error:
            # What an error leads to holds on to no connections.
            del twin, native, maker, connections
            scrub(error, OWN_FRAMES)
            raise
        sent = Sent(twin, response)
        del twin, response
        return (self._send(outgoing, sent, ends=True)).response  # type: ignore[no-any-return]


class ValetSyncStreamRequest(_Sync):
    """A request whose answer is read as it comes: ``with request as response``."""

    __slots__ = ("_sent",)

    def __enter__(self) -> SyncResponse:
        self._sent = self._answer(ends=False)
        response: SyncResponse = self._sent.response
        return response

    def __exit__(self, *_: object) -> None:
        self._sent.end()
