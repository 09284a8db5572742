"""The example for Prometheus runs as its page says; what its alerts ask for is on its page of metrics."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from examples.test_web_host import module_of
from tokenvalet.cli.demo_serve import PORTS
from tokenvalet.cli.demo_stage import Stage
from tokenvalet.cli.screen import Screen
from tokenvalet.telemetry.metrics import COUNTERS, DURATIONS, GAUGES
from tokenvalet.testing import Fault, serve

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "prometheus"
ALERTS = (EXAMPLE / "alerts.yml").read_text(encoding="utf-8")
UNITS = {"s": "_seconds"}
Samples = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with Stage(Screen(lambda line: None)) as servers:
        monkeypatch.setenv("RECORDS_CLIENT_SECRET", servers.client_secret)
        yield servers


@pytest.fixture
def browser(stage: Stage, tmp_path: Path) -> Iterator[httpx2.Client]:
    """A browser of the example, which runs as it is beside its configuration with the addresses of `stage`."""
    text = (EXAMPLE / "tokenvalet.toml").read_text(encoding="utf-8")
    for port, url in zip(PORTS, (stage.auth.issuer, stage.api.origin), strict=False):
        text = text.replace(f"http://127.0.0.1:{port}", url)
    (tmp_path / "tokenvalet.toml").write_text(text, encoding="utf-8")
    app: Any = module_of(Path(shutil.copy(EXAMPLE / "app.py", tmp_path))).app
    with serve(app) as host, httpx2.Client(base_url=host.url, trust_env=False, follow_redirects=True) as client:
        yield client


def scraped(browser: httpx2.Client) -> Samples:
    page = browser.get("/metrics")
    assert page.status_code == 200
    found: Samples = {}
    for family in text_string_to_metric_families(page.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return sum(number for have, number in samples.get(name, ()) if labels.items() <= have.items())


def test_what_happened_is_on_the_page(stage: Stage, browser: httpx2.Client) -> None:
    for _ in range(3):
        assert browser.get("/records").status_code == 200
    samples = scraped(browser)
    of_one = {"tokenvalet_client": "m2m"}
    assert value(samples, "tokenvalet_cache_hits_total", **of_one, tokenvalet_token_age="fresh") == 2
    assert value(samples, "tokenvalet_renewals_total", **of_one, tokenvalet_renewal_outcome="issued") == 1
    assert value(samples, "tokenvalet_renewal_duration_seconds_count", **of_one) == 1
    assert 0 < value(samples, "tokenvalet_token_remaining_lifetime_seconds", **of_one) <= 3600
    assert value(samples, "http_client_request_duration_seconds_count", http_request_method="POST") == len(
        stage.auth.token_requests
    )


def test_a_failure_is_on_the_page_with_its_code(stage: Stage, browser: httpx2.Client) -> None:
    stage.auth.misbehave(Fault.oauth_error("invalid_client", status=401), None)
    assert browser.get("/records").status_code == 503
    samples = scraped(browser)
    failed = {"tokenvalet_renewal_outcome": "failed", "error_type": "token_refused"}
    assert value(samples, "tokenvalet_renewals_total", **failed) == 1


def names() -> dict[str, tuple[str, ...]]:
    """Return what Prometheus calls each metric, with its labels."""
    described = {
        **{f"{name}_total": one for name, one in COUNTERS.items()},
        **{f"{name}_seconds_bucket": one for name, one in DURATIONS.items()},
        **{f"{name}{UNITS.get(one.unit, '')}": one for name, one in GAUGES.items()},
    }
    return {
        name.replace(".", "_"): tuple(label.replace(".", "_") for label in one.attributes)
        for name, one in described.items()
    }


def test_the_names_on_the_page_are_those_that_the_documentation_derives(browser: httpx2.Client) -> None:
    browser.get("/records")
    on_the_page = {name for name in scraped(browser) if name.startswith(("tokenvalet_", "http_client_"))}
    on_the_page -= {name for name in on_the_page if name.endswith(("_count", "_sum"))}
    assert len(on_the_page) >= 6
    assert on_the_page <= set(names())


def test_every_alert_asks_for_metrics_and_labels_that_there_are() -> None:
    known = names()
    asked = set(re.findall(r"\b((?:tokenvalet|http)_\w+?(?:_total|_bucket|_seconds|_away))\b", ALERTS))
    assert len(asked) >= 6
    assert asked <= set(known)
    labels = {label for labels in known.values() for label in labels} | {"job", "le"}
    for listed in re.findall(r"by \(([^)]*)\)", ALERTS):
        assert {label.strip() for label in listed.split(",")} <= labels
    for metric, matchers in re.findall(r"\b(\w+)\{([a-z][^{}]*)\}", ALERTS):
        assert set(re.findall(r"(\w+)(?:=~|!=|=)", matchers)) <= set(known[metric])
    assert ALERTS.count("- alert:") == ALERTS.count("summary:") == ALERTS.count("severity:")
