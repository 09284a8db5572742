"""Private keys: every form in which one may come, and every one that is not to be signed with."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from configuration.makers import (
    KIND_OF_ALG,
    PASSWORD,
    as_json,
    faults_of,
    key_of,
    key_plants,
    keyed_client,
    p12,
    pem,
    private_jwk,
    public_jwk,
    public_pem,
    settings,
    write,
)
from secrecy.walker import Plant
from tokenvalet import ClientConfig, TokenValet
from tokenvalet.credentials import load_credentials
from tokenvalet.files import LARGEST_FILE
from tokenvalet.testing import AuthorizationServer, RegisteredClient

KINDS = ("P-256", "P-384", "P-521", "RSA", "Ed25519")


def certificate(kind: str = "P-256") -> str:
    key = key_of(kind)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "records-web")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(days=9999))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


# Every form, against the server ----------------------------------------------------------------------------------

FORMS: dict[str, Callable[[str], tuple[str | bytes, str | None]]] = {
    "PEM": lambda kind: (pem(kind), None),
    "encrypted PEM": lambda kind: (pem(kind, PASSWORD), PASSWORD),
    "PKCS#12": lambda kind: (p12(kind, PASSWORD), PASSWORD),
    "JWK": lambda kind: (as_json(private_jwk(kind)), None),
    "JWK with white space": lambda kind: ("\n " + json.dumps(private_jwk(kind), indent=2) + "\n", None),
    "JWK with its purpose": lambda kind: (as_json(private_jwk(kind, use="sig", key_ops=["sign", "verify"])), None),
}


@pytest.mark.standards("S-220", "S-222", "S-015")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_a_key_of_every_kind_and_form_authenticates_from_a_file_and_from_a_setting(
    kind: str, form: str, auth: AuthorizationServer, client_id: str, tmp_path: Path
) -> None:
    auth.register(keyed_client(client_id, kind))
    content, password = FORMS[form](kind)
    more = {"private_key_password": password} if password else {}
    for credential in (
        {"private_key_file": write(tmp_path / "key", content)},
        {"private_key": content},
    ):
        with TokenValet(ClientConfig(issuer=auth.issuer, client_id=client_id, **credential, **more)) as valet:
            assert valet.token().value
    assert [one.auth_method for one in auth.token_requests if one.client_id == client_id] == ["private_key_jwt"] * 2


@pytest.mark.standards("S-220", "S-225")
def test_a_jwk_may_be_given_as_a_dictionary(auth: AuthorizationServer, client_id: str) -> None:
    auth.register(keyed_client(client_id, "P-256", key_id="2026-1"))
    config = ClientConfig(issuer=auth.issuer, client_id=client_id, private_key=private_jwk("P-256", kid="2026-1"))
    with TokenValet(config) as valet:
        assert valet.token().value
    assert (auth.token_requests[-1].assertion_header or {})["kid"] == "2026-1"


@pytest.mark.standards("S-020", "S-221")
@pytest.mark.parametrize("alg", KIND_OF_ALG)
def test_every_algorithm_signs_assertions_that_the_server_takes(
    alg: str, auth: AuthorizationServer, client_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind = KIND_OF_ALG[alg]
    auth.register(keyed_client(client_id, kind))
    config = ClientConfig(
        issuer=auth.issuer, client_id=client_id, private_key=pem(kind), signing_alg=alg, key_id="2026-1"
    )
    auth.register(keyed_client(client_id, kind, key_id="2026-1"))
    with TokenValet(config) as valet:
        assert valet.token().value
    seen = auth.token_requests[-1]
    assert (seen.client_id, (seen.assertion_header or {})["alg"]) == (client_id, alg)
    assert (seen.assertion_header or {})["kid"] == "2026-1"
    assert (seen.assertion_claims or {})["aud"] == auth.issuer


@pytest.mark.standards("S-020")
@pytest.mark.parametrize("alg", [None, "HS256", "HS384", "HS512"])
def test_a_client_secret_signs_assertions_that_the_server_takes(
    alg: Any, auth: AuthorizationServer, client_id: str
) -> None:
    secret = "s3cret-é-" * 8
    auth.register(RegisteredClient(client_id=client_id, client_secret=secret, auth_method="client_secret_jwt"))
    config = ClientConfig(
        issuer=auth.issuer,
        client_id=client_id,
        client_secret=secret,
        auth_method="client_secret_jwt",
        signing_alg=alg,
    )
    with TokenValet(config) as valet:
        assert valet.token().value
    seen = auth.token_requests[-1]
    assert (seen.auth_method, (seen.assertion_header or {})["alg"]) == ("client_secret_jwt", alg or "HS256")
    assert "client_secret" not in seen.form


def test_what_is_configured_of_an_assertion_is_in_it(auth: AuthorizationServer, client_id: str) -> None:
    auth.register(keyed_client(client_id, "P-256", assertion_audience="https://elsewhere.example"))
    config = ClientConfig(
        issuer=auth.issuer,
        client_id=client_id,
        private_key=pem("P-256"),
        assertion_audience="https://elsewhere.example",
        assertion_lifetime=30,
        assertion_claims={"tenant": "a", "level": 3},
        assertion_typ="JWT",
    )
    with TokenValet(config) as valet:
        valet.token()
    seen = auth.token_requests[-1]
    claims, header = dict(seen.assertion_claims or {}), dict(seen.assertion_header or {})
    assert claims["exp"] - claims["iat"] == 30
    assert (claims["aud"], claims["tenant"], claims["level"]) == ("https://elsewhere.example", "a", 3)
    assert header == {"alg": "ES256", "typ": "JWT"}


def test_an_empty_typ_is_left_out(auth: AuthorizationServer, client_id: str) -> None:
    auth.register(keyed_client(client_id, "P-256"))
    config = ClientConfig(issuer=auth.issuer, client_id=client_id, private_key=pem("P-256"), assertion_typ="")
    with TokenValet(config) as valet:
        valet.token()
    assert auth.token_requests[-1].assertion_header == {"alg": "ES256"}


# What is not to be signed with -----------------------------------------------------------------------------------


def refused(content: str | bytes, tmp_path: Path, *plants: Plant, **more: Any) -> str:
    """Return why a key is refused, which is the same from a file, from a setting, and for DPoP; nothing of it is shown."""
    file = write(tmp_path / "key", content)
    reasons = set()
    for credential, place in (
        ({"private_key_file": file}, "clients.m2m.private_key_file"),
        ({"private_key": content}, "clients.m2m.private_key"),
        ({"client_secret": "x", "dpop": True, "dpop_key_file": file}, "clients.m2m.dpop_key_file"),
    ):
        if "dpop" in credential and more.keys() - {"private_key_password"}:
            continue
        config = ClientConfig(**settings(**{"client_secret": ..., **credential, **more}))
        text = content if isinstance(content, str) else content.decode("latin-1")
        everything = Plant("the content", (text, json.dumps(text)[1:-1]))
        faults = faults_of(lambda config=config: TokenValet({"m2m": config}), everything, *plants)  # type: ignore[misc]
        assert list(faults) == [place]
        reasons.add(faults[place])
    (reason,) = reasons
    return reason


WRONG_KEYS: dict[str, tuple[Callable[[], str | bytes], str]] = {
    "RSA of 1024 bits": (lambda: pem("RSA-1024"), "1024 bits; at least 2048"),
    "RSA of 1024 bits as a JWK": (lambda: as_json(private_jwk("RSA-1024")), "1024 bits; at least 2048"),
    "DSA": (lambda: pem("DSA"), "DSA keys are not used here"),
    "Ed448": (lambda: pem("Ed448"), "Ed448 keys are not used here"),
    "X25519": (lambda: pem("X25519"), "X25519 keys are not used here"),
    "secp256k1": (lambda: pem("secp256k1"), "the curve secp256k1 is not used here"),
    "P-192": (lambda: pem("P-192"), "the curve secp192r1 is not used here"),
    "a public key": (lambda: public_pem("P-256"), "holds a public key; a private key is needed"),
    "a public JWK": (lambda: as_json(public_jwk("P-256")), "is a public key, without d"),
    "a certificate": (lambda: certificate(), "holds a certificate; a private key is needed"),
    "a symmetric JWK": (lambda: '{"kty":"oct","k":"cGxhbnRlZHBsYW50ZWQ"}', "belongs into client_secret"),
    "a JWKS": (lambda: as_json({"keys": [private_jwk("P-256")]}), "give the one private JWK that is meant"),
    "a JWK of a curve that is not used": (
        lambda: as_json(private_jwk("P-256", crv="secp256k1")),
        "a curve other than P-256, P-384 and P-521",
    ),
    "a JWK that is no JSON": (lambda: '{"kty":"EC","d":"planted', "is no JSON"),
    "a JWK that lacks a number": (lambda: '{"kty":"EC","crv":"P-256","d":"cGxhbnRlZA"}', "is incomplete"),
    "a JWK for encryption": (lambda: as_json(private_jwk("P-256", use="enc")), "not for signing"),
    "a JWK for verifying": (lambda: as_json(private_jwk("P-256", key_ops=["verify"])), "not for signing"),
    "a JWK whose halves do not fit": (
        lambda: as_json(private_jwk("Ed25519", x=public_jwk("Ed25519")["x"][::-1])),
        "does not belong to its private half",
    ),
    "a broken PEM": (lambda: pem("P-256").replace("\n", "\n!!", 1), "cannot be read"),
    "half a PEM": (lambda: pem("P-256")[:60], "cannot be read"),
    "an encrypted PEM without password": (lambda: pem("P-256", PASSWORD), "give private_key_password as well"),
    "PKCS#12 without password": (lambda: p12("P-256", PASSWORD), "private_key_password"),
    "text": (lambda: "planted-text-that-is-no-key", "neither PEM, nor a JWK, nor PKCS#12"),
    "binary": (lambda: b"planted-bytes\xff\xfe", "neither PEM, nor a JWK, nor PKCS#12"),
}


@pytest.mark.standards("S-220", "S-221", "S-222", "S-306")
@pytest.mark.parametrize("name", WRONG_KEYS)
def test_a_key_that_is_weak_or_wrong_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    make, message = WRONG_KEYS[name]
    plants = [*key_plants("P-256"), *key_plants("RSA-1024"), Plant("planted", ("planted", "cGxhbnRlZA"))]
    assert message in refused(make(), tmp_path, *plants)


@pytest.mark.standards("S-221")
@pytest.mark.parametrize(
    ("kind", "alg"),
    [
        ("P-256", "ES384"),
        ("P-256", "PS256"),
        ("P-521", "ES256"),
        ("RSA", "ES256"),
        ("Ed25519", "ES256"),
        ("RSA", "EdDSA"),
    ],
)
def test_an_algorithm_that_is_not_the_one_of_the_key_is_refused(kind: str, alg: str, tmp_path: Path) -> None:
    for content in (pem(kind), as_json(private_jwk(kind))):
        assert f"not with {alg}" in refused(content, tmp_path, *key_plants(kind), signing_alg=alg)


@pytest.mark.standards("S-221")
@pytest.mark.parametrize("stated", ["ES384", "none", "HS256", "RS512", "dir"])
def test_an_algorithm_inside_a_jwk_that_contradicts_its_key_is_refused(stated: Any, tmp_path: Path) -> None:
    refused(as_json(private_jwk("P-256", alg=stated)), tmp_path, *key_plants("P-256"))
    reason = refused(as_json(private_jwk("P-256", alg=stated)), tmp_path, signing_alg="ES256")
    assert "contradict each other" in reason


@pytest.mark.standards("S-222")
@pytest.mark.parametrize("form", ["encrypted PEM", "PKCS#12"])
def test_a_wrong_password_is_told_and_not_shown(form: str, tmp_path: Path) -> None:
    content, _ = FORMS[form]("P-256")
    password = Plant.of("password", "planted-wrong-password")
    reason = refused(content, tmp_path, password, private_key_password="planted-wrong-password")
    assert "password" in reason


@pytest.mark.standards("S-222")
def test_a_password_for_a_key_that_is_not_encrypted_is_told(tmp_path: Path) -> None:
    more = {"client_secret": ..., "private_key": pem("P-256"), "private_key_password": PASSWORD}
    faults = faults_of(lambda: TokenValet({"m2m": ClientConfig(**settings(**more))}), Plant.of("password", PASSWORD))
    assert "leave private_key_password out" in faults["clients.m2m.private_key"]


@pytest.mark.standards("S-222")
@pytest.mark.parametrize("form", ["PEM", "encrypted PEM", "PKCS#12", "JWK"])
def test_a_dpop_key_may_have_every_form_too(form: str, tmp_path: Path) -> None:
    content, password = FORMS[form]("Ed25519")
    file = write(tmp_path / "dpop", content)
    more = {"private_key_password": password} if password else {}
    credentials, faults = load_credentials(ClientConfig(**settings(dpop=True, dpop_key_file=file, **more)), "")
    assert credentials is not None, faults
    assert credentials.proof_key is not None
    assert credentials.proof_key.alg == "EdDSA"


@pytest.mark.standards("S-222")
def test_one_password_opens_the_keys_that_are_encrypted_and_not_the_others(tmp_path: Path) -> None:
    values = settings(
        client_secret=...,
        private_key_file=write(tmp_path / "key", pem("P-256", PASSWORD)),
        private_key_password=PASSWORD,
        dpop=True,
        dpop_key_file=write(tmp_path / "dpop", pem("P-384")),
    )
    credentials, faults = load_credentials(ClientConfig(**values), "")
    assert credentials is not None, faults


@pytest.mark.standards("S-114")
def test_the_key_of_the_client_is_not_its_proof_key_as_well(tmp_path: Path) -> None:
    key, another = write(tmp_path / "key", pem("P-256")), write(tmp_path / "another", pem("P-384"))
    values = settings(client_secret=..., private_key_file=key, dpop=True)
    _, faults = load_credentials(ClientConfig(**values, dpop_key_file=key), "clients.m2m")
    assert [(fault.place, "make another for DPoP" in fault.message) for fault in faults] == [
        ("clients.m2m.dpop_key_file", True)
    ]
    assert load_credentials(ClientConfig(**values, dpop_key_file=another), "clients.m2m")[1] == []


# Files -----------------------------------------------------------------------------------------------------------

PRIVATE_FILES: dict[str, tuple[dict[str, Any], Callable[[], str]]] = {
    "private_key_file": ({"client_secret": ...}, lambda: pem("P-256")),
    "client_secret_file": ({"client_secret": ...}, lambda: "a secret"),
    "assertion_file": ({"client_secret": ...}, lambda: "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"),
    "dpop_key_file": ({"dpop": True}, lambda: pem("P-256")),
}


def from_file(field: str, path: Path) -> TokenValet:
    return TokenValet({"m2m": ClientConfig(**settings(**PRIVATE_FILES[field][0], **{field: path}))})


@pytest.mark.standards("S-222")
@pytest.mark.parametrize("field", PRIVATE_FILES)
def test_a_private_file_that_others_can_read_is_used_and_warned_of_once(
    field: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Once: what Kubernetes mounts is like that, and it is read again for every use.
    for mode in (0o600, 0o400):
        from_file(field, write(tmp_path / f"file-{mode:o}", PRIVATE_FILES[field][1](), mode)).close()
    assert caplog.messages == []
    for mode in (0o644, 0o640, 0o604):
        path = write(tmp_path / f"file-{mode:o}", PRIVATE_FILES[field][1](), mode)
        for _ in range(3):
            from_file(field, path).close()
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage() == f"{path} can be read by others on this machine: chmod 600 it"
        caplog.clear()


@pytest.mark.standards("S-222", "S-131")
@pytest.mark.parametrize("field", [*PRIVATE_FILES, "ca_file", "certificate_file"])
def test_a_file_that_is_missing_a_directory_a_pipe_or_too_large_is_told_with_its_path(
    field: str, tmp_path: Path
) -> None:
    import os

    large = write(tmp_path / "large", b"planted-content " * (LARGEST_FILE // 16 + 1))
    os.mkfifo(tmp_path / "pipe") if field in PRIVATE_FILES else (tmp_path / "pipe").mkdir()
    beside = {"client_secret": ...} if field == "certificate_file" else PRIVATE_FILES.get(field, ({},))[0]
    for path, message in (
        (tmp_path / "not-there", "No such file"),
        (tmp_path, "is no regular file"),
        (tmp_path / "pipe", "is no regular file"),
        (large, f"more than {LARGEST_FILE} bytes"),
    ):
        config = ClientConfig(**settings(**beside, **{field: path}))
        faults = faults_of(
            lambda config=config: TokenValet({"m2m": config}),  # type: ignore[misc]
            Plant("the content", ("planted-content",)),
        )
        assert list(faults) == [f"clients.m2m.{field}"]
        assert str(path) in faults[f"clients.m2m.{field}"]
        if field in PRIVATE_FILES:
            assert message in faults[f"clients.m2m.{field}"]


@pytest.mark.standards("S-222")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def denied(*how: Any, **more: Any) -> int:
        raise PermissionError(13, "Permission denied")  # who runs tests as root is denied nothing

    path = write(tmp_path / "key", pem("P-256"))
    monkeypatch.setattr(os, "open", denied)
    faults = faults_of(lambda: from_file("private_key_file", path))
    assert faults == {"clients.m2m.private_key_file": f"{path} cannot be read: Permission denied"}


@pytest.mark.standards("S-131")
def test_symlinks_are_followed_as_kubernetes_needs_it(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    write(tmp_path / "..2026" / "key", pem("P-256"))
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "key").symlink_to("..data/key")
    from_file("private_key_file", tmp_path / "key").close()
