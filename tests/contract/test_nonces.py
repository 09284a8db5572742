"""DPoP nonces (RFC 9449 §8 and §9): taken from every response, kept for each origin and role, asked for once."""

from __future__ import annotations

import pytest

from contract.conftest import Opener, registered
from contract.servers import Both, Recorder, Reply, claims_of, fields
from tokenvalet.testing import AuthorizationServer, ProtectedApi, serve

USE_NONCE = ("www-authenticate", 'DPoP error="use_dpop_nonce", error_description="try again"')


def wants(*nonces: str, status: int = 401) -> Reply:
    """Return the answer of an API that asks for a nonce, with these DPoP-Nonce fields."""
    return Reply(status=status, headers=(USE_NONCE, *(("dpop-nonce", one) for one in nonces)))


def gives(*nonces: str, status: int = 200) -> Reply:
    return Reply(status=status, headers=tuple(("dpop-nonce", one) for one in nonces))


def nonces_at(api: ProtectedApi) -> list[str | None]:
    return [claims_of(fields(call.headers, "dpop")[0]).get("nonce") for call in api.calls]


@pytest.mark.standards("S-100", "S-104")
def test_a_nonce_that_is_asked_for_is_sent_at_once_and_kept(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    api.require_dpop_nonce = True
    session = open_session(dpop=True)
    assert [session.get(api.origin + path).status for path in ("/echo/a", "/echo/b", "/echo/c")] == [200, 200, 200]
    assert [call.status for call in api.calls] == [401, 200, 200, 200]
    assert len({call.proof_claims["jti"] for call in api.calls if call.proof_claims}) == 4
    assert len({call.token_sha256 for call in api.calls}) == len(auth.token_requests) == 1


@pytest.mark.standards("S-101")
def test_a_nonce_is_taken_from_every_response(open_session: Opener, scripted: Recorder) -> None:
    scripted.answer(gives("n1"), gives("n2", status=404), gives(), gives("n3", status=500), gives("n4", status=403))
    session = open_session(scripted.origin, dpop=True)
    for _ in range(6):
        session.get(scripted.origin)
    assert [request.nonce for request in scripted.requests] == [None, "n1", "n2", "n2", "n3", "n4"]


@pytest.mark.standards("S-101", "S-102")
def test_a_nonce_is_taken_from_a_redirect_and_serves_the_next_hop(open_session: Opener, scripted: Recorder) -> None:
    scripted.answer(Reply(status=307, headers=(("location", "/next"), ("dpop-nonce", "n1"))))
    assert open_session(scripted.origin, dpop=True).get(scripted.origin).status == 200
    assert [request.nonce for request in scripted.requests] == [None, "n1"]


@pytest.mark.standards("S-104")
def test_the_same_nonce_asked_for_twice_is_handed_over(open_session: Opener, scripted: Recorder) -> None:
    scripted.usual = wants("same")
    session = open_session(scripted.origin, dpop=True)
    assert [session.get(scripted.origin).status for _ in range(2)] == [401, 401]
    assert [request.nonce for request in scripted.requests] == [None, "same", "same"]


@pytest.mark.standards("S-104")
def test_a_nonce_is_put_right_once_for_a_request(
    open_session: Opener, scripted: Recorder, auth: AuthorizationServer
) -> None:
    scripted.answer(*(wants(f"n{number}") for number in range(10)))
    session = open_session(scripted.origin, dpop=True)
    assert [session.get(scripted.origin).status for _ in range(2)] == [401, 401]
    assert [request.nonce for request in scripted.requests] == [None, "n0", "n1", "n2"]
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-104", "S-113")
def test_a_nonce_is_put_right_only_for_a_400_or_401_that_brings_one(
    open_session: Opener, scripted: Recorder, auth: AuthorizationServer
) -> None:
    # RFC 9449 §9 asks with a 401; some servers ask with the 400 of §8.
    replies = [wants("n1", status=400), gives(), wants("n2", status=403), wants(), gives("n3", status=401), gives()]
    scripted.answer(*replies)
    session = open_session(scripted.origin, dpop=True)
    assert [session.get(scripted.origin).status for _ in range(4)] == [200, 403, 401, 200]
    assert [request.nonce for request in scripted.requests] == [None, "n1", "n1", "n2", "n2", "n3"]
    assert len(auth.token_requests) == 2  # the 401 without a challenge renewed; nothing else did


@pytest.mark.standards("S-103")
@pytest.mark.parametrize(
    "nonces",
    [("n1", "n2"), ("same", "same"), ("a b",), ('a"b',), ("a\\b",), ("a\tb",), ("é",), ("",), ("a" * 513,), ("a, b",)],
    ids=repr,
)
def test_a_nonce_that_is_none_is_ignored(
    open_session: Opener, scripted: Recorder, auth: AuthorizationServer, nonces: tuple[str, ...]
) -> None:
    scripted.answer(gives("good"), wants(*nonces))
    session = open_session(scripted.origin, dpop=True)
    assert [session.get(scripted.origin).status for _ in range(3)] == [200, 401, 200]
    assert [request.nonce for request in scripted.requests] == [None, "good", "good"]
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-103")
def test_the_longest_nonce_and_every_character_that_may_be_in_one_are_sent_as_they_came(
    open_session: Opener, scripted: Recorder
) -> None:
    odd = ["".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\'), "a" * 512]
    scripted.answer(*(gives(one) for one in odd))
    session = open_session(scripted.origin, dpop=True)
    for _ in range(3):
        session.get(scripted.origin)
    assert [request.nonce for request in scripted.requests] == [None, *odd]


@pytest.mark.standards("S-100")
def test_every_origin_has_a_nonce_of_its_own(
    open_session: Opener, api: ProtectedApi, second_api: ProtectedApi, auth: AuthorizationServer
) -> None:
    api.require_dpop_nonce = second_api.require_dpop_nonce = True
    session = open_session(api.origin, second_api.origin, dpop=True)
    for _ in range(2):
        assert session.get(api.origin + "/echo").status == 200
        assert session.get(second_api.origin + "/echo").status == 200
    assert [call.status for call in api.calls] == [call.status for call in second_api.calls] == [401, 200, 200]
    assert nonces_at(second_api)[0] is None
    assert set(nonces_at(api)) & set(nonces_at(second_api)) == {None}
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-100")
def test_a_server_that_is_both_has_a_nonce_for_each_role(open_session: Opener) -> None:
    auth = AuthorizationServer(clients=[registered()], require_dpop_nonce=True)
    api = ProtectedApi(auth, require_dpop_nonce=True)
    with serve(Both(auth, api)):
        valet = open_session.valet(api.origin, token_endpoint=auth.token_endpoint, dpop=True)
        session = open_session.on(valet)
        assert [session.get(api.origin + "/echo").status for _ in range(2)] == [200, 200]
        valet.token("m2m", force_renewal=True)
        assert session.get(api.origin + "/echo").status == 200
    at_auth = [claims_of(fields(asked.headers, "dpop")[0]).get("nonce") for asked in auth.token_requests]
    assert (at_auth[0], nonces_at(api)[0]) == (None, None)
    assert [call.status for call in api.calls] == [401, 200, 200, 200]
    assert [asked.outcome for asked in auth.token_requests] == ["use_dpop_nonce", "issued", "issued"]
    assert set(at_auth) & set(nonces_at(api)) == {None}


@pytest.mark.standards("S-101", "S-104")
def test_a_nonce_that_is_replaced_under_many_calls_at_once_is_put_right_for_all(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    api.require_dpop_nonce = True
    session = open_session(dpop=True)
    session.get(api.origin + "/echo")
    for _ in range(3):
        api.calls.clear()
        api.rotate_nonce()
        calls = [session.start("GET", f"{api.origin}/echo/{number}") for number in range(16)]
        assert {call.result().status for call in calls} == {200}
        rejected = [call for call in api.calls if call.status == 401]
        assert 1 <= len(rejected) <= 16
        assert len(api.calls) == 16 + len(rejected)
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-101", "S-104", "S-205")
def test_a_nonce_and_a_renewal_are_both_put_right_for_one_request(
    open_session: Opener, scripted: Recorder, auth: AuthorizationServer
) -> None:
    invalid = Reply(status=401, headers=(("www-authenticate", 'DPoP error="invalid_token"'), ("dpop-nonce", "n2")))
    scripted.answer(wants("n1"), invalid)
    assert open_session(scripted.origin, dpop=True).get(scripted.origin).status == 200
    assert [request.nonce for request in scripted.requests] == [None, "n1", "n2"]
    assert len(auth.token_requests) == 2
    assert len({request.fields("authorization")[0] for request in scripted.requests}) == 2


@pytest.mark.standards("S-100")
def test_a_nonce_serves_every_session_of_the_valet(open_session: Opener, api: ProtectedApi) -> None:
    api.require_dpop_nonce = True
    valet = open_session.valet(dpop=True)
    for _ in range(3):
        assert open_session.on(valet).get(api.origin + "/echo").status == 200
    assert [call.status for call in api.calls] == [401, 200, 200, 200]


def test_a_bearer_token_takes_no_notice_of_nonces(
    open_session: Opener, scripted: Recorder, auth: AuthorizationServer
) -> None:
    scripted.answer(gives("n1"), gives("n2"))
    session = open_session(scripted.origin)
    for _ in range(3):
        session.get(scripted.origin)
    assert [request.fields("dpop") for request in scripted.requests] == [[], [], []]
