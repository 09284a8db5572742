"""The access token, its three ages, what it is asked for with, and the key that it is filed under.

Fresh: use it. Due: use it, and renew in the background. Expired: wait for the renewal. The moments are laid down once,
when the token arrives, on the monotonic and on the wall clock; whichever says later in life wins, so that neither a
clock that jumps nor a laptop that slept breaks it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..errors import ConfigurationError, ProofError
from .dpop import NonceStore, ProofKey, access_token_hash, target_uri, usable_nonce
from .guard import parse_origin, path_of
from .scope import scope_tokens

__all__ = ["AccessToken", "Moment", "TokenParameters", "asked", "token_key"]

KEY_SCHEMA = 1


class Moment(NamedTuple):
    """One reading of both clocks, in seconds."""

    monotonic: float
    wall: float


def _strings(value: str | Iterable[str] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


@dataclass(frozen=True, slots=True, init=False)
class TokenParameters:
    """What one token is asked for with, where it differs from the client's configuration.

    Args:
        scope: the scope, as a string with blanks or a list (RFC 6749 §3.3); replaces the configured one.
        resource: resource indicators (RFC 8707 §2), absolute URIs; replace the configured ones.
        audience: as some servers want it; replaces the configured one.
        parameters: further form fields, added to the configured ones.
        force_renewal: get a new token even though there is a fresh one; at most once in ten seconds for one token key.
    """

    scope: tuple[str, ...] | None
    resource: tuple[str, ...] | None
    audience: tuple[str, ...] | None
    parameters: tuple[tuple[str, str], ...]
    force_renewal: bool

    def __init__(
        self,
        *,
        scope: str | Iterable[str] | None = None,
        resource: str | Iterable[str] | None = None,
        audience: str | Iterable[str] | None = None,
        parameters: Mapping[str, str] | None = None,
        force_renewal: bool = False,
    ) -> None:
        try:
            scopes = None if scope is None else scope_tokens(scope)
        except ValueError as fault:
            raise ConfigurationError(f"scope: {fault}", code="invalid_scope_parameter") from None
        put = object.__setattr__
        put(self, "scope", scopes)
        put(self, "resource", None if resource is None else _strings(resource))
        put(self, "audience", None if audience is None else _strings(audience))
        put(self, "parameters", tuple(sorted((parameters or {}).items())))
        put(self, "force_renewal", force_renewal)

    def __bool__(self) -> bool:
        return self != _NOTHING_ASKED

    def __repr__(self) -> str:
        # Parameters may carry anything, so only their names are shown.
        names = [name for name, _ in self.parameters]
        return (
            f"TokenParameters(scope={self.scope!r}, resource={self.resource!r}, audience={self.audience!r}, "
            f"parameters={names!r}, force_renewal={self.force_renewal!r})"
        )


_NOTHING_ASKED = TokenParameters()


def asked(
    scope: str | Iterable[str] | None,
    resource: str | Iterable[str] | None,
    audience: str | Iterable[str] | None,
    parameters: Mapping[str, str] | None,
    force_renewal: bool,
) -> TokenParameters | None:
    """Return these as `TokenParameters`, or None where nothing differs from the configuration."""
    if scope is None and resource is None and audience is None and not parameters and not force_renewal:
        return None
    return TokenParameters(
        scope=scope, resource=resource, audience=audience, parameters=parameters, force_renewal=force_renewal
    )


def token_key(facts: Mapping[str, Any]) -> str:
    """Return the token key: SHA-256, in hex, over everything that the authorization server would see differ.

    `facts` is written as canonical JSON, in which no two different sets of facts look the same, whatever separators the
    names and scopes have in them.
    """
    canonical = json.dumps({"schema": KEY_SCHEMA, **facts}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


class AccessToken:
    """An access token, by hand.

    Attributes:
        client: the name of the client that it was issued to.
        token_type: ``Bearer`` or ``DPoP``.
        scope: what was granted, as a string with blanks, or None where neither side named any.
    """

    __slots__ = (
        "_clock",
        "_nonces",
        "ath",
        "authorization",
        "client",
        "clock_correction",
        "due",
        "end",
        "lifetime",
        "proof_key",
        "scope",
        "serial",
        "token_type",
    )

    def __init__(
        self,
        *,
        client: str,
        value: str,
        token_type: str,
        scope: str | None,
        obtained: Moment,
        lifetime: float,
        window: float,
        clock: Callable[[], Moment],
        proof_key: ProofKey | None = None,
        nonces: NonceStore | None = None,
        clock_correction: float = 0.0,
        serial: int = 0,
    ) -> None:
        self.client = client
        self.token_type = token_type
        self.scope = scope
        self.lifetime = lifetime
        self.end = Moment(obtained.monotonic + lifetime, obtained.wall + lifetime)
        self.due = Moment(self.end.monotonic - window, self.end.wall - window)
        self.proof_key = proof_key if token_type == "DPoP" else None  # noqa: S105  not a password
        self.ath = access_token_hash(value) if self.proof_key is not None else None
        self.authorization = f"{token_type} {value}".encode("ascii")
        self.clock_correction = clock_correction
        self.serial = serial
        self._clock = clock
        self._nonces = nonces

    @property
    def value(self) -> str:
        """The token itself."""
        return self.authorization[len(self.token_type) + 1 :].decode("ascii")

    @property
    def obtained(self) -> float:
        """When it was asked for, on the monotonic clock."""
        return self.end.monotonic - self.lifetime

    def now(self) -> Moment:
        """Return what the clocks say that it lives by."""
        return self._clock()

    @property
    def expires_at(self) -> datetime:
        """The end of its life, in UTC."""
        return datetime.fromtimestamp(self.end.wall, UTC)

    @property
    def expires_in(self) -> float:
        """Seconds of life left; 0 when it has expired."""
        return self.seconds_left(self._clock())

    def seconds_left(self, now: Moment) -> float:
        """Return the seconds of life left at `now`, by the clock that leaves fewer."""
        return max(0.0, min(self.end.monotonic - now.monotonic, self.end.wall - now.wall))

    def is_fresh(self, now: Moment) -> bool:
        """Whether it is neither due nor expired."""
        due = self.due
        return now[0] < due[0] and now[1] < due[1]

    def is_expired(self, now: Moment) -> bool:
        """Whether one of the clocks says that its life is over."""
        return now.monotonic >= self.end.monotonic or now.wall >= self.end.wall

    def proof(self, method: str, url: str, *, nonce: str | None = None) -> str:
        """Return a DPoP proof for one request with this token (RFC 9449 §4.2), for the ``DPoP`` header.

        Args:
            method: the HTTP method as it is sent.
            url: the absolute URL of the request; query and fragment are left out of the proof.
            nonce: the API's nonce; by default the one that was last seen from that origin.

        Raises:
            ProofError: this is no DPoP token, or `url` is no absolute http(s) URL.
        """
        key = self.proof_key
        if key is None:
            raise ProofError(f"client {self.client!r} has a Bearer token, which takes no proof: configure dpop = true")
        try:
            origin = parse_origin(url)
        except ValueError as fault:
            raise ProofError(f"no proof can be made for this URL: {fault}") from None
        if nonce is not None and usable_nonce([nonce]) is None:
            raise ProofError("this nonce has characters in it that RFC 9449 §8.1 does not allow, or too many")
        if nonce is None and self._nonces is not None:
            nonce = self._nonces.get("rs", origin, key.jkt)
        return self.proof_for(method, target_uri(origin, path_of(url)), nonce).decode("ascii")

    def proof_for(self, htm: str, htu: str, nonce: str | None) -> bytes:
        """Return a proof for a request with this token; `htu` as `target_uri` makes it. Only for a DPoP token."""
        assert self.proof_key is not None
        now = int(self._clock().wall + self.clock_correction)
        return self.proof_key.proof(htm, htu, iat=now, ath=self.ath, nonce=nonce)

    def __repr__(self) -> str:
        return f"<AccessToken {self.token_type} of client {self.client!r}, {self.expires_in:.0f} s left>"

    def __reduce__(self) -> Any:
        raise TypeError("an access token is not pickled: ask the valet for it in the process that needs it")

    def __copy__(self) -> AccessToken:
        return self

    def __deepcopy__(self, memo: object) -> AccessToken:
        return self
