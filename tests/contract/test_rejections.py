"""A 401 renews once; other answers do not; and nothing that an API says sends us to another server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contract.conftest import Opener, Servers
from contract.drivers import ONE_SHOT, REPLAYABLE, Body, Kind
from contract.servers import Recorder, Reply, until
from tokenvalet import ProofError, StepUpRequiredError
from tokenvalet.testing import AuthorizationServer, Fault, ProtectedApi

INVALID = 'Bearer error="invalid_token"'
STEP_UP = (
    'error="insufficient_user_authentication", acr_values="urn:example:strong", max_age="60", scope="records:sign"'
)


def statuses(api: ProtectedApi) -> list[int]:
    return [call.status for call in api.calls]


@pytest.mark.standards("S-075", "S-116", "S-205")
def test_a_rejected_token_is_renewed_once_and_the_request_sent_again(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    session = open_session(dpop=dpop)
    session.get(api.origin + "/echo")
    auth.revoke_all()
    assert session.get(api.origin + "/echo").status == 200
    assert statuses(api) == [200, 401, 200]
    assert len(auth.token_requests) == 2
    assert len({call.token_sha256 for call in api.calls}) == 2
    assert len({asked.dpop_jkt for asked in auth.token_requests}) == 1


@pytest.mark.standards("S-205")
def test_many_rejected_at_once_share_one_renewal(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    session = open_session(dpop=dpop)
    session.get(api.origin + "/echo")
    auth.revoke_all()
    auth.token_delay = 0.1
    calls = [session.start("GET", api.origin + "/echo") for _ in range(20)]
    assert {call.result().status for call in calls} == {200}
    assert len(auth.token_requests) == 2


@pytest.mark.standards("S-205")
def test_an_api_that_rejects_everything_costs_two_token_requests(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    api.reject_all = INVALID
    session = open_session()
    assert {session.get(api.origin + "/echo").status for _ in range(20)} == {401}
    calls = [session.start("GET", api.origin + "/echo") for _ in range(30)]
    assert {call.result().status for call in calls} == {401}
    assert len(auth.token_requests) == 2
    assert len(api.calls) == 51  # one of the fifty was sent again


@pytest.mark.standards("S-205")
def test_a_token_that_was_replaced_meanwhile_is_not_renewed_again(
    open_session: Opener, servers: Servers, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    valet = open_session.valet(dpop=dpop)
    session = open_session.on(valet)
    session.get(api.origin + "/echo")
    auth.revoke_all()
    servers.watched_api.hold()  # between the API's verdict and our hearing of it ...
    call = session.start("GET", api.origin + "/echo")
    until(lambda: statuses(api) == [200, 401])
    valet.token("m2m", force_renewal=True)  # ... the token is replaced
    servers.watched_api.release()
    assert call.result().status == 200
    assert statuses(api) == [200, 401, 200]
    assert len(auth.token_requests) == 2


@pytest.mark.standards("S-213")
def test_a_401_is_handed_over_where_no_new_token_can_be_had(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session()
    session.get(api.origin + "/echo")
    api.reject_next()
    auth.misbehave(Fault.status_only(503), times=None)
    assert session.get(api.origin + "/echo").status == 401
    assert session.get(api.origin + "/echo").status == 200  # the token is good, after all
    assert statuses(api) == [200, 401, 200]


OTHER_ANSWERS = [
    (403, 'Bearer error="insufficient_scope", scope="records:sign"'),
    (400, 'Bearer error="invalid_request"'),
    (401, 'Bearer error="insufficient_scope"'),
    (401, 'bearer ERROR=invalid_request, Basic realm="a"'),
    (403, INVALID),
    (400, INVALID),
    (407, INVALID),
    (500, INVALID),
    (503, INVALID),
    (429, INVALID),
]


@pytest.mark.standards("S-075", "S-081", "S-082")
def test_other_answers_renew_nothing_and_are_not_sent_again(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session()
    for status, challenge in OTHER_ANSWERS:
        api.reject_next(status=status, challenge=challenge)
        assert session.get(api.origin + "/echo").status == status, challenge
    assert session.get(api.origin + "/echo").status == 200
    assert (len(api.calls), len(auth.token_requests)) == (len(OTHER_ANSWERS) + 1, 1)


@pytest.mark.standards("S-084")
def test_a_step_up_challenge_raises_and_says_what_is_wanted(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    session = open_session(dpop=dpop, pool_size=1)
    for _ in range(2):  # twice, since the first answer must leave its connection
        api.reject_next(challenge=f"{'DPoP' if dpop else 'Bearer'} {STEP_UP}")
        with pytest.raises(StepUpRequiredError) as raised:
            session.get(api.origin + "/echo")
        wanted = raised.value
        assert (wanted.acr_values, wanted.max_age, wanted.scope) == ("urn:example:strong", "60", "records:sign")
    assert session.get(api.origin + "/echo").status == 200
    assert (len(api.calls), len(auth.token_requests)) == (3, 1)


@pytest.mark.standards("S-081", "S-084")
def test_a_step_up_challenge_of_another_scheme_is_not_ours(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    api.reject_next(challenge=f"Other {STEP_UP}, Bearer realm=a")
    assert open_session().get(api.origin + "/echo").status == 200
    assert (len(api.calls), len(auth.token_requests)) == (2, 2)


@pytest.mark.standards("S-085", "S-086", "S-301", "S-302", "S-151")
@pytest.mark.parametrize("scheme", ["Bearer", "DPoP"])
def test_metadata_named_in_a_401_is_not_looked_at_and_its_servers_are_never_contacted(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, foreign: Recorder, scheme: str
) -> None:
    body = b'{"resource":"%s","authorization_servers":["%s"]}' % (api.origin.encode(), foreign.origin.encode())
    foreign.usual = Reply(headers=(("content-type", "application/json"),), body=body)
    url = foreign.origin + "/.well-known/oauth-protected-resource"
    challenge = f'{scheme} error="invalid_token", resource_metadata="{url}", as_uri="{foreign.origin}"'
    api.reject_next(2, challenge=challenge)
    session = open_session(dpop=scheme == "DPoP")
    assert session.get(api.origin + "/echo").status == 401
    assert session.get(api.origin + "/echo").status == 200
    assert foreign.requests == []
    assert auth.metadata_requests == []
    assert len(auth.token_requests) == 2


@pytest.mark.standards("S-080", "S-081", "S-083")
@pytest.mark.parametrize(
    "challenges",
    [
        (),
        ("",),
        ("Bearer",),
        ("Basic realm=a",),
        ("Negotiate abc==", "Bearer error=invalid_token"),
        ("Negotiate abc==, Bearer error=invalid_token",),
        ('Bearer realm="a, DPoP error=\\"use_dpop_nonce\\""',),
        ("bEaReR eRRoR=invalid_token", "DPoP error=insufficient_scope"),
        ("Bearer error=invalid_token, error=insufficient_scope",),
        ("Bearer " + ", ".join(["a=b"] * 3000),),
        ('Bearer error="invalid_token', ",,, ,", "é\xff"),
    ],
)
def test_odd_challenges_renew_once_and_no_more(
    open_session: Opener, scripted: Recorder, auth: AuthorizationServer, challenges: tuple[str, ...]
) -> None:
    refusal = Reply(status=401, headers=tuple(("www-authenticate", one) for one in challenges))
    scripted.answer(refusal, refusal)
    session = open_session(scripted.origin)
    assert session.get(scripted.origin).status == 401
    assert session.get(scripted.origin).status == 200
    assert (len(scripted.requests), len(auth.token_requests)) == (3, 2)


@pytest.mark.standards("S-080", "S-081")
def test_what_is_said_of_bearer_does_not_count_for_a_dpop_token(
    open_session: Opener, scripted: Recorder, auth: AuthorizationServer
) -> None:
    challenges = ("Bearer error=insufficient_scope", 'Bearer realm="a", DPoP error="use_dpop_nonce"')
    headers = tuple(("www-authenticate", one) for one in challenges)
    scripted.answer(Reply(status=401, headers=(*headers, ("dpop-nonce", "n1"))))
    assert open_session(scripted.origin, dpop=True).get(scripted.origin).status == 200
    assert [request.nonce for request in scripted.requests] == [None, "n1"]
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-109")
def test_a_dpop_token_never_goes_as_bearer(open_session: Opener, api: ProtectedApi, auth: AuthorizationServer) -> None:
    session = open_session(dpop=True)
    for challenge in ("Bearer", INVALID, 'Bearer realm="a", error="invalid_dpop_proof"'):
        api.reject_next(2, challenge=challenge)
        session.get(api.origin + "/echo")
    api.reset()
    api.accept = ("Bearer",)
    assert session.get(api.origin + "/echo").status == 401
    assert {call.scheme for call in api.calls} == {"DPoP"}
    assert {asked.dpop_jkt is None for asked in auth.token_requests} == {False}


@pytest.mark.standards("S-112")
def test_an_api_that_takes_no_proofs_of_our_algorithm_is_an_error(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session(dpop=True, pool_size=1)
    for _ in range(2):
        api.reject_next(challenge='DPoP error="invalid_dpop_proof", algs="RS256 PS256"')
        with pytest.raises(ProofError, match="RS256"):
            session.get(api.origin + "/echo")
    assert (len(api.calls), len(auth.token_requests)) == (2, 1)


# Bodies


@pytest.mark.standards("S-206")
@pytest.mark.parametrize("kind", REPLAYABLE)
def test_a_body_that_can_be_sent_twice_is_sent_twice_the_same(
    open_session: Opener, needs: Callable[[str], None], api: ProtectedApi, dpop: bool, kind: Kind
) -> None:
    if kind.startswith("multipart"):
        needs("multipart twice")
    api.reject_next(challenge=f'{"DPoP" if dpop else "Bearer"} error="invalid_token"')
    body = Body(kind=kind)
    answer = open_session(dpop=dpop).request("POST", api.origin + "/echo", body=body)
    first, second = api.calls
    assert (first.status, second.status, answer.status) == (401, 200, 200)
    assert first.body_length == second.body_length >= len(body.content)
    assert first.body_sha256 == second.body_sha256
    assert [value for name, value in first.headers if name == "content-type"] == [
        value for name, value in second.headers if name == "content-type"
    ]


@pytest.mark.standards("S-206")
@pytest.mark.parametrize("kind", REPLAYABLE)
def test_a_body_that_can_be_sent_twice_survives_a_nonce_and_a_renewal(
    open_session: Opener, needs: Callable[[str], None], api: ProtectedApi, auth: AuthorizationServer, kind: Kind
) -> None:
    if kind.startswith("multipart"):
        needs("multipart twice")
    session = open_session(dpop=True)
    session.get(api.origin + "/echo")
    auth.revoke_all()
    api.require_dpop_nonce = True
    assert session.request("POST", api.origin + "/echo", body=Body(kind=kind)).status == 200
    assert statuses(api) == [200, 401, 401, 200] or statuses(api) == [200, 401, 200]
    assert len({call.body_sha256 for call in api.calls[1:]}) == 1


@pytest.mark.standards("S-205", "S-206")
@pytest.mark.parametrize("kind", ONE_SHOT)
def test_a_body_that_can_be_sent_once_is_not_sent_again_and_the_next_call_has_a_new_token(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, kind: Kind
) -> None:
    session = open_session()
    session.get(api.origin + "/echo")
    auth.revoke_all()
    auth.token_delay = 0.1
    assert session.request("POST", api.origin + "/echo", body=Body(kind=kind)).status == 401
    assert session.request("POST", api.origin + "/echo", body=Body(kind=kind)).status == 200
    assert statuses(api) == [200, 401, 200]
    assert {call.body_length >= len(Body(kind=kind).content) for call in api.calls[1:]} == {True}
    assert len(auth.token_requests) == 2


@pytest.mark.standards("S-101", "S-206")
@pytest.mark.parametrize("kind", ONE_SHOT)
def test_a_body_that_can_be_sent_once_leaves_the_nonce_to_the_next_call(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, kind: Kind
) -> None:
    api.require_dpop_nonce = True
    session = open_session(dpop=True)
    assert session.request("POST", api.origin + "/echo", body=Body(kind=kind)).status == 401
    assert session.request("POST", api.origin + "/echo", body=Body(kind=kind)).status == 200
    assert statuses(api) == [401, 200]
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-206")
def test_a_request_that_fails_on_the_way_is_not_sent_again(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session()
    for status in (500, 502, 503, 504, 429, 408, 425):
        assert session.get(f"{api.origin}/status/{status}").status == status
    assert (len(api.calls), len(auth.token_requests)) == (7, 1)
