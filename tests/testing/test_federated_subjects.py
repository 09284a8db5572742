"""Assertions that a platform writes for its workloads: their sub is no client_id, and may stand for several clients.

RFC 7521 §4.2: where client_id is sent as well, it must identify the client that the assertion identifies. Kubernetes and
SPIFFE write such assertions; Entra calls what is registered a federated credential, and takes one for several clients.
"""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from testing.makers import Clock, assertion_claims, assertion_form, ec_key, make_jwt, public_jwk
from tokenvalet.testing import AuthorizationServer, RegisteredClient

KEY = ec_key()
CLUSTER = "https://cluster.example"
WORKLOAD = "system:serviceaccount:records:web"


def federated(client_id: str, issuer: str = CLUSTER, subject: str = WORKLOAD) -> RegisteredClient:
    return RegisteredClient(
        client_id=client_id,
        auth_method="private_key_jwt",
        jwks={"keys": [public_jwk(KEY)]},
        assertion_issuer=issuer,
        assertion_subject=subject,
    )


def came(
    http: httpx2.Client, auth: AuthorizationServer, clock: Clock, client_id: str | None, **claims: Any
) -> tuple[int, str | None]:
    """Return the status of a token request with a platform's assertion, and the client that it was taken for."""
    made = assertion_claims(auth, clock, WORKLOAD, iss=CLUSTER, jti=None) | claims
    more = {"client_id": client_id} if client_id is not None else {}
    response = http.post(auth.token_endpoint, data=assertion_form(make_jwt(KEY, made, {}), **more))
    return response.status_code, auth.token_requests[-1].client_id if response.status_code == 200 else None


@pytest.mark.standards("S-021")
def test_one_subject_serves_several_clients_and_client_id_says_which(
    http: httpx2.Client, auth: AuthorizationServer, clock: Clock
) -> None:
    for client_id in ("first", "second"):
        auth.register(federated(client_id))
    assert came(http, auth, clock, "first") == (200, "first")
    assert came(http, auth, clock, "second") == (200, "second")
    assert came(http, auth, clock, "web") == (401, None)
    assert came(http, auth, clock, None) == (401, None)


def test_a_subject_is_unique_within_its_issuer(http: httpx2.Client, auth: AuthorizationServer, clock: Clock) -> None:
    auth.register(federated("here"))
    auth.register(federated("there", issuer="https://another.example"))
    assert came(http, auth, clock, None) == (200, "here")
    assert came(http, auth, clock, None, iss="https://another.example") == (200, "there")
    assert came(http, auth, clock, "there") == (401, None)
    assert came(http, auth, clock, "here", iss="https://another.example") == (401, None)


def test_a_client_id_is_no_subject_of_a_client_that_has_another(
    http: httpx2.Client, auth: AuthorizationServer, clock: Clock
) -> None:
    auth.register(federated("pod"))
    assert came(http, auth, clock, "pod", sub="pod") == (401, None)
    assert came(http, auth, clock, None, sub="pod") == (401, None)


@pytest.mark.standards("S-131", "S-134")
def test_an_assertion_that_a_platform_writes_may_be_used_again(
    http: httpx2.Client, auth: AuthorizationServer, clock: Clock
) -> None:
    spiffe = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
    auth.register(
        RegisteredClient(
            client_id="pod",
            auth_method="private_key_jwt",
            jwks={"keys": [public_jwk(KEY)]},
            assertion_issuer="https://cluster.example",
            assertion_subject="system:serviceaccount:records:web",
            assertion_audience="https://login.example.org",
            assertion_max_lifetime=3600,
            assertion_type=spiffe,
        )
    )
    claims = assertion_claims(
        auth,
        clock,
        "system:serviceaccount:records:web",
        iss="https://cluster.example",
        aud="https://login.example.org",
        exp=int(clock.now) + 3600,
        jti=None,
    )
    form = assertion_form(make_jwt(KEY, claims, {}), client_assertion_type=spiffe)
    assert [http.post(auth.token_endpoint, data=form).status_code for _ in range(2)] == [200, 200]
    assert auth.token_requests[0].client_id == "pod"
    clock.now += 3601
    assert http.post(auth.token_endpoint, data=form).status_code == 401
