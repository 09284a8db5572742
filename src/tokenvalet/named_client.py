"""A named client as it lives in a valet: its configuration checked, its credentials loaded, its token keys at hand.

Runs one renewal when the renewer asks for it: discovery, then the token request, over the back channel.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from .backchannel import Backchannel
from .config import ClientConfig
from .core.dpop import NonceStore
from .core.guard import Guard, parse_origin
from .core.messages import Outcome, Pause, Transmit
from .core.metadata import Metadata, discover
from .core.obtain import ClockCorrection, obtain
from .core.policy import FIRST_RENEWAL_ATTEMPTS, renewal_window
from .core.request import Endpoint, TokenOrder, checked
from .core.token import AccessToken, Moment, TokenParameters, token_key
from .credentials import Credentials, load_credentials
from .directory import Directory
from .errors import ConfigurationError, ConfigurationFault, ProofError, TokenRequestError, ValetClosedError, shown
from .files import FileFault
from .observe import Event, Observers
from .tls import TlsContexts, TlsIdentity
from .workers import Lane

__all__ = ["NamedClient", "Surroundings", "Ticket", "system_clock"]

MOST_REMEMBERED_PARAMETERS = 4096
TLS_CHECK_SECONDS = 10.0

# The order in which renewals begin and clients are invalidated: a clock could show two of them the same time.
_SERIALS = itertools.count(1)
_T = TypeVar("_T")
Clock = Callable[[], Moment]


def system_clock(
    _new: Callable[..., Moment] = tuple.__new__,
    _monotonic: Callable[[], float] = time.monotonic,
    _wall: Callable[[], float] = time.time,
) -> Moment:
    """Return the clocks of this machine. Read for every call, hence the look-ups that are made beforehand."""
    return _new(Moment, (_monotonic(), _wall()))


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What all clients of one valet share."""

    clock: Clock
    backchannel: Backchannel
    directory: Directory
    tls: TlsContexts
    nonces: NonceStore
    observers: Observers
    stopping: threading.Event

    def after_fork(self) -> None:
        """Begin anew in a forked child, where locks may be held by nobody."""
        stopped, self.stopping = self.stopping.is_set(), threading.Event()
        if stopped:
            self.stopping.set()
        self.tls.after_fork()
        self.directory.after_fork()
        self.backchannel.after_fork()


class Ticket:
    """One token that may be asked for: its key, the client, and what differs from the client's configuration."""

    __slots__ = ("client", "force", "identity", "key", "parameters")

    def __init__(
        self, key: str, client: NamedClient, parameters: TokenParameters | None, identity: TlsIdentity | None
    ) -> None:
        self.key = key
        self.client = client
        self.parameters = parameters
        self.force = parameters is not None and parameters.force_renewal
        self.identity = identity


class NamedClient:
    """One client of a valet.

    Attributes:
        valid_from: a serial number; tokens whose renewal began before it are not used by this client.
        lane: what its renewals share their threads by: the server that they go to, and the endpoint there.
    """

    def __init__(self, name: str, config: ClientConfig, credentials: Credentials, around: Surroundings) -> None:
        self.name = name
        self.config = config
        self.around = around
        self.credentials = credentials
        self.guard = Guard(name, config.origins())
        self.valid_from = 0
        endpoint = config.token_endpoint or config.issuer or ""
        self.lane: Lane = (parse_origin(endpoint), endpoint)
        self.correction = ClockCorrection()
        self._tickets: OrderedDict[TokenParameters, Ticket] = OrderedDict()
        self._uses_tls_files = config.certificate_file is not None or config.ca_file is not None
        self._identity_checked = float("-inf")
        self._default = self._ticket(None, self._identity_if_files())

    @classmethod
    def make(
        cls, name: str, config: ClientConfig, around: Surroundings, place: str
    ) -> tuple[NamedClient | None, list[ConfigurationFault]]:
        """Return the client, or None and everything that is wrong with its keys and files."""
        credentials, faults = load_credentials(config, place)
        faults += around.tls.check(config, place)
        if faults or credentials is None:
            return None, faults
        return cls(name, config, credentials, around), []

    def invalidate(self) -> None:
        """Use no token any more whose renewal has begun by now. Another client with the same token key is not touched."""
        self.valid_from = next(_SERIALS)

    def ticket(self, parameters: TokenParameters | None = None) -> Ticket:
        """Return the ticket for a token with these parameters. Raises ConfigurationError where they cannot be."""
        if self._uses_tls_files:
            self._follow_certificate()
        if parameters is None:
            return self._default
        known = self._tickets.get(parameters)
        if known is not None and known.identity is self._default.identity:
            return known
        made = self._ticket(parameters, self._default.identity)
        if len(self._tickets) >= MOST_REMEMBERED_PARAMETERS:
            with contextlib.suppress(KeyError):  # another thread made room first
                self._tickets.popitem(last=False)
        self._tickets[parameters] = made
        return made

    @property
    def file_identity(self) -> TlsIdentity | None:
        """How this client speaks TLS, where files of its own say so: what its tickets, and its pools, go by."""
        return self._default.identity

    def identity(self) -> TlsIdentity:
        """Return how this client speaks TLS, as of now."""
        if self._default.identity is not None:
            return self._default.identity
        return self.around.tls.identity(self.config)

    def renew(self, ticket: Ticket, *, first: bool) -> AccessToken:
        """Get a new token. Blocking; on the renewer's threads only.

        Args:
            ticket: which token.
            first: whether there is none to fall back on, so that a passing fault is worth further attempts.

        Raises:
            TokenValetError: why there is none.
        """
        clock = self.around.clock
        serial = next(_SERIALS)
        order = self._order(ticket.parameters)
        started = time.monotonic()
        deadline = started + self.config.timeout
        identity = ticket.identity

        def run(flow: Generator[Transmit | Pause, Outcome, _T] | Generator[Transmit, Outcome, _T]) -> _T:
            return self._drive(flow, deadline, identity)

        endpoint = self._endpoint(run)
        now = clock()
        obtained = run(
            obtain(
                order,
                endpoint,
                self.around.nonces,
                self.correction,
                now,
                attempts=FIRST_RENEWAL_ATTEMPTS if first else 1,
                deadline=now.monotonic + self.config.timeout,
                jitter=random.random,
            )
        )
        granted = obtained.granted
        return AccessToken(
            client=self.name,
            value=granted.access_token,
            token_type=granted.token_type,
            scope=granted.scope,
            obtained=obtained.asked_at,
            lifetime=granted.lifetime,
            window=renewal_window(granted.lifetime, self.config.renew_before, random.random()),
            clock=clock,
            proof_key=self.credentials.proof_key,
            nonces=self.around.nonces,
            clock_correction=self.correction.seconds,
            serial=serial,
        )

    def _endpoint(self, run: Callable[[Generator[Transmit, Outcome, Metadata]], Metadata]) -> Endpoint:
        config = self.config
        if config.token_endpoint is not None:
            return Endpoint.parse(config.token_endpoint)
        issuer = config.issuer
        assert issuer is not None
        metadata = self.around.directory.look_up(
            self.name, issuer, lambda: run(discover(self.name, issuer)), self.around.clock
        )
        self._check_against(metadata)
        if config.certificate_file is not None and metadata.mtls_token_endpoint is not None:
            return metadata.mtls_token_endpoint
        return metadata.token_endpoint

    def _check_against(self, metadata: Metadata) -> None:
        """Refuse what the server says that it cannot do; never pick something else instead."""
        method = self.credentials.authentication.method
        if metadata.auth_methods is not None and method not in metadata.auth_methods:
            raise ConfigurationError(
                f"client {self.name!r}: {metadata.issuer} offers {_listed(metadata.auth_methods)}, and auth_method is "
                f"{method}: configure one that it offers, or token_endpoint to leave its metadata out",
                code="auth_method_not_offered",
            )
        if metadata.grant_types is not None and "client_credentials" not in metadata.grant_types:
            raise ConfigurationError(
                f"client {self.name!r}: {metadata.issuer} does not offer the client credentials grant",
                code="grant_type_not_offered",
            )
        key = self.credentials.proof_key
        if key is not None and metadata.dpop_signing_algs is not None and key.alg not in metadata.dpop_signing_algs:
            raise ProofError(
                f"client {self.name!r}: {metadata.issuer} takes DPoP proofs signed with "
                f"{_listed(metadata.dpop_signing_algs)}, and the proof key signs with {key.alg}: configure dpop_key_file",
                code="dpop_algorithm_not_offered",
            )

    def _drive(self, flow: Generator[Any, Outcome, _T], deadline: float, identity: TlsIdentity | None) -> _T:
        around = self.around
        try:
            step = next(flow)
            while True:
                left = deadline - time.monotonic()
                if isinstance(step, Pause):
                    if around.stopping.wait(min(step.seconds, max(left, 0.0))):
                        raise ValetClosedError("the valet was closed while a token was being renewed")
                    outcome = Outcome(now=around.clock())
                elif left <= 0:
                    raise TokenRequestError(
                        f"client {self.name!r}: no token within {self.config.timeout:g} s: raise timeout if the server "
                        "is that slow",
                        code="token_request_timeout",
                    )
                else:
                    url = step.request.url
                    identity = identity or (self.identity() if url.startswith("https:") else None)
                    began = time.monotonic()
                    result = around.backchannel.send(
                        step.request, timeout=left, identity=identity, proxy=self.config.proxy
                    )
                    outcome = Outcome(now=around.clock(), result=result)
                    self._tell(step, getattr(result, "status", None), time.monotonic() - began)
                step = flow.send(outcome)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _tell(self, step: Transmit, status: int | None, seconds: float) -> None:
        detail = f"{step.request.method} {step.request.url} {status if status is not None else 'no answer'}"
        self.around.observers.tell(
            Event(name="token_request", client=self.name, cause=step.cause, seconds=seconds, detail=detail)
        )

    def _order(self, parameters: TokenParameters | None) -> TokenOrder:
        config = self.config
        asked = parameters or TokenParameters()
        return TokenOrder(
            client=self.name,
            issuer=config.issuer,
            authentication=self.credentials.authentication,
            proof_key=self.credentials.proof_key,
            scope=config.scope if asked.scope is None else asked.scope,
            resource=config.resource if asked.resource is None else asked.resource,
            audience=config.audience if asked.audience is None else asked.audience,
            parameters=tuple(sorted({**config.parameters, **dict(asked.parameters)}.items())),
            required_scopes=frozenset(config.required_scopes),
            default_lifetime=config.default_lifetime,
        )

    def _ticket(self, parameters: TokenParameters | None, identity: TlsIdentity | None) -> Ticket:
        order = checked(self._order(parameters))
        key = self.credentials.proof_key
        facts = {
            "issuer": self.config.issuer,
            "token_endpoint": self.config.token_endpoint,
            "client_id": self.config.client_id,
            "credential": self.credentials.facts,
            "grant": "client_credentials",
            "scope": sorted(order.scope),
            "required_scopes": sorted(order.required_scopes),
            "resource": sorted(set(order.resource)),
            "audience": sorted(set(order.audience)),
            "parameters": order.parameters,
            "jkt": key.jkt if key is not None else None,
            "x5t#S256": identity.certificate_thumbprint if identity is not None else None,
        }
        return Ticket(token_key(facts), self, parameters, identity)

    def _identity_if_files(self) -> TlsIdentity | None:
        return self.around.tls.identity(self.config) if self._uses_tls_files else None

    def _follow_certificate(self) -> None:
        now = time.monotonic()
        if now - self._identity_checked < TLS_CHECK_SECONDS:
            return
        self._identity_checked = now
        try:
            identity = self.around.tls.identity(self.config)
        except FileFault:
            return
        if identity is not self._default.identity:
            self._default = self._ticket(None, identity)
            self._tickets.clear()


def _listed(names: frozenset[str]) -> str:
    return shown(", ".join(sorted(names)), 200)
