"""A client certificate that is replaced on disk: new connections, new tokens, and neither with the other (RFC 8705 §3)."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contract.conftest import CLIENT_ID, Opener, registered
from contract.drivers import about
from contract.servers import Watched, until
from tokenvalet import TokenValet
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve
from tokenvalet.testing.peer_certificate import certificate_thumbprint

SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CLIENT_ID)])
PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A client certificate that vouches for itself, and its key."""

    pem: bytes
    key: bytes
    thumbprint: str


@dataclass(slots=True, kw_only=True)
class Place:
    """An authorization server and an API that ask for certificates, and where the client keeps its own."""

    auth: AuthorizationServer
    watched_auth: Watched
    api: ProtectedApi
    connections: set[tuple[str, int]]
    certificate_file: Path
    key_file: Path

    def put(self, certificate: Certificate) -> None:
        """Replace the files as a rotation does."""
        for path, content in ((self.certificate_file, certificate.pem), (self.key_file, certificate.key)):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            new.chmod(0o600)
            new.replace(path)

    def thumbprints(self) -> list[str | None]:
        assert [call.status for call in self.api.calls] == [200] * len(self.api.calls)
        return [call.client_cert_thumbprint for call in self.api.calls]


def certificate() -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(SUBJECT)
        .issuer_name(SUBJECT)
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
    return Certificate(
        pem=made.public_bytes(PEM),
        key=key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        thumbprint=certificate_thumbprint(made.public_bytes(serialization.Encoding.DER)),
    )


@pytest.fixture(scope="module")
def pair() -> tuple[Certificate, Certificate]:
    return certificate(), certificate()


@pytest.fixture
def place(
    pair: tuple[Certificate, Certificate],
    tls: Callable[..., ssl.SSLContext],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    # A change on disk is looked for at every use, instead of every ten seconds.
    monkeypatch.setattr("tokenvalet.named_client.TLS_CHECK_SECONDS", -1.0)
    context = tls("127.0.0.1")
    context.verify_mode = ssl.CERT_OPTIONAL
    for one in pair:
        context.load_verify_locations(cadata=one.pem.decode())
    auth = AuthorizationServer(
        [RegisteredClient(client_id=CLIENT_ID, auth_method="tls_client_auth", certificate_subject=f"CN={CLIENT_ID}")]
    )
    watched_auth, api = Watched(auth), ProtectedApi(auth)
    watched_api = Watched(api)
    with serve(watched_auth, ssl_context=context), serve(watched_api, ssl_context=context):
        made = Place(
            auth=auth,
            watched_auth=watched_auth,
            api=api,
            connections=watched_api.connections,
            certificate_file=tmp_path / "client.pem",
            key_file=tmp_path / "client-key.pem",
        )
        made.put(pair[0])
        yield made


def valet_at(place: Place, opener: Opener, **settings: Any) -> TokenValet:
    return opener.valet(
        place.api.origin,
        token_endpoint=place.auth.token_endpoint,
        client_secret=None,
        certificate_file=place.certificate_file,
        certificate_key_file=place.key_file,
        **settings,
    )


@pytest.mark.standards("S-181")
def test_the_next_call_goes_over_a_new_connection_with_the_new_certificate_and_a_new_token(
    open_pooled: Opener, place: Place, pair: tuple[Certificate, Certificate], dpop: bool
) -> None:
    old, new = (one.thumbprint for one in pair)
    session = open_pooled.on(valet_at(place, open_pooled, dpop=dpop))
    for _ in range(2):
        session.get(place.api.origin + "/echo")
    assert place.thumbprints() == [old, old]
    assert len(place.connections) in about(open_pooled.driver, 1)
    place.put(pair[1])
    for _ in range(2):
        session.get(place.api.origin + "/echo")
    assert place.thumbprints() == [old, old, new, new]
    assert len(place.connections) in about(open_pooled.driver, 2)
    assert len(place.auth.token_requests) == 2


def test_a_call_that_waits_for_a_token_is_sent_with_the_certificate_that_its_token_is_bound_to(
    open_pooled: Opener, place: Place, pair: tuple[Certificate, Certificate]
) -> None:
    old, new = (one.thumbprint for one in pair)
    session = open_pooled.on(valet_at(place, open_pooled))
    place.watched_auth.hold()
    early = session.start("GET", place.api.origin + "/echo")
    until(lambda: len(place.auth.token_requests) == 1)
    place.put(pair[1])
    late = session.start("GET", place.api.origin + "/echo")
    until(lambda: len(place.auth.token_requests) == 2)
    place.watched_auth.release()
    assert [early.result().status, late.result().status] == [200, 200]
    assert sorted(str(one) for one in place.thumbprints()) == sorted([old, new])
    session.get(place.api.origin + "/echo")
    assert place.thumbprints()[-1] == new
    assert len(place.auth.token_requests) == 2
    assert len(place.connections) in about(open_pooled.driver, 2)


def test_an_answer_that_is_being_read_is_read_to_its_end_on_the_old_connection(
    open_pooled: Opener, place: Place, pair: tuple[Certificate, Certificate]
) -> None:
    session = open_pooled.on(valet_at(place, open_pooled))
    opened = session.open("GET", place.api.origin + "/stream?chunks=100&size=10000")
    first = opened.first()
    place.put(pair[1])
    assert session.get(place.api.origin + "/echo").status == 200
    assert len(first + opened.rest()) == 1_000_000
    assert place.thumbprints() == [one.thumbprint for one in pair]


def test_a_key_that_does_not_fit_its_certificate_yet_changes_nothing(
    open_pooled: Opener, place: Place, pair: tuple[Certificate, Certificate], caplog: pytest.LogCaptureFixture
) -> None:
    session = open_pooled.on(valet_at(place, open_pooled))
    session.get(place.api.origin + "/echo")
    place.certificate_file.write_bytes(pair[1].pem)
    session.get(place.api.origin + "/echo")
    assert "the former ones stay in force" in caplog.text
    place.put(pair[1])
    session.get(place.api.origin + "/echo")
    assert place.thumbprints() == [pair[0].thumbprint, pair[0].thumbprint, pair[1].thumbprint]


def test_the_certificate_is_not_shown_to_a_server_abroad(
    open_pooled: Opener, place: Place, tls: Callable[..., ssl.SSLContext], pair: tuple[Certificate, Certificate]
) -> None:
    context = tls("127.0.0.1")
    context.verify_mode = ssl.CERT_OPTIONAL
    for one in pair:
        context.load_verify_locations(cadata=one.pem.decode())
    abroad = ProtectedApi(AuthorizationServer([registered()]))
    with serve(abroad, ssl_context=context) as server:
        session = open_pooled.on(valet_at(place, open_pooled))
        answer = session.get(f"{place.api.origin}/redirect?to={server.url}/open")
        assert (answer.status, answer.history) == (200, [307])
        assert [call.client_cert_thumbprint for call in abroad.calls] == [None]
        assert [call.client_cert_thumbprint for call in place.api.calls] == [pair[0].thumbprint]
