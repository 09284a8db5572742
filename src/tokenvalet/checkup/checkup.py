"""Looking at one client from end to end: key, certificate, metadata, clock, token request, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ..config import ClientConfig
from ..core.authentication import SignedAssertion
from ..core.policy import renewal_window
from ..core.signing import ASYMMETRIC_ALGORITHMS, thumbprint
from ..core.token import AccessToken
from ..credentials import load_credentials
from ..errors import (
    ConfigurationError,
    TokenRefusedError,
    TokenRequestError,
    TokenResponseError,
    TokenValetError,
    shown,
)
from ..files import FileFault, read_file
from ..valet import TokenValet
from . import remedies
from .findings import Finding, Level
from .overheard import Overheard
from .trials import remedy_for

__all__ = ["Checkup"]

OFFSET_TOLD = 3.0
OFFSET_REFUSED = 30.0  # what servers grant to assertions and proofs is mostly less
CERTIFICATE_DAYS = 14
SHORT_LIFETIME = 60.0
_PRIVATE_FILES = (
    "client_secret_file",
    "private_key_file",
    "certificate_key_file",
    "assertion_file",
    "dpop_key_file",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """One client to look at.

    Attributes:
        name: the client's name.
        config: its configuration, which has no fault by itself.
        ask: whether the server is asked: for its metadata, and for a token.
        try_others: whether a refused client is tried with one thing changed at a time.
    """

    name: str
    config: ClientConfig
    ask: bool = True
    try_others: bool = True

    def findings(self) -> Iterator[Finding]:
        """Yield what is found, as it is. Blocking; sends a token request, and further ones where it is refused."""
        config = self.config
        credentials, faults = load_credentials(config, f"clients.{self.name}")
        for fault in faults:
            yield self._bad("configuration", str(fault))
        if credentials is None or faults:
            return
        authentication = credentials.authentication
        yield self._good("configuration", f"authenticates as {config.client_id} with {authentication.method}")
        if isinstance(authentication, SignedAssertion) and authentication.method == "private_key_jwt":
            key = authentication.signer()
            kid = f"kid {shown(key.key_id)}, " if key.key_id else "no kid, "
            yield self._good("client key", f"{key.alg}, {kid}thumbprint {thumbprint(key.public_jwk)}")
        if credentials.proof_key is not None:
            keeps = "shared by those with the same file" if config.dpop_key_file else "made anew by each process"
            yield self._good("proof key", f"{credentials.proof_key.alg}, {keeps}")
        yield from self._certificate()
        yield from self._permissions()
        yield from self._settings()
        overheard = Overheard()
        try:
            # Without the store: what is checked is the way to the server, and nobody else is to use what comes of it.
            valet = TokenValet({self.name: self.config}, backchannel=overheard)
        except ConfigurationError as error:
            for fault in error.faults:
                yield self._bad("configuration", str(fault))
            return
        with valet:
            if self.ask:
                yield from self._asked(valet, overheard)

    def _asked(self, valet: TokenValet, overheard: Overheard) -> Iterator[Finding]:
        got: AccessToken | None = None
        error: TokenValetError | None = None
        try:
            got = valet.token(self.name)
        except TokenValetError as fault:
            error = fault
        yield from self._metadata(overheard)
        yield from self._clock(overheard)
        if got is not None:
            yield from self._token(got)
        if error is not None:
            yield from self._error(error, overheard)

    def _certificate(self) -> Iterator[Finding]:
        path = self.config.certificate_file
        if path is None:
            return
        try:
            certificate = x509.load_pem_x509_certificates(read_file(path, private=False)[0])[0]
        except (FileFault, ValueError, IndexError) as fault:
            yield self._bad("certificate", f"{path}: {fault}")
            return
        now = datetime.now(UTC)
        left = certificate.not_valid_after_utc - now
        subject = shown(certificate.subject.rfc4514_string(), 120)
        until = f"{subject}, until {certificate.not_valid_after_utc:%Y-%m-%d}"
        if left.total_seconds() <= 0:
            yield self._bad("certificate", f"{until}: it has expired, get a new one")
        elif certificate.not_valid_before_utc > now:
            yield self._bad("certificate", f"{until}: it is not in force yet, or this machine's clock is wrong")
        elif left.days < CERTIFICATE_DAYS:
            yield self._odd("certificate", f"{until}: it expires in {left.days} days, get a new one")
        else:
            yield self._good("certificate", until)
        try:
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (x509.ExtensionNotFound, ValueError):
            return
        if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
            yield self._odd("certificate", "its extended key usage has no clientAuth: servers may refuse it")

    def _permissions(self) -> Iterator[Finding]:
        config = self.config
        named: list[Path | None] = [getattr(config, field) for field in _PRIVATE_FILES]
        if config.certificate_key_file is None:
            named.append(config.certificate_file)
        for path in named:
            if path is not None and os.name == "posix" and path.exists() and path.stat().st_mode & 0o077:
                yield self._odd("file", f"{path} can be read by others on this machine: chmod 600 it")

    def _settings(self) -> Iterator[Finding]:
        config = self.config
        if config.allow_insecure_tls:
            yield self._odd("TLS", "allow_insecure_tls lets anybody on the way read tokens: name ca_file instead")
        origins = sorted(map(str, config.origins()))
        if origins:
            yield self._good("origins", f"tokens go to {', '.join(origins)}")
        else:
            yield self._odd("origins", "no base_url and no allowed_origins: it serves tokens by hand only")

    def _metadata(self, overheard: Overheard) -> Iterator[Finding]:
        config = self.config
        if config.token_endpoint is not None:
            yield self._good("metadata", f"not asked for, since token_endpoint is given: {config.token_endpoint}")
            return
        document = overheard.metadata(config.issuer)
        if document is None:
            stated = [one for one in overheard.stated_issuers() if one != config.issuer]
            if stated:
                text = f"the server names itself {shown(stated[0])}: if that is the one you mean, set issuer to it"
                yield self._bad("metadata", text)
            return
        endpoint = document.get("token_endpoint")
        yield self._good("metadata", f"token endpoint {shown(endpoint) if isinstance(endpoint, str) else 'not named'}")
        offered = document.get("scopes_supported")
        if isinstance(offered, list):
            strange = [one for one in config.scope if one not in offered]
            if strange:
                # A server may keep scopes to itself (RFC 8414 §2), so that this decides nothing.
                yield self._odd("scope", f"{' '.join(strange)}: not among the scopes that the server lists")
        signs = document.get("token_endpoint_auth_signing_alg_values_supported")
        credentials, _ = load_credentials(config, self.name)
        authentication = credentials.authentication if credentials is not None else None
        if isinstance(signs, list) and isinstance(authentication, SignedAssertion):
            alg = authentication.signer().alg
            if alg not in signs:
                known = [one for one in signs if one in ASYMMETRIC_ALGORITHMS]
                yield self._odd("client key", f"signs with {alg}, and the server lists {', '.join(known) or 'others'}")
        if document.get("dpop_signing_alg_values_supported") and not config.dpop:
            yield self._good("DPoP", "the server offers it: dpop = true would bind the tokens to a key of yours")

    def _clock(self, overheard: Overheard) -> Iterator[Finding]:
        offset = overheard.clock_offset()
        if offset is None:
            return
        text = f"this machine is {abs(offset):.0f} s {'behind' if offset > 0 else 'ahead of'} the server"
        if abs(offset) < OFFSET_TOLD:
            yield self._good("clock", "this machine's and the server's agree")
        elif abs(offset) < OFFSET_REFUSED:
            yield self._odd("clock", f"{text}: let NTP set it, since assertions and proofs carry its time")
        else:
            yield self._bad("clock", f"{text}: let NTP set it, since assertions and proofs carry its time")

    def _token(self, got: AccessToken) -> Iterator[Finding]:
        config = self.config
        scope = got.scope if got.scope is not None else "not told by the server"
        yield self._good("token", f"{got.token_type}, good for {got.lifetime:.0f} s, scope: {shown(scope)}")
        less = [one for one in config.scope if got.scope is not None and one not in got.scope.split()]
        if less:
            yield self._odd("scope", f"{' '.join(less)} was asked for and not granted: is the client allowed it?")
        if got.lifetime < SHORT_LIFETIME:
            window = renewal_window(got.lifetime, config.renew_before, 0.0)
            text = f"{got.lifetime:.0f} s is a short life: an outage of more than about {window:.0f} s will be felt"
            yield self._odd("token", text)

    def _error(self, error: TokenValetError, overheard: Overheard) -> Iterator[Finding]:
        if isinstance(error, ConfigurationError):
            yield self._bad("configuration", self._without_name(error))
        elif isinstance(error, TokenRequestError):
            text = remedies.of_no_answer(error, self._without_name(error))
            yield self._bad("TLS" if "tls" in error.code else "server", text)
        elif isinstance(error, TokenRefusedError):
            yield from self._refusal(error, overheard)
        elif isinstance(error, TokenResponseError):
            text = self._without_name(error)
            endpoint = overheard.asked_for_token()
            if endpoint is None:
                yield self._bad("metadata", text)
            else:
                yield self._bad("token", remedies.of_strange_answer(error, text, endpoint))
        else:
            yield self._bad("token", self._without_name(error))

    def _refusal(self, error: TokenRefusedError, overheard: Overheard) -> Iterator[Finding]:
        yield self._bad("token", self._without_name(error))
        remedy = remedy_for(self.name, self.config, error, overheard) if self.try_others else None
        if remedy is not None and remedy.text:
            yield self._bad("remedy", remedy.text)
            return
        count = remedy.trials if remedy is not None else 0
        tried = f" ({count} other way{' was' if count == 1 else 's were'} tried)" if count else ""
        yield self._bad("remedy", remedies.of_refusal(self.config, error, overheard) + tried)

    def _without_name(self, error: TokenValetError) -> str:
        return str(error).removeprefix(f"client {self.name!r}: ")

    def _finding(self, subject: str, level: Level, text: str) -> Finding:
        return Finding(client=self.name, subject=subject, level=level, text=text)

    def _good(self, subject: str, text: str) -> Finding:
        return self._finding(subject, "good", text)

    def _odd(self, subject: str, text: str) -> Finding:
        return self._finding(subject, "odd", text)

    def _bad(self, subject: str, text: str) -> Finding:
        return self._finding(subject, "bad", text)
