"""One request of whatever library sends it: the headers to send it with, and what its answer means for the token.

The library is the caller's affair, and so are its connections, its TLS and its redirects. What is decided here is what the
shells of the known libraries decide: may a token go there, with which proof, and is the request to be sent once more.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from ..core.call import Answer, Hop, NeedToken, Rejected, Send, Step, api_call
from ..core.guard import parse_origin, path_of
from ..core.token import AccessToken
from ..errors import ConfigurationError, OriginError, TokenValetError, shown
from ..named_client import NamedClient, Ticket
from ..renewal import Renewer
from ..waiting import wait, wait_async
from .admission import checked_parameters, tell

__all__ = ["Admitted", "AsyncOneCall", "Fields", "OneCall"]

Text = str | bytes
# The headers of an answer, as libraries have them: a mapping, or pairs.
Fields = Mapping[Any, Any] | Iterable[tuple[Text, Text]]


class _Headers(dict[str, str]):
    """The headers of one sending, as a dictionary that shows only their names."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<the headers {' and '.join(self)} of one sending>"


class _Hop(Hop):
    __slots__ = ("repeatable",)
    repeatable: bool

    def replayable(self) -> bool:
        return self.repeatable


class Admitted:
    """A request that may be sent with a token: which one, and the request as the flow of a call sees it.

    Raises:
        OriginError: the token does not belong there.
        ConfigurationError: a token cannot be asked for with these parameters.
    """

    __slots__ = ("client", "hop", "ticket")

    def __init__(self, client: NamedClient, method: str, url: str, parameters: Any, repeatable: bool) -> None:
        self.client = client
        try:
            self.hop = _hop(client, method, url)
            self.hop.repeatable = repeatable
            self.ticket: Ticket = client.ticket(checked_parameters(client, parameters))
        except TokenValetError as error:
            tell(client, "call_refused", code=error.code, detail=shown(method, 32))
            raise


def _hop(client: NamedClient, method: str, url: str) -> _Hop:
    if url[:2].lower() == "ws":
        # A WebSocket handshake is an HTTP request, to the same origin.
        url = f"http{url[2:]}"
    try:
        origin = parse_origin(url)
    except ValueError as fault:
        raise OriginError(f"client {client.name!r}: no token goes to this URL: {fault}") from None
    client.guard.check(origin)
    return _Hop(method, origin, path_of(url))


class _Call:
    """What is the same whether the caller's library blocks or not: all but who waits."""

    __slots__ = ("_admitted", "_flow", "_headers", "_renewer", "error")

    def __init__(self, admitted: Admitted, renewer: Renewer, token: AccessToken) -> None:
        self.error: TokenValetError | None = None
        self._admitted = admitted
        self._renewer = renewer
        self._headers: _Headers | None = None
        self._flow = api_call(token, admitted.hop, admitted.client.around.nonces)
        self._go_on(None)

    @property
    def headers(self) -> dict[str, str]:
        """The headers to add to the next sending: ``Authorization``, and ``DPoP`` for a bound token.

        Raises:
            ConfigurationError: it is not to be sent (again), or `answered` was not awaited.
        """
        if self._headers is None:
            raise self._over()
        return _Headers(self._headers)

    def __repr__(self) -> str:
        hop = self._admitted.hop
        return f"<{type(self).__name__} of client {self._admitted.client.name!r}: {shown(hop.method, 32)} {hop.origin}>"

    def __reduce__(self) -> Any:
        raise TypeError("a call is not pickled: ask the valet for it in the process that sends it")

    def _hear(self, status: int, headers: Fields) -> Step | None:
        """Take an answer, and return what is to be done before the flow can go on; None: nothing, it has ended."""
        if self._headers is None:
            raise self._over()
        self._headers = None
        client, hop = self._admitted.client, self._admitted.hop
        if client.around.observers.every_request:
            tell(client, "call_sent", detail=f"{shown(hop.method, 32)} {shown(hop.path, 128)} {status}")
        return self._go_on(Answer(status, _look_up(headers)))

    def _go_on(self, answer: Any) -> Step | None:
        try:
            step = self._flow.send(answer)
        except StopIteration:
            return None
        if isinstance(step, Send):
            self._headers = _Headers(Authorization=step.authorization.decode("ascii"))
            if step.proof is not None:
                self._headers["DPoP"] = step.proof.decode("ascii")
        return step

    def _conclude(self, step: Step | None, status: int) -> bool:
        if isinstance(step, Send):
            tell(self._admitted.client, "call_retried", cause=step.reason)
            return True
        if status == 401:
            tell(self._admitted.client, "call_rejected", detail="the API answered 401, which is handed to the caller")
        return False

    def _replacement(self, step: NeedToken | Rejected) -> Any:
        if isinstance(step, NeedToken):
            return self._renewer.replace(self._admitted.ticket, step.rejected)
        self._renewer.replace(self._admitted.ticket, step.token)
        return None

    def _over(self) -> ConfigurationError:
        return ConfigurationError(
            f"client {self._admitted.client.name!r}: this call is not to be sent (again): make one for each request, send "
            "it again only where answered() is True, and await that of an async one",
            code="call_is_over",
        )


class OneCall(_Call):
    """One request, to be sent by a library that tokenvalet does not know.

    Attributes:
        error: why a token that the API rejected could not be replaced, or None.
    """

    __slots__ = ()

    def answered(self, status: int, headers: Fields = ()) -> bool:
        """Tell what the API answered. Returns whether to send the request again, with `headers` anew.

        That is so once for a rejected token, and once for a DPoP nonce. Blocks while a rejected token is replaced.

        Args:
            status: the HTTP status of the answer.
            headers: the headers of the answer, as a mapping or as pairs.

        Raises:
            StepUpRequiredError: the API wants a stronger authentication (RFC 9470).
            ProofError: the API takes no proofs of the key's algorithm (RFC 9449 §7.1).
        """
        step = self._hear(status, headers)
        while isinstance(step, NeedToken | Rejected):
            token = None
            try:
                waiting = self._replacement(step)
                token = wait(waiting) if waiting is not None else None
            except TokenValetError as error:
                self.error = error.with_traceback(None)
            step = self._go_on(token)
        return self._conclude(step, status)


class AsyncOneCall(_Call):
    """One request, to be sent by an async library that tokenvalet does not know.

    Attributes:
        error: why a token that the API rejected could not be replaced, or None.
    """

    __slots__ = ()

    def answered(self, status: int, headers: Fields = ()) -> Coroutine[Any, Any, bool]:
        """Tell what the API answered, as `OneCall.answered` does, without blocking the event loop: to be awaited."""
        # The answer is taken at once, so that there are no headers for one who forgets to await, and sends for ever.
        return self._settled(self._hear(status, headers), status)

    async def _settled(self, step: Step | None, status: int) -> bool:
        while isinstance(step, NeedToken | Rejected):
            token = None
            try:
                waiting = self._replacement(step)
                token = await wait_async(waiting) if waiting is not None else None
            except TokenValetError as error:
                self.error = error.with_traceback(None)
            step = self._go_on(token)
        return self._conclude(step, status)


def _look_up(headers: Fields) -> Any:
    given: Any = headers.items() if hasattr(headers, "items") else headers
    pairs = [(_text(name).lower(), value) for name, value in given]
    return lambda wanted: [_text(value) for name, value in pairs if name == wanted]


def _text(part: Any) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else str(part)
