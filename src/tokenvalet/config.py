"""What can be configured of a client, and what cannot be right: the model behind TOML, environment and Python.

Faults are collected, all of them, each with its place and its remedy. Values that are secret are `Secret` from the moment
that they are read, and are in no fault.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from .configuration_values import (
    AuthMethod,
    BaseUrl,
    Claims,
    ClientId,
    File,
    HeaderWord,
    HeaderWordOrNone,
    Issuer,
    Origins,
    Parameters,
    PrivateKey,
    Proxy,
    Resources,
    Scopes,
    SecretSource,
    SecretValue,
    ShownByKind,
    SignerObject,
    SigningAlg,
    Strings,
    TokenEndpoint,
    wrapped_secret,
)
from .core.authentication import JWT_BEARER
from .core.guard import Origin, parse_origin
from .core.signing import ASYMMETRIC_ALGORITHMS
from .errors import ConfigurationError, ConfigurationFault

__all__ = ["AssertionContext", "ClientConfig", "field_faults", "validate_client"]

SECRET_FIELDS = frozenset({"client_secret", "private_key", "private_key_password", "proxy"})


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

    issuer: Issuer | None = None
    token_endpoint: TokenEndpoint | None = None
    client_id: ClientId

    auth_method: AuthMethod | None = None
    client_secret: SecretSource = Field(default=None, repr=False)
    client_secret_file: File = None
    basic_encoding: Literal["form", "raw"] = "form"

    private_key: PrivateKey = Field(default=None, repr=False)
    private_key_file: File = None
    private_key_password: SecretValue = Field(default=None, repr=False)
    key_id: HeaderWord | None = None
    signing_alg: SigningAlg | None = None
    signer: SignerObject = Field(default=None, repr=False)

    assertion: Annotated[Callable[[AssertionContext], Any] | None, ShownByKind] = Field(default=None, repr=False)
    assertion_file: File = None
    assertion_type: str = JWT_BEARER
    assertion_audience: str | None = None
    assertion_lifetime: Annotated[int, Field(ge=1, le=600)] = 60
    assertion_claims: Claims = Field(default_factory=dict)
    assertion_typ: HeaderWordOrNone = "client-authentication+jwt"

    certificate_file: File = None
    certificate_key_file: File = None

    scope: Scopes = ()
    resource: Resources = ()
    audience: Strings = ()
    parameters: Parameters = Field(default_factory=dict, repr=False)
    required_scopes: Scopes = ()

    dpop: bool = False
    dpop_key_file: File = None
    dpop_alg: SigningAlg | None = None

    base_url: BaseUrl | None = None
    allowed_origins: Origins = ()

    ca_file: File = None
    proxy: Proxy = Field(default=None, repr=False)
    allow_insecure_tls: StrictBool = False

    renew_before: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 300.0
    timeout: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = 10.0
    default_lifetime: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] = 300.0

    if not TYPE_CHECKING:

        def __init__(self, /, **values: Any) -> None:
            # Secrets are wrapped before anything can fail, so that no frame of a traceback holds them in clear.
            for name in SECRET_FIELDS & values.keys():
                values[name] = wrapped_secret(values[name], binary=name == "private_key")
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
    faults = field_faults(error, list(ClientConfig.model_fields))
    bad = {fault.place.partition(".")[0] for fault in faults}
    # The rest is known to be good, and is read once more by itself, since it may have been written in other ways.
    good = {name: value for name, value in values.items() if name not in bad}
    rest = ClientConfig.__new__(ClientConfig)
    BaseModel.__init__(rest, **{"client_id": "unknown", **good})
    return faults + _cross_faults(rest, frozenset(bad))


def field_faults(error: ValidationError, fields: list[str]) -> list[ConfigurationFault]:
    """Return what pydantic found wrong with each of a model's fields, in our words."""
    return [
        ConfigurationFault(
            place=".".join(map(str, one["loc"])), message=_message(one["type"], one["msg"], one["loc"], fields)
        )
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _message(kind: str, text: str, location: tuple[int | str, ...], fields: list[str]) -> str:
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(location[0]), fields, n=1)
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
