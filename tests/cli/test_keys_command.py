"""`tokenvalet keys`: keys of ours work where they are configured, and what is printed of them is public."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from joserfc.jwk import import_key

from cli.command_line import run
from tokenvalet import TokenValet
from tokenvalet.testing import AuthorizationServer, RegisteredClient

PRIVATE_PARTS = {"d", "p", "q", "dp", "dq", "qi", "k"}


@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "EdDSA", "PS256", "RS256"])
def test_a_new_client_key_is_registered_by_what_is_printed_and_authenticates(
    auth: AuthorizationServer, tmp_path: Path, alg: str
) -> None:
    path = tmp_path / "client.pem"
    made = run("keys", "new-client-key", "--alg", alg, "--rsa-bits", "2048", "--out", str(path))
    jwk: dict[str, Any] = json.loads(made.stdout)
    assert jwk["alg"] == alg
    assert not PRIVATE_PARTS & jwk.keys()
    assert jwk["kid"] == import_key(jwk).thumbprint()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or sys.platform == "win32"
    assert json.loads(run("keys", "public", str(path), "--alg", alg).stdout) == jwk
    auth.register(RegisteredClient(client_id="with-key", auth_method="private_key_jwt", jwks={"keys": [jwk]}))
    config = {"issuer": auth.issuer, "client_id": "with-key", "private_key_file": str(path), "signing_alg": alg}
    with TokenValet.from_dict({"clients": {"m2m": config}}) as valet:
        assert valet.token("m2m").value == auth.issued_tokens[0]


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "client.pem"
    run("keys", "new-client-key", "--out", str(path))
    before = path.read_bytes()
    again = run("keys", "new-client-key", "--out", str(path))
    assert (again.returncode, again.stdout, path.read_bytes()) == (2, b"", before)
    assert b"a key is never written over" in again.stderr


def test_a_locked_key_opens_with_its_password_only(tmp_path: Path) -> None:
    path, password = tmp_path / "client.pem", tmp_path / "password"
    password.write_text("a password of the tests\n")
    password.chmod(0o600)
    jwk = run("keys", "new-client-key", "--out", str(path), "--password-file", str(password)).stdout
    assert b"ENCRYPTED" in path.read_bytes()
    assert run("keys", "public", str(path), "--password-file", str(password)).stdout == jwk
    without = run("keys", "public", str(path))
    assert (without.returncode, without.stdout) == (3, b"")
    assert b"Traceback" not in without.stderr


def test_two_keys_print_as_one_jwks_for_the_time_of_a_rotation(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("old.pem", "new.pem")]
    jwks = [json.loads(run("keys", "new-client-key", "--out", path).stdout) for path in paths]
    assert json.loads(run("keys", "public", *paths).stdout) == {"keys": jwks}
    assert json.loads(run("keys", "public", paths[0], "--jwks", "--key-id", "a").stdout)["keys"][0]["kid"] == "a"


def test_a_proof_key_has_its_thumbprint_printed_and_binds_the_tokens(auth: AuthorizationServer, tmp_path: Path) -> None:
    path = tmp_path / "proof.pem"
    printed = run("keys", "new-proof-key", "--out", str(path)).stdout.decode().strip()
    assert json.loads(run("keys", "public", str(path)).stdout)["kid"] == printed
    config = {"issuer": auth.issuer, "client_id": "records-web", "client_secret": "x", "dpop_key_file": str(path)}
    with TokenValet.from_dict({"clients": {"m2m": {**config, "dpop": True}}}):
        pass  # it loads


def test_a_certificate_request_names_whom_it_is_for(tmp_path: Path) -> None:
    path = tmp_path / "client.pem"
    run("keys", "new-client-key", "--out", str(path))
    printed = run("keys", "csr", str(path), "--common-name", "records-web", "--uri", "spiffe://example.org/records")
    request = x509.load_pem_x509_csr(printed.stdout)
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=records-web"
    usage = request.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org/records"]
    bad = run("keys", "csr", str(path), "--common-name", "x", "--country", "Norway")
    assert bad.returncode == 2
    assert b"Traceback" not in bad.stderr


def test_what_is_no_key_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no key\n")
    for command in (["public", str(path)], ["csr", str(path), "--common-name", "x"], ["public", str(path) + "2"]):
        result = run("keys", *command)
        assert (result.returncode, result.stdout) == (3, b"")
        assert b"Traceback" not in result.stderr
