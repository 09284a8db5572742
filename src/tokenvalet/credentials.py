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

from pydantic import SecretBytes, SecretStr

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
from .core.signing import (
    ASYMMETRIC_ALGORITHMS,
    HmacSigner,
    KeyFault,
    Signer,
    SigningKey,
    generate_es256,
    load_private_key,
    thumbprint,
)
from .errors import ConfigurationError, ConfigurationFault, TokenValetError, shown
from .files import FileFault, WatchedFile, read_assertion

__all__ = ["Credentials", "load_credentials"]

logger = logging.getLogger("tokenvalet")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credentials:
    """What a client authenticates with and binds tokens to.

    Attributes:
        facts: what of it belongs into the token key; goes nowhere else, since a hash of a secret can be guessed at.
    """

    authentication: ClientAuthentication
    proof_key: ProofKey | None
    facts: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Credentials for {self.authentication.method}>"

    def __reduce__(self) -> Any:
        raise TypeError("credentials are not pickled: configure them in both processes")

    def __getstate__(self) -> Any:
        return self.__reduce__()


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
    if proof_key is not None and facts == ("private_key_jwt", proof_key.jkt):
        # Whoever sees proofs would otherwise hold signatures of the key that the client is known by.
        message = "is the client's private key too: make another for DPoP, since one key has one purpose"
        faults.append(_Fault(place, "dpop_key_file", message).fault)
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
    if method == "client_secret_jwt":
        return _client_secret_jwt(config, place)
    secret, fact = _secret(config, place, _secret_text)
    if method == "client_secret_basic":
        raw = config.basic_encoding == "raw"
        return ClientSecretBasic(client_id=config.client_id, secret=secret, raw=raw), (method, fact)
    return ClientSecretPost(client_id=config.client_id, secret=secret), (method, fact)


def _client_secret_jwt(config: ClientConfig, place: str) -> tuple[ClientAuthentication, tuple[str, ...]]:
    alg = config.signing_alg or "HS256"

    def long_enough(content: bytes) -> Secret:
        secret = _secret_text(content)
        HmacSigner(secret.reveal().encode("utf-8"), alg=alg)
        return secret

    secret, fact = _secret(config, place, long_enough)
    if isinstance(config.client_secret, Secret):
        try:
            HmacSigner(secret().encode("utf-8"), alg=alg)
        except KeyFault as fault:
            raise _Fault(place, "client_secret", str(fault)) from None

    def signer() -> HmacSigner:
        problem = ""
        try:
            return HmacSigner(secret().encode("utf-8"), alg=alg)
        except KeyFault as fault:
            problem = str(fault)
        raise ConfigurationError(f"client_secret: {problem}", code="credential_unavailable")

    return _signed(config, signer, "client_secret_jwt"), ("client_secret_jwt", alg, fact)


def _default_method(config: ClientConfig) -> str:
    if config.client_secret is not None or config.client_secret_file is not None:
        return "client_secret_basic"
    keys = (config.private_key, config.private_key_file, config.signer, config.assertion, config.assertion_file)
    return "private_key_jwt" if any(one is not None for one in keys) else "tls_client_auth"


def _secret(config: ClientConfig, place: str, parse: Callable[[bytes], Secret]) -> tuple[Callable[[], str], str]:
    if config.client_secret_file is not None:
        try:
            file = WatchedFile(config.client_secret_file, parse)
        except (FileFault, KeyFault) as fault:
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
        logger.warning(
            "%s signs assertions with RS256: PS256 is the stronger choice where the server takes it", shown(place)
        )
    return _signed(config, signer, "private_key_jwt"), ("private_key_jwt", thumbprint(signer().public_jwk))


def _signer(config: ClientConfig, place: str) -> Callable[[], Signer]:
    if config.signer is not None:
        user_signer: Signer = config.signer
        _check_signer(user_signer, place)
        return lambda: user_signer

    def load(content: bytes) -> SigningKey:
        return load_private_key(content, password=_password(config), alg=config.signing_alg, key_id=config.key_id)

    field = "private_key" if config.private_key is not None else "private_key_file"
    try:
        if config.private_key_file is not None:
            return WatchedFile(config.private_key_file, load)
        key = load(config.private_key.reveal().encode("utf-8", "surrogateescape"))
    except (FileFault, KeyFault) as fault:
        raise _Fault(place, field, str(fault)) from None
    return lambda: key


def _check_signer(signer: Signer, place: str) -> None:
    problem = ""
    try:
        if signer.alg not in ASYMMETRIC_ALGORITHMS:
            problem = f"its alg is none of {', '.join(ASYMMETRIC_ALGORITHMS)}"
        thumbprint(signer.public_jwk)
    except Exception:  # noqa: BLE001  whatever a user's signer does
        problem = problem or "its public_jwk is no public key of the kind EC, RSA or OKP (RFC 7517)"
    if problem:
        raise _Fault(place, "signer", problem)


def _password(config: ClientConfig) -> bytes | None:
    password = config.private_key_password
    return password.reveal().encode("utf-8") if isinstance(password, Secret) else None


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
        # Whatever a user's callable raises: a cancelled task or sys.exit() may not end the thread that renews tokens.
        except BaseException as error:  # noqa: BLE001
            problem = f"raised {type(error).__name__}"
        text = _text_of(value)
        del value
        if not problem and not text:
            problem = "did not return a string"
        if problem:
            del text
            raise ConfigurationError(
                f"{what}: the callable that was configured {problem}", code="credential_unavailable"
            )
        return text

    return source


def _text_of(value: Any) -> str:
    """Return what a user's callable returned as text, or "" for what is no text that can be sent."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, SecretStr | SecretBytes):
        value = value.get_secret_value()
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    except UnicodeDecodeError:
        return ""


async def _within(value: Any, timeout: float) -> Any:
    async with asyncio.timeout(timeout):
        return await value


def _proof_key(config: ClientConfig, place: str) -> ProofKey | None:
    if not config.dpop:
        return None
    if config.dpop_key_file is None:
        return ProofKey(generate_es256())

    def load(content: bytes) -> SigningKey:
        # One password opens all keys of a client, and this one need not be encrypted because another is.
        locked = b"ENCRYPTED" in content or (b"-----BEGIN" not in content and not content.lstrip().startswith(b"{"))
        return load_private_key(content, password=_password(config) if locked else None, alg=config.dpop_alg)

    try:
        file = WatchedFile(config.dpop_key_file, load)
    except (FileFault, KeyFault) as fault:
        raise _Fault(place, "dpop_key_file", str(fault)) from None
    # Tokens are bound to this key, so it is not exchanged under them: a new file counts from the next start on.
    key = file()
    if key.alg == "RS256":
        logger.warning("%s signs DPoP proofs with RS256: an ES256 key is smaller and faster", shown(place))
    return ProofKey(key)
