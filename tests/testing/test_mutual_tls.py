"""Mutual TLS for real: RFC 8705, with certificates made for the test."""

from __future__ import annotations

import base64
import datetime
import hashlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from testing.makers import Clock, ec_key
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, RunningServer, serve

RECORDS = "/api/v1/integration/health-records"


def thumbprint(pem: bytes) -> str:
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def self_signed(folder: Path, name: str) -> tuple[Path, bytes]:
    """Return a file with a key and a certificate, and the certificate."""
    key = ec_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / f"{name}.pem"
    file.write_bytes(private + certificate)
    return file, certificate


class Certificates:
    """An authority, a client that it vouches for, another one, and one that vouches for itself."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.files: dict[str, Path] = {}
        self.pems: dict[str, bytes] = {}
        for name in ("web", "other"):
            blob = self.authority.issue_cert(f"{name}.example", common_name=name)
            self.files[name] = folder / f"{name}.pem"
            blob.private_key_and_cert_chain_pem.write_to_path(str(self.files[name]))
            self.pems[name] = blob.cert_chain_pems[0].bytes()
        self.files["alone"], self.pems["alone"] = self_signed(folder, "alone")

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        self.authority.configure_trust(context)
        context.load_verify_locations(cadata=self.pems["alone"].decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client(self, name: str | None) -> httpx2.Client:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if name is not None:
            context.load_cert_chain(self.files[name])
        return httpx2.Client(verify=context, trust_env=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def auth(certificates: Certificates, clock: Clock) -> Iterator[AuthorizationServer]:
    subject = x509.load_pem_x509_certificate(certificates.pems["web"]).subject.rfc4514_string()
    registered: list[dict[str, Any]] = [
        {"client_id": "by-subject", "auth_method": "tls_client_auth", "certificate_subject": subject},
        {
            "client_id": "by-thumbprint",
            "auth_method": "tls_client_auth",
            "certificate_thumbprint": thumbprint(certificates.pems["web"]),
        },
        {
            "client_id": "alone",
            "auth_method": "self_signed_tls_client_auth",
            "certificate_thumbprint": thumbprint(certificates.pems["alone"]),
        },
        {"client_id": "web", "client_secret": "s3cret"},
    ]
    server = AuthorizationServer(clients=[RegisteredClient(**each) for each in registered], clock=clock)
    with serve(server, ssl_context=certificates.server_context()):
        yield server


@pytest.fixture
def api_server(auth: AuthorizationServer, certificates: Certificates) -> Iterator[tuple[ProtectedApi, RunningServer]]:
    api = ProtectedApi(auth)
    with serve(api, ssl_context=certificates.server_context()) as server:
        yield api, server


def ask(client: httpx2.Client, auth: AuthorizationServer, client_id: str) -> httpx2.Response:
    return client.post(auth.token_endpoint, data={"grant_type": "client_credentials", "client_id": client_id})


def test_the_url_is_https(auth: AuthorizationServer) -> None:
    assert auth.issuer.startswith("https://127.0.0.1:")


@pytest.mark.parametrize(
    ("client_id", "shown", "status"),
    [
        ("by-subject", "web", 200),
        ("by-subject", "other", 401),
        ("by-subject", None, 401),
        ("by-thumbprint", "web", 200),
        ("by-thumbprint", "other", 401),
        ("alone", "alone", 200),
        ("alone", "web", 401),
        ("alone", None, 401),
        ("web", "web", 401),
        ("nobody", "web", 401),
    ],
)
@pytest.mark.standards("S-121")
def test_a_client_is_known_by_its_certificate(
    auth: AuthorizationServer, certificates: Certificates, client_id: str, shown: str | None, status: int
) -> None:
    with certificates.client(shown) as client:
        response = ask(client, auth, client_id)
    assert response.status_code == status
    assert auth.token_requests[0].authenticated is (status == 200)


def test_without_a_client_id_a_certificate_is_nobodys(auth: AuthorizationServer, certificates: Certificates) -> None:
    with certificates.client("web") as client:
        response = client.post(auth.token_endpoint, data={"grant_type": "client_credentials"})
    assert response.json()["error"] == "invalid_client"


@pytest.mark.standards("S-122")
def test_a_token_is_bound_to_the_certificate_that_it_was_asked_with(
    auth: AuthorizationServer, certificates: Certificates, api_server: tuple[ProtectedApi, RunningServer]
) -> None:
    api, _ = api_server
    statuses: dict[str | None, int] = {}
    with certificates.client("web") as client:
        token = ask(client, auth, "by-subject").json()["access_token"]
    bound_to = thumbprint(certificates.pems["web"])
    assert jwt.decode(token, options={"verify_signature": False})["cnf"] == {"x5t#S256": bound_to}
    for name in ("web", "other", None):
        with certificates.client(name) as client:
            response = client.get(api.origin + RECORDS, headers={"authorization": f"Bearer {token}"})
            statuses[name] = response.status_code
    assert statuses == {"web": 200, "other": 401, None: 401}
    assert [call.client_cert_thumbprint for call in api.calls] == [
        bound_to,
        thumbprint(certificates.pems["other"]),
        None,
    ]


def test_a_secret_over_tls_needs_no_certificate(auth: AuthorizationServer, certificates: Certificates) -> None:
    form = {"grant_type": "client_credentials"}
    with certificates.client(None) as client:
        response = client.post(auth.token_endpoint, data=form, auth=("web", "s3cret"))
    assert "cnf" not in jwt.decode(response.json()["access_token"], options={"verify_signature": False})


@pytest.mark.standards("S-120")
def test_the_same_server_can_have_a_second_port_for_certificates(
    http: httpx2.Client, certificates: Certificates
) -> None:
    client = RegisteredClient(
        client_id="web", auth_method="tls_client_auth", certificate_thumbprint=thumbprint(certificates.pems["web"])
    )
    auth = AuthorizationServer(clients=[client])
    with serve(auth), serve(auth.app, ssl_context=certificates.server_context()) as mutual:
        auth.mtls_token_endpoint = mutual.url + "/token"
        document = http.get(auth.issuer + "/.well-known/oauth-authorization-server").json()
        form = {"grant_type": "client_credentials", "client_id": "web"}
        with certificates.client("web") as shown:
            response = shown.post(document["mtls_endpoint_aliases"]["token_endpoint"], data=form)
        assert response.status_code == 200
        assert http.post(document["token_endpoint"], data=form).status_code == 401
        assert auth.issuer == document["issuer"] != mutual.url


def test_stopping_cuts_handshakes_that_never_end(certificates: Certificates) -> None:
    with (
        serve(AuthorizationServer(), ssl_context=certificates.server_context()) as server,
        socket.create_connection(("127.0.0.1", server.port)),
    ):
        time.sleep(0.05)  # for the connection to be accepted
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 3
