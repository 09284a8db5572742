"""Discovery over real sockets: where metadata is looked for, what of it is believed, how long, and what it decides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backchannel.issuers import (
    CLIENT_ID,
    OAUTH,
    OIDC,
    SECRET,
    Authority,
    authorization_of,
    basic,
    by_path,
    config,
    failure,
    failure_at,
    issuer_of_tests,
    registered,
    token_answer,
    valet_at,
)
from life.makers import Clock, Seen, in_threads
from support.raw_server import RawServer, answer, close_without_answer, never_answer, trickle
from tokenvalet import (
    ConfigurationError,
    ProofError,
    TokenRequestError,
    TokenResponseError,
    TokenValet,
    TokenValetError,
)
from tokenvalet.testing import AuthorizationServer, Fault, serve

HOUR = 3600.0


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    server = issuer_of_tests(issuer_path="/realms/One")
    with serve(server):
        yield server


def unusable(error: TokenValetError, *fragments: str) -> None:
    """Hold an error to be that of metadata which is not believed, with these fragments and the remedy."""
    assert isinstance(error, TokenResponseError)
    assert error.code == "metadata_unusable"
    for fragment in (*fragments, "configure token_endpoint"):
        assert fragment in str(error)


# Where -----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-001", "S-002")
@pytest.mark.parametrize(
    ("path", "discovery", "asked"),
    [
        ("", ("oauth", "oidc"), [OAUTH]),
        ("", ("oidc",), [OAUTH, OIDC]),
        ("/", ("oidc",), [OAUTH, OIDC]),
        ("/realms/One", ("oauth", "oidc"), [f"{OAUTH}/realms/One"]),
        ("/realms/One", ("oidc",), [f"{OAUTH}/realms/One", f"/realms/One{OIDC}"]),
        ("/realms/One/", ("oidc",), [f"{OAUTH}/realms/One", f"/realms/One{OIDC}"]),
    ],
)
def test_metadata_is_looked_for_by_both_standards_in_this_order(
    path: str, discovery: tuple[str, ...], asked: list[str]
) -> None:
    auth = issuer_of_tests(issuer_path=path, discovery=discovery)
    with serve(auth), valet_at(auth.issuer) as valet:
        assert valet.token().value == auth.issued_tokens[0]
        assert auth.metadata_requests == asked


@pytest.mark.standards("S-002")
def test_each_of_the_two_documents_is_believed_or_not_by_itself(auth: AuthorizationServer) -> None:
    auth.misbehave(Fault.json({"issuer": "https://evil.example", "token_endpoint": auth.token_endpoint}).at("metadata"))
    with valet_at(auth.issuer) as valet:
        assert valet.token().value == auth.issued_tokens[0]
    assert len(auth.metadata_requests) == 2


@pytest.mark.standards("S-005")
def test_the_request_for_metadata_carries_no_credential() -> None:
    with RawServer(token_answer) as server, valet_at(server.url) as valet:
        document = json.dumps({"issuer": server.url, "token_endpoint": f"{server.url}/token"}).encode()
        server.behaviour = by_path({OAUTH: answer(document), "/token": token_answer})
        assert valet.token().value == "raw-token"
        metadata, token = server.requests
    assert metadata.startswith(b"GET ")
    for trace in (SECRET.encode(), CLIENT_ID.encode(), basic(CLIENT_ID, SECRET).split()[1].encode(), b"ookie"):
        assert trace not in metadata
    assert basic(CLIENT_ID, SECRET).encode() in token


@pytest.mark.standards("S-004")
@pytest.mark.parametrize("issuer", ["http://login.example.org", "https://h.example/?a=b", "https://h.example/#a"])
def test_an_issuer_that_cannot_be_one_is_refused_before_anything_is_sent(issuer: str) -> None:
    with pytest.raises(ConfigurationError, match="an issuer") as caught:
        config(issuer=issuer)
    assert [fault.place for fault in caught.value.faults] == ["issuer"]


@pytest.mark.standards("S-007")
def test_with_an_endpoint_as_well_as_an_issuer_nothing_is_discovered(auth: AuthorizationServer) -> None:
    auth.metadata_overrides = {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}
    with valet_at(auth.issuer, token_endpoint=auth.token_endpoint) as valet:
        assert valet.token().value == auth.issued_tokens[0]
    assert auth.metadata_requests == []


# What is not believed --------------------------------------------------------------------------------------------


@pytest.mark.standards("S-003", "S-303")
@pytest.mark.parametrize(
    "changed",
    [
        lambda issuer: issuer + "/",
        lambda issuer: issuer.replace("One", "one"),
        lambda issuer: issuer.replace("http:", "HTTP:"),
        lambda issuer: issuer.replace("127.0.0.1", "localhost"),
        lambda issuer: issuer.replace("/realms/One", ""),
        lambda issuer: issuer + "?",
        lambda issuer: [issuer],
        lambda issuer: None,
    ],
    ids=["slash", "case", "scheme", "host", "parent", "query", "list", "none"],
)
def test_metadata_of_another_issuer_is_never_believed_and_never_kept(auth: AuthorizationServer, changed: Any) -> None:
    clock = Clock()
    auth.metadata_overrides = {"issuer": changed(auth.issuer)}
    with valet_at(auth.issuer, clock=clock) as valet:
        for count in (2, 4):
            unusable(failure(valet), "names another issuer", "RFC 8414 §3.3", auth.issuer)
            assert len(auth.metadata_requests) == count
            clock.advance(61)
        assert auth.token_requests == []
        auth.metadata_overrides = {}
        assert valet.token().value == auth.issued_tokens[0]


@pytest.mark.standards("S-003")
def test_a_slash_too_many_in_the_configured_issuer_is_not_helped_with(auth: AuthorizationServer) -> None:
    unusable(failure_at(auth.issuer + "/"), "names another issuer", "letter by letter")
    assert auth.token_requests == []


PADDED = json.dumps({"padding": "a" * 2_000_000}).encode()
NO_JSON = "its body is not JSON"


@pytest.mark.parametrize(
    ("fault", "fragment"),
    [
        (Fault(headers=(("content-type", "application/json"),), body=b"{'issuer': 1}"), NO_JSON),
        (Fault(headers=(("content-type", "application/json"),), body=b""), NO_JSON),
        (Fault(headers=(("content-type", "application/json"),), body=b"\xff\xfe{}"), "not UTF-8"),
        (Fault.json(["issuer"]), "not an object"),
        (Fault.html(), "Content-Type is text/html"),
        (Fault(headers=(("content-type", "application/json"),), body=PADDED), "more than 1048576 bytes"),
        (Fault.gzip_bomb(4_000_000), "compressed"),
        (Fault.status_only(403), "answered 403"),
        (Fault.status_only(204), "answered 204"),
    ],
    ids=["no JSON", "nothing", "no UTF-8", "a list", "a page", "too large", "compressed", "forbidden", "no content"],
)
def test_what_is_no_metadata_is_said_of_both_places(auth: AuthorizationServer, fault: Fault, fragment: str) -> None:
    auth.misbehave(fault.at("metadata"), times=None)
    error = failure_at(auth.issuer)
    unusable(error, fragment)
    assert str(error).count(fragment) == 2
    assert (len(auth.metadata_requests), auth.token_requests) == (2, [])


def test_an_issuer_without_metadata_is_told_with_both_addresses() -> None:
    auth = issuer_of_tests(issuer_path="/a", discovery=())
    with serve(auth):
        error = failure_at(auth.issuer)
    root = auth.issuer.removesuffix("/a")
    unusable(error, f"{root}{OAUTH}/a answered 404", f"{root}/a{OIDC} answered 404")


@pytest.mark.standards("S-005")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_metadata_is_not_followed(auth: AuthorizationServer, status: int) -> None:
    with RawServer(answer()) as elsewhere:
        auth.misbehave(Fault.redirect(elsewhere.url + OAUTH, status).at("metadata"), times=None)
        unusable(failure_at(auth.issuer), f"answered {status}, a redirect, which is not followed")
        assert elsewhere.connections == 0
    assert len(auth.metadata_requests) == 2


@pytest.mark.parametrize("member", ["issuer", "token_endpoint"])
def test_metadata_that_says_a_thing_twice_is_not_believed(auth: AuthorizationServer, member: str) -> None:
    document = json.dumps({"issuer": auth.issuer, "token_endpoint": auth.token_endpoint})
    twice = document[:-1] + f', "{member}": {json.dumps(getattr(auth, member))}}}'
    fault = Fault(headers=(("content-type", "application/json"),), body=twice.encode())
    auth.misbehave(fault.at("metadata"), times=None)
    unusable(failure_at(auth.issuer), f"the member {member} more than once")
    assert auth.token_requests == []


@pytest.mark.standards("S-008")
@pytest.mark.parametrize(
    ("endpoint", "fragment"),
    [
        (None, "has no token_endpoint"),
        (7, "has no token_endpoint"),
        ("/token", "cannot be used"),
        ("http://login.example.org/token", "use https"),
        ("https://login.example.org/token", "another site than the issuer's"),
        ("https://127.0.0.1@login.example.org/token", "user information"),
        ("https://127.0.0.1.example.org/token", "another site than the issuer's"),
        ("https://127.0.0.2\n.example.org/token", "control character"),
    ],
)
def test_no_credential_goes_to_an_endpoint_that_metadata_may_not_name(
    auth: AuthorizationServer, endpoint: object, fragment: str
) -> None:
    auth.metadata_overrides = {"token_endpoint": endpoint}
    seen = Seen()
    unusable(failure_at(auth.issuer, observers=[seen]), fragment)
    assert auth.token_requests == []
    assert [event.detail.split()[0] for event in seen.of("token_request")] == ["GET", "GET"]


# Not now ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "asked"), [(429, 2), (500, 2), (503, 2)])
def test_an_issuer_that_cannot_serve_is_a_passing_error_that_names_its_time(
    auth: AuthorizationServer, status: int, asked: int
) -> None:
    auth.misbehave(Fault.status_only(status, retry_after=30).at("metadata"), times=None)
    error = failure_at(auth.issuer)
    assert isinstance(error, TokenRequestError)
    code = "token_request_rate_limited" if status == 429 else "token_request_server_error"
    assert (error.code, error.status, error.retry_after) == (code, status, 30)
    assert len(auth.metadata_requests) == asked, "it asked for more time than there is"


@pytest.mark.parametrize("times", [1, 2])
def test_a_first_renewal_outlasts_an_issuer_that_is_away_for_a_moment(
    auth: AuthorizationServer, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr("tokenvalet.core.policy.FIRST_PAUSE", 0.001)
    auth.misbehave(Fault.status_only(503).at("metadata"), times=2 * times)  # both addresses are asked each time
    with valet_at(auth.issuer) as valet:
        assert valet.token().value == auth.issued_tokens[0]
    assert (len(auth.metadata_requests), len(auth.token_requests)) == (2 * times + 1, 1)


def test_an_issuer_that_stays_away_is_asked_three_times_and_then_remembered(
    auth: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenvalet.core.policy.FIRST_PAUSE", 0.001)
    auth.misbehave(Fault.status_only(503).at("metadata"), times=None)
    with valet_at(auth.issuer) as valet:
        for _ in range(5):
            with pytest.raises(TokenRequestError):
                valet.token()
    assert len(auth.metadata_requests) == 6


@pytest.mark.parametrize(
    "behaviour", [never_answer, trickle(b"{" + b" " * 400 + b"}", 0.02)], ids=["silent", "byte by byte"]
)
def test_an_issuer_that_is_too_slow_costs_the_timeout_of_the_whole(behaviour: Any) -> None:
    with RawServer(behaviour) as server:
        error = failure_at(server.url, timeout=0.3)
        assert isinstance(error, TokenRequestError)
        assert error.code == "token_request_timeout"
        assert "timeout" in str(error)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [(close_without_answer, "token_request_broken_answer")],
)
def test_an_issuer_that_hangs_up_is_not_asked_next_door(behaviour: Any, code: str) -> None:
    with RawServer(behaviour) as server:
        error = failure_at(server.url)
        assert isinstance(error, TokenRequestError)
        assert error.code == code
        assert server.url + OAUTH in str(error)
        assert {request.split(b" ")[1].decode() for request in server.requests} == {OAUTH}


def test_an_issuer_where_nobody_listens_is_told_as_such() -> None:
    with RawServer(answer()) as server:
        pass
    error = failure_at(server.url)
    assert isinstance(error, TokenRequestError)
    assert error.code == "token_request_unreachable"
    assert "is the address right" in str(error)


# How long --------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-007")
def test_metadata_is_kept_for_an_hour(auth: AuthorizationServer) -> None:
    clock = Clock()
    with valet_at(auth.issuer, clock=clock) as valet:
        valet.token()
        clock.advance(HOUR - 1)
        valet.token(force_renewal=True)
        assert (len(auth.token_requests), len(auth.metadata_requests)) == (2, 1)
        clock.advance(11)
        valet.token(force_renewal=True)
        assert (len(auth.token_requests), len(auth.metadata_requests)) == (3, 2)


@pytest.mark.standards("S-007")
def test_an_hour_that_the_machine_slept_counts(auth: AuthorizationServer) -> None:
    clock = Clock()
    with valet_at(auth.issuer, clock=clock) as valet:
        valet.token()
        clock.jump(HOUR)
        valet.token()
    assert len(auth.metadata_requests) == 2


@pytest.mark.standards("S-007")
@pytest.mark.parametrize(
    "fault",
    [Fault.status_only(503), Fault.status_only(404), Fault.html(), Fault.disconnect(), Fault.json({"issuer": "x"})],
    ids=["503", "404", "page", "hangs up", "another issuer"],
)
def test_the_last_good_metadata_serves_for_a_day_and_no_longer(auth: AuthorizationServer, fault: Fault) -> None:
    clock = Clock()
    with valet_at(auth.issuer, clock=clock) as valet:
        valet.token()
        auth.misbehave(fault.at("metadata"), times=None)
        clock.advance(HOUR)
        valet.token(force_renewal=True)
        asked = len(auth.metadata_requests)
        assert asked > 1
        # It is asked again after a minute, not with every renewal.
        clock.advance(30)
        valet.token(force_renewal=True)
        assert len(auth.metadata_requests) == asked
        clock.advance(31)
        valet.token(force_renewal=True)
        assert len(auth.metadata_requests) > asked
        clock.advance(23 * HOUR - 61 - 1)
        valet.token(force_renewal=True)
        assert len(auth.token_requests) == 5
        clock.advance(HOUR + 1)
        assert isinstance(failure(valet), TokenRequestError | TokenResponseError)
        assert len(auth.token_requests) == 5
        auth.behave()
        clock.advance(61)
        assert valet.token().value == auth.issued_tokens[-1]


@pytest.mark.standards("S-007")
def test_a_copy_that_was_refused_a_refresh_is_replaced_when_the_issuer_is_back(auth: AuthorizationServer) -> None:
    clock = Clock()
    with valet_at(auth.issuer, clock=clock) as valet:
        valet.token()
        auth.misbehave(Fault.status_only(503).at("metadata"), times=2)
        for _ in range(2):
            clock.advance(HOUR)
            valet.token()
        assert len(auth.metadata_requests) == 4
        # Fresh for an hour from now on, not from the beginning.
        clock.advance(HOUR - 1)
        valet.token(force_renewal=True)
    assert len(auth.metadata_requests) == 4


@pytest.mark.standards("S-008")
def test_an_endpoint_at_another_origin_is_used_and_told(
    auth: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock, seen, other = Clock(), Seen(), issuer_of_tests()
    with serve(other) as moved, valet_at(auth.issuer, clock=clock, observers=[seen]) as valet:
        valet.token()
        auth.metadata_overrides = {"token_endpoint": f"{moved.url}/token"}
        clock.advance(HOUR)
        assert valet.token().value == other.issued_tokens[0]
        [event] = seen.of("endpoint_changed")
        assert event.client == "m2m"
        assert event.detail == f"from {auth.issuer.removesuffix('/realms/One')} to {moved.url}"
        [record] = [one for one in caplog.records if "endpoint_changed" in one.getMessage()]
        assert record.levelname == "WARNING"
        clock.advance(HOUR)
        valet.token()
        assert len(seen.of("endpoint_changed")) == 1


@pytest.mark.standards("S-008")
def test_an_endpoint_that_stays_at_its_origin_is_no_event(auth: AuthorizationServer) -> None:
    clock, seen = Clock(), Seen()
    with valet_at(auth.issuer, clock=clock, observers=[seen]) as valet:
        valet.token()
        auth.metadata_overrides = {"token_endpoint": f"{auth.token_endpoint}?v=2"}
        clock.advance(HOUR)
        valet.token()
    assert seen.of("endpoint_changed") == []


# How often -------------------------------------------------------------------------------------------------------


def test_fifty_callers_at_once_ask_for_metadata_once(auth: AuthorizationServer) -> None:
    with valet_at(auth.issuer) as valet, in_threads() as callers:
        callers.start(lambda: valet.token().value, times=50)
        callers.join()
        assert callers.values == auth.issued_tokens * 50
    assert (len(auth.metadata_requests), len(auth.token_requests)) == (1, 1)


def test_fifty_clients_of_one_issuer_ask_for_its_metadata_once(auth: AuthorizationServer) -> None:
    names = [f"tenant-{number}" for number in range(50)]
    with (
        TokenValet({name: config(issuer=auth.issuer, scope=[name]) for name in names}) as valet,
        in_threads() as callers,
    ):
        auth.register(registered(scopes=tuple(names)))
        for name in names:
            callers.start(lambda name=name: valet.token(name).value)  # type: ignore[misc]
        callers.join()
        assert callers.errors == []
        assert len(set(callers.values)) == 50
    assert (len(auth.metadata_requests), len(auth.token_requests)) == (1, 50)


def test_each_issuer_is_asked_for_itself(auth: AuthorizationServer) -> None:
    other = issuer_of_tests()
    configs = {"one": config(issuer=auth.issuer), "two": config(issuer="http://127.0.0.1:1")}
    with serve(other):
        configs["two"] = config(issuer=other.issuer)
        with TokenValet(configs) as valet:
            assert valet.token("one").value == auth.issued_tokens[0]
            assert valet.token("two").value == other.issued_tokens[0]
    assert (len(auth.metadata_requests), len(other.metadata_requests)) == (1, 1)


# What the server cannot do ---------------------------------------------------------------------------------------


@pytest.mark.standards("S-006", "S-013")
@pytest.mark.parametrize(
    ("method", "offered"),
    [
        (None, ["client_secret_post"]),
        ("client_secret_basic", ["client_secret_post", "private_key_jwt"]),
        ("client_secret_post", ["client_secret_basic"]),
        ("client_secret_post", []),
    ],
)
def test_a_method_that_is_not_offered_is_refused_and_never_replaced(
    auth: AuthorizationServer, method: str | None, offered: list[str]
) -> None:
    auth.metadata_overrides = {"token_endpoint_auth_methods_supported": offered}
    error = failure_at(auth.issuer, auth_method=method)
    assert isinstance(error, ConfigurationError)
    assert error.code == "auth_method_not_offered"
    assert f"auth_method is {method or 'client_secret_basic'}" in str(error)
    assert f"offers {', '.join(sorted(offered))}" in str(error)
    assert auth.token_requests == []


@pytest.mark.standards("S-013")
def test_the_secret_is_in_the_body_only_where_that_is_configured(auth: AuthorizationServer) -> None:
    auth.metadata_overrides = {"token_endpoint_auth_methods_supported": None}
    with valet_at(auth.issuer) as valet:
        valet.token()
    auth.register(registered(auth_method="client_secret_post"))
    with valet_at(auth.issuer, auth_method="client_secret_post") as valet:
        valet.token()
    by_default, as_configured = auth.token_requests
    assert authorization_of(by_default.headers) == [basic(CLIENT_ID, SECRET)]
    assert by_default.form.keys() & {"client_secret", "client_id"} == set()
    assert authorization_of(as_configured.headers) == []
    assert as_configured.form["client_secret"] == [SECRET]


@pytest.mark.standards("S-006")
def test_a_server_without_the_grant_is_told_and_not_asked(auth: AuthorizationServer) -> None:
    auth.metadata_overrides = {"grant_types_supported": ["authorization_code"]}
    error = failure_at(auth.issuer)
    assert isinstance(error, ConfigurationError)
    assert error.code == "grant_type_not_offered"
    assert auth.issuer in str(error)
    assert auth.token_requests == []


@pytest.mark.standards("S-006")
def test_a_proof_algorithm_that_is_not_offered_is_no_reason_for_a_bearer_token(auth: AuthorizationServer) -> None:
    auth.metadata_overrides = {"dpop_signing_alg_values_supported": ["RS256", "PS256"]}
    error = failure_at(auth.issuer, dpop=True)
    assert isinstance(error, ProofError)
    assert error.code == "dpop_algorithm_not_offered"
    assert "PS256, RS256" in str(error)
    assert "dpop_key_file" in str(error)
    assert auth.token_requests == []


@pytest.mark.standards("S-006")
@pytest.mark.parametrize(
    "member", ["token_endpoint_auth_methods_supported", "grant_types_supported", "dpop_signing_alg_values_supported"]
)
@pytest.mark.parametrize("value", [None, "client_secret_basic"])
def test_a_list_that_is_not_given_refuses_nothing(auth: AuthorizationServer, member: str, value: object) -> None:
    auth.metadata_overrides = {member: value}
    with valet_at(auth.issuer, dpop=True) as valet:
        assert valet.token().token_type == "DPoP"


def test_a_configuration_that_one_client_has_wrong_is_no_other_clients(auth: AuthorizationServer) -> None:
    auth.metadata_overrides = {"token_endpoint_auth_methods_supported": ["client_secret_basic"]}
    configs = {
        "good": config(issuer=auth.issuer),
        "bad": config(issuer=auth.issuer, auth_method="client_secret_post"),
    }
    with TokenValet(configs) as valet:
        assert failure(valet, "bad").code == "auth_method_not_offered"
        assert valet.token("good").value == auth.issued_tokens[0]
    assert len(auth.metadata_requests) == 1


@pytest.mark.standards("S-009")
def test_an_iss_beside_a_token_is_compared_with_nothing(auth: AuthorizationServer) -> None:
    # RFC 9207 is for the answers of the authorization endpoint; there is none here.
    auth.metadata_overrides = {"authorization_response_iss_parameter_supported": True}
    answered = {"access_token": "a", "token_type": "Bearer", "expires_in": 60, "iss": "https://other.example"}
    auth.misbehave(Fault.json(answered))
    with valet_at(auth.issuer) as valet:
        assert valet.token().value == "a"


# Trust -----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-003", "S-224")
def test_what_was_discovered_serves_nobody_who_would_not_have_trusted_the_server(tmp_path: Path) -> None:
    known, unknown, auth = Authority(tmp_path, "known"), Authority(tmp_path, "unknown"), issuer_of_tests()
    with serve(auth, ssl_context=unknown.server()):
        configs = {
            "careless": config(issuer=auth.issuer, allow_insecure_tls=True),
            "careful": config(issuer=auth.issuer, ca_file=known.file),
            "another": config(issuer=auth.issuer, ca_file=unknown.file, audience="https://api.example.org"),
        }
        with TokenValet(configs) as valet:
            assert valet.token("careless").value == auth.issued_tokens[0]
            assert valet.token("another").value == auth.issued_tokens[1]
            assert len(auth.metadata_requests) == 2
            error = failure(valet, "careful")
            assert error.code == "token_request_tls"
            # It failed where it first met the server, not with an address that somebody else was told.
            assert "/.well-known/" in str(error)
    assert len(auth.metadata_requests) == 2
