"""Requests of pyreqwest that are ready: most calls ask for what was asked for before, and a copy costs less than a new one.

A ready request is a GET with nothing of its own. It wears the token that its connections were made with, and is let go of
with them.
"""

from __future__ import annotations

from typing import Any

from .pyreqwest_builders import ValetRequestBuilder, ValetSyncRequestBuilder
from .pyreqwest_requests import ValetRequest, ValetSyncRequest

__all__ = ["ReadyBuilder", "ReadySyncBuilder"]

_new: Any = object.__new__

ALREADY_BUILT = "Request was already built"  # as pyreqwest says it


class _Untold:
    """A builder that nobody has told anything: its request is a copy of a ready one. Once told something, it is a usual one.

    Attributes:
        ready: what is copied; see `pyreqwest_connections.Ready`.
        is_built: whether its request was made.
    """

    settings: Any
    ready: Any
    method = "GET"
    is_plain = is_dressed = True
    is_built = False
    _usual: Any
    _request: Any

    def __getattr__(self, name: str) -> Any:
        # What a usual one has: looked up only when something is told to it, or its request goes a longer way.
        if name == "pool":
            return self.ready.pool
        if name == "address":
            return self.settings.absolute(self.ready.address)
        if name == "_native":
            self._become_usual()
            return self._native
        raise AttributeError(f"{self._usual.__name__!r} object has no attribute {name!r}")

    def let_go(self) -> Any:
        """Return the client of pyreqwest that its request was made by; None: it is closed."""
        return self.ready.connections.native

    def build(self) -> Any:
        """Return a request whose answer is read to its end when it is sent."""
        ready = self.ready
        native = ready.native
        if self.is_built or native is None:  # closed meanwhile
            self._become_usual()
            return self.build()
        self.is_built = True
        request = _new(self._request)
        request._builder, request._native, request._connections = self, native.copy(), ready.connections
        return request

    def _become_usual(self) -> None:
        if self.is_built:
            raise RuntimeError(ALREADY_BUILT)
        usual = self.__class__ = self._usual
        usual.__init__(self, self.settings, "GET", self.ready.address)


class ReadyBuilder(_Untold, ValetRequestBuilder):
    """One for asyncio."""

    _usual = ValetRequestBuilder
    _request = ValetRequest


class ReadySyncBuilder(_Untold, ValetSyncRequestBuilder):
    """One that blocks."""

    _usual = ValetSyncRequestBuilder
    _request = ValetSyncRequest
