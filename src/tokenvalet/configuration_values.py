"""What one setting may hold: each kind of value with its check, and the fault that says what it should be.

Values that are secret are `Secret` from the moment that they are read, and are in no fault.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretBytes, SecretStr

from .core.authentication import RESERVED_CLAIMS
from .core.guard import Origin, parse_origin
from .core.metadata import check_issuer
from .core.request import Endpoint, check_parameters, check_resource
from .core.scope import scope_tokens
from .core.secret import Secret
from .core.signing import Signer
from .errors import shown

__all__ = [
    "AuthMethod",
    "BaseUrl",
    "Claims",
    "ClientId",
    "File",
    "HeaderWord",
    "HeaderWordOrNone",
    "Issuer",
    "Origins",
    "Parameters",
    "PrivateKey",
    "Proxy",
    "Resources",
    "Scopes",
    "SecretSource",
    "SecretValue",
    "ShownByKind",
    "SignerObject",
    "SigningAlg",
    "Strings",
    "TokenEndpoint",
    "wrapped_secret",
]

AuthMethod = Literal[
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
]
ENVIRONMENT_PROXY = "environment"


class _Unusable:
    """Stands for a secret that cannot be used, so that what was given is in no frame when the fault is told."""

    __slots__ = ("fault",)

    def __init__(self, fault: str) -> None:
        self.fault = fault


def wrapped_secret(value: Any, *, binary: bool = False) -> Any:
    """Return a secret as `Secret`, however it was given, or `_Unusable`; never raises. What is no secret stays as it is.

    `binary`: it may have bytes in it that are no UTF-8, as PKCS#12 has.
    """
    if isinstance(value, SecretStr | SecretBytes):
        value = value.get_secret_value()
    if isinstance(value, Mapping):
        try:
            value = json.dumps(dict(value))
        except (TypeError, ValueError, RecursionError):
            return _Unusable("is a table that cannot be written as JSON: give the JWK as its members")
    if isinstance(value, str | bytes | bytearray):
        value = Secret(value if isinstance(value, str) else bytes(value))
    if not isinstance(value, Secret):
        return value
    if not value:
        return _Unusable("is empty")
    try:
        value.reveal().encode("utf-8", "surrogateescape" if binary else "strict")
    except UnicodeEncodeError:
        return _Unusable("is not UTF-8")
    return value


def _a_secret(value: Any) -> Secret | None:
    if isinstance(value, _Unusable):
        raise ValueError(value.fault)
    if value is not None and not isinstance(value, Secret):
        raise ValueError("should be a string")
    return value


def _a_secret_or_callable(value: Any) -> Any:
    if not isinstance(value, _Unusable) and callable(value):
        return value
    if value is not None and not isinstance(value, Secret | _Unusable):
        raise ValueError("should be a string, or a callable that returns one")
    return _a_secret(value)


def _a_proxy(value: Any) -> Secret | None:
    secret = _a_secret(value)
    if secret is not None and secret.reveal() != ENVIRONMENT_PROXY and not _is_proxy_url(secret.reveal()):
        raise ValueError(f"should be {ENVIRONMENT_PROXY}, or the URL of a proxy such as http://proxy.example.org:3128")
    if (
        secret is not None
        and secret.reveal().lower().startswith("socks")
        and importlib.util.find_spec("socksio") is None
    ):
        raise ValueError("a SOCKS proxy needs the package socksio: install it, or use a proxy for HTTP")
    return secret


def _is_proxy_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https", "socks5", "socks5h")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        return False


def _a_path(value: Any) -> Any:
    if isinstance(value, str):
        if not value:
            raise ValueError("is empty")
        if "-----BEGIN" in value or value.lstrip()[:1] == "{" or any(ch in value for ch in "\0\r\n"):
            raise ValueError("is the content of a file, it seems: give its path, or use the setting without _file")
    return value


def _masked(value: Any) -> str | None:
    return None if value is None else "**********"


def _names_only(values: Mapping[str, Any]) -> dict[str, str]:
    return dict.fromkeys(values, "**********")


def _kind(value: Any) -> str | None:
    # What a callable or a signer shows of itself is not ours to trust: functools.partial shows its arguments.
    return None if value is None else f"<{type(value).__name__}>"


def _words(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _scope(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, Iterable) and all(isinstance(one, str) for one in value)):
        return scope_tokens(value)
    return value


def _issuer(value: str) -> str:
    check_issuer(value)
    return value


def _endpoint(value: str) -> str:
    Endpoint.parse(value)
    return value


def _safe_origin(url: str) -> Origin:
    origin = parse_origin(url)
    if not origin.is_safe:
        raise ValueError("a token may only leave this machine over TLS (RFC 6750 §5.3): use https")
    return origin


def _base_url(value: str) -> str:
    _safe_origin(value)
    if "?" in value or "#" in value:
        raise ValueError("a base_url has neither query nor fragment")
    return value


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        _safe_origin(value)
        if value.removesuffix("/").count("/") > 2 or "?" in value or "#" in value:
            raise ValueError(f"{shown(value, 128)!r} is more than an origin, which is scheme, host and port only")
    return values


def _resources(values: tuple[str, ...]) -> tuple[str, ...]:
    check_resource(values)
    return values


def _further_parameters(values: dict[str, str]) -> dict[str, str]:
    check_parameters(values.items())
    return values


def _claims(values: dict[str, Any]) -> dict[str, Any]:
    taken = sorted(RESERVED_CLAIMS & values.keys())
    if taken:
        raise ValueError(f"{', '.join(taken)} cannot be set here: RFC 7523 §3 gives it its meaning")
    return values


def _client_id(value: str) -> str:
    if any(not "\x20" <= ch <= "\x7e" for ch in value):
        raise ValueError("has characters other than printable ASCII (RFC 6749 §A.1)")
    return value


def _header_word(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValueError("has characters other than printable ASCII")
    return value


def _signer(value: Any) -> Any:
    if value is not None and not isinstance(value, Signer):
        raise ValueError("should have alg, public_jwk, key_id and sign(bytes), as tokenvalet.Signer says")
    return value


SecretValue = Annotated[Any, BeforeValidator(wrapped_secret), AfterValidator(_a_secret), PlainSerializer(_masked)]
SecretSource = Annotated[
    Any, BeforeValidator(wrapped_secret), AfterValidator(_a_secret_or_callable), PlainSerializer(_masked)
]
PrivateKey = Annotated[Any, AfterValidator(_a_secret), PlainSerializer(_masked)]
Proxy = Annotated[Any, BeforeValidator(wrapped_secret), AfterValidator(_a_proxy), PlainSerializer(_masked)]
File = Annotated[Path | None, BeforeValidator(_a_path)]
Strings = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
Scopes = Annotated[tuple[str, ...], BeforeValidator(_scope)]
SigningAlg = Literal[
    "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "EdDSA", "Ed25519", "HS256", "HS384", "HS512"
]
Issuer = Annotated[str, AfterValidator(_issuer)]
TokenEndpoint = Annotated[str, AfterValidator(_endpoint)]
ClientId = Annotated[str, AfterValidator(_client_id)]
HeaderWord = Annotated[str, AfterValidator(_header_word)]
HeaderWordOrNone = Annotated[str, Field(min_length=0), AfterValidator(_header_word)]
SignerObject = Annotated[Any, AfterValidator(_signer), PlainSerializer(_kind)]
Claims = Annotated[dict[str, Any], AfterValidator(_claims)]
Resources = Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_resources)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_origins)]
Parameters = Annotated[dict[str, str], AfterValidator(_further_parameters), PlainSerializer(_names_only)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
ShownByKind = PlainSerializer(_kind)
