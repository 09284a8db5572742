"""What one request's token is asked for with: given with the request, or by the client's `customize`."""

from __future__ import annotations

from typing import Any

import pytest

from contract.conftest import Opener, registered
from contract.servers import fields
from tokenvalet import ConfigurationError, OriginError, TokenParameters, TokenRefusedError
from tokenvalet.testing import AuthorizationServer, ProtectedApi

READ, WRITE = TokenParameters(scope="records:read"), TokenParameters(scope=["records:write"])


def asked(auth: AuthorizationServer, name: str) -> list[list[str]]:
    return [request.form.get(name, []) for request in auth.token_requests]


def tokens(api: ProtectedApi) -> list[str | None]:
    return [call.token_sha256 for call in api.calls]


@pytest.mark.standards("S-181")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scope", "records:write"),
        ("resource", "https://api.example.org/records"),
        ("audience", "https://api.example.org"),
        ("parameters", {"tenant": "42"}),
    ],
)
def test_a_request_may_ask_for_a_token_of_its_own(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, name: str, value: Any, dpop: bool
) -> None:
    own = TokenParameters(**{name: value})
    session = open_session(dpop=dpop)
    for parameters in (None, own, None, TokenParameters(**{name: value})):
        assert session.get(api.origin + "/echo", token_parameters=parameters).status == 200
    usual, other, *rest = tokens(api)
    assert usual != other
    assert rest == [usual, other]
    field, sent = ("tenant", ["42"]) if name == "parameters" else (name, [value])
    assert asked(auth, field) == [[], sent]


@pytest.mark.standards("S-181")
def test_the_order_of_what_is_asked_for_makes_no_difference(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session()
    for scope in ("records:read records:write", ["records:write", "records:read"], ("records:write", "records:read")):
        session.get(api.origin + "/echo", token_parameters=TokenParameters(scope=scope))
    assert len(set(tokens(api))) == len(auth.token_requests) == 1


def test_a_request_that_asks_for_more_than_there_is_fails_alone(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session()
    with pytest.raises(TokenRefusedError) as raised:
        session.get(api.origin + "/echo", token_parameters=TokenParameters(scope="records:sign"))
    assert raised.value.error == "invalid_scope"
    assert api.calls == []
    assert session.get(api.origin + "/echo").status == 200


def test_a_request_may_ask_for_a_new_token(open_session: Opener, api: ProtectedApi, auth: AuthorizationServer) -> None:
    session = open_session()
    session.get(api.origin + "/echo")
    session.get(api.origin + "/echo", token_parameters=TokenParameters(force_renewal=True))
    session.get(api.origin + "/echo")
    first, *renewed = tokens(api)
    assert len({*renewed}) == 1
    assert first not in renewed
    assert len(auth.token_requests) == 2


@pytest.mark.standards("S-205")
def test_a_token_that_is_rejected_is_renewed_with_what_it_was_asked_for(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session()
    for parameters in (None, WRITE):
        session.get(api.origin + "/echo", token_parameters=parameters)
    api.reject_next()
    assert session.get(api.origin + "/echo", token_parameters=WRITE).status == 200
    assert session.get(api.origin + "/echo").status == 200
    assert asked(auth, "scope") == [[], ["records:write"], ["records:write"]]
    assert tokens(api)[-1] == tokens(api)[0]


@pytest.mark.parametrize("unfit", ["records:write", {"scope": "records:write"}, ["records:write"], 1, TokenParameters])
def test_anything_else_than_parameters_is_refused_before_anything_is_sent(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, unfit: object
) -> None:
    own = open_session()
    customized = open_session.on(open_session.valet(), customize=lambda _: unfit)
    for session, parameters in ((own, unfit), (customized, None)):
        with pytest.raises(ConfigurationError, match="TokenParameters") as raised:
            session.get(api.origin + "/echo", token_parameters=parameters)
        assert raised.value.code == "invalid_token_parameters"
    assert (auth.token_requests, api.calls) == ([], [])


# customize


def test_customize_decides_for_every_request_by_what_goes_out(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    seen: list[tuple[str, str, bool]] = []

    def customize(request: Any) -> TokenParameters | None:
        bare = not {"authorization", "dpop"} & {name.lower() for name in request.headers}
        seen.append((request.method, str(request.url), bare))
        return WRITE if request.method == "POST" else None

    session = open_session(dpop=True, customize=customize)
    for method in ("GET", "POST", "GET", "POST"):
        assert session.request(method, api.origin + "/echo").status == 200
    assert seen == [(method, api.origin + "/echo", True) for method in ("GET", "POST", "GET", "POST")]
    assert asked(auth, "scope") == [[], ["records:write"]]
    first, second, *rest = tokens(api)
    assert rest == [first, second]


def test_what_is_given_with_the_request_wins_and_customize_is_not_asked(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    seen: list[Any] = []

    def customize(request: Any) -> TokenParameters:
        seen.append(request)
        return WRITE

    session = open_session(customize=customize)
    session.get(api.origin + "/echo", token_parameters=READ)
    assert (asked(auth, "scope"), seen) == ([["records:read"]], [])
    session.get(api.origin + "/echo")
    assert (asked(auth, "scope"), len(seen)) == ([["records:read"], ["records:write"]], 1)


def test_customize_is_asked_again_for_a_redirect_within_the_origin_and_not_for_one_abroad(
    open_session: Opener, api: ProtectedApi, second_api: ProtectedApi
) -> None:
    seen: list[str] = []
    session = open_session(customize=lambda request: seen.append(str(request.url)))
    session.get(f"{api.origin}/redirect?to=/echo")
    session.get(f"{api.origin}/redirect?to={second_api.origin}/open")
    assert [url.removeprefix(api.origin).partition("?")[0] for url in seen] == ["/redirect", "/echo", "/redirect"]


def test_customize_is_not_asked_again_when_the_request_is_sent_again(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    seen: list[Any] = []
    api.require_dpop_nonce = True
    session = open_session(dpop=True, customize=seen.append)
    assert session.get(api.origin + "/echo").status == 200
    assert (len(api.calls), len(seen)) == (2, 1)


def test_customize_that_fails_is_the_callers_error_and_nothing_is_sent(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    def customize(_: Any) -> TokenParameters:
        raise LookupError("there is no tenant")

    session = open_session(pool_size=1, customize=customize)
    for _ in range(3):
        with pytest.raises(LookupError, match="no tenant"):
            session.get(api.origin + "/echo")
    assert (auth.token_requests, api.calls) == ([], [])


def test_customize_is_no_coroutine(open_session: Opener, api: ProtectedApi) -> None:
    async def customize(_: Any) -> TokenParameters:
        return WRITE

    unfit: Any = customize
    with pytest.raises(ConfigurationError, match="plain function"):
        open_session(customize=unfit).get(api.origin + "/echo")
    assert api.calls == []


def test_a_header_that_customize_sets_is_sent_but_for_those_of_the_token(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    def tenant(request: Any) -> None:
        request.headers["X-Tenant"] = "42"

    def token(request: Any) -> None:
        request.headers["Authorization"] = "Bearer my-own-token"

    assert open_session(customize=tenant).get(api.origin + "/echo").status == 200
    assert fields(api.calls[0].headers, "x-tenant") == ["42"]
    with pytest.raises(OriginError) as raised:
        open_session(customize=token).get(api.origin + "/echo")
    assert raised.value.code == "authorization_header_given"
    assert len(api.calls) == 1


def test_sessions_of_one_valet_have_a_customize_each(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    auth.register(registered(scopes=("records:read", "records:write", "records:sign")))
    valet = open_session.valet()
    for scope in ("records:read", "records:write", "records:sign", "records:read"):
        customized = open_session.on(valet, customize=lambda _, scope=scope: TokenParameters(scope=scope))
        assert customized.get(api.origin + "/echo").status == 200
    assert asked(auth, "scope") == [["records:read"], ["records:write"], ["records:sign"]]
