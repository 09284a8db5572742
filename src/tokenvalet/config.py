"""What can be configured of a client, and what cannot be right: the model behind TOML, environment and Python.

Faults are collected, all of them, each with its place and its remedy. Values that are secret are `Secret` from the moment
that they are read, and are in no fault.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretBytes,
    SecretStr,
    StrictBool,
    ValidationError,
)

from .core.authentication import JWT_BEARER, RESERVED_CLAIMS
from .core.guard import Origin, parse_origin
from .core.metadata import check_issuer
from .core.request import Endpoint, check_parameters, check_resource
from .core.scope import scope_tokens
from .core.secret import Secret
from .core.signing import ASYMMETRIC_ALGORITHMS, Signer
from .errors import ConfigurationError, ConfigurationFault, shown

__all__ = ["AssertionContext", "ClientConfig", "validate_client"]

AuthMethod = Literal[
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
]
SECRET_FIELDS = frozenset({"client_secret", "private_key", "private_key_password", "proxy"})
ENVIRONMENT_PROXY = "environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionContext:
    """What a callable of the user's own is told when it is asked for a client assertion.

    Attributes:
        client_id: the client to speak for.
        audience: whom the assertion is for: the issuer, or what `assertion_audience` says; None where neither is set.
        lifetime: seconds that it should live at most.
    """

    client_id: str
    audience: str | None
    lifetime: int


class _Unusable:
    """Stands for a secret that cannot be used, so that what was given is in no frame when the fault is told."""

    __slots__ = ("fault",)

    def __init__(self, fault: str) -> None:
        self.fault = fault


def _wrapped(value: Any, *, binary: bool = False) -> Any:
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


_Secret = Annotated[Any, BeforeValidator(_wrapped), AfterValidator(_a_secret), PlainSerializer(_masked)]
_SecretSource = Annotated[
    Any, BeforeValidator(_wrapped), AfterValidator(_a_secret_or_callable), PlainSerializer(_masked)
]
_PrivateKey = Annotated[Any, AfterValidator(_a_secret), PlainSerializer(_masked)]
_Proxy = Annotated[Any, BeforeValidator(_wrapped), AfterValidator(_a_proxy), PlainSerializer(_masked)]
_File = Annotated[Path | None, BeforeValidator(_a_path)]
_Strings = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
_Scopes = Annotated[tuple[str, ...], BeforeValidator(_scope)]
_SigningAlg = Literal[
    "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "EdDSA", "Ed25519", "HS256", "HS384", "HS512"
]


class ClientConfig(BaseModel):
    """One OAuth client: who it is, how it shows that, what it asks for and where its tokens may go.

    Raises:
        ConfigurationError: with all faults, when made with values that cannot work.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        str_min_length=1,
    )

    name: str | None = None

    issuer: Annotated[str, AfterValidator(_issuer)] | None = None
    token_endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    client_id: Annotated[str, AfterValidator(_client_id)]

    auth_method: AuthMethod | None = None
    client_secret: _SecretSource = Field(default=None, repr=False)
    client_secret_file: _File = None
    basic_encoding: Literal["form", "raw"] = "form"

    private_key: _PrivateKey = Field(default=None, repr=False)
    private_key_file: _File = None
    private_key_password: _Secret = Field(default=None, repr=False)
    key_id: Annotated[str, AfterValidator(_header_word)] | None = None
    signing_alg: _SigningAlg | None = None
    signer: Annotated[Any, AfterValidator(_signer), PlainSerializer(_kind)] = Field(default=None, repr=False)

    assertion: Annotated[Callable[[AssertionContext], Any] | None, PlainSerializer(_kind)] = Field(
        default=None, repr=False
    )
    assertion_file: _File = None
    assertion_type: str = JWT_BEARER
    assertion_audience: str | None = None
    assertion_lifetime: Annotated[int, Field(ge=1, le=600)] = 60
    assertion_claims: Annotated[dict[str, Any], AfterValidator(_claims)] = Field(default_factory=dict)
    assertion_typ: Annotated[str, Field(min_length=0), AfterValidator(_header_word)] = "client-authentication+jwt"

    certificate_file: _File = None
    certificate_key_file: _File = None

    scope: _Scopes = ()
    resource: Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_resources)] = ()
    audience: _Strings = ()
    parameters: Annotated[dict[str, str], AfterValidator(_further_parameters)] = Field(default_factory=dict, repr=False)
    required_scopes: _Scopes = ()

    dpop: bool = False
    dpop_key_file: _File = None
    dpop_alg: _SigningAlg | None = None

    base_url: Annotated[str, AfterValidator(_base_url)] | None = None
    allowed_origins: Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_origins)] = ()

    ca_file: _File = None
    proxy: _Proxy = Field(default=None, repr=False)
    allow_insecure_tls: StrictBool = False

    renew_before: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 300.0
    timeout: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = 10.0
    default_lifetime: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] = 300.0

    if not TYPE_CHECKING:

        def __init__(self, /, **values: Any) -> None:
            # Secrets are wrapped before anything can fail, so that no frame of a traceback holds them in clear.
            for name in SECRET_FIELDS & values.keys():
                values[name] = _wrapped(values[name], binary=name == "private_key")
            try:
                super().__init__(**values)
                faults = _cross_faults(self, frozenset())
            except ValidationError as error:
                faults = _faults_of(error, values)
            if faults:
                del values
                raise ConfigurationError(faults=faults)

    def origins(self) -> frozenset[Origin]:
        """Return the origins that the token may go to: the allowed ones, or that of `base_url`."""
        urls = self.allowed_origins or ((self.base_url,) if self.base_url else ())
        return frozenset(parse_origin(url) for url in urls)

    def __reduce__(self) -> Any:
        raise TypeError("a client's configuration is not pickled, since it may hold secrets: read it in each process")


def validate_client(values: Mapping[str, Any], place: str) -> tuple[ClientConfig | None, list[ConfigurationFault]]:
    """Return the configuration that `values` describe, or None and everything that is wrong with them."""
    try:
        return ClientConfig(**{str(name): value for name, value in values.items()}), []
    except ConfigurationError as error:
        return None, [
            ConfigurationFault(place=f"{place}.{fault.place}" if fault.place else place, message=fault.message)
            for fault in error.faults
        ]


def _faults_of(error: ValidationError, values: Mapping[str, Any]) -> list[ConfigurationFault]:
    """Return what is wrong, field by field, and then what of the rest does not go together."""
    faults: list[ConfigurationFault] = []
    bad: set[str] = set()
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        location = [str(part) for part in one["loc"]]
        bad.update(location[:1])
        faults.append(ConfigurationFault(place=".".join(location), message=_message(one["type"], one["msg"], location)))
    # The rest is known to be good, and is read once more by itself, since it may have been written in other ways.
    good = {name: value for name, value in values.items() if name not in bad}
    rest = ClientConfig.__new__(ClientConfig)
    BaseModel.__init__(rest, **{"client_id": "unknown", **good})
    return faults + _cross_faults(rest, frozenset(bad))


def _message(kind: str, text: str, location: list[str]) -> str:
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(location[0], list(ClientConfig.model_fields), n=1)
        return "unknown setting" + (f"; did you mean {near[0]}?" if near else "")
    if kind == "missing":
        return "is missing"
    if kind == "path_type":
        return "should be the path of a file"
    if kind == "tuple_type":
        return "should be a string, or a list of strings"
    return text.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _cross_faults(config: ClientConfig, bad: frozenset[str]) -> list[ConfigurationFault]:
    """Return what does not go together. Settings in `bad` have a fault of their own and are not spoken of again."""
    faults: list[ConfigurationFault] = []

    def fault(field: str, message: str) -> None:
        if field not in bad:
            faults.append(ConfigurationFault(place=field, message=message))

    def given(*fields: str) -> list[str]:
        return [field for field in fields if getattr(config, field) is not None or field in bad]

    if not given("issuer", "token_endpoint"):
        fault("issuer", "is missing: give issuer, or token_endpoint where there is no metadata to discover")
    secrets = given("client_secret", "client_secret_file")
    keys = given("private_key", "private_key_file", "signer")
    assertions = given("assertion", "assertion_file")
    certificates = given("certificate_file")
    method = config.auth_method
    sources = secrets + keys + assertions + ([] if method else certificates)
    if len(sources) > 1:
        fault(
            sources[1], f"is a second credential beside {sources[0]}: a client has one (RFC 6749 §2.3), remove either"
        )
    if not (secrets or keys or assertions or certificates):
        fault(
            "client_secret",
            "no credential: give client_secret, client_secret_file, private_key, private_key_file, assertion_file or "
            "certificate_file",
        )
    elif method is not None and "auth_method" not in bad:
        needed = {
            "client_secret_basic": secrets,
            "client_secret_post": secrets,
            "client_secret_jwt": secrets,
            "private_key_jwt": keys + assertions,
            "tls_client_auth": certificates,
            "self_signed_tls_client_auth": certificates,
        }[method]
        if not needed:
            wanted = {"c": "client_secret", "p": "private_key or assertion_file", "t": "certificate_file"}
            wanted["s"] = "certificate_file"
            fault("auth_method", f"{method} needs {wanted[method[0]]}, which is not given")
        elif method.endswith("tls_client_auth") and (secrets or keys or assertions):
            fault("auth_method", f"{method} takes no other credential: remove {(secrets + keys + assertions)[0]}")
    signs = bool(keys) or method == "client_secret_jwt"
    if signs and not given("issuer", "assertion_audience"):
        fault("assertion_audience", "is missing: without an issuer, say whom the assertion is for (RFC 7523 §3)")
    if config.signing_alg is not None and "signing_alg" not in bad:
        if keys and config.signing_alg not in ASYMMETRIC_ALGORITHMS:
            fault("signing_alg", f"{config.signing_alg} signs with a shared secret, and private_key_jwt with a key")
        if method == "client_secret_jwt" and config.signing_alg in ASYMMETRIC_ALGORITHMS:
            fault("signing_alg", f"client_secret_jwt signs with HS256, HS384 or HS512, not with {config.signing_alg}")
    if given("private_key_password") and not given(
        "private_key", "private_key_file", "certificate_file", "certificate_key_file", "dpop_key_file"
    ):
        fault("private_key_password", "there is no private_key, private_key_file or other key that it could open")
    if given("certificate_key_file") and not certificates:
        fault("certificate_key_file", "there is no certificate_file that it belongs to")
    if config.basic_encoding == "raw" and ":" in config.client_id:
        fault("client_id", "has a colon in it, which basic_encoding = raw cannot carry (RFC 7617 §2)")
    if config.dpop_alg is not None and config.dpop_key_file is None and config.dpop_alg != "ES256":
        fault("dpop_alg", "a key made by us signs with ES256: give dpop_key_file for another algorithm")
    if not config.dpop and given("dpop_key_file"):
        fault("dpop_key_file", "is given, but dpop is not true: set dpop = true, or remove it")
    missing = set(config.required_scopes) - set(config.scope) if config.scope else set()
    if missing and not {"scope", "required_scopes"} & bad:
        fault("required_scopes", f"{' '.join(sorted(missing))} is required, but scope does not ask for it")
    return faults
