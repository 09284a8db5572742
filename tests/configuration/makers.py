"""What the tests of the configuration share: keys of every kind and in every form, and a back channel that sends nothing."""

from __future__ import annotations

import functools
import json
import secrets
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import pkcs12
from joserfc.jwk import JWKRegistry

from secrecy.walker import Plant, found, shown_by_error
from tokenvalet import ClientConfig, ConfigurationError, Moment
from tokenvalet.testing import RegisteredClient

ISSUER = "https://login.example.org"
SECRET = "planted-client-secret-planted-client-secret-planted-client-secret"
PASSWORD = "planted-key-password"

CURVES: dict[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "secp256k1": ec.SECP256K1(),
    "P-192": ec.SECP192R1(),
}
KIND_OF_ALG = {
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "PS256": "RSA",
    "PS384": "RSA",
    "PS512": "RSA",
    "RS256": "RSA",
    "EdDSA": "Ed25519",
    "Ed25519": "Ed25519",
}


# Configurations --------------------------------------------------------------------------------------------------


def settings(**more: Any) -> dict[str, Any]:
    """Return the settings of a client that could work; one that is ... is left out."""
    plain = {"issuer": ISSUER, "client_id": "records-web", "client_secret": SECRET} | more
    return {name: value for name, value in plain.items() if value is not ...}


def faults_of(make: Callable[[], object], *plants: Plant) -> dict[str, str]:
    """Return what is wrong, by its place, after having looked for the planted secrets in all that the error shows."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    error = caught.value
    assert error.code == "configuration"
    assert all(str(fault) in str(error) for fault in error.faults)
    leaks = found([Plant.of("client secret", SECRET), *plants], shown_by_error(error))
    assert not leaks, leaks
    return {fault.place: fault.message for fault in error.faults}


def faults_with(**more: Any) -> dict[str, str]:
    """Return what is wrong with a client that has these settings besides those that could work."""
    return faults_of(lambda: ClientConfig(**settings(**more)), *plants_in(more))


def plants_in(values: Mapping[str, Any]) -> list[Plant]:
    """Return the secrets among settings, to be looked for."""
    named = ("client_secret", "private_key", "private_key_password", "proxy")
    return [
        Plant.of(name, value)
        for name, value in values.items()
        if name in named and isinstance(value, str) and len(value) >= 8 and value != "environment"
    ]


class SendsNothing:
    """A back channel for configurations that are to be refused before anything is sent."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def send(self, request: Any, **how: Any) -> Any:
        self.requests.append(request)
        raise AssertionError("nothing was to be sent")

    def close(self) -> None: ...

    def after_fork(self) -> None: ...


class MonotonicClock:
    """The time of day as it is, and a monotonic clock that is moved by hand, past back-offs and the ends of tokens."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> Moment:
        from tokenvalet.surroundings import system_clock

        now = system_clock()
        return Moment(now.monotonic + self.ahead, now.wall)

    def move(self, seconds: float) -> None:
        self.ahead += seconds


# Keys ------------------------------------------------------------------------------------------------------------


@functools.cache
def key_of(kind: str) -> Any:
    """Return a private key of a kind: a curve's name, RSA, RSA-1024, Ed25519, or one that is not used here."""
    if kind in CURVES:
        return ec.generate_private_key(CURVES[kind])
    if kind.startswith("RSA"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cryptography does not like to make short ones
            return rsa.generate_private_key(65537, int(kind.partition("-")[2] or 2048))
    others: dict[str, Callable[[], Any]] = {
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
        "Ed448": ed448.Ed448PrivateKey.generate,
        "X25519": x25519.X25519PrivateKey.generate,
        "DSA": lambda: dsa.generate_private_key(2048),
    }
    return others[kind]()


def pem(kind: str, password: str | None = None) -> str:
    """Return a private key as PKCS#8 PEM, encrypted where a password is given."""
    algorithm: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        algorithm = serialization.BestAvailableEncryption(password.encode())
    form = serialization.PrivateFormat.PKCS8
    data: bytes = key_of(kind).private_bytes(serialization.Encoding.PEM, form, algorithm)
    return data.decode()


def public_pem(kind: str) -> str:
    data: bytes = (
        key_of(kind)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return data.decode()


def p12(kind: str, password: str) -> bytes:
    """Return a private key as PKCS#12."""
    algorithm = serialization.BestAvailableEncryption(password.encode())
    return pkcs12.serialize_key_and_certificates(b"key", key_of(kind), None, None, algorithm)


def _kty(kind: str) -> str:
    return "EC" if kind in CURVES else "RSA" if kind.startswith("RSA") else "OKP"


def private_jwk(kind: str, **members: Any) -> dict[str, Any]:
    """Return a private key as a JWK that joserfc has written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc only warns of an RSA key that is too short
        return dict(JWKRegistry.import_key(pem(kind), _kty(kind)).as_dict(private=True)) | members


def public_jwk(kind: str, **members: Any) -> dict[str, Any]:
    return dict(JWKRegistry.import_key(public_pem(kind), _kty(kind)).as_dict(private=False)) | members


def key_plants(kind: str) -> list[Plant]:
    """Return what a private key would be known by: the lines of its PEM, the members of its JWK, its numbers."""
    inner = [line for line in pem(kind).splitlines() if len(line) > 40 and "-----" not in line]
    plants = [Plant("a line of the PEM", (line,)) for line in inner[-2:]]
    numbers = key_of(kind).private_numbers() if hasattr(key_of(kind), "private_numbers") else None
    number = getattr(numbers, "private_value", getattr(numbers, "d", None))
    if number is not None:
        plants.append(Plant("the private number", (str(number), f"{number:x}")))
    if kind in KIND_OF_ALG.values():
        plants.append(Plant("d of the JWK", (private_jwk(kind)["d"],)))
    return plants


class KmsSigner:
    """A key that lives elsewhere: all that is known here is how to ask for a signature."""

    def __init__(self, kind: str = "P-256", alg: str = "ES256", key_id: str | None = "kms-1") -> None:
        from tokenvalet.core.signing import SigningKey

        self._remote = SigningKey(key_of(kind), alg=alg)
        self.alg = alg
        self.key_id = key_id
        self.public_jwk: Mapping[str, str] = public_jwk(kind)
        self.asked = 0

    def sign(self, data: bytes) -> bytes:
        self.asked += 1
        return self._remote.sign(data)


# Files and clients -----------------------------------------------------------------------------------------------


def write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    """Write a file anew, as those who rotate files do: beside it, and then in its place."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    beside.chmod(mode)
    return beside.replace(path)


def keyed_client(client_id: str, *kinds: str, key_id: str | None = None, **more: Any) -> RegisteredClient:
    """Return a client that the server knows by public keys of these kinds."""
    members = {"kid": key_id} if key_id is not None else {}
    jwks = {"keys": [public_jwk(kind, **members) for kind in kinds]}
    return RegisteredClient(client_id=client_id, auth_method="private_key_jwt", jwks=jwks, **more)


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
