"""A token that is at hand: call after call sends it without asking the renewer, as long as it is seen to be current."""

from __future__ import annotations

import time
from typing import Any, Protocol, Self

from .core.token import AccessToken
from .named_client import NamedClient
from .pending import Entry
from .surroundings import readers_of

__all__ = ["AtHand"]


class Asked(Protocol):
    """The renewer: whether it has to be asked for each use."""

    must_be_asked: bool


class AtHand:
    """A token, and what tells whether it is still the one to send. Each is of one asker, who may set it an earlier end.

    Attributes:
        token: the token; None: there was never one.
        entry: where it is as long as it is current.
        serial, client: its number, and whose it is.
        until, until_wall: how long it may be sent, on the monotonic and on the wall clock, in seconds.
        monotonic, wall: read the clocks.
        observers: those of the valet, who may be more or fewer with each call.
        renewer: where it came from.
    """

    __slots__ = (
        "client",
        "entry",
        "monotonic",
        "observers",
        "renewer",
        "serial",
        "token",
        "until",
        "until_wall",
        "wall",
    )

    def __init__(self, renewer: Asked, client: NamedClient, entry: Entry, token: AccessToken) -> None:
        self.renewer = renewer
        self.client = client
        self.entry = entry
        self.token: AccessToken | None = token
        self.serial = token.serial
        self.monotonic, self.wall = readers_of(client.around.clock)
        self.until, self.until_wall = token.due
        self.observers = client.around.observers

    @classmethod
    def never(cls) -> Self:
        """Return what stands in the place of one as long as there is none: it is never current."""
        nothing: Any = cls.__new__(cls)
        nothing.token, nothing.monotonic = None, time.monotonic
        nothing.lapse()
        return nothing  # type: ignore[no-any-return]

    def is_current(self) -> bool:
        """Whether the token is the one to send, and nobody has to be told of each use."""
        return (
            self.monotonic() < self.until
            and self.entry.token is self.token
            and self.wall() < self.until_wall
            and self.serial >= self.client.valid_from
            and not self.observers.every_call
            and not self.renewer.must_be_asked
        )

    def lapse(self) -> None:
        """Have it be current no more."""
        self.until = float("-inf")
