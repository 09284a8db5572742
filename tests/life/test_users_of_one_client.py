"""Many users over one client, one pool and several event loops: each gets the token that was asked for in their name."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tokenvalet import TokenParameters, TokenValet
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

USERS = ("ada", "grace", "katherine")
RECORDS = "/api/v1/integration/health-records"


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer([RegisteredClient(client_id="records-web", client_secret="a-secret-of-tests")])
    with serve(server):
        yield server


@pytest.fixture
def api(auth: AuthorizationServer) -> Iterator[ProtectedApi]:
    server = ProtectedApi(auth)
    with serve(server):
        yield server


@pytest.fixture
def valet(auth: AuthorizationServer, api: ProtectedApi) -> Iterator[TokenValet]:
    m2m = {"issuer": auth.issuer, "client_id": "records-web", "client_secret": "a-secret-of-tests"}
    with TokenValet.from_dict({"clients": {"m2m": {**m2m, "base_url": api.origin}}}) as made:
        yield made


def by_user(request: Any) -> TokenParameters:
    return TokenParameters(parameters={"user": request.headers["x-user"]})


@pytest.mark.standards("S-300")
def test_users_interleaved_over_one_pooled_client_each_have_their_own_token_also_after_a_renewal(
    valet: TokenValet, auth: AuthorizationServer, api: ProtectedApi
) -> None:
    # One after the other at the token endpoint, so that its two lists are in the same order.
    for user in USERS:
        valet.token("m2m", parameters={"user": user})
    with valet.client("m2m", customize=by_user) as client, ThreadPoolExecutor(6) as pool:

        def call(number: int) -> int:
            if number == 60:
                auth.revoke_all()
            return client.get(RECORDS, headers={"X-User": USERS[number % len(USERS)]}).status_code

        assert set(pool.map(call, range(120))) == {200}
    renewed = auth.token_requests[len(USERS) :]
    assert sorted(request.form["user"][0] for request in renewed) == sorted(USERS)
    known = {
        hashlib.sha256(token.encode()).hexdigest(): user
        for token, user in zip(auth.issued_tokens[: len(USERS)], USERS, strict=True)
    }
    whose: dict[str, set[str]] = {}
    for seen in api.calls:
        assert seen.token_sha256 is not None
        user = next(value for name, value in seen.headers if name == "x-user")
        whose.setdefault(seen.token_sha256, set()).add(user)
        assert known.get(seen.token_sha256, user) == user
    assert all(len(users) == 1 for users in whose.values()), "a token was used for two users"
    assert len(whose) == 2 * len(USERS)


@pytest.mark.standards("S-202")
def test_event_loops_that_wait_for_the_same_token_at_the_same_time_all_go_on(
    valet: TokenValet, auth: AuthorizationServer
) -> None:
    auth.token_delay = 0.2
    ready = threading.Barrier(4)

    async def many() -> list[str]:
        ready.wait(20)
        return [token.value for token in await asyncio.gather(*(valet.async_token("m2m") for _ in range(50)))]

    for _ in range(3):  # an event or a lock that one loop left behind would hang the next
        valet.invalidate("m2m")
        auth.reset()
        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(asyncio.run, asyncio.wait_for(many(), 20)) for _ in range(4)]
            values = {value for one in done for value in one.result(30)}
        assert len(values) == len(auth.token_requests) == 1


@pytest.mark.standards("S-074")
def test_a_proxys_refusal_is_nothing_to_renew_for_and_no_token_goes_into_its_header(
    valet: TokenValet, auth: AuthorizationServer, api: ProtectedApi
) -> None:
    api.reject_next(1, status=407, challenge="Bearer")
    with valet.client("m2m") as client:
        assert client.get(RECORDS).status_code == 407
    assert len(api.calls) == len(auth.token_requests) == 1
    assert "proxy-authorization" not in {name for name, _ in api.calls[0].headers}
