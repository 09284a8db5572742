"""The example of a web host runs as its page says, against the servers of `tokenvalet.testing`."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest

from tokenvalet import ConfigurationError, TokenValet
from tokenvalet.cli.demo_serve import CLIENT_SECRET, PORTS
from tokenvalet.cli.demo_stage import CLIENT_ID, SCOPE, Stage
from tokenvalet.cli.screen import Screen
from tokenvalet.testing import serve

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fastapi"
TOML = EXAMPLE / "tokenvalet.toml"


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The servers of `tokenvalet demo --serve`, on other ports and with another secret."""
    with Stage(Screen(lambda line: None)) as servers:
        servers.auth.require_dpop_nonce = servers.api.require_dpop_nonce = True
        monkeypatch.setenv("RECORDS_CLIENT_SECRET", servers.client_secret)
        yield servers


@pytest.fixture
def app(stage: Stage, tmp_path: Path) -> Any:
    """The example's application as it is, beside its configuration with the addresses of `stage`."""
    text = TOML.read_text(encoding="utf-8")
    for port, url in zip(PORTS, (stage.auth.issuer, stage.api.origin), strict=False):
        assert f'"http://127.0.0.1:{port}"' in text
        text = text.replace(f"http://127.0.0.1:{port}", url)
    (tmp_path / "tokenvalet.toml").write_text(text, encoding="utf-8")
    return module_of(Path(shutil.copy(EXAMPLE / "app.py", tmp_path))).app


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_web_host", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_requests_share_one_token(stage: Stage, app: Any) -> None:
    with serve(app) as host, httpx2.Client(base_url=host.url, trust_env=False) as browser:
        for _ in range(2):
            page = browser.get("/records")
            assert page.status_code == 200
            assert [record["id"] for record in page.json()] == ["hr-1", "hr-2", "hr-3"]
    assert [seen.outcome for seen in stage.auth.token_requests] == ["use_dpop_nonce", "issued"]
    assert [(call.scheme, call.status) for call in stage.api.calls] == [("DPoP", 401), ("DPoP", 200), ("DPoP", 200)]


def test_without_an_authorization_server_the_host_says_so_and_names_the_code(stage: Stage, app: Any) -> None:
    stage.auth_server.stop()
    with serve(app) as host, httpx2.Client(base_url=host.url, trust_env=False) as browser:
        page = browser.get("/records", timeout=30)
    assert page.status_code == 503
    assert page.json() == {"detail": "the records cannot be had at the moment", "code": "token_request_unreachable"}
    assert stage.api.calls == []


def test_an_api_that_refuses_is_a_bad_gateway(stage: Stage, app: Any) -> None:
    stage.api.required_scope = "records:write"
    with serve(app) as host, httpx2.Client(base_url=host.url, trust_env=False) as browser:
        page = browser.get("/records")
    assert (page.status_code, page.json()) == (502, {"detail": "the records API answered 403"})


def test_the_host_does_not_start_without_its_secret() -> None:
    with pytest.raises(ConfigurationError, match="RECORDS_CLIENT_SECRET is not set"):
        TokenValet.from_toml(TOML, environ={})


def test_the_example_is_configured_for_the_servers_of_the_demo() -> None:
    text = TOML.read_text(encoding="utf-8")
    assert f'client_id = "{CLIENT_ID}"' in text
    assert f'scope = ["{SCOPE}"]' in text
    page = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    assert f"export RECORDS_CLIENT_SECRET={CLIENT_SECRET}\n" in page
