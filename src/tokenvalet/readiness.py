"""Is each client ready: does it have a token, or can it get one? For the probes of whoever runs the program.

Asking is like any other use of the client: one token request at most, shared with everybody, and while a failure is
remembered the server is left alone. So a probe every second costs the provider nothing. No token, and nothing that the
server said, is in the answer.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from .core.token import AccessToken
from .errors import TokenValetError, ValetClosedError
from .named_client import NamedClient, Ticket
from .pending import Waiting
from .waiting import wait, wait_async

if TYPE_CHECKING:
    from .client_book import ClientBook
    from .renewal import Renewer

__all__ = ["ClientReadiness", "Readiness", "ReadinessOfClients"]

PATIENCE_SECONDS = 1.0

State = Literal["fresh", "due", "waiting", "failed", "idle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientReadiness:
    """Whether one client has, or can get, a token.

    Attributes:
        client: its name.
        ready: whether a request could be sent with a token now.
        state: ``fresh``: there is a token; ``due``: there is one, and it is time for another; ``waiting``: the first one
            is being got; ``failed``: there is none, and `code` says why; ``idle``: none was kept, or asked for.
        expires_in: seconds that the token can still be used, or None where there is none.
        code: the code of the error with which the last renewal failed, or None. With ``fresh`` or ``due`` there is a
            token all the same.
        retry_in: seconds that the server is left alone because of that, or None.
    """

    client: str
    ready: bool
    state: State
    expires_in: float | None = None
    code: str | None = None
    retry_in: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object, in whole seconds, without what there is nothing to say of."""
        told: dict[str, Any] = {"ready": self.ready, "state": self.state}
        if self.expires_in is not None:
            told["expires_in"] = math.floor(self.expires_in)
        if self.retry_in is not None:
            told["retry_in"] = math.ceil(self.retry_in)
        if self.code is not None:
            told["code"] = self.code
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether all the clients that were asked about are ready, and each of them."""

    clients: tuple[ClientReadiness, ...]

    @property
    def ready(self) -> bool:
        """Whether all of them are."""
        return all(one.ready for one in self.clients)

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object: ``ready``, and ``clients`` by name. No secret is in it."""
        return {"ready": self.ready, "clients": {one.client: one.as_dict() for one in self.clients}}


@dataclass(slots=True)
class _Asked:
    name: str
    ticket: Ticket | None = None
    error: TokenValetError | None = None
    waiting: AccessToken | Waiting | None = None


class ReadinessOfClients:
    """What a valet says of its readiness."""

    _clients: ClientBook
    _renewer: Renewer

    def readiness(self, *names: str, patience: float = PATIENCE_SECONDS, ask: bool = True) -> Readiness:
        """Tell for each client whether it has, or can get, a token, without showing one.

        Args:
            names: which clients; by default all that were configured or added, and none that a resolver looked up.
            patience: seconds to wait for first tokens, of all clients together.
            ask: whether a client without a token gets one; otherwise it is ready unless its last renewal failed.

        Raises:
            ConfigurationError: there is no client of such a name.
        """
        asked = self._ask(names, ask)
        deadline = time.monotonic() + patience
        for waiting in _waits(asked, deadline):
            with contextlib.suppress(TokenValetError):
                wait(waiting)
        return self._seen(asked, ask)

    async def async_readiness(self, *names: str, patience: float = PATIENCE_SECONDS, ask: bool = True) -> Readiness:
        """Tell as `readiness` does, without blocking the event loop."""
        asked = self._ask(names, ask)
        deadline = time.monotonic() + patience
        for waiting in _waits(asked, deadline):
            with contextlib.suppress(TokenValetError):
                await wait_async(waiting)
        return self._seen(asked, ask)

    def _named(self, name: str | None) -> NamedClient:
        raise NotImplementedError

    def _ask(self, names: tuple[str, ...], ask: bool) -> list[_Asked]:
        asked: list[_Asked] = []
        for name in names or self._clients.configured():
            one = _Asked(name)
            asked.append(one)
            try:
                client = self._named(name)
            except ValetClosedError as error:
                one.error = error
                continue
            try:
                one.ticket = client.ticket(None)
                if ask:
                    one.waiting = self._renewer.get(one.ticket)
            except TokenValetError as error:
                one.error = error
        return asked

    def _seen(self, asked: list[_Asked], ask: bool) -> Readiness:
        return Readiness(clients=tuple(self._state(one, ask) for one in asked))

    def _state(self, one: _Asked, ask: bool) -> ClientReadiness:
        if one.ticket is None:
            assert one.error is not None
            return ClientReadiness(client=one.name, ready=False, state="failed", code=one.error.code)
        glance = self._renewer.look(one.ticket)
        failure = glance.failure if glance.failure is not None else one.error
        code = failure.code if failure is not None else None
        retry_in = glance.retry_in if glance.failure is not None else None
        state: State = "idle"
        if glance.seconds_left is not None:
            state = "fresh" if glance.fresh else "due"
        elif failure is not None:
            state = "failed"
        elif glance.under_way:
            state = "waiting"
        ready = state in ("fresh", "due", "idle") or (state == "waiting" and not ask)
        return ClientReadiness(
            client=one.name, ready=ready, state=state, expires_in=glance.seconds_left, code=code, retry_in=retry_in
        )


def _waits(asked: list[_Asked], deadline: float) -> Iterator[Waiting]:
    for one in asked:
        if isinstance(one.waiting, Waiting):
            left = max(0.0, deadline - time.monotonic())
            yield replace(one.waiting, seconds=min(one.waiting.seconds, left))
