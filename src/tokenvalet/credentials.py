"""From a client's configuration to what it authenticates with: keys loaded, secrets at hand, faults collected.

What is read here stays here; the core gets callables and signers.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .config import AssertionContext, ClientConfig
from .core.authentication import (
    ClientAssertion,
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretPost,
    SignedAssertion,
    TlsClientAuth,
)
from .core.dpop import ProofKey
from .core.secret import Secret
from .core.signing import HmacSigner, KeyFault, Signer, SigningKey, generate_es256, load_private_key, thumbprint
from .errors import ConfigurationError, ConfigurationFault, TokenValetError
from .files import FileFault, WatchedFile, read_assertion

__all__ = ["Credentials", "load_credentials"]

logger = logging.getLogger("tokenvalet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a client authenticates with and binds tokens to.

    Attributes:
        facts: what of it belongs into the token key; goes nowhere else.
    """

    authentication: ClientAuthentication
    proof_key: ProofKey | None
    facts: tuple[str, ...]


def load_credentials(config: ClientConfig, place: str) -> tuple[Credentials | None, list[ConfigurationFault]]:
    """Return the credentials of a client, or None and everything that is wrong with its keys and files."""
    faults: list[ConfigurationFault] = []
    authentication: ClientAuthentication | None = None
    facts: tuple[str, ...] = ()
    proof_key: ProofKey | None = None
    try:
        authentication, facts = _authentication(config, place)
    except _Fault as fault:
        faults.append(fault.fault)
    try:
        proof_key = _proof_key(config, place)
    except _Fault as fault:
        faults.append(fault.fault)
    if faults or authentication is None:
        return None, faults
    return Credentials(authentication=authentication, proof_key=proof_key, facts=facts), []


class _Fault(Exception):
    def __init__(self, place: str, field: str, message: str) -> None:
        super().__init__(message)
        self.fault = ConfigurationFault(place=f"{place}.{field}" if place else field, message=message)


def _authentication(config: ClientConfig, place: str) -> tuple[ClientAuthentication, tuple[str, ...]]:
    method = config.auth_method or _default_method(config)
    if method in ("tls_client_auth", "self_signed_tls_client_auth"):
        return TlsClientAuth(client_id=config.client_id, method=method), (method,)
    if method == "private_key_jwt":
        return _private_key_jwt(config, place)
    secret, fact = _secret(config, place)
    if method == "client_secret_basic":
        raw = config.basic_encoding == "raw"
        return ClientSecretBasic(client_id=config.client_id, secret=secret, raw=raw), (method, fact)
    if method == "client_secret_post":
        return ClientSecretPost(client_id=config.client_id, secret=secret), (method, fact)
    alg = config.signing_alg or "HS256"
    if not callable(config.client_secret):
        try:
            HmacSigner(secret().encode("utf-8"), alg=alg)
        except KeyFault as fault:
            raise _Fault(place, "client_secret", str(fault)) from None
    return (
        _signed(config, lambda: HmacSigner(secret().encode("utf-8"), alg=alg), "client_secret_jwt"),
        (method, alg, fact),
    )


def _default_method(config: ClientConfig) -> str:
    if config.client_secret is not None or config.client_secret_file is not None:
        return "client_secret_basic"
    keys = (config.private_key, config.private_key_file, config.signer, config.assertion, config.assertion_file)
    return "private_key_jwt" if any(one is not None for one in keys) else "tls_client_auth"


def _secret(config: ClientConfig, place: str) -> tuple[Callable[[], str], str]:
    if config.client_secret_file is not None:
        try:
            file = WatchedFile(config.client_secret_file, _secret_text)
        except FileFault as fault:
            raise _Fault(place, "client_secret_file", str(fault)) from None
        return lambda: file().reveal(), _digest(file().reveal())
    if isinstance(config.client_secret, Secret):
        return config.client_secret.reveal, _digest(config.client_secret.reveal())
    return _asked(config.client_secret, "client_secret", config.timeout), f"callable of {place}"


def _secret_text(content: bytes) -> Secret:
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise FileFault("the file is not UTF-8") from None
    if not text:
        raise FileFault("the file is empty")
    return Secret(text)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8")).hexdigest()


def _private_key_jwt(config: ClientConfig, place: str) -> tuple[ClientAuthentication, tuple[str, ...]]:
    if config.assertion_file is not None:
        path = config.assertion_file
        try:
            read_assertion(path)
        except ConfigurationError as error:
            raise _Fault(place, "assertion_file", str(error).removeprefix("assertion_file: ")) from None
        given = ClientAssertion(
            client_id=config.client_id, assertion=lambda: read_assertion(path), assertion_type=config.assertion_type
        )
        return given, ("assertion_file", str(path))
    if config.assertion is not None:
        made = config.assertion
        context = AssertionContext(
            client_id=config.client_id,
            audience=config.assertion_audience or config.issuer,
            lifetime=config.assertion_lifetime,
        )
        source = _asked(lambda: made(context), "assertion", config.timeout)
        asked = ClientAssertion(client_id=config.client_id, assertion=source, assertion_type=config.assertion_type)
        return asked, ("assertion", f"callable of {place}")
    signer = _signer(config, place)
    if signer().alg == "RS256":
        logger.warning("%s signs assertions with RS256: PS256 is the stronger choice where the server takes it", place)
    return _signed(config, signer, "private_key_jwt"), ("private_key_jwt", thumbprint(signer().public_jwk))


def _signer(config: ClientConfig, place: str) -> Callable[[], Signer]:
    if config.signer is not None:
        user_signer: Signer = config.signer
        return lambda: user_signer
    password = config.private_key_password
    secret = password.reveal().encode("utf-8") if isinstance(password, Secret) else None

    def load(content: bytes) -> SigningKey:
        return load_private_key(content, password=secret, alg=config.signing_alg, key_id=config.key_id)

    field = "private_key" if config.private_key is not None else "private_key_file"
    try:
        if config.private_key_file is not None:
            return WatchedFile(config.private_key_file, load)
        key = load(config.private_key.reveal().encode("utf-8"))
    except (FileFault, KeyFault) as fault:
        raise _Fault(place, field, str(fault)) from None
    return lambda: key


def _signed(config: ClientConfig, signer: Callable[[], Signer], method: str) -> SignedAssertion:
    audience = config.assertion_audience or config.issuer
    assert audience is not None
    if config.token_endpoint is not None and audience == config.token_endpoint:
        logger.warning(
            "assertion_audience is the token endpoint: an issuer identifier is what keeps an assertion from being "
            "used elsewhere (RFC 7523bis §4)"
        )
    return SignedAssertion(
        client_id=config.client_id,
        signer=signer,
        audience=audience,
        lifetime=config.assertion_lifetime,
        claims=config.assertion_claims,
        typ=config.assertion_typ,
        method=method,
    )


def _asked(ask: Callable[[], Any], what: str, timeout: float) -> Callable[[], str]:
    """Return `ask` as a source of strings that waits where it has to, and tells of its trouble without its values."""

    def source() -> str:
        problem = ""
        value: Any = None
        try:
            value = ask()
            if inspect.isawaitable(value):
                value = asyncio.run(_within(value, timeout))
        except TokenValetError:
            raise
        except Exception as error:  # noqa: BLE001  whatever a user's callable raises
            problem = f"raised {type(error).__name__}"
        if isinstance(value, Secret):
            value = value.reveal()
        elif hasattr(value, "get_secret_value"):
            value = value.get_secret_value()
        if not problem and (not isinstance(value, str) or not value):
            problem = "did not return a string"
        if problem:
            del value
            raise ConfigurationError(
                f"{what}: the callable that was configured {problem}", code="credential_unavailable"
            )
        return str(value)

    return source


async def _within(value: Any, timeout: float) -> Any:
    async with asyncio.timeout(timeout):
        return await value


def _proof_key(config: ClientConfig, place: str) -> ProofKey | None:
    if not config.dpop:
        return None
    if config.dpop_key_file is None:
        return ProofKey(generate_es256())
    try:
        file = WatchedFile(config.dpop_key_file, lambda content: load_private_key(content, alg=config.dpop_alg))
    except (FileFault, KeyFault) as fault:
        raise _Fault(place, "dpop_key_file", str(fault)) from None
    # Tokens are bound to this key, so it is not exchanged under them: a new file counts from the next start on.
    key = file()
    if key.alg == "RS256":
        logger.warning("%s signs DPoP proofs with RS256: an ES256 key is smaller and faster", place)
    return ProofKey(key)
