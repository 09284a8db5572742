"""Mutual TLS through the public API: which endpoint, which certificate, what a rotation does, and what goes wrong."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from backchannel.issuers import (
    CLIENT_ID,
    OAUTH,
    Authority,
    SelfSigned,
    authorization_of,
    by_path,
    config,
    failure,
    failure_at,
    registered,
    replace,
    self_signed,
    token_answer,
    valet_at,
)
from life.makers import Clock, Seen
from support.raw_server import RawServer, answer
from tokenvalet import ConfigurationError, TokenRefusedError, TokenRequestError, TokenValet, tls
from tokenvalet.files import Signature, read_file
from tokenvalet.testing import AuthorizationServer, ProtectedApi, serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An issuer without client certificates, its alias with them, and where the client keeps its own."""

    auth: AuthorizationServer
    alias: str
    authority: Authority
    context: ssl.SSLContext
    file: Path
    thumbprint: str

    def settings(self, **changes: Any) -> dict[str, Any]:
        known = {"client_secret": None, "certificate_file": self.file, "ca_file": self.authority.file}
        return {**known, **changes}


def bound_to(token: str) -> str | None:
    claims = jwt.decode(token, options={"verify_signature": False})
    thumbprint: str | None = claims.get("cnf", {}).get("x5t#S256")
    return thumbprint


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair() -> tuple[SelfSigned, SelfSigned]:
    return self_signed(), self_signed()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change on disk is looked for at every use, instead of every ten seconds."""
    monkeypatch.setattr("tokenvalet.named_client.TLS_CHECK_SECONDS", -1.0)


@pytest.fixture
def place(authority: Authority, pair: tuple[SelfSigned, SelfSigned], tmp_path: Path) -> Iterator[Place]:
    context = authority.server()
    authority.ca.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    for one in pair:
        context.load_verify_locations(cadata=one.certificate.decode())
    file = tmp_path / "client.pem"
    thumbprint = authority.client(file)
    auth = AuthorizationServer(
        [registered(client_secret=None, auth_method="tls_client_auth", certificate_thumbprint=thumbprint)],
        issuer_path="/a",
    )
    with serve(auth), serve(auth.app, ssl_context=context) as mutual:
        auth.mtls_token_endpoint = f"{mutual.url}/a/token"
        yield Place(
            auth=auth,
            alias=auth.mtls_token_endpoint,
            authority=authority,
            context=context,
            file=file,
            thumbprint=thumbprint,
        )


# Which endpoint --------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-120", "S-121")
def test_a_client_with_a_certificate_asks_at_the_alias_and_shows_nothing_else(place: Place) -> None:
    seen = Seen()
    with valet_at(place.auth.issuer, observers=[seen], **place.settings()) as valet:
        token = valet.token().value
    assert bound_to(token) == place.thumbprint
    [request] = place.auth.token_requests
    assert (request.client_id, request.auth_method) == (CLIENT_ID, "tls_client_auth")
    assert request.form == {"grant_type": ["client_credentials"], "client_id": [CLIENT_ID]}
    assert authorization_of(request.headers) == []
    assert seen.of("token_request")[-1].detail == f"POST {place.alias} 200"
    # The issuer is the one of the top level, and so is that of the token.
    assert jwt.decode(token, options={"verify_signature": False})["iss"] == place.auth.issuer


@pytest.mark.standards("S-120")
def test_a_client_without_a_certificate_asks_at_the_plain_endpoint(place: Place) -> None:
    place.auth.register(registered())
    seen = Seen()
    with valet_at(place.auth.issuer, observers=[seen]) as valet:
        assert bound_to(valet.token().value) is None
    assert seen.of("token_request")[-1].detail == f"POST {place.auth.token_endpoint} 200"


@pytest.mark.standards("S-120")
def test_a_certificate_beside_a_secret_binds_the_token_and_takes_the_alias_too(place: Place) -> None:
    place.auth.register(registered())
    seen = Seen()
    settings = place.settings(auth_method="client_secret_basic")
    del settings["client_secret"]
    with valet_at(place.auth.issuer, observers=[seen], **settings) as valet:
        valet.token()
    assert seen.of("token_request")[-1].detail == f"POST {place.alias} 200"
    assert place.auth.token_requests[0].auth_method == "client_secret_basic"


@pytest.mark.standards("S-120")
def test_an_assertion_at_the_alias_is_still_for_the_issuer(place: Place, tmp_path: Path) -> None:
    key = self_signed().key
    place.auth.register(registered())
    with valet_at(place.auth.issuer, **place.settings(private_key=key, auth_method="private_key_jwt")) as valet:
        failure(valet)  # the client is not registered with this key; what it sent is looked at
    [request] = place.auth.token_requests
    assert request.assertion_claims is not None
    assert request.assertion_claims["aud"] == place.auth.issuer


@pytest.mark.standards("S-120")
def test_a_configured_endpoint_is_taken_as_it_is(place: Place) -> None:
    seen = Seen()
    settings = place.settings(token_endpoint=place.auth.token_endpoint)
    with valet_at(place.auth.issuer, observers=[seen], **settings) as valet:
        error = failure(valet)  # there is no TLS there to show a certificate in
    assert isinstance(error, TokenRefusedError)
    assert error.error == "invalid_client"
    assert [event.detail for event in seen.of("token_request")] == [f"POST {place.auth.token_endpoint} 401"]
    assert place.auth.metadata_requests == []


@pytest.mark.standards("S-120")
def test_without_an_alias_the_certificate_is_shown_at_the_one_endpoint(place: Place) -> None:
    auth = AuthorizationServer(
        [registered(client_secret=None, auth_method="tls_client_auth", certificate_thumbprint=place.thumbprint)]
    )
    with serve(auth, ssl_context=place.context), valet_at(auth.issuer, **place.settings()) as valet:
        assert bound_to(valet.token().value) == place.thumbprint


@pytest.mark.standards("S-008", "S-120")
def test_an_alias_that_moves_to_another_origin_is_told(place: Place) -> None:
    clock, seen = Clock(), Seen()
    with (
        valet_at(place.auth.issuer, clock=clock, observers=[seen], **place.settings()) as valet,
        serve(place.auth.app, ssl_context=place.context) as other,
    ):
        valet.token()
        place.auth.mtls_token_endpoint = f"{other.url}/a/token"
        clock.advance(3600)
        assert bound_to(valet.token().value) == place.thumbprint
    [event] = seen.of("endpoint_changed")
    assert event.detail == f"from {place.alias.removesuffix('/a/token')} to {other.url}"


@pytest.mark.standards("S-008", "S-120")
@pytest.mark.parametrize("alias", ["http://mtls.example.org/token", "https://mtls.example.org/token", 7])
def test_an_alias_that_metadata_may_not_name_is_not_asked(place: Place, alias: Any) -> None:
    place.auth.mtls_token_endpoint = alias
    error = failure_at(place.auth.issuer, **place.settings())
    assert error.code == "metadata_unusable"
    assert "mtls_endpoint_aliases" in str(error)
    assert place.auth.token_requests == []


@pytest.mark.standards("S-124")
def test_an_alias_that_fails_is_never_replaced_by_the_endpoint_without_certificates(
    place: Place, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    with RawServer(token_answer, ssl_context=stranger.server()) as mutual:
        place.auth.mtls_token_endpoint = f"{mutual.url}/token"
        error = failure_at(place.auth.issuer, **place.settings())
        assert isinstance(error, TokenRequestError)
        assert error.code == "token_request_tls"
        assert f"{mutual.url}/token" in str(error)
        assert mutual.requests == []
    assert place.auth.token_requests == []


@pytest.mark.standards("S-124")
def test_an_alias_where_nobody_listens_is_not_gone_round_either(place: Place) -> None:
    with RawServer(answer()) as gone:
        pass
    place.auth.mtls_token_endpoint = f"https://127.0.0.1:{gone.port}/token"
    assert failure_at(place.auth.issuer, **place.settings()).code == "token_request_unreachable"
    assert place.auth.token_requests == []


@pytest.mark.standards("S-006")
def test_a_server_that_does_not_offer_the_method_is_not_asked(place: Place) -> None:
    place.auth.metadata_overrides = {"token_endpoint_auth_methods_supported": ["self_signed_tls_client_auth"]}
    error = failure_at(place.auth.issuer, **place.settings())
    assert isinstance(error, ConfigurationError)
    assert error.code == "auth_method_not_offered"
    assert "auth_method is tls_client_auth" in str(error)
    assert place.auth.token_requests == []


# Which certificate -----------------------------------------------------------------------------------------------


@pytest.mark.standards("S-121")
def test_a_certificate_that_vouches_for_itself_is_known_by_its_thumbprint(
    place: Place, pair: tuple[SelfSigned, SelfSigned], tmp_path: Path
) -> None:
    own, _ = pair
    certificate, key = tmp_path / "own.pem", tmp_path / "own-key.pem"
    replace(certificate, own.certificate)
    replace(key, own.key)
    method = "self_signed_tls_client_auth"
    place.auth.register(registered(client_secret=None, auth_method=method, certificate_thumbprint=own.thumbprint))
    settings = place.settings(certificate_file=certificate, certificate_key_file=key, auth_method=method)
    with valet_at(place.auth.issuer, **settings) as valet:
        assert bound_to(valet.token().value) == own.thumbprint
    [request] = place.auth.token_requests
    assert (request.auth_method, request.form["client_id"]) == (method, [CLIENT_ID])


@pytest.mark.standards("S-122")
def test_the_certificate_of_the_token_is_shown_at_the_api_as_well(place: Place) -> None:
    api = ProtectedApi(place.auth)
    with (
        serve(api, ssl_context=place.context),
        valet_at(place.auth.issuer, base_url=api.origin, **place.settings()) as valet,
        valet.client() as client,
    ):
        assert client.get("/echo").status_code == 200
    assert [call.client_cert_thumbprint for call in api.calls] == [place.thumbprint]


@pytest.mark.standards("S-122", "S-123")
def test_a_certificate_replaced_on_disk_is_used_by_the_next_renewal(place: Place) -> None:
    clock = Clock()
    with valet_at(place.auth.issuer, clock=clock, **place.settings()) as valet:
        old = valet.token().value
        assert valet.token().value == old
        renewed = place.authority.client(place.file)
        place.auth.register(
            registered(client_secret=None, auth_method="tls_client_auth", certificate_thumbprint=renewed)
        )
        new = valet.token().value
        assert valet.token().value == new
    assert (bound_to(old), bound_to(new)) == (place.thumbprint, renewed)
    assert len(place.auth.token_requests) == 2


@pytest.mark.standards("S-123")
def test_a_certificate_is_looked_for_on_disk_when_ten_seconds_have_passed_on_the_clock_of_the_valet(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    clock = Clock()
    with valet_at(place.auth.issuer, clock=clock, **place.settings()) as valet:
        valet.token()
        renewed = place.authority.client(place.file)
        place.auth.register(
            registered(client_secret=None, auth_method="tls_client_auth", certificate_thumbprint=renewed)
        )
        clock.advance(9.9)
        assert bound_to(valet.token().value) == place.thumbprint
        clock.advance(0.2)
        assert bound_to(valet.token().value) == renewed
    assert len(place.auth.token_requests) == 2


@pytest.mark.standards("S-123")
def test_half_a_rotation_leaves_the_former_pair_in_force_with_a_warning(
    place: Place, pair: tuple[SelfSigned, SelfSigned], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = pair
    certificate, key = tmp_path / "half.pem", tmp_path / "half-key.pem"
    replace(certificate, old.certificate)
    replace(key, old.key)
    method = "self_signed_tls_client_auth"
    place.auth.register(registered(client_secret=None, auth_method=method, certificate_thumbprint=old.thumbprint))
    settings = place.settings(certificate_file=certificate, certificate_key_file=key, auth_method=method)
    clock = Clock()
    with valet_at(place.auth.issuer, clock=clock, **settings) as valet:
        valet.token()
        replace(certificate, new.certificate)
        with caplog.at_level(logging.WARNING, "tokenvalet"):
            clock.advance(3601)
            assert bound_to(valet.token().value) == old.thumbprint
        assert "TLS files have changed and cannot be used" in caplog.text
        assert "do not belong together" in caplog.text
        assert new.key.decode() not in caplog.text
        replace(key, new.key)
        place.auth.register(registered(client_secret=None, auth_method=method, certificate_thumbprint=new.thumbprint))
        assert bound_to(valet.token().value) == new.thumbprint


@pytest.mark.standards("S-122", "S-123")
def test_a_token_is_never_filed_under_another_certificate_than_the_one_it_was_got_with(
    place: Place, pair: tuple[SelfSigned, SelfSigned], monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = (one.certificate + one.key for one in pair)
    place.auth.register(
        registered(client_secret=None, auth_method="tls_client_auth", certificate_subject=f"CN={CLIENT_ID}")
    )
    original, rotations = read_file, [late]

    def meanwhile(path: Path, *, private: bool) -> tuple[bytes, Signature]:
        """Rotate once more between the loading of the certificate and the taking of its thumbprint."""
        if rotations:
            replace(path, rotations.pop())
        return original(path, private=private)

    with valet_at(place.auth.issuer, **place.settings()) as valet:
        replace(place.file, early)
        monkeypatch.setattr(tls, "read_file", meanwhile)
        tokens = [valet.token().value for _ in range(2)]
    assert rotations == []
    assert [bound_to(token) for token in tokens] == [pair[1].thumbprint] * 2


@pytest.mark.standards("S-123")
@pytest.mark.parametrize("content", [b"", b"no certificate", None], ids=["empty", "other", "gone"])
def test_a_certificate_file_that_cannot_be_used_any_more_is_passed_over(place: Place, content: bytes | None) -> None:
    clock = Clock()
    with valet_at(place.auth.issuer, clock=clock, **place.settings()) as valet:
        valet.token()
        if content is None:
            place.file.unlink()
        else:
            replace(place.file, content)
        clock.advance(3601)
        assert bound_to(valet.token().value) == place.thumbprint
    assert len(place.auth.token_requests) == 2


@pytest.mark.parametrize("content", [b"", b"no certificate", None], ids=["empty", "other", "gone"])
def test_a_certificate_file_that_never_was_one_is_a_fault_of_the_configuration(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "client.pem"
    if content is not None:
        replace(file, content)
    with pytest.raises(ConfigurationError) as caught:
        TokenValet({"m2m": config(token_endpoint="https://h.example/t", client_secret=None, certificate_file=file)})
    [fault] = caught.value.faults
    assert fault.place.endswith("m2m.certificate_file")
    assert str(file) in fault.message


# A certificate that the server does not like -----------------------------------------------------------------------


@pytest.mark.standards("S-121")
def test_the_certificate_of_somebody_else_is_refused_with_the_remedy(place: Place) -> None:
    place.authority.client(place.file)
    error = failure_at(place.auth.issuer, **place.settings())
    assert isinstance(error, TokenRefusedError)
    assert (error.code, error.error, error.status) == ("token_refused", "invalid_client", 401)
    assert "check client_id, the credential and auth_method" in str(error)
    assert len(place.auth.token_requests) == 1


def refused_by_tls(server: RawServer, **settings: Any) -> None:
    """Hold the error of a client whose certificate the server turns away to its code and remedy."""
    error = failure_at(server.url, token_endpoint=f"{server.url}/token", **settings)
    assert isinstance(error, TokenRequestError)
    assert error.code == "token_request_tls"
    assert "certificate_file" in str(error)
    assert server.requests == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("case", ["none", "unknown", "expired"])
def test_a_certificate_that_the_handshake_ends_at_is_told_as_a_matter_of_certificates(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion, case: str
) -> None:
    context = authority.server(trusts=authority)
    context.minimum_version = context.maximum_version = version
    settings: dict[str, Any] = {"ca_file": authority.file}
    file = tmp_path / "client.pem"
    if case == "unknown":
        Authority(tmp_path, "stranger").client(file)
    elif case == "expired":
        past = datetime.now(UTC) - timedelta(days=1)
        authority.client(file, not_before=past - timedelta(days=1), not_after=past)
    if case != "none":
        settings |= {"client_secret": None, "certificate_file": file}
    with RawServer(token_answer, ssl_context=context) as server:
        refused_by_tls(server, **settings)


@pytest.mark.standards("S-005", "S-120")
def test_metadata_is_fetched_from_a_server_that_asks_nobody_for_a_certificate(place: Place) -> None:
    with RawServer(answer(), ssl_context=place.authority.server()) as server:
        document = {
            "issuer": server.url,
            "token_endpoint": f"{server.url}/token",
            "mtls_endpoint_aliases": {"token_endpoint": place.alias},
        }
        server.behaviour = by_path({OAUTH: answer(json.dumps(document).encode())})
        with valet_at(server.url, **place.settings()) as valet:
            assert bound_to(valet.token().value) == place.thumbprint
        assert [request.split()[0] for request in server.requests] == [b"GET"]
