"""What is measured is what happened: counted exactly, told apart within bounds, and shown no longer than it is true."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest

from life.makers import Answer, Bench, config, in_threads, refusal, reply, token_of, tokens, unavailable, unreachable
from life.test_warm_path import Forbidden
from telemetry.makers import Instruments, Measured
from tokenvalet import ConfigurationError, Event, TokenValet, TokenValetError
from tokenvalet.core.messages import Failure, HttpReply, HttpRequest
from tokenvalet.observe import EVENT_NAMES
from tokenvalet.telemetry.metrics import COUNTERS, DURATIONS, GAUGES

PAGE = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text(encoding="utf-8")


def tell(bench: Bench, name: str, **values: Any) -> None:
    bench.valet._around.observers.tell(Event(name=name, client=values.pop("client", "m2m"), **values))


def test_what_is_counted_is_what_happened() -> None:
    with Measured() as bench:
        for _ in range(5):
            bench.valet.token("m2m")
        bench.clock.advance(3500)  # due
        bench.valet.token("m2m")
        bench.seen.wait_for("token_cached", 2)
        bench.clock.advance(4000)  # expired
        bench.valet.token("m2m")
        read = bench.sdk.value
        assert read("tokenvalet.cache.misses", tokenvalet__client="m2m", tokenvalet__cause="missing") == 1
        assert read("tokenvalet.cache.misses", tokenvalet__cause="expired") == 1
        assert read("tokenvalet.waits", tokenvalet__cause="missing") == 1
        assert read("tokenvalet.waits") == 2
        assert read("tokenvalet.cache.hits", tokenvalet__token__age="fresh") == 4
        assert read("tokenvalet.cache.hits", tokenvalet__token__age="due") == 1
        for cause in ("missing", "due", "expired"):
            of_one = {"tokenvalet__cause": cause, "tokenvalet__renewal__outcome": "issued"}
            assert read("tokenvalet.renewals", tokenvalet__client="m2m", **of_one) == 1
            assert read("tokenvalet.renewal.duration", tokenvalet__client="m2m", **of_one) == 1
        assert read("tokenvalet.renewals") == read("http.client.request.duration") == bench.count == 3


def test_what_is_rare_and_alerted_on_is_shown_as_nought_before_it_happens() -> None:
    # Prometheus' increase() does not see the one that a count begins with.
    with Measured() as bench:
        seen = bench.sdk.metrics()
        assert sorted(seen["tokenvalet.endpoint.changes"], key=str) == [
            ({"tokenvalet.client": "_OTHER"}, 0),
            ({"tokenvalet.client": "m2m"}, 0),
        ]
        rejected = {"tokenvalet.client": "m2m", "tokenvalet.refused.by": "api", "error.type": "401"}
        assert (rejected, 0) in seen["tokenvalet.refusals"]
        tell(bench, "endpoint_changed")
        tell(bench, "call_rejected")
        seen = bench.sdk.metrics()
        assert ({"tokenvalet.client": "m2m"}, 1) in seen["tokenvalet.endpoint.changes"]
        assert (rejected, 1) in seen["tokenvalet.refusals"]


def test_a_reading_changes_no_count() -> None:
    with Measured() as bench:
        bench.valet.token("m2m")
        assert [bench.sdk.value("tokenvalet.waits") for _ in range(3)] == [1, 1, 1]
        bench.valet.token("m2m", force_renewal=True)
        assert [bench.sdk.value("tokenvalet.waits") for _ in range(3)] == [2, 2, 2]


def test_no_hit_of_many_threads_is_lost_while_others_read() -> None:
    with Measured() as bench:
        bench.valet.token("m2m")

        def hit() -> None:
            for _ in range(500):
                bench.valet.token("m2m")

        with in_threads() as threads:
            threads.start(hit, 8)
            for _ in range(20):
                bench.sdk.metrics()
            threads.join()
        assert not threads.errors
        assert bench.sdk.value("tokenvalet.cache.hits") == 8 * 500


def test_a_hit_takes_no_lock_of_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    with Measured() as bench:
        for _ in range(2):  # of the first, the count is made
            bench.valet.token("m2m")
        measuring = bench.valet._around.observers._listeners[0]
        monkeypatch.setattr(measuring._metrics, "_reading", Forbidden())  # type: ignore[attr-defined]
        monkeypatch.setattr(measuring._metrics, "_histograms", {})  # type: ignore[attr-defined]
        monkeypatch.setattr(bench.renewer, "_lock", Forbidden())
        bench.valet.token("m2m")
        monkeypatch.undo()
        assert bench.sdk.value("tokenvalet.cache.hits") == 2
        assert not bench.seen.of("observer")


def answered(status: int) -> Answer:
    return lambda _: HttpReply(status=status, headers=(), body=b"")


@pytest.mark.parametrize(
    ("answer", "renewal", "request_"),
    [
        (refusal(), "invalid_client", "401"),
        (unavailable(), "token_request_failed", "503"),
        (unreachable, "token_request_unreachable", "token_request_unreachable"),
    ],
    ids=["refused", "unavailable", "unreachable"],
)
def test_a_failure_is_counted_with_the_code_of_its_error(answer: Answer, renewal: str, request_: str) -> None:
    with Measured(answer, timeout=1) as bench:
        with pytest.raises(TokenValetError) as caught:
            bench.valet.token("m2m")
        of_one = {"tokenvalet__renewal__outcome": "failed", "error__type": caught.value.code}
        assert bench.sdk.value("tokenvalet.renewals", **of_one) == 1
        assert bench.sdk.value("http.client.request.duration", error__type=request_) == bench.count
        # An attribute that there is no value for is left out, and not empty.
        [(attributes, _)] = bench.sdk.metrics()["http.client.request.duration"]
        assert ("http.response.status_code" in attributes) == request_.isdecimal()
        assert None not in attributes.values()


def test_retries_are_counted_by_what_was_sent_again_and_why() -> None:
    answers = iter([lambda _: reply({}, 503, retry_after="0"), tokens()])

    def answer(request: HttpRequest) -> HttpReply | Failure:
        return next(answers)(request)

    with Measured(answer) as bench:
        bench.valet.token("m2m")
        tell(bench, "call_retried", cause="nonce")
        read = bench.sdk.value
        assert read("tokenvalet.retries", tokenvalet__retry__of="token_request", tokenvalet__cause="retry") == 1
        assert read("tokenvalet.retries", tokenvalet__retry__of="call", tokenvalet__cause="nonce") == 1


def test_refusals_are_counted_by_who_refused() -> None:
    with Measured() as bench:
        with bench.valet.client("m2m") as api, pytest.raises(TokenValetError):
            api.get("https://abroad.example/")
        tell(bench, "call_rejected")
        read = bench.sdk.value
        assert read("tokenvalet.refusals", tokenvalet__refused__by="tokenvalet", error__type="origin_not_allowed") == 1
        assert read("tokenvalet.refusals", tokenvalet__refused__by="api", error__type="401") == 1


def test_a_renewal_is_recorded_with_the_seconds_that_it_took() -> None:
    with Measured() as bench:
        tell(bench, "token_cached", cause="due", seconds=60.0, duration=0.7, renewal=1)
        [(_, histogram)] = bench.sdk.metrics()["tokenvalet.renewal.duration"]
        assert histogram.sum == 0.7
        bounds = list(histogram.explicit_bounds)
        assert bounds[:2] == [0.01, 0.025]
        assert histogram.bucket_counts[bounds.index(1)] == 1
        tell(bench, "token_request", duration=0.02, server="[::1]:8443", method="POST", status=200)
        [(attributes, histogram)] = bench.sdk.metrics()["http.client.request.duration"]
        assert histogram.explicit_bounds[0] == 0.005
        assert (attributes["server.address"], attributes["server.port"]) == ("::1", 8443)


def test_the_life_left_follows_the_clocks_of_the_valet_and_ends_with_it() -> None:
    with Measured() as bench:
        assert "tokenvalet.token.remaining_lifetime" not in bench.sdk.metrics()
        bench.valet.token("m2m")
        assert bench.sdk.value("tokenvalet.token.remaining_lifetime", tokenvalet__client="m2m") == 3600
        bench.clock.advance(600)
        assert bench.sdk.value("tokenvalet.token.remaining_lifetime") == 3000
        bench.clock.jump(500)  # a suspended machine
        assert bench.sdk.value("tokenvalet.token.remaining_lifetime") == 2500
        bench.clock.advance(9000)
        assert bench.sdk.metrics()["tokenvalet.token.remaining_lifetime"] == [({"tokenvalet.client": "m2m"}, 0)]
        bench.valet.close()
        assert "tokenvalet.token.remaining_lifetime" not in bench.sdk.metrics()


def test_a_store_that_is_away_is_shown_until_it_is_back() -> None:
    with Measured() as bench:
        assert "tokenvalet.store.away" not in bench.sdk.metrics(), "there is no store"
    with Measured() as bench:
        bench.valet._around.shelf = object()  # type: ignore[assignment]
        bench.end()
        bench.sdk.instrument(bench.valet)
        read = bench.sdk.metrics
        try:
            assert read()["tokenvalet.store.away"] == [({}, 0)]
            tell(bench, "store_away", seconds=1.0)
            assert read()["tokenvalet.store.away"] == [({}, 1)]
            tell(bench, "store_back")
            tell(bench, "store_value_refused")
            assert read()["tokenvalet.store.away"] == [({}, 0)]
            assert sorted(read()["tokenvalet.store.troubles"], key=str) == [
                ({"tokenvalet.store.trouble": "away"}, 1),
                ({"tokenvalet.store.trouble": "value_refused"}, 1),
            ]
        finally:
            bench.valet._around.shelf = None


# Bounds -----------------------------------------------------------------------------------------------------------


def test_a_thousand_tenants_are_one_series() -> None:
    sdk = Instruments()
    bench = Bench(observe=False)
    with TokenValet(
        {"m2m": config()},
        resolver=lambda name: config(token_endpoint=f"https://{name}.example/token"),
        backchannel=bench.backchannel,
    ) as valet:
        sdk.instrument(valet)
        for number in range(200):
            valet.token(f"tenant-{number}")
        valet.token("m2m")
        assert bench.count == 201
        assert sdk.value("tokenvalet.renewals", tokenvalet__client="_OTHER") == 200
        assert sdk.value("tokenvalet.renewals", tokenvalet__client="m2m") == 1
        for name, points in sdk.metrics().items():
            assert len(points) <= 2, name
            assert "tenant" not in str(points), name
        lifetimes = sdk.metrics()["tokenvalet.token.remaining_lifetime"]
        assert [attributes for attributes, _ in lifetimes] == [{"tokenvalet.client": "m2m"}]
    sdk.close()


def test_who_is_told_apart_can_be_said() -> None:
    with Measured(clients=["tenant-1"]) as bench:
        bench.valet.add_client("tenant-1", config())
        bench.valet.token("tenant-1")
        bench.valet.token("m2m", scope="other")
        assert bench.sdk.value("tokenvalet.renewals", tokenvalet__client="tenant-1") == 1
        assert bench.sdk.value("tokenvalet.renewals", tokenvalet__client="_OTHER") == 1


# Life -------------------------------------------------------------------------------------------------------------


def test_two_valets_on_one_provider_are_counted_together_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Measured() as first, Bench(observe=False) as second:
        first.sdk.instrument(second.valet)
        first.valet.token("m2m")
        second.valet.token("m2m")
        second.clock.advance(600)
        assert first.sdk.value("tokenvalet.renewals") == 2
        assert first.sdk.value("tokenvalet.token.remaining_lifetime") == 3000, "the smaller one"
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


def test_instrumenting_a_valet_again_counts_nothing_twice() -> None:
    with Measured() as bench:
        bench.sdk.instrument(bench.valet)
        bench.valet.token("m2m")
        assert bench.sdk.value("tokenvalet.renewals") == 1
        assert len(bench.sdk.spans("tokenvalet.renewal")) == 1


def test_after_the_end_nothing_is_measured_and_a_call_costs_no_event_any_more() -> None:
    with Measured() as bench:
        bench.valet.token("m2m")
        bench.end()
        bench.valet._around.observers.remove(bench.seen)
        assert not bench.valet._around.observers.every_call
        bench.valet.token("m2m", force_renewal=True)
        assert bench.sdk.value("tokenvalet.renewals") == 1
        assert "tokenvalet.token.remaining_lifetime" not in bench.sdk.metrics()


def test_a_valet_that_is_measured_can_be_collected() -> None:
    sdk = Instruments()
    valet = TokenValet({"m2m": config()})
    sdk.instrument(valet)
    seen = weakref.ref(valet)
    valet.close()
    del valet
    gc.collect()
    assert seen() is None
    sdk.close()


def test_without_an_sdk_a_valet_works_as_ever() -> None:
    from tokenvalet.telemetry import instrument

    with Bench(observe=False) as bench:
        end = instrument(bench.valet)
        assert bench.valet.token("m2m").value
        end()


def test_without_the_api_of_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("opentelemetry", "tokenvalet.telemetry."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    from tokenvalet import telemetry

    with (
        Bench(observe=False) as bench,
        pytest.raises(ConfigurationError, match=r"pip install 'tokenvalet\[opentelemetry\]'") as caught,
    ):
        telemetry.instrument(bench.valet)
    assert caught.value.code == "library_missing"


def test_the_sdk_is_never_imported_and_the_api_only_when_asked_for() -> None:
    code = (
        "import sys, tokenvalet, tokenvalet.telemetry\n"
        "loaded = lambda: sorted(name for name in sys.modules if name.startswith('opentelemetry'))\n"
        "assert loaded() == [], loaded()\n"
        "valet = tokenvalet.TokenValet(tokenvalet.ClientConfig(token_endpoint='https://a.example/t', client_id='a', "
        "client_secret='b'))\n"
        "tokenvalet.telemetry.instrument(valet)\n"
        "assert loaded() and not [name for name in loaded() if name.startswith('opentelemetry.sdk')], loaded()\n"
        "valet.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# The page ----------------------------------------------------------------------------------------------------------


def documented(start: str) -> list[list[str]]:
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{start}")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_every_metric_is_documented_with_its_kind_and_attributes_and_no_other() -> None:
    every = {
        **dict.fromkeys(COUNTERS, "counter"),
        **dict.fromkeys(DURATIONS, "histogram, s"),
        **{name: f"gauge{', s' if one.unit == 's' else ''}" for name, one in GAUGES.items()},
    }
    rows = [row for row in [*documented("tokenvalet."), *documented("http.")] if len(row) == 4]
    assert {row[0].strip("`"): row[1] for row in rows} == every
    described = {**COUNTERS, **DURATIONS, **GAUGES}
    for name, _, attributes, _ in rows:
        assert re.findall(r"`([\w.]+)`", attributes) == list(described[name.strip("`")].attributes)


def test_the_runbook_speaks_of_every_event() -> None:
    runbook = PAGE.partition("## What each event means")[2]
    assert [name for name in EVENT_NAMES if f"| `{name}`" not in runbook] == []


def test_an_instrumented_valet_warns_of_nothing() -> None:
    with warnings.catch_warnings(), Measured() as bench:
        warnings.simplefilter("error")
        token_of(bench.renewer.get(bench.ticket()))
        bench.sdk.metrics()
