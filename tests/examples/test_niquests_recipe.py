"""The recipe for niquests runs in an environment of its own, against servers of this one.

niquests brings urllib3-future, which overwrites the urllib3 of requests in any environment that has both. `make test` makes
.venv-niquests; without it the tests are skipped, and with CI=true in the environment they fail.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.servers import Recorder
from tokenvalet.testing import AuthorizationServer, Fault, ProtectedApi, RegisteredClient, serve

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-niquests" / "bin" / "python"
SECRET = "a-secret-of-the-recipes"
Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def api() -> Iterator[ProtectedApi]:
    auth = AuthorizationServer([RegisteredClient(client_id="app", client_secret=SECRET)])
    served = ProtectedApi(auth)
    with serve(auth), serve(served):
        yield served


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, api: ProtectedApi) -> Ask:
    """Sends requests, each a method, an address and a body, with the recipe's session. Returns what came of each."""
    if not PYTHON.exists():
        reason = "needs .venv-niquests, which 'make test' makes"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    def asked(*requests: tuple[str, str, str | None], **settings: Any) -> list[dict[str, Any]]:
        known = {"issuer": api.auth.issuer, "client_id": "app", "client_secret": SECRET, "base_url": api.origin}
        question = {"mode": request.param, "requests": requests, "settings": {**known, **settings}}
        done = subprocess.run(
            [
                PYTHON,
                "-W",
                "error",
                ROOT / "tests/examples/niquests_script.py",
                ROOT / "examples/recipes/niquests_session/recipe.py",
            ],
            input=json.dumps(question),
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        for secret in (SECRET, *api.auth.issued_tokens):
            assert secret not in done.stdout + done.stderr
        came: list[dict[str, Any]] = json.loads(done.stdout)
        assert not any(one["leaked"] for one in came)
        return came

    return asked


def statuses(came: list[dict[str, Any]]) -> list[Any]:
    return [one.get("status", one.get("error")) for one in came]


def test_every_request_carries_the_token(ask: Ask, api: ProtectedApi) -> None:
    came = ask(("GET", f"{api.origin}/echo", None), ("POST", f"{api.origin}/echo", "a body"))
    assert statuses(came) == [200, 200]
    assert [call.scheme for call in api.calls] == ["Bearer"] * 2
    assert api.auth.issued == 1


def test_a_rejected_token_is_replaced_and_the_body_sent_again(ask: Ask, api: ProtectedApi) -> None:
    api.reject_next()
    assert statuses(ask(("POST", f"{api.origin}/echo", "a body"))) == [200]
    assert [(call.status, call.body_length) for call in api.calls] == [(401, 6), (200, 6)]
    assert api.auth.issued == 2


def test_a_stream_is_not_sent_again_and_the_next_request_has_a_new_token(ask: Ask, api: ProtectedApi) -> None:
    api.reject_next()
    assert statuses(ask(("POST", f"{api.origin}/echo", "stream"), ("GET", f"{api.origin}/echo", None))) == [401, 200]
    assert api.auth.issued == 2


def test_an_api_that_rejects_every_token_costs_one_renewal(ask: Ask, api: ProtectedApi) -> None:
    api.reject_all = 'Bearer error="invalid_token"'
    assert statuses(ask(("GET", f"{api.origin}/echo", None))) == [401]
    assert (len(api.calls), api.auth.issued) == (2, 2)


def test_each_hop_has_a_proof_of_its_own_and_the_nonce_is_answered(ask: Ask, api: ProtectedApi) -> None:
    api.require_dpop_nonce = True
    (came,) = ask(("GET", f"{api.origin}/redirect?to={api.origin}/echo", None), dpop=True)
    assert (came["status"], came["hops"]) == (200, 2)
    claims = [call.proof_claims or {} for call in api.calls]
    assert [one["htu"] for one in claims] == [f"{api.origin}/redirect"] * 2 + [f"{api.origin}/echo"]
    assert len({one["jti"] for one in claims}) == 3


def test_no_token_follows_a_redirect_abroad_or_goes_to_an_address_there(ask: Ask, api: ProtectedApi) -> None:
    stranger = Recorder()
    with serve(stranger):
        came = ask(
            ("GET", f"{api.origin}/redirect?to={stranger.origin}/away", None), ("GET", f"{stranger.origin}/", None)
        )
    assert statuses(came) == ["OriginError"] * 2
    assert stranger.requests == []


def test_why_there_is_no_token_can_be_seen(ask: Ask, api: ProtectedApi) -> None:
    api.auth.misbehave(Fault.oauth_error("invalid_client", status=401), None)
    (came,) = ask(("GET", f"{api.origin}/echo", None))
    assert came["error"] == "TokenRefusedError"
    assert "invalid_client" in came["text"]
    assert api.calls == []


def test_an_error_of_the_connection_has_no_token_in_it(ask: Ask, api: ProtectedApi) -> None:
    with serve(Recorder()) as gone:
        address = gone.url
    assert statuses(ask(("GET", f"{address}/", None), base_url=address)) == ["ConnectionError"]
