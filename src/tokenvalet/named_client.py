"""A named client as it lives in a valet: its configuration checked, its credentials loaded, its token keys at hand.

Runs one renewal when the renewer asks for it: discovery, then the token request, over the back channel.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from .config import ClientConfig
from .core.guard import Guard, parse_origin
from .core.messages import Outcome, Pause, Transmit
from .core.metadata import Metadata, discover
from .core.obtain import ClockCorrection, Obtained, obtain, patiently
from .core.policy import FIRST_RENEWAL_ATTEMPTS, FLEET_ATTEMPTS, renewal_window
from .core.request import Endpoint, TokenOrder, checked
from .core.response import Granted
from .core.sharing import FORCED_CAUSES, Found, Share, renew_shared
from .core.stored import StoredToken, read_stored
from .core.token import AccessToken, Moment, TokenParameters, token_key
from .credentials import Credentials, load_credentials
from .errand import Errand
from .errors import ConfigurationError, ConfigurationFault, ProofError, shown
from .files import FileFault
from .surroundings import Surroundings
from .tls import TlsIdentity
from .workers import Lane

__all__ = ["NamedClient", "Renewed", "Ticket", "Wish"]

MOST_REMEMBERED_PARAMETERS = 4096
# Those who wait for a process that died with the lease have as much time left for a request of their own.
LEASE_SHARE = 0.5
TLS_CHECK_SECONDS = 10.0

# The order in which renewals begin and clients are invalidated: a clock could show two of them the same time.
_SERIALS = itertools.count(1)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Why a renewal is wanted.

    Attributes:
        cause: ``missing``, ``expired``, ``due``, ``rejected`` or ``forced``.
        first: whether there is no token to fall back on, so that a passing fault is worth further attempts.
        former: the token that is to be replaced, or None.
        began: when it was asked for, on the monotonic clock.
        awaited: whether anybody waits for it by now.
        number: what its events are known by.
    """

    cause: str
    first: bool
    former: AccessToken | None
    began: float
    awaited: Callable[[], bool]
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What a renewal brought.

    Attributes:
        token: the token.
        from_store: whether another process had brought it already.
        forced: whether it was got although there was another that had not expired.
    """

    token: AccessToken
    from_store: bool
    forced: bool


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
        self.invalidated = float("-inf")
        # A proof key of this process alone binds its tokens to this process.
        self._is_shared = around.shelf is not None and (credentials.proof_key is None or bool(config.dpop_key_file))
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
        self.invalidated = self.around.clock().monotonic

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

    def lasting_ticket(self) -> Ticket | None:
        """Return the ticket without parameters, where no file can change it; None: ask for it every time."""
        return None if self._uses_tls_files else self._default

    @property
    def file_identity(self) -> TlsIdentity | None:
        """How this client speaks TLS, where files of its own say so: what its tickets, and its pools, go by."""
        return self._default.identity

    def identity(self) -> TlsIdentity:
        """Return how this client speaks TLS, as of now."""
        if self._default.identity is not None:
            return self._default.identity
        return self.around.tls.identity(self.config)

    def renew(self, ticket: Ticket, wish: Wish) -> Renewed | None:
        """Get a new token, or None: another process is about it, and nobody waits. Blocking; on the renewer's threads only.

        Raises:
            TokenValetError: why there is none.
        """
        around = self.around
        serial = next(_SERIALS)
        order = self._order(ticket.parameters)
        # In a fleet the next attempt is another process's, after a pause.
        most = FLEET_ATTEMPTS if self._is_shared else FIRST_RENEWAL_ATTEMPTS
        errand = Errand(
            self.name, self.config, around, ticket.key, wish.number, lambda: ticket.identity or self.identity()
        )
        run = errand.run

        def begin(now: Moment) -> Generator[Transmit | Pause, Outcome, Obtained]:
            return obtain(
                order,
                self._endpoint(run, most if wish.first else 1),
                around.nonces,
                self.correction,
                now,
                attempts=most if wish.first else 1,
                deadline=now.monotonic + self.config.timeout,
                jitter=around.jitter,
            )

        if not self._is_shared:
            brought: Obtained | Found | None = run(begin(around.clock()))
        else:
            brought = run(renew_shared(self._share(ticket, wish, order), begin, around.clock()))
        if brought is None:
            return None
        if isinstance(brought, Obtained):
            token = self._token(brought.granted, brought.asked_at, serial)
            return Renewed(token=token, from_store=False, forced=wish.cause in FORCED_CAUSES)
        age = brought.stored.age
        obtained = Moment(brought.read_at.monotonic - age, brought.read_at.wall - age)
        token = self._token(brought.stored.granted, obtained, serial)
        return Renewed(token=token, from_store=True, forced=brought.stored.forced)

    def _token(self, granted: Granted, obtained: Moment, serial: int) -> AccessToken:
        return AccessToken(
            client=self.name,
            value=granted.access_token,
            token_type=granted.token_type,
            scope=granted.scope,
            obtained=obtained,
            lifetime=granted.lifetime,
            window=renewal_window(granted.lifetime, self.config.renew_before, self.around.jitter()),
            clock=self.around.clock,
            proof_key=self.credentials.proof_key,
            nonces=self.around.nonces,
            clock_correction=self.correction.seconds,
            serial=serial,
        )

    def _share(self, ticket: Ticket, wish: Wish, order: TokenOrder) -> Share:
        former = wish.former

        def will_do(stored: StoredToken, now: Moment) -> bool:
            obtained = now.monotonic - stored.age
            if stored.left <= 0 or obtained <= self.invalidated:
                return False
            if wish.cause == "forced":
                return obtained > wish.began
            if former is None or wish.cause not in ("due", "rejected"):
                return True
            is_another = stored.granted.access_token != former.value
            return is_another and obtained > former.obtained

        return Share(
            client=self.name,
            key=ticket.key,
            cause=wish.cause,
            read=lambda content, left: read_stored(content, ticket.key, left, order),
            will_do=will_do,
            awaited=wish.awaited,
            lease=self.config.timeout * LEASE_SHARE,
            deadline=self.around.clock().monotonic + self.config.timeout,
            jitter=self.around.jitter,
        )

    def _endpoint(self, run: Callable[[Generator[Any, Outcome, Metadata]], Metadata], attempts: int) -> Endpoint:
        config, around = self.config, self.around
        if config.token_endpoint is not None:
            return Endpoint.parse(config.token_endpoint)
        issuer = config.issuer
        assert issuer is not None
        deadline = around.clock().monotonic + config.timeout

        def fetch(falls_back: bool) -> Metadata:
            return run(
                patiently(
                    lambda: discover(self.name, issuer),
                    attempts=1 if falls_back else attempts,
                    now=around.clock,
                    deadline=deadline,
                    jitter=around.jitter,
                )
            )

        metadata = around.directory.look_up(self.name, config, fetch, around.clock)
        self._check_against(metadata)
        return metadata.mtls_endpoint if config.certificate_file is not None else metadata.token_endpoint

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
        facts: dict[str, Any] = {
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
        if self.config.allow_insecure_tls:
            # Nobody knows who issued such a token, so clients that make sure do not use it.
            facts["unchecked"] = True
        return Ticket(token_key(facts), self, parameters, identity)

    def _identity_if_files(self) -> TlsIdentity | None:
        return self.around.tls.identity(self.config) if self._uses_tls_files else None

    def _follow_certificate(self) -> None:
        now = self.around.clock().monotonic
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
