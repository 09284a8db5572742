"""Which credential is used, that there is one and no more, and what each method needs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from configuration.makers import (
    ISSUER,
    KmsSigner,
    MonotonicClock,
    faults_of,
    faults_with,
    keyed_client,
    pem,
    public_jwk,
    settings,
    write,
)
from tokenvalet import ClientConfig, Signer, TokenValet
from tokenvalet.credentials import load_credentials
from tokenvalet.testing import AuthorizationServer, RegisteredClient

SIGNED = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"
ENDPOINT = f"{ISSUER}/token"


def made(**more: Any) -> str:
    """Return the method that a client with these settings authenticates with."""
    credentials, faults = load_credentials(ClientConfig(**settings(**more)), "clients.m2m")
    assert credentials is not None, faults
    return credentials.authentication.method


# The default, by the credential ----------------------------------------------------------------------------------


def test_a_secret_is_sent_by_basic_unless_told_otherwise(tmp_path: Path) -> None:
    file = write(tmp_path / "secret", "a secret")
    assert made() == "client_secret_basic"
    assert made(client_secret=lambda: "asked for") == "client_secret_basic"
    assert made(client_secret=..., client_secret_file=file) == "client_secret_basic"


def test_a_key_or_an_assertion_is_private_key_jwt(tmp_path: Path) -> None:
    key, assertion = write(tmp_path / "key", pem("P-256")), write(tmp_path / "assertion", SIGNED)
    for credential in (
        {"private_key": pem("P-256")},
        {"private_key_file": key},
        {"assertion_file": assertion},
        {"signer": KmsSigner()},
        {"assertion": lambda _: SIGNED},
    ):
        assert made(client_secret=..., **credential) == "private_key_jwt"


def test_a_certificate_is_tls_client_auth() -> None:
    assert made(client_secret=..., certificate_file="/etc/tls.pem") == "tls_client_auth"


@pytest.mark.standards("S-011")
def test_a_certificate_may_stand_beside_another_credential_where_the_method_is_named() -> None:
    assert made(certificate_file="/etc/tls.pem", auth_method="client_secret_post") == "client_secret_post"
    assert (
        made(
            client_secret=..., private_key=pem("P-256"), certificate_file="/etc/tls.pem", auth_method="private_key_jwt"
        )
        == "private_key_jwt"
    )


# One, and no more ------------------------------------------------------------------------------------------------

CREDENTIALS: dict[str, Any] = {
    "client_secret": "a secret",
    "client_secret_file": "/etc/secret",
    "private_key": "a key",
    "private_key_file": "/etc/key.pem",
    "signer": KmsSigner(),
    "assertion": lambda _: SIGNED,
    "assertion_file": "/etc/token",
    "certificate_file": "/etc/tls.pem",
}


@pytest.mark.standards("S-011")
@pytest.mark.parametrize(
    ("one", "other"),
    [(one, other) for at, one in enumerate(CREDENTIALS) for other in list(CREDENTIALS)[at + 1 :]],
)
def test_two_credentials_are_a_fault(one: str, other: str) -> None:
    faults = faults_with(**{"client_secret": ..., one: CREDENTIALS[one], other: CREDENTIALS[other]})
    assert faults == {other: f"is a second credential beside {one}: a client has one (RFC 6749 §2.3), remove either"}


METHODS = {
    "client_secret_basic": "client_secret",
    "client_secret_post": "client_secret",
    "client_secret_jwt": "client_secret",
    "private_key_jwt": "private_key",
    "tls_client_auth": "certificate_file",
    "self_signed_tls_client_auth": "certificate_file",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("credential", ["client_secret", "private_key", "assertion_file", "certificate_file"])
def test_a_method_without_its_credential_is_a_fault_that_names_it(method: str, credential: str) -> None:
    needed = METHODS[method]
    if credential == needed or (method == "private_key_jwt" and credential == "assertion_file"):
        return
    faults = faults_with(**{"client_secret": ..., credential: CREDENTIALS[credential]}, auth_method=method)
    assert list(faults) == ["auth_method"]
    assert method in faults["auth_method"]
    assert needed in faults["auth_method"]


@pytest.mark.standards("S-011")
def test_a_tls_method_takes_no_secret_beside_the_certificate() -> None:
    faults = faults_with(auth_method="tls_client_auth", certificate_file="/etc/tls.pem")
    assert faults == {"auth_method": "tls_client_auth takes no other credential: remove client_secret"}


# Assertions ------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-016")
@pytest.mark.parametrize(
    "credential",
    [
        {"private_key": "a key"},
        {"private_key_file": "/etc/key"},
        {"signer": KmsSigner()},
        {"client_secret": "x" * 32, "auth_method": "client_secret_jwt"},
    ],
    ids=["private_key", "private_key_file", "signer", "client_secret_jwt"],
)
def test_without_an_issuer_the_audience_of_assertions_must_be_given(credential: dict[str, Any]) -> None:
    values = {"issuer": ..., "token_endpoint": ENDPOINT, "client_secret": ..., **credential}
    faults = faults_with(**values)
    assert list(faults) == ["assertion_audience"]
    assert "say whom the assertion is for" in faults["assertion_audience"]
    assert ClientConfig(**settings(**values, assertion_audience=ISSUER)) is not None


def test_who_writes_his_own_assertions_needs_no_audience() -> None:
    values = {"issuer": ..., "token_endpoint": ENDPOINT, "client_secret": ...}
    assert ClientConfig(**settings(**values, assertion_file="/etc/token")) is not None
    assert ClientConfig(**settings(**values, assertion=lambda _: SIGNED)) is not None


@pytest.mark.standards("S-016")
def test_an_audience_that_is_the_token_endpoint_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    more = {"token_endpoint": ENDPOINT, "client_secret": ..., "private_key": pem("P-256")}
    made(**more)
    assert caplog.messages == []
    made(**more, assertion_audience=ENDPOINT)
    assert "assertion_audience is the token endpoint" in caplog.text


@pytest.mark.standards("S-020")
def test_rs256_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    made(client_secret=..., private_key=pem("RSA"))
    assert caplog.messages == []
    made(client_secret=..., private_key=pem("RSA"), signing_alg="RS256")
    assert [one.levelno for one in caplog.records] == [logging.WARNING]
    assert "PS256 is the stronger choice" in caplog.text


@pytest.mark.standards("S-020")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"client_secret": ..., "private_key": "a key", "signing_alg": "HS256"}, "shared secret"),
        ({"auth_method": "client_secret_jwt", "signing_alg": "ES256"}, "HS256, HS384 or HS512"),
    ],
)
def test_an_algorithm_of_the_other_kind_of_key_is_refused(more: dict[str, Any], message: str) -> None:
    faults = faults_with(**more)
    assert list(faults) == ["signing_alg"]
    assert message in faults["signing_alg"]


@pytest.mark.standards("S-020", "S-307")
@pytest.mark.parametrize(("alg", "needed"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_too_short_to_sign_with_is_refused_before_anything_is_sent(
    alg: str, needed: int, tmp_path: Path
) -> None:
    more = {"auth_method": "client_secret_jwt", "signing_alg": alg}
    file = write(tmp_path / "secret", "s" * (needed - 1))
    for credential in ({"client_secret": "s" * (needed - 1)}, {"client_secret": ..., "client_secret_file": file}):
        config = ClientConfig(**settings(**more, **credential))
        faults = faults_of(lambda config=config: TokenValet({"m2m": config}))  # type: ignore[misc]
        ((place, message),) = faults.items()
        assert place in ("clients.m2m.client_secret", "clients.m2m.client_secret_file")
        assert f"at least {needed} bytes" in message
    assert made(**more, client_secret="s" * needed) == "client_secret_jwt"
    assert made(**more, client_secret="é" * (needed // 2)) == "client_secret_jwt"  # bytes, not characters


# A signer of the user's own --------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["alg", "public_jwk", "key_id", "sign"])
def test_an_object_that_lacks_what_a_signer_has_is_refused(missing: str) -> None:
    parts: dict[str, Any] = {"alg": "ES256", "public_jwk": {}, "key_id": None, "sign": lambda self, data: b""}
    del parts[missing]
    faults = faults_with(client_secret=..., signer=type("Half", (), parts)())
    assert "tokenvalet.Signer" in faults["signer"]


@pytest.mark.standards("S-020", "S-306")
@pytest.mark.parametrize("alg", ["none", "HS256", "ES256K", "", None])
def test_a_signer_with_an_algorithm_that_is_not_used_here_is_refused(alg: Any) -> None:
    signer = KmsSigner()
    signer.alg = alg
    faults = faults_of(lambda: TokenValet({"m2m": ClientConfig(**settings(client_secret=..., signer=signer))}))
    assert "its alg is none of ES256" in faults["clients.m2m.signer"]


@pytest.mark.parametrize("jwk", [{}, {"kty": "oct", "k": "planted"}, {"kty": "EC"}, None, {"kty": ["EC"]}])
def test_a_signer_whose_public_key_is_none_is_refused(jwk: Any) -> None:
    signer = KmsSigner()
    signer.public_jwk = jwk
    faults = faults_of(lambda: TokenValet({"m2m": ClientConfig(**settings(client_secret=..., signer=signer))}))
    assert "its public_jwk is no public key" in faults["clients.m2m.signer"]


@pytest.mark.standards("S-015", "S-020")
@pytest.mark.parametrize(("kind", "alg"), [("P-256", "ES256"), ("RSA", "PS384"), ("Ed25519", "EdDSA")])
def test_a_key_in_a_kms_signs_assertions_that_the_server_takes(
    kind: str, alg: str, auth: AuthorizationServer, client_id: str, clock: MonotonicClock
) -> None:
    auth.register(keyed_client(client_id, kind, key_id="kms-1"))
    signer = KmsSigner(kind, alg)
    assert isinstance(signer, Signer)
    config = ClientConfig(issuer=auth.issuer, client_id=client_id, signer=signer)
    with TokenValet(config, clock=clock) as valet:
        assert valet.token().value
        valet.invalidate()
        assert valet.token().value
    seen = [one for one in auth.token_requests if one.client_id == client_id]
    assert [dict(one.assertion_header or {}) for one in seen] == [
        {"alg": alg, "kid": "kms-1", "typ": "client-authentication+jwt"}
    ] * 2
    assert signer.asked == 2


# Public JWKs of the tests' own making are what the server is told; they have no private half.
def test_the_public_keys_of_these_tests_are_public() -> None:
    assert not {"d", "p", "q", "k"} & public_jwk("RSA").keys()


@pytest.mark.standards("S-010")
@pytest.mark.parametrize("encoding", ["form", "raw"])
def test_a_secret_with_odd_signs_gets_through_basic_and_post(
    encoding: Any, auth: AuthorizationServer, client_id: str
) -> None:
    secret = 'c d%é:+&=/?"\\ß€'
    auth.register(RegisteredClient(client_id=client_id, client_secret=secret, basic_encoding=encoding))
    config = ClientConfig(issuer=auth.issuer, client_id=client_id, client_secret=secret, basic_encoding=encoding)
    with TokenValet(config) as valet:
        assert valet.token().value
    if encoding == "form":
        auth.register(RegisteredClient(client_id=client_id, client_secret=secret, auth_method="client_secret_post"))
        with TokenValet(config.model_copy(update={"auth_method": "client_secret_post"})) as valet:
            assert valet.token().value
