"""Requests of pyreqwest that are ready: most calls ask for what was asked for before, and a copy costs less than a new one.

A ready request is a GET with nothing of its own. It wears the token that its connections were made with, and is let go of
with them. One object is the builder of a copy, and once that is built, the request: a second object would cost a call as
much as the looks at the token do.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any, Self

from .pyreqwest_builders import ValetRequestBuilder, ValetSyncRequestBuilder
from .pyreqwest_connections import Ready
from .pyreqwest_requests import ValetRequest, ValetSyncRequest

__all__ = ["ReadyRequest", "ReadySyncRequest"]

_new: Any = object.__new__

ALREADY_BUILT = "Request was already built"  # as pyreqwest says it

# In the place of a ready request, where there is none to be copied any more.
TOLD, BUILT = SimpleNamespace(native=None), SimpleNamespace(native=None)


def _telling(name: str) -> Any:
    """Return a method of a builder: what it is told is told to a usual one."""

    @functools.wraps(getattr(ValetRequestBuilder, name))
    def tell(self: _Ready, *args: Any, **options: Any) -> _Ready:
        getattr(self._usual(), name)(*args, **options)
        return self

    return tell


def _telling_or_shown(name: str) -> Any:
    """Return what is a method of a builder, and something to look at of a request."""
    tell = _telling(name)
    shown: Any = getattr(ValetRequest, name)

    def get(self: _Ready) -> Any:
        return shown.fget(self) if self.ready is BUILT else tell.__get__(self)

    return property(get, shown.fset, doc=shown.__doc__)


class _Ready:
    """A builder that nobody has told anything, and the request that it builds. Once told something, a usual one builds.

    Attributes:
        settings: of the client.
        ready: what is to be copied; `TOLD` or `BUILT`: nothing any more.
    """

    __slots__ = ()

    settings: Any
    ready: Any
    _kind: Any  # of the usual builder
    # Where the request comes from: first what it is a copy of; once that has to be known, a usual builder.
    _origin: Any
    _native: Any
    _connections: Any

    basic_auth = _telling("basic_auth")
    bearer_auth = _telling("bearer_auth")
    body_bytes = _telling("body_bytes")
    body_json = _telling("body_json")
    body_stream = _telling("body_stream")
    body_text = _telling("body_text")
    error_for_status = _telling("error_for_status")
    form = _telling("form")
    header = _telling("header")
    multipart = _telling("multipart")
    query = _telling("query")
    streamed_read_buffer_limit = _telling("streamed_read_buffer_limit")
    timeout = _telling("timeout")
    with_middleware = _telling("with_middleware")
    extensions: Any = _telling_or_shown("extensions")
    headers: Any = _telling_or_shown("headers")

    def build(self) -> Self:
        """Return a request whose answer is read to its end when it is sent."""
        ready = self.ready
        native = ready.native
        if native is None:  # or its connections were closed meanwhile
            return self._usual().build()  # type: ignore[no-any-return]
        self.ready, self._origin, self._native, self._connections = BUILT, ready, native.copy(), ready.connections
        return self

    def build_streamed(self) -> Any:
        """Return a request whose answer is read as it comes."""
        return self._usual().build_streamed()

    def _usual(self) -> Any:
        """Return the usual builder that builds what this one was told."""
        if self.ready is BUILT:
            raise RuntimeError(ALREADY_BUILT)
        if self.ready is not TOLD:
            self._origin = self._kind(self.settings, "GET", self.ready.address)
            self.ready = TOLD
        return self._origin

    def _plan(self) -> Any:
        """Return the usual builder that would have built this request, for what goes a longer way."""
        origin = self._origin
        if isinstance(origin, Ready):
            settings = self.settings
            builder = self._origin = _new(self._kind)
            builder.settings, builder.method, builder.address = settings, "GET", settings.absolute(origin.address)
            builder.pool, builder.maker = origin.pool, origin.connections.native
            builder.is_plain = builder.is_dressed = True
        return self._origin

    _builder: Any = property(_plan)

    def __repr__(self) -> str:
        if self.ready is BUILT:
            return super().__repr__()
        return f"<{type(self).__name__}: not built>"


class ReadyRequest(_Ready, ValetRequest):
    """One for asyncio."""

    __slots__ = ("_origin", "ready", "settings")
    _kind = ValetRequestBuilder


class ReadySyncRequest(_Ready, ValetSyncRequest):
    """One that blocks."""

    __slots__ = ("_origin", "ready", "settings")
    _kind = ValetSyncRequestBuilder
