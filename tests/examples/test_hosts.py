"""The examples of web hosts run as their pages say, by the servers that people use."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from support.host_processes import (
    command,
    free_port,
    placed,
    process,
    served,
    shared_by_workers,
    surroundings,
)
from tokenvalet.cli.demo_stage import Stage
from tokenvalet.cli.screen import Screen

HOSTS = {
    "fastapi": ("fastapi", "uvicorn", "app:app", "/records"),
    "fastapi-sync": ("fastapi", "uvicorn", "app:app", "/records/in-a-thread"),
    "starlette": ("starlette", "uvicorn", "app:app", "/records"),
    "litestar": ("litestar", "uvicorn", "app:app", "/records"),
    "flask": ("flask", "gunicorn", "app:create_app()", "/records"),
    "django": ("django", "gunicorn", "service.wsgi:application", "/records"),
    "django-async": ("django", "uvicorn", "service.asgi:application", "/async-records"),
}
EAGER = [name for name in HOSTS if name != "fastapi-sync"]


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage(Screen(lambda line: None)) as servers:
        servers.auth.require_dpop_nonce = servers.api.require_dpop_nonce = True
        yield servers


def browser(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, trust_env=False, timeout=60)


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_calls_with_one_token_is_ready_and_ends_without_a_word(name: str, stage: Stage, tmp_path: Path) -> None:
    example, server, app, path = HOSTS[name]
    folder = placed(example, tmp_path, stage.auth.issuer, stage.api.origin)
    with served(server, app, folder, surroundings(RECORDS_CLIENT_SECRET=stage.client_secret)) as host:
        with browser(host.url) as user:
            probe = user.get("/ready")
            assert probe.status_code == 200, host.output
            assert probe.headers["cache-control"] == "no-store"
            client = probe.json()["clients"]["m2m"]
            assert (client["ready"], client["state"]) == (True, "fresh")
            for _ in range(2):
                page = user.get(path)
                assert page.status_code == 200, host.output
                assert [record["id"] for record in page.json()] == ["hr-1", "hr-2", "hr-3"]
        assert host.end() in (0, -signal.SIGTERM)  # which uvicorn ends by, when all is done
        said = host.output
    assert [seen.outcome for seen in stage.auth.token_requests] == ["use_dpop_nonce", "issued"]
    assert [call.status for call in stage.api.calls] == [401, 200, 200]
    assert "Traceback" not in said
    assert "Warning" not in said
    assert stage.client_secret not in said


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_says_why_there_is_no_token_and_leaves_the_server_alone(name: str, stage: Stage, tmp_path: Path) -> None:
    example, server, app, path = HOSTS[name]
    folder = placed(example, tmp_path, stage.auth.issuer, stage.api.origin)
    environ = surroundings(RECORDS_CLIENT_SECRET="not-the-secret")
    with served(server, app, folder, environ) as host, browser(host.url) as user:
        page = user.get(path)
        assert page.status_code == 503, host.output
        assert page.json() == {"detail": "the records cannot be had at the moment", "code": "token_refused"}
        asked = len(stage.auth.token_requests)
        for _ in range(5):
            probe = user.get("/ready")
            assert probe.status_code == 503
            client = probe.json()["clients"]["m2m"]
            assert (client["ready"], client["state"], client["code"]) == (False, "failed", "token_refused")
            assert set(client) == {"ready", "state", "code", "retry_in"}
    assert len(stage.auth.token_requests) == asked
    assert stage.api.calls == []


@pytest.mark.parametrize("name", ["fastapi", "flask"])
def test_workers_with_a_store_make_one_token_request(name: str, stage: Stage, tmp_path: Path) -> None:
    example, server, app, path = HOSTS[name]
    folder = placed(example, tmp_path, stage.auth.issuer, stage.api.origin, shared_by_workers(tmp_path))
    environ = surroundings(RECORDS_CLIENT_SECRET=stage.client_secret)
    with served(server, app, folder, environ, workers=2) as host:
        for _ in range(20):
            with browser(host.url) as user:
                assert user.get(path).status_code == 200, host.output
    assert stage.auth.issued == 1


@pytest.mark.parametrize("name", EAGER)
def test_a_host_does_not_start_without_its_secret(name: str, tmp_path: Path) -> None:
    example, server, app, _ = HOSTS[name]
    folder = placed(example, tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:2")
    with process(command(server, app, free_port()), folder, surroundings()) as host:
        assert host.process.wait(60) != 0
        assert "RECORDS_CLIENT_SECRET is not set" in host.output


def manage(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=folder,
        env=surroundings(**environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_of_django_explains_what_is_wrong(stage: Stage, tmp_path: Path) -> None:
    folder = placed("django", tmp_path, stage.auth.issuer, stage.api.origin)
    good = manage(folder, "tokenvalet_check", RECORDS_CLIENT_SECRET=stage.client_secret)
    assert (good.returncode, good.stderr) == (0, ""), good.stdout
    assert "nothing is wrong" in good.stdout
    refused = manage(folder, "tokenvalet_check", "m2m", RECORDS_CLIENT_SECRET="not-the-secret")
    assert refused.returncode == 1
    assert "invalid_client" in refused.stdout
    before = len(stage.auth.token_requests)
    offline = manage(folder, "tokenvalet_check", "--offline", RECORDS_CLIENT_SECRET="not-the-secret")
    assert offline.returncode == 0
    assert len(stage.auth.token_requests) == before
    unknown = manage(folder, "tokenvalet_check", "m3m", RECORDS_CLIENT_SECRET="not-the-secret")
    assert unknown.returncode == 1
    assert "there is no client named 'm3m'; did you mean 'm2m'?" in unknown.stderr
    without = manage(folder, "tokenvalet_check")
    assert without.returncode == 1
    assert "RECORDS_CLIENT_SECRET is not set" in without.stdout


def test_the_configuration_is_a_system_check_of_django(tmp_path: Path) -> None:
    folder = placed("django", tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:2")
    good = manage(folder, "check", "--tag", "tokenvalet", RECORDS_CLIENT_SECRET="whatever")
    assert (good.returncode, good.stdout) == (0, "System check identified no issues (0 silenced).\n"), good.stderr
    bad = manage(folder, "check")
    assert bad.returncode == 1
    assert "(tokenvalet.E001)" in bad.stderr
    assert "RECORDS_CLIENT_SECRET is not set" in bad.stderr
