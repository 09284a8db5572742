"""The recipe for Kafka runs with librdkafka, which logs in to a broker of this machine with what it was given."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from contract.servers import until
from examples.kafka_broker import KafkaBroker
from examples.test_web_host import module_of
from secrecy.walker import Plant, found, shown_by_error
from tokenvalet import ClientConfig, ProofError, TokenRefusedError, TokenValet
from tokenvalet.testing import AuthorizationServer, Fault, MovableClock, RegisteredClient, serve

SECRET = "a-secret-of-the-recipes"
RECIPE: Any = module_of(Path(__file__).resolve().parents[2] / "examples" / "recipes" / "kafka_client" / "recipe.py")
REFUSED = Fault.oauth_error("invalid_client", status=401)


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer([RegisteredClient(client_id="app", client_secret=SECRET)])
    with serve(server):
        yield server


@pytest.fixture
def make_valet(auth: AuthorizationServer) -> Iterator[Callable[..., TokenValet]]:
    made: list[TokenValet] = []

    def make(clock: Any = None, **settings: Any) -> TokenValet:
        config = ClientConfig(token_endpoint=auth.token_endpoint, client_id="app", client_secret=SECRET, **settings)
        made.append(TokenValet({"kafka": config}, **({"clock": clock} if clock is not None else {})))
        return made[-1]

    yield make
    for valet in made:
        valet.close()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def broker(authority: trustme.CA) -> Iterator[KafkaBroker]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with KafkaBroker(context) as served:
        yield served


@pytest.fixture
def settings(broker: KafkaBroker, authority: trustme.CA) -> dict[str, Any]:
    return {"bootstrap.servers": broker.address, "ssl.ca.pem": authority.cert_pem.bytes().decode()}


def test_a_client_logs_in_with_the_token(
    make_valet: Any, auth: AuthorizationServer, broker: Any, settings: Any
) -> None:
    producer = RECIPE.producer(make_valet(), settings)
    until(lambda: producer.poll(0.01) or broker.said)
    (token,) = auth.issued_tokens
    assert f"\x01auth=Bearer {token}\x01".encode() in broker.said[0]


def test_librdkafka_asks_again_in_time_and_logs_in_anew_with_the_next_token(
    make_valet: Any, auth: AuthorizationServer, broker: Any, settings: Any
) -> None:
    auth.access_token_lifetime = 4
    broker.session_ms = 4000
    producer = RECIPE.producer(make_valet(), settings)
    until(lambda: producer.poll(0.01) or any(auth.issued_tokens[0].encode() not in said for said in broker.said))
    assert auth.issued_tokens[0].encode() in broker.said[0]
    assert any(auth.issued_tokens[1].encode() in said for said in broker.said)


def test_a_fresh_token_is_given_with_its_own_end_and_a_due_one_is_renewed_first(
    make_valet: Any, auth: AuthorizationServer
) -> None:
    clock = MovableClock()
    valet = make_valet(clock)
    callback = RECIPE.oauth_cb(valet)
    value, end = callback(None)
    assert (value, end) == (valet.token().value, valet.token().expires_at.timestamp())
    lifetime = valet.token().expires_in
    clock.advance(lifetime / 2)
    assert callback(None) == (value, end)
    clock.advance(lifetime * 0.49)
    renewed, later = callback(None)
    assert renewed == auth.issued_tokens[1]
    assert later == pytest.approx(end + lifetime * 0.99)
    assert auth.issued == 2


def test_a_due_token_that_cannot_be_renewed_is_used_to_its_end(make_valet: Any, auth: AuthorizationServer) -> None:
    clock = MovableClock()
    callback = RECIPE.oauth_cb(make_valet(clock))
    given = callback(None)
    auth.misbehave(REFUSED, None)
    clock.advance(given[1] - clock.time() - 1)
    assert callback(None) == given


def test_without_a_token_there_is_no_client_and_the_reason_is_said(
    make_valet: Any, auth: AuthorizationServer, broker: Any, settings: Any
) -> None:
    auth.misbehave(REFUSED, None)
    with pytest.raises(TokenRefusedError, match="invalid_client") as raised:
        RECIPE.producer(make_valet(), settings)
    assert found([Plant.of("secret", SECRET)], shown_by_error(raised.value)) == []
    assert broker.said == []


def test_a_renewal_that_fails_later_is_told_to_error_cb_without_a_secret(
    make_valet: Any, auth: AuthorizationServer, settings: Any
) -> None:
    auth.access_token_lifetime = 2
    told: list[Any] = []
    producer = RECIPE.producer(make_valet(), {**settings, "error_cb": told.append})
    auth.misbehave(REFUSED, None)
    until(lambda: producer.poll(0.01) or any(error.name() == "_AUTHENTICATION" for error in told))
    shown = " ".join(f"{error!r} {error}" for error in told)
    assert "Failed to acquire SASL OAUTHBEARER token" in shown
    for secret in (SECRET, *auth.issued_tokens):
        assert secret not in shown


def test_a_token_that_is_bound_to_a_key_is_not_sent_as_a_bearer_token(make_valet: Any) -> None:
    with pytest.raises(ProofError, match="without dpop"):
        RECIPE.oauth_cb(make_valet(dpop=True))(None)
