"""One renewal's way through the world: what its flows ask for is sent, waited for and stored here."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from .config import ClientConfig
from .core.guard import parse_origin
from .core.messages import Claim, Failure, Keep, Outcome, Pause, Recall, StoreReply, Transmit
from .core.sharing import Step
from .errors import TokenRequestError, TokenResponseError, ValetClosedError
from .observe import Event
from .surroundings import Surroundings
from .tls import TlsIdentity

__all__ = ["Errand"]

_T = TypeVar("_T")


class Errand:
    """Drives the flows of one renewal, step by step, within one time limit.

    Args:
        name: the client's name.
        config: says how long it may take, and through which proxy.
        around: the back channel, the store, the clocks.
        key: the token key, under which the store is asked.
        number: the renewal's, for its events.
        identify: says how TLS is spoken; called where it is.
    """

    __slots__ = ("_around", "_config", "_deadline", "_identify", "_key", "_name", "_number", "_owner")

    def __init__(
        self,
        name: str,
        config: ClientConfig,
        around: Surroundings,
        key: str,
        number: int,
        identify: Callable[[], TlsIdentity],
    ) -> None:
        self._name = name
        self._config = config
        self._around = around
        self._deadline = around.stopwatch() + config.timeout
        self._key = key
        self._number = number
        self._identify = identify
        self._owner = secrets.token_hex(8)

    def run(self, flow: Generator[Any, Outcome, _T]) -> _T:
        """Return what the flow returns. Raises what it raises, within the client's timeout."""
        try:
            step = next(flow)
            while True:
                try:
                    outcome = self._perform(step)
                except Exception as error:  # noqa: BLE001  the flow may have a lease to give back
                    step = flow.throw(error)
                else:
                    step = flow.send(outcome)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _perform(self, step: Step) -> Outcome:
        around, name = self._around, self._name
        store: StoreReply | None = None
        if isinstance(step, Transmit):
            return self._transmit(step)
        if isinstance(step, Pause):
            if around.stopping.wait(min(step.seconds, self._left())):
                raise ValetClosedError("the valet was closed while a token was being renewed")
        elif around.shelf is not None:
            if isinstance(step, Recall):
                store = around.shelf.recall(name, self._key)
            elif isinstance(step, Claim):
                self._left()
                store = around.shelf.claim(name, self._key, self._owner, step.seconds)
            elif isinstance(step, Keep):
                around.shelf.keep(name, self._key, self._owner, step.content, step.seconds)
            else:
                # The end of a valet says nothing about the server, so that others may ask it at once.
                pause = 0.0 if around.stopping.is_set() else step.pause
                around.shelf.release(name, self._key, self._owner, pause)
        return Outcome(now=around.clock(), store=store)

    def _transmit(self, step: Transmit) -> Outcome:
        around, request = self._around, step.request
        left = self._left()
        identity = self._identify() if request.url.startswith("https:") else None
        began = around.stopwatch()
        result = around.backchannel.send(request, timeout=left, identity=identity, proxy=self._config.proxy)
        status = getattr(result, "status", None)
        # Without a query, which may hold anything.
        address = request.url.partition("?")[0]
        detail = f"{request.method} {address} {status if status is not None else 'no answer'}"
        seconds = around.stopwatch() - began
        around.observers.tell(
            Event(
                name="token_request",
                client=self._name,
                cause=step.cause,
                seconds=seconds,
                code=_code(result) if isinstance(result, Failure) else None,
                detail=detail,
                duration=seconds,
                renewal=self._number,
                server=_server(request.url),
                method=request.method,
                status=status,
            )
        )
        return Outcome(now=around.clock(), result=result)

    def _left(self) -> float:
        left = self._deadline - self._around.stopwatch()
        if left <= 0:
            raise TokenRequestError(
                f"client {self._name!r}: no token within {self._config.timeout:g} s: raise timeout if the "
                "server is that slow",
                code="token_request_timeout",
            )
        return left


def _code(failure: Failure) -> str:
    return TokenResponseError.code if failure.code == "answer_refused" else f"token_request_{failure.code}"


def _server(url: str) -> str:
    origin = parse_origin(url)
    return f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
