"""How an answer of the token endpoint comes: byte by byte, without end, broken off; and what each transmission carries."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backchannel.endpoints import TOKEN, Endpoint, granted, says, told, valet_for
from backchannel.issuers import CLIENT_ID, config
from support.raw_server import (
    Behaviour,
    RawServer,
    answer,
    close_midway,
    close_without_answer,
    content_length_mismatch,
    endless_body,
    endless_headers,
    garbage_bytes,
    never_answer,
    reset_connection,
    trickle,
    trickle_headers,
)
from tokenvalet import TokenRequestError, TokenResponseError, TokenValet, TokenValetError

RESPONSE = json.dumps(granted()).encode()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that do not take their time."""
    monkeypatch.setattr("tokenvalet.core.policy.FIRST_PAUSE", 0.001)


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer(answer(RESPONSE)) as raw:
        yield raw


def failed(server: RawServer, behaviour: Behaviour, **settings: Any) -> TokenValetError:
    server.behaviour = behaviour
    with valet_for(f"{server.url}/token", **settings) as valet, pytest.raises(TokenValetError) as raised:
        valet.token("m2m")
    told(raised.value, f"{server.url}/token")
    return raised.value


# Slow ------------------------------------------------------------------------------------------------------------

SLOW: dict[str, Behaviour] = {
    "silent": never_answer,
    "a body byte by byte": trickle(RESPONSE, 0.05),
    "a head byte by byte": trickle_headers(0.05),
}


@pytest.mark.standards("S-210")
@pytest.mark.parametrize("how", SLOW)
def test_one_time_limit_is_over_the_whole_request(server: RawServer, how: str) -> None:
    # No single read is slow: with a limit for each of them, a trickle would be read to its end and bring the token.
    error = failed(server, SLOW[how], timeout=0.4)
    assert (type(error), error.code) == (TokenRequestError, "token_request_timeout")
    assert "raise timeout if the server is that slow" in str(error)


@pytest.mark.standards("S-210", "S-214")
def test_the_time_limit_is_over_all_attempts_together(server: RawServer) -> None:
    slow_failure = trickle_headers(0.01, b"HTTP/1.1 503 Not Now\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    error = failed(server, slow_failure, timeout=1.0)
    assert isinstance(error, TokenRequestError)
    assert len(server.requests) < 3


# Endless ---------------------------------------------------------------------------------------------------------

ENDLESS: dict[str, Behaviour] = {
    "a body": endless_body,
    "header fields": endless_headers,
    "a body that is announced": answer(b" " * (1024 * 1024) + RESPONSE),
    "provisional answers": says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 200_000),
    "a chunk extension": says(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 4_000_000
    ),
    "trailers": says(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n0\r\n" % (len(RESPONSE), RESPONSE)
        + b"X-Trailer: a\r\n" * 400_000
    ),
}


@pytest.mark.standards("S-211", "S-318")
@pytest.mark.parametrize("what", ENDLESS)
def test_an_answer_beyond_measure_is_given_up_and_not_asked_for_again_without_end(server: RawServer, what: str) -> None:
    error = failed(server, ENDLESS[what])
    assert type(error) in (TokenResponseError, TokenRequestError)
    assert error.code in ("invalid_response", "token_request_broken_answer")
    assert len(server.requests) <= 3


# Broken ----------------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BROKEN: dict[str, Behaviour] = {
    "hung up before a byte": close_without_answer,
    "reset before a byte": reset_connection,
    "hung up in the head": says(HEAD),
    "hung up in the body": close_midway(RESPONSE),
    "hung up one byte before the end": close_midway(RESPONSE, len(RESPONSE) - 1),
    "more announced than sent": content_length_mismatch(RESPONSE, len(RESPONSE) + 10),
    "no HTTP": garbage_bytes(),
    "HTTP of long ago": garbage_bytes(b"<html>HTTP/0.9</html>"),
    "two lengths": says(HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n" + RESPONSE),
    "a negative length": says(HEAD + b"Content-Length: -1\r\n\r\n" + RESPONSE),
    "a length in words": says(HEAD + b"Content-Length: all\r\n\r\n" + RESPONSE),
    "chunks without a length": says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + RESPONSE),
    "chunks without an end": says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(RESPONSE), RESPONSE)),
    "a field without a colon": says(HEAD + b"no colon\r\nContent-Length: 2\r\n\r\n{}"),
    "another protocol": says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
}


@pytest.mark.standards("S-061")
@pytest.mark.parametrize("how", BROKEN)
def test_an_answer_that_breaks_is_no_token_and_is_asked_for_again(server: RawServer, how: str) -> None:
    error = failed(server, BROKEN[how])
    if how == "another protocol":
        assert type(error) in (TokenRequestError, TokenResponseError)
        return
    assert type(error) is TokenRequestError
    assert error.code == "token_request_broken_answer"
    assert len(server.requests) == 3


@pytest.mark.standards("S-061")
@pytest.mark.parametrize("how", ["reset before a byte", "hung up in the body"])
def test_what_broke_once_is_put_right_by_the_next_attempt(how: str) -> None:
    with Endpoint(BROKEN[how], answer(RESPONSE)) as server, valet_for(server.token_endpoint) as valet:
        assert valet.token("m2m").value == TOKEN
        assert len(server.requests) == 2


def test_a_body_that_ends_with_the_connection_is_whole(server: RawServer) -> None:
    server.behaviour = says(HEAD + b"Connection: close\r\n\r\n" + RESPONSE)
    with valet_for(f"{server.url}/token") as valet:
        assert valet.token("m2m").value == TOKEN


# Sent again ------------------------------------------------------------------------------------------------------


def claims(jwt: str) -> dict[str, Any]:
    part = jwt.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))  # type: ignore[no-any-return]


@pytest.mark.standards("S-061", "S-064")
def test_every_transmission_has_an_assertion_and_a_proof_of_its_own(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    key.chmod(0o600)
    asks = answer(
        b'{"error":"use_dpop_nonce"}',
        status="400 Bad Request",
        headers=b"Content-Type: application/json\r\nDPoP-Nonce: n-1\r\n",
    )
    last = answer(json.dumps(granted(token_type="DPoP")).encode())
    with Endpoint(reset_connection, asks, answer(b"", status="503 Not Now"), last) as server:
        settings = {"client_id": CLIENT_ID, "private_key_file": key, "assertion_audience": "https://as.example"}
        made = config(token_endpoint=server.token_endpoint, client_secret=None, dpop=True, **settings)
        with TokenValet({"m2m": made}) as valet:
            assert valet.token("m2m").token_type == "DPoP"
    forms = [parse_qs(request.partition(b"\r\n\r\n")[2].decode()) for request in server.requests]
    heads = [request.partition(b"\r\n\r\n")[0].decode().split("\r\n") for request in server.requests]
    proofs = [claims(line.split(" ")[1]) for head in heads for line in head if line.lower().startswith("dpop: ")]
    assertions = [claims(form["client_assertion"][0]) for form in forms]
    assert len(server.requests) == 4
    assert len({one["jti"] for one in assertions}) == len({one["jti"] for one in proofs}) == 4
    assert [one.get("nonce") for one in proofs] == [None, None, "n-1", "n-1"]
    assert {one["htu"] for one in proofs} == {server.token_endpoint}
