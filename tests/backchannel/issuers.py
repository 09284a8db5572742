"""What the tests of discovery, TLS and proxies share: issuers on ports, authorities, certificates and proxies."""

from __future__ import annotations

import base64
import datetime
import json
import select
import socket
import ssl
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.raw_server import Behaviour, answer
from tokenvalet import ClientConfig, TokenValet, TokenValetError
from tokenvalet.testing import AuthorizationServer, RegisteredClient
from tokenvalet.testing.peer_certificate import certificate_thumbprint

CLIENT_ID = "records-web"
SECRET = "planted-client-secret-9mQx"
OAUTH = "/.well-known/oauth-authorization-server"
OIDC = "/.well-known/openid-configuration"
PEM = serialization.Encoding.PEM


# Clients and servers ---------------------------------------------------------------------------------------------


def registered(**changes: Any) -> RegisteredClient:
    return RegisteredClient(**{"client_id": CLIENT_ID, "client_secret": SECRET, **changes})


def issuer_of_tests(**settings: Any) -> AuthorizationServer:
    """Return an authorization server that knows the client, for `serve`."""
    return AuthorizationServer([registered()], **settings)


def config(**settings: Any) -> ClientConfig:
    return ClientConfig(**{"client_id": CLIENT_ID, "client_secret": SECRET, **settings})


def valet_at(issuer: str, *, observers: Any = (), clock: Any = None, **settings: Any) -> TokenValet:
    """Return a valet whose client m2m discovers where its tokens come from."""
    options: dict[str, Any] = {"observers": observers} | ({"clock": clock} if clock is not None else {})
    return TokenValet({"m2m": config(issuer=issuer, **settings)}, **options)


def failure(valet: TokenValet, name: str = "m2m") -> TokenValetError:
    """Return why there is no token."""
    with pytest.raises(TokenValetError) as caught:
        valet.token(name)
    return caught.value


def failure_at(issuer: str, **settings: Any) -> TokenValetError:
    """Return why a client of this issuer gets no token."""
    with valet_at(issuer, **settings) as valet:
        return failure(valet)


def everything_said(error: BaseException) -> str:
    """Return all that a log would show of an error, its causes included."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


def authorization_of(headers: list[tuple[str, str]]) -> list[str]:
    return [value for name, value in headers if name == "authorization"]


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def token_answer(connection: socket.socket, request: bytes) -> None:
    """Answer a token request, whoever it is from."""
    answer(json.dumps({"access_token": "raw-token", "token_type": "Bearer", "expires_in": 3600}).encode())(
        connection, request
    )


# Certificates ----------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority, and a file with its certificate."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self.ca.cert_pem.write_to_path(str(self.file))

    def server(self, *names: str, trusts: Authority | None = None, **issued: Any) -> ssl.SSLContext:
        """Return the TLS context of a server; `trusts`: whose client certificates it demands."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or ("127.0.0.1",)), **issued).configure_cert(context)
        if trusts is not None:
            trusts.ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(self, file: Path, **issued: Any) -> str:
        """Write a client certificate and its key into a file; return its thumbprint."""
        blob = self.ca.issue_cert("client.example", common_name=CLIENT_ID, **issued)
        replace(file, blob.private_key_and_cert_chain_pem.bytes())
        return certificate_thumbprint(ssl.PEM_cert_to_DER_cert(blob.cert_chain_pems[0].bytes().decode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfSigned:
    """A certificate that vouches for itself, and its key."""

    certificate: bytes
    key: bytes
    thumbprint: str


def self_signed() -> SelfSigned:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CLIENT_ID)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        # Or OpenSSL would take one of two certificates with the same name for the issuer of both.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return SelfSigned(
        certificate=made.public_bytes(PEM),
        key=key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        thumbprint=certificate_thumbprint(made.public_bytes(serialization.Encoding.DER)),
    )


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another, as a rotation does."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.chmod(0o600)
    new.replace(path)


# Proxies ---------------------------------------------------------------------------------------------------------


def tunnel(*, credentials: str | None = None) -> Behaviour:
    """Be a proxy: connect to where CONNECT says and pass on what comes; 407 unless the credentials are right."""

    def behave(connection: socket.socket, request: bytes) -> None:
        method, target, _ = request.split(b" ", 2)
        host, _, port = target.decode().rpartition(":")
        assert method == b"CONNECT"
        if credentials is not None and f"\r\nproxy-authorization: {credentials}\r\n".lower() not in lowered(request):
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection((host, int(port))) as other:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            to = {connection: other, other: connection}
            while True:
                for ready in select.select([connection, other], [], [], 30)[0]:
                    if not (data := ready.recv(65536)):
                        return
                    to[ready].sendall(data)

    return behave


def lowered(request: bytes) -> str:
    return request.decode("latin-1").lower()


def by_path(behaviours: dict[str, Behaviour]) -> Callable[[socket.socket, bytes], None]:
    """Answer each path in its own way, and 404 elsewhere."""

    def behave(connection: socket.socket, request: bytes) -> None:
        path = request.split(b" ", 2)[1].decode()
        behaviours.get(path, answer(b"", status="404 Not Found"))(connection, request)

    return behave
