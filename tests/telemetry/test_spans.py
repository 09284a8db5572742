"""A span for each renewal and each of its requests, with links to those who waited, and with nothing secret in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from life.makers import in_threads, refusal, reply, tokens, unreachable
from secrecy.conftest import log, servers, stage
from secrecy.stage import METHODS, QUERY_SECRET, Stage
from secrecy.walker import LogRecords, Plant, found, shown_by_value
from telemetry.makers import Instruments, Measured
from tokenvalet import TokenParameters, TokenValetError
from tokenvalet.core.messages import Failure, HttpReply, HttpRequest

__all__ = ["log", "servers", "stage"]

CLIENT = "tokenvalet.client"


@pytest.fixture
def sdk() -> Iterator[Instruments]:
    made = Instruments()
    yield made
    made.close()


def test_a_renewal_is_a_span_and_its_request_a_client_span_below_it() -> None:
    with Measured() as bench:
        bench.valet.token("m2m")
        request, renewal = bench.sdk.spans()
        assert (request.name, renewal.name) == ("POST", "tokenvalet.renewal")
        assert (request.kind, renewal.kind) == (SpanKind.CLIENT, SpanKind.INTERNAL)
        assert request.parent is not None
        assert renewal.context is not None
        assert request.parent.span_id == renewal.context.span_id
        assert dict(request.attributes or {}) == {
            CLIENT: "m2m",
            "http.request.method": "POST",
            "server.address": "127.0.0.1",
            "server.port": 1,
            "http.response.status_code": 200,
        }
        assert dict(renewal.attributes or {}) == {
            CLIENT: "m2m",
            "tokenvalet.cause": "missing",
            "tokenvalet.renewal.outcome": "issued",
            "tokenvalet.token.lifetime": 3600,
        }
        assert renewal.parent is None
        assert renewal.status.status_code is StatusCode.UNSET


def test_a_request_span_lies_within_its_renewal() -> None:
    with Measured() as bench:
        bench.valet.token("m2m")
        request, renewal = bench.sdk.spans()
        assert request.start_time is not None
        assert request.end_time is not None
        assert renewal.end_time is not None
        assert request.start_time <= request.end_time <= renewal.end_time


def test_whoever_waits_is_linked_and_is_told_so_in_a_span_of_its_own() -> None:
    with Measured() as bench:
        tracer = bench.sdk.tracer_provider.get_tracer("the application")
        bench.backchannel.hold()

        def call() -> None:
            with tracer.start_as_current_span("GET /records"):
                bench.valet.token("m2m")

        with in_threads() as threads:
            threads.start(call, 3)
            bench.seen.wait_for("wait", 3)
            bench.backchannel.release()
            threads.join()
        [renewal] = bench.sdk.spans("tokenvalet.renewal")
        calls = bench.sdk.spans("GET /records")
        assert renewal.parent is None, "a renewal belongs to no caller"
        linked = {link.context.span_id for link in renewal.links}
        assert linked == {span.context.span_id for span in calls if span.context is not None}
        assert len(linked) == 3
        assert [[event.name for event in span.events] for span in calls] == [["tokenvalet.wait"]] * 3


def test_a_call_that_does_not_wait_leaves_no_trace_of_ours() -> None:
    with Measured() as bench:
        bench.valet.token("m2m")
        tracer = bench.sdk.tracer_provider.get_tracer("the application")
        with tracer.start_as_current_span("GET /records"):
            bench.valet.token("m2m")
        [call] = bench.sdk.spans("GET /records")
        assert list(call.events) == []
        assert len(bench.sdk.spans()) == 3


def test_coroutines_are_linked_as_well() -> None:
    with Measured() as bench:
        tracer = bench.sdk.tracer_provider.get_tracer("the application")

        async def call() -> None:
            with tracer.start_as_current_span("GET /records"):
                await bench.valet.async_token("m2m")

        async def both() -> None:
            await asyncio.gather(call(), call())

        asyncio.run(both())
        [renewal] = bench.sdk.spans("tokenvalet.renewal")
        assert len(renewal.links) == 2


def test_a_failure_is_the_code_of_its_error_and_nothing_of_its_text() -> None:
    with Measured(refusal("invalid_client")) as bench:
        with pytest.raises(TokenValetError) as caught:
            bench.valet.token("m2m")
        request, renewal = bench.sdk.spans()
        assert (renewal.attributes or {})["error.type"] == caught.value.code
        assert (renewal.attributes or {})["tokenvalet.renewal.outcome"] == "failed"
        assert (renewal.status.status_code, renewal.status.description) == (StatusCode.ERROR, caught.value.code)
        assert (request.attributes or {})["error.type"] == "401"


def test_a_request_without_an_answer_has_the_code_of_why() -> None:
    with Measured(unreachable, timeout=1) as bench:
        with pytest.raises(TokenValetError):
            bench.valet.token("m2m")
        requests = bench.sdk.spans("POST")
        assert len(requests) == bench.count
        assert {(span.attributes or {})["error.type"] for span in requests} == {"token_request_unreachable"}


def test_a_request_that_is_sent_again_says_why() -> None:
    answers = iter([lambda _: reply({}, 503, retry_after="0"), tokens()])

    def answer(request: HttpRequest) -> HttpReply | Failure:
        return next(answers)(request)

    with Measured(answer) as bench:
        bench.valet.token("m2m")
        first, second = bench.sdk.spans("POST")
        assert "tokenvalet.cause" not in (first.attributes or {})
        assert (second.attributes or {})["tokenvalet.cause"] == "retry"


def test_a_renewal_without_a_thread_is_a_span_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with Measured() as bench:

        def submit(*_: object) -> bool:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(bench.renewer._workers, "submit", submit)
        tracer = bench.sdk.tracer_provider.get_tracer("the application")
        with tracer.start_as_current_span("GET /records"), pytest.raises(TokenValetError, match="broke"):
            bench.valet.token("m2m")
        [renewal] = bench.sdk.spans("tokenvalet.renewal")
        assert renewal.parent is None
        assert len(renewal.links) == 1
        assert (renewal.attributes or {})["error.type"] == "renewal_broke"


def test_a_renewal_that_the_end_of_the_valet_cuts_short_ends_its_span() -> None:
    with Measured() as bench:
        bench.backchannel.hold()
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"))
            bench.backchannel.wait_for(1)
            bench.valet.close()
            bench.backchannel.release()
            threads.join()
        bench.seen.wait_for("renewal_left")
        [renewal] = bench.sdk.spans("tokenvalet.renewal")
        assert (renewal.attributes or {})["tokenvalet.renewal.outcome"] == "left"


def test_what_is_kept_of_renewals_is_nothing_once_they_have_ended() -> None:
    with Measured() as bench:
        tracing = bench.valet._around.observers._listeners[1]
        for number in range(5):
            bench.valet.token("m2m", scope=f"a{number}")
        assert tracing._under_way == {}  # type: ignore[attr-defined]


@pytest.mark.standards("S-164", "S-165", "S-161")
@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
@pytest.mark.parametrize("method", METHODS)
def test_no_metric_and_no_span_has_a_secret_in_it(
    method: str, dpop: bool, stage: Stage, sdk: Instruments, log: LogRecords
) -> None:
    stage.auth.require_dpop_nonce = stage.api.require_dpop_nonce = dpop
    tracer = sdk.tracer_provider.get_tracer("the application")
    with stage.valet(method, dpop=dpop) as valet, tracer.start_as_current_span("a call"):
        sdk.instrument(valet)
        with valet.client("m2m") as api:
            assert api.get(f"/echo?sig={QUERY_SECRET}").status_code == 200
            narrower = TokenParameters(scope="records:read", parameters={"ticket": QUERY_SECRET})
            assert api.get("/echo", extensions={"tokenvalet": narrower}).status_code == 200
            stage.auth.revoke_all()
            assert api.get("/echo").status_code == 200
            stage.api.reject_next(2)
            assert api.get(f"/echo?sig={QUERY_SECRET}").status_code == 401
            with pytest.raises(TokenValetError):
                api.get(f"https://abroad.example/?sig={QUERY_SECRET}")
    with stage.valet(method, dpop=dpop, token_endpoint=f"{stage.auth.issuer}/nowhere", timeout=1) as valet:
        sdk.instrument(valet)
        with pytest.raises(TokenValetError):
            valet.token("m2m")
    metrics, spans = sdk.metrics(), [json.loads(span.to_json()) for span in sdk.spans()]
    assert {"tokenvalet.renewals", "tokenvalet.refusals", "tokenvalet.retries"} <= set(metrics)
    assert {"POST", "GET", "tokenvalet.renewal", "a call"} <= {span["name"] for span in spans}
    plants = [*stage.plants(), Plant.of("the query", QUERY_SECRET)]
    assert "access token 0" in {plant.name for plant in plants}
    assert found(plants, [*shown_by_value("metrics", metrics), *shown_by_value("spans", spans)]) == []
    # Closed lists, hosts and numbers: nothing that was asked for, and no address beyond the host.
    text = json.dumps([str(metrics), spans])
    for never in ("records:read", "/echo", "nowhere", "jti", "kid"):
        assert never not in text
