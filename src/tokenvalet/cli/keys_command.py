"""``tokenvalet keys``: make keys, and show of them what may be shown.

A private key goes into a file that only its owner reads, and never over another; what is printed is public.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..core.signing import SigningKey, load_private_key, thumbprint
from ..errors import shown
from ..files import FileFault, read_file
from .outcomes import Exit, ended

__all__ = ["keys"]

LONGEST_PASSWORD = 1023  # what cryptography takes
_ALGORITHMS = ("ES256", "ES384", "ES512", "EdDSA", "PS256", "RS256")
_CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
_PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_ALG = click.option(
    "--alg", type=click.Choice(_ALGORITHMS), default="ES256", show_default=True, help="What it signs with."
)
_RSA_BITS = click.option("--rsa-bits", type=click.IntRange(2048, 8192), default=3072, show_default=True)
_OUT = click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="The file for the private key; must not exist."
)
_PASSWORD = click.option(
    "--password-file", type=click.Path(path_type=Path), help="A file with the password that the key is locked with."
)


@click.group()
def keys() -> None:
    """Make keys, and show of them what may be shown."""


@keys.command("new-store-key")
@click.option("--id", "key_id", help="What the key is called: letters, digits, - and _.  [default: made up]")
def new_store_key(key_id: str | None) -> None:
    """Print a line for the file of encryption keys of a store, with a new key.

    The first key of that file seals, all open: put a new one in front, and take the old one away when the tokens that it
    sealed have expired. For example: tokenvalet keys new-store-key > store-keys && chmod 600 store-keys
    """
    from ..stores.sealing import SealingFault, new_key

    try:
        click.echo(new_key(key_id))
    except SealingFault as fault:
        raise click.BadParameter(str(fault), param_hint="--id") from None


@keys.command("new-client-key")
@_ALG
@_RSA_BITS
@_OUT
@_PASSWORD
@click.option("--key-id", help="The kid to register it under.  [default: its thumbprint, RFC 7638]")
def new_client_key(alg: str, rsa_bits: int, out: Path, password_file: Path | None, key_id: str | None) -> None:
    """Make a key for private_key_jwt, and print the public JWK to register.

    For example: tokenvalet keys new-client-key --out client-key.pem > public.jwk.json
    """
    key = _made(alg, rsa_bits)
    _write_private(out, key, password_file)
    signing = _loaded(out, password_file, alg, key_id)
    click.echo(_pretty(_public(signing, signing.key_id or thumbprint(signing.public_jwk))))
    kid = "" if key_id is None else f'\nkey_id = "{shown(key_id)}"'
    usual = "" if alg in ("ES256", "ES384", "ES512", "EdDSA", "PS256") else f'\nsigning_alg = "{alg}"'
    click.echo(f'# Configure it:\nprivate_key_file = "{out}"{kid}{usual}', err=True)


@keys.command("new-proof-key")
@_ALG
@_RSA_BITS
@_OUT
@_PASSWORD
def new_proof_key(alg: str, rsa_bits: int, out: Path, password_file: Path | None) -> None:
    """Make a key for DPoP proofs, to be shared by the processes that share tokens; print its thumbprint.

    It is another key than the client's own (RFC 9449 §11.4 and HelseID ask for that). For example:
    tokenvalet keys new-proof-key --out proof-key.pem
    """
    _write_private(out, _made(alg, rsa_bits), password_file)
    signing = _loaded(out, password_file, alg, None)
    click.echo(thumbprint(signing.public_jwk))
    click.echo(f'# The thumbprint (jkt) is above. Configure it:\ndpop = true\ndpop_key_file = "{out}"', err=True)


@keys.command("public")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--jwks", is_flag=True, help="Print a JWKS, as jwks_uri serves it; always with several files.")
@click.option("--alg", help="The alg to name.  [default: what the key signs with]")
@click.option("--key-id", help="The kid to name.  [default: the JWK's own, or the thumbprint, RFC 7638]")
@_PASSWORD
def public(
    files: tuple[Path, ...], jwks: bool, alg: str | None, key_id: str | None, password_file: Path | None
) -> None:
    """Print the public JWK of each private key in FILES, to be registered with the authorization server.

    Several files print as one JWKS: while a key is rotated, both the old and the new one are registered.
    """
    if key_id is not None and len(files) > 1:
        raise click.UsageError("--key-id is for one file: several keys have a kid each")
    found = []
    for file in files:
        signing = _loaded(file, password_file, alg, key_id)
        found.append(_public(signing, signing.key_id or thumbprint(signing.public_jwk)))
    click.echo(_pretty({"keys": found} if jwks or len(found) > 1 else found[0]))


@keys.command("csr")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--common-name", required=True, help="Whom the certificate is for, as the authority wants it.")
@click.option("--organization", help="The organization, if the authority wants it.")
@click.option("--country", help="Its country, two letters.")
@click.option("--dns", multiple=True, help="A DNS name in subjectAltName.")
@click.option("--uri", multiple=True, help="A URI in subjectAltName, such as a SPIFFE id.")
@_PASSWORD
def csr(
    file: Path,
    common_name: str,
    organization: str | None,
    country: str | None,
    dns: tuple[str, ...],
    uri: tuple[str, ...],
    password_file: Path | None,
) -> None:
    """Print a certificate request (PKCS#10) for the private key in FILE, for mutual TLS.

    For example: tokenvalet keys new-client-key --out client.key && tokenvalet keys csr client.key --common-name records-web
    """
    key = _private(file, password_file)
    names = [
        (NameOID.COUNTRY_NAME, country),
        (NameOID.ORGANIZATION_NAME, organization),
        (NameOID.COMMON_NAME, common_name),
    ]
    try:
        subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names if value is not None])
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        alternatives = [*map(x509.DNSName, dns), *map(x509.UniformResourceIdentifier, uri)]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        request = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    except ValueError as error:
        raise ended(Exit.USAGE, f"no certificate can be asked for with these names: {error}") from None
    click.echo(request.public_bytes(serialization.Encoding.PEM).decode(), nl=False)


def _made(alg: str, rsa_bits: int) -> _PrivateKey:
    if alg in _CURVES:
        return ec.generate_private_key(_CURVES[alg])
    if alg == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=rsa_bits)


def _write_private(path: Path, key: _PrivateKey, password_file: Path | None) -> None:
    password = _password(password_file)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        if not 0 < len(password) <= LONGEST_PASSWORD:
            raise ended(Exit.USAGE, f"{password_file}: a password has 1 to {LONGEST_PASSWORD} bytes")
        encryption = serialization.BestAvailableEncryption(password)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ended(Exit.USAGE, f"{path} exists, and a key is never written over: name another file") from None
    except OSError as error:
        raise ended(Exit.USAGE, f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)


def _loaded(path: Path, password_file: Path | None, alg: str | None, key_id: str | None) -> SigningKey:
    try:
        return load_private_key(_content(path), password=_password(password_file), alg=alg, key_id=key_id)
    except ValueError as fault:
        raise ended(Exit.CONFIGURATION, f"{path}: {fault}") from None


def _private(path: Path, password_file: Path | None) -> _PrivateKey:
    try:
        key = serialization.load_pem_private_key(_content(path), _password(password_file))
    except (ValueError, TypeError):
        raise ended(
            Exit.CONFIGURATION, f"{path}: no private key in PEM that opens with the password given, or without one"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        raise ended(Exit.CONFIGURATION, f"{path}: a certificate is asked for with an EC, an Ed25519 or an RSA key")
    return key


def _content(path: Path) -> bytes:
    try:
        return read_file(path, private=True)[0]
    except FileFault as fault:
        raise ended(Exit.CONFIGURATION, str(fault)) from None


def _password(path: Path | None) -> bytes | None:
    return None if path is None else _content(path).strip()


def _public(key: SigningKey, kid: str) -> dict[str, str]:
    return {**key.public_jwk, "kid": kid, "use": "sig", "alg": key.alg}


def _pretty(document: object) -> str:
    return json.dumps(document, indent=2)
