"""A token endpoint that says back what it was sent: nothing of it is in the error, its frames, the log or the events."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from secrecy.mirrors import ANSWERS, RAW_ANSWERS, Mirror
from secrecy.stage import METHODS, Stage
from secrecy.walker import LogRecords, Plant, found, shown_by_error, shown_by_value
from support.raw_server import RawServer, never_answer
from tokenvalet import TokenValet, TokenValetError
from tokenvalet.testing import Fault, serve


@pytest.fixture(scope="module")
def running_mirror() -> Iterator[Mirror]:
    mirror = Mirror(ANSWERS["a page"])
    with serve(mirror):
        yield mirror


@pytest.fixture
def mirror(running_mirror: Mirror) -> Mirror:
    running_mirror.sent.clear()
    return running_mirror


def error_of(run: Callable[[], object]) -> TokenValetError:
    with pytest.raises(TokenValetError) as caught:
        run()
    return caught.value


def looked_through(stage: Stage, error: BaseException, log: LogRecords, plants: list[Plant]) -> list[str]:
    texts = [
        *shown_by_error(error),
        *shown_by_error(copy.copy(error)),
        *shown_by_error(pickle.loads(pickle.dumps(error))),
        *log.texts(),
        *shown_by_value("the events", stage.listener.events),
    ]
    # What a server says of a form field that was configured is told: it is no credential.
    return found([*stage.credentials(), *plants], texts)


@pytest.mark.standards("S-162", "S-061", "S-166", "S-170", "S-171")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_token_endpoint_says_back_is_shown_nowhere(
    name: str, method: str, stage: Stage, mirror: Mirror, log: LogRecords
) -> None:
    mirror.answer = ANSWERS[name]
    dpop = name not in ("a scope", "a lifetime")  # which are looked at after the type of the token
    endpoint = f"{mirror.origin}/token"
    # With such a Retry-After, the renewal does not wait for another attempt.
    with stage.valet(method, dpop=dpop, token_endpoint=endpoint, timeout=5) as valet:
        for ask in (lambda: valet.token("m2m"), lambda: call(valet)):
            error = error_of(ask)
            assert looked_through(stage, error, log, mirror.plants()) == []
    assert len(mirror.plants()) >= 1
    assert "renewal_failed" in stage.listener.names()


def call(valet: TokenValet) -> object:
    with valet.client("m2m") as api:
        return api.get("/echo")


@pytest.mark.standards("S-162")
@pytest.mark.parametrize("name", RAW_ANSWERS)
def test_what_no_http_answer_says_back_is_shown_nowhere(name: str, stage: Stage, log: LogRecords) -> None:
    with RawServer(RAW_ANSWERS[name]) as server:
        options: dict[str, Any] = {"token_endpoint": f"{server.url}/token", "timeout": 0.5}
        with stage.valet("client_secret_basic", dpop=True, **options) as valet:
            error = error_of(lambda: valet.token("m2m"))
        plants = [
            Plant.of("what was sent", line.rpartition(" ")[2])
            for request in server.requests
            for line in request.decode().splitlines()
            if line.lower().startswith(("authorization:", "dpop:"))
        ]
    assert len(plants) >= 2
    assert looked_through(stage, error, log, plants) == []


@pytest.mark.standards("S-162")
@pytest.mark.parametrize("method", METHODS)
def test_silence_refusals_outages_and_closing_show_no_secret(method: str, stage: Stage, log: LogRecords) -> None:
    errors = []
    with (
        RawServer(never_answer) as server,
        stage.valet(method, dpop=True, token_endpoint=f"{server.url}/token", timeout=0.1) as valet,
    ):
        errors.append(error_of(lambda: valet.token("m2m")))
    with stage.valet(method, dpop=True, token_endpoint=f"{server.url}/token", timeout=0.1) as valet:
        errors.append(error_of(lambda: valet.token("m2m")))  # nobody is there any more
    for fault in (
        Fault.oauth_error("invalid_client", status=401),
        Fault.redirect("https://abroad.example/"),
        Fault.html(),
    ):
        stage.auth.misbehave(fault, times=None)
        with stage.valet(method, dpop=True) as valet:
            errors += [error_of(lambda: valet.token("m2m")), error_of(lambda: call(valet))]
        stage.auth.behave()
        errors.append(error_of(lambda: valet.token("m2m")))
    codes = {error.code for error in errors}
    assert codes >= {"token_request_timeout", "token_request_unreachable", "token_refused", "redirect_refused"}
    assert codes >= {"invalid_response", "valet_closed"}
    for error in errors:
        assert looked_through(stage, error, log, []) == []


@pytest.mark.standards("S-050", "S-161")
def test_a_refresh_token_in_an_answer_is_neither_kept_nor_shown(stage: Stage, log: LogRecords) -> None:
    planted = [
        Plant.of("the refresh token", "planted-refresh-token-Lq5n"),
        Plant.of("an id_token", "planted-id-token-Rt1b"),
    ]
    members = {"access_token": "a-token", "token_type": "Bearer", "refresh_token": "planted-refresh-token-Lq5n"}
    stage.auth.misbehave(Fault.json(members | {"id_token": "planted-id-token-Rt1b"}))
    with stage.valet("client_secret_basic") as valet:
        token = valet.token("m2m")
        held = [getattr(token, name) for name in type(token).__slots__]
    texts = [*log.texts(), *shown_by_value("the token", held), *shown_by_value("the events", stage.listener.events)]
    assert found(planted, texts) == []
