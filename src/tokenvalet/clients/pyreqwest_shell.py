"""pyreqwest: what puts the token on, hop by hop, where a request is really sent.

pyreqwest follows redirects below everything that a user can hook into, so that here it is asked not to, and the hops are
gone through one by one. A call is a generator of steps, which the blocking client and the one for asyncio take in the same
order; they differ only in who waits. The shell works on copies: the caller's request never has a token in it.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from typing import Any

from pyreqwest.exceptions import ClientClosedError, RedirectError
from pyreqwest.http import Url

from ..core.call import Answer, Hop, NeedToken, Rejected, Send, api_call
from ..core.guard import Origin, origin_of, parse_origin
from ..core.token import AccessToken
from ..errors import ConfigurationError, TokenValetError, shown
from ..named_client import NamedClient, Ticket
from ..pending import Waiting
from ..renewal import Renewer
from ..surroundings import readers_of
from ..tls import TlsIdentity
from .admission import OWN_HEADERS, Customize, check_abroad, checked_parameters, own_header, tell, user_information
from .leftovers import scrub
from .pools import Pool, Pools
from .pyreqwest_connections import forked
from .pyreqwest_outgoing import Outgoing, following, keeps_body, leads_to
from .pyreqwest_steps import Flow, ForAnswer, ForEnd, ForToken, Sent

__all__ = ["OWN_FRAMES", "Shell", "dress"]

EXTENSION = "tokenvalet"
ERROR = "tokenvalet.error"
HISTORY = "tokenvalet.history"
FINAL_URL = "tokenvalet.url"

OWN_FRAMES = frozenset({"tokenvalet", "pyreqwest"})


class _PyreqwestHop(Hop):
    __slots__ = ("outgoing",)
    outgoing: Outgoing

    def replayable(self) -> bool:
        return not self.outgoing.is_spent


class _Way:
    """Where one hop goes to, and with which token, if with any."""

    __slots__ = ("identity", "origin", "ticket")

    def __init__(self, origin: Origin, identity: TlsIdentity | None, ticket: Ticket | None) -> None:
        self.origin = origin
        self.identity = identity
        self.ticket = ticket


class Shell:
    """What all calls of one client have in common.

    Attributes:
        at_hand: the pool that new requests are made for; None: ask `connections`.
        observers: those of the valet.
        homes: what addresses begin with, up to the first slash of their path, where tokens may go over the connections at
            hand; none where calls are more than plain.

    Args:
        own: what to send with, in the place of the shared connections.
        max_redirects: how many are followed, at most; none where it is 0.
    """

    def __init__(
        self,
        client: NamedClient,
        renewer: Renewer,
        pools: Pools,
        *,
        own: Pool | None,
        customize: Customize | None,
        max_redirects: int,
    ) -> None:
        self._client = client
        self._renewer = renewer
        self._pools = pools
        self._own = own
        self._customize = customize
        self._max_redirects = max_redirects
        self._lasting = client.lasting_ticket()
        self._monotonic, _ = readers_of(client.around.clock)
        self.observers = client.around.observers
        self._is_plain = customize is None and client.credentials.proof_key is None
        # The few spellings in which allowed origins come, so that they are worked out once.
        self._origins: dict[tuple[str, str], Origin] = {}
        # Where the connections at hand lead to; others that they serve are added as they are met.
        self._home = _first_home(client)
        self.homes: tuple[str, ...] = (f"{self._home}/",) if self._is_plain and self._home in client.guard.home else ()
        self.at_hand: Pool | None = own
        # Whether the shared connections are made with the token that is at hand.
        self._dresses = False
        if own is None and self._lasting is not None and client.credentials.proof_key is None:
            self._dresses = True
            pools.at_hand = functools.partial(renewer.at_hand, self._lasting)

    @property
    def client(self) -> NamedClient:
        """Whose tokens these are."""
        return self._client

    def connections(self) -> tuple[Pool, Any]:
        """Return the pool that new requests are made for, and its client of pyreqwest."""
        self.at_hand, maker = self._pool(_Way(self._home, self._client.file_identity, self._client.ticket()))
        return self.at_hand, maker

    def close(self) -> None:
        """Let go of connections of the caller's own; the shared ones belong to the valet."""
        if self._own is not None and self._own.retire():
            self._own.transport.close()

    def fresh(self, pool: Pool) -> AccessToken | None:
        """Return a Bearer token that is at hand, if a request to one of `homes` may be sent over this pool. Else None."""
        if self.observers.every_call:
            return None
        if pool.transport.at_hand.is_current():
            token: AccessToken = pool.transport.token
            return token
        ticket = self._lasting or self._client.ticket()
        return self._renewer.fresh(ticket) if pool.enter(self._monotonic(), ticket.identity) else None

    def calls(self, outgoing: Outgoing, sent: Sent | None = None) -> Flow:
        """Go through all hops of a call; `sent` is the first step of the first one, if that was taken by now."""
        history: list[int] = []
        while True:
            sent = yield from self._one_hop(outgoing, sent, redirected=bool(history))
            if self._max_redirects == 0 or (target := leads_to(outgoing.native.url, sent.response)) is None:
                break
            try:
                self._check_redirect(outgoing, sent.response.status, target, len(history))
                onward = following(outgoing, sent.response.status, target)
            except BaseException:
                yield ForEnd(sent)
                raise
            if onward is None:
                break
            yield ForEnd(sent)
            history.append(sent.response.status)
            outgoing, sent = onward, None
        if history:
            sent.response.extensions.update({HISTORY: history, FINAL_URL: str(outgoing.native.url)})
        return sent

    def _one_hop(self, outgoing: Outgoing, sent: Sent | None, *, redirected: bool) -> Flow:
        way = self._admitted(outgoing, redirected=redirected)
        ticket = way.ticket
        if ticket is None:
            return self._after((yield from self._sends(outgoing, way, None, None)))
        token: Any = outgoing.token if sent is not None else self._renewer.get(ticket)
        if isinstance(token, Waiting):
            token = yield ForToken(token)
        hop = _PyreqwestHop(outgoing.native.method, way.origin, outgoing.native.url.path)
        hop.outgoing = outgoing
        flow = api_call(token, hop, self._client.around.nonces)
        try:
            step: Any = next(flow)
            is_first = sent is not None
            while True:
                if isinstance(step, Send):
                    if not is_first:
                        if sent is not None:
                            tell(self._client, "call_retried", cause=step.reason)
                            yield ForEnd(sent)
                        sent = yield from self._sends(outgoing, way, step.authorization, step.proof)
                    is_first = False
                    assert sent is not None
                    if self.observers.every_request:
                        self._tell_sent(outgoing, sent.response)
                    step = flow.send(Answer(sent.response.status, _Fields(sent.response)))
                else:
                    assert sent is not None
                    step = flow.send((yield from self._settles(ticket, step, sent.response)))
        except StopIteration:
            assert sent is not None
            return self._after(sent)
        except BaseException:
            if sent is not None:
                yield ForEnd(sent)
            raise

    def _sends(self, outgoing: Outgoing, way: _Way, authorization: bytes | None, proof: bytes | None) -> Flow:
        self._bring(outgoing, way)
        native = outgoing.take()
        if authorization is not None:
            dress(native, authorization, proof)
        try:
            response = yield ForAnswer(native)
        except BaseException as error:
            del native
            scrub(error, OWN_FRAMES)
            raise
        return Sent(native, response)

    def _settles(
        self, ticket: Ticket, step: NeedToken | Rejected, response: Any
    ) -> Generator[ForToken, Any, AccessToken | None]:
        try:
            if isinstance(step, NeedToken):
                waiting = self._renewer.replace(ticket, step.rejected)
                if isinstance(waiting, Waiting):
                    token: AccessToken = yield ForToken(waiting)
                    return token
                return waiting
            self._renewer.replace(ticket, step.token)
        except TokenValetError as error:
            # Without its frames, which would hold this response, and it them.
            response.extensions[ERROR] = error.with_traceback(None)
        return None

    def _admitted(self, outgoing: Outgoing, *, redirected: bool) -> _Way:
        """Return the way of a request, unless it is to be refused."""
        native, client = outgoing.native, self._client
        url, headers = native.url, native.headers
        origin = self._origin(url)
        try:
            if origin not in client.guard.home:
                check_abroad(client, origin, redirected=redirected, has_body=lambda: outgoing.has_body)
                return _Way(origin, client.file_identity, None)
            if url.username or url.password is not None:
                raise user_information(client)
            parameters = native.extensions.get(EXTENSION) if outgoing.is_special else None
            if parameters is None and self._customize is not None:
                parameters = self._customize(native)
            parameters = checked_parameters(client, parameters)
            for name in headers:
                if name.lower() in OWN_HEADERS:
                    raise own_header(client, name)
            ticket = client.ticket(parameters)
        except TokenValetError as error:
            tell(client, "call_refused", code=error.code, detail=f"{native.method} {origin}")
            raise
        return _Way(origin, ticket.identity, ticket)

    def _check_redirect(self, outgoing: Outgoing, status: int, target: Url, hops: int) -> None:
        """Refuse what a redirect asks for, where not even its answer is the caller's."""
        if target.scheme not in ("http", "https"):
            raise RedirectError(f"a redirect to an address of the kind {shown(target.scheme, 32)}:", {"causes": None})
        if hops >= self._max_redirects:
            raise RedirectError(f"there were more than {self._max_redirects} redirects", {"causes": None})
        client, origin = self._client, self._origin(target)
        try:
            if origin not in client.guard.home:
                has_body = outgoing.has_body and keeps_body(outgoing.native.method, status)
                check_abroad(client, origin, redirected=True, has_body=lambda: has_body)
            elif target.username or target.password is not None:
                raise user_information(client)
        except TokenValetError as error:
            tell(client, "call_refused", code=error.code, detail=f"{outgoing.native.method} {origin}")
            raise

    def _origin(self, url: Url) -> Origin:
        address = (url.scheme, url.authority)
        origin = self._origins.get(address)
        if origin is None:
            origin = origin_of(url.scheme, (url.host_str or "").strip("[]"), url.port)
            if origin in self._client.guard.home and "@" not in address[1]:
                self._origins[address] = origin
        return origin

    def _bring(self, outgoing: Outgoing, way: _Way) -> None:
        """Have a request sent over the connections of its way."""
        former = outgoing.pool
        connections = former.transport
        if self._dresses and connections.token is None and not connections.is_used and way.ticket is self._lasting:
            # Made before there was a token, and not connected yet: now it can be made with it.
            former.retire()
            connections.close()
        pool, maker = self._pool(way)
        pool.transport.is_used = True
        if pool is former:
            url = outgoing.native.url
            if self._is_plain and pool is self.at_hand and (url.scheme, url.authority) in self._origins:
                home = f"{url.scheme}://{url.authority}/"
                self.homes = self.homes if home in self.homes else (*self.homes, home)
            return
        if former is self.at_hand and not self._pools.enter(former, self._client.file_identity):
            self.at_hand = None  # too old, and those to come are not made for it
        is_lost = former.transport.is_left_behind or (way.identity is not None and former.identity is not way.identity)
        if not outgoing.move_to(pool, maker) and is_lost:
            raise ConfigurationError(
                f"client {self._client.name!r}: the connections that the form was made for are gone, as after a fork, or "
                "when the client certificate was replaced: make the request anew",
                code="request_outdated",
            )

    def _pool(self, way: _Way) -> tuple[Pool, Any]:
        if self._own is not None:
            if self._own.transport.is_left_behind:
                raise forked(self._client)
            if self._own.transport.native is None:
                raise ClientClosedError("Client was closed", {"causes": None})
            return self._own, self._own.transport.native
        while True:
            pool = self._pools.sync_pool(way.origin, way.identity, abroad=way.ticket is None)
            if (maker := pool.transport.native) is not None:  # as it is when another thread has replaced the pool
                return pool, maker

    def _after(self, sent: Sent) -> Sent:
        if sent.response.status == 401:
            tell(self._client, "call_rejected", detail="the API answered 401, which is handed to the caller")
        return sent

    def _tell_sent(self, outgoing: Outgoing, response: Any) -> None:
        path = shown(outgoing.native.url.path, 128)
        tell(self._client, "call_sent", detail=f"{outgoing.native.method} {path} {response.status}")


def _first_home(client: NamedClient) -> Origin:
    """Return where most requests will go: the origin of the base URL, if a token may go there, or one of the others."""
    homes = client.guard.home
    if client.config.base_url is not None and (base := parse_origin(client.config.base_url)) in homes:
        return base
    return next(iter(homes), Origin("https", "", 443))


class _Fields:
    """A look-up of all fields of a header name."""

    __slots__ = ("_response",)

    def __init__(self, response: Any) -> None:
        self._response = response

    def __call__(self, name: str) -> list[str]:
        try:
            found: list[str] = self._response.get_header_all(name)
        except Exception:  # noqa: BLE001  of a value that is no text
            return []
        return found


def dress(native: Any, authorization: bytes, proof: bytes | None) -> None:
    """Set the headers of the token; sensitive: shown by no repr, and entered into no table of HTTP/2 (RFC 7541 §7.1.3)."""
    headers = native.headers
    headers.insert("Authorization", authorization.decode("ascii"), is_sensitive=True)
    if proof is not None:
        headers.append("DPoP", proof.decode("ascii"), is_sensitive=True)
