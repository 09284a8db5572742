"""The examples of the README run as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_first_example_runs_as_written_and_needs_one_token_request() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks("python")[0]], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1 token request"


def test_the_example_of_a_service_runs_with_its_own_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = RegisteredClient(
        client_id="records-web",
        auth_method="client_secret_basic",
        client_secret="planted-for-the-readme",
        scopes=("records:read",),
    )
    auth = AuthorizationServer(clients=[web], require_dpop_nonce=True)
    with serve(auth), serve(ProtectedApi(auth, require_dpop_nonce=True)) as api:
        toml = blocks("toml")[0].replace("https://login.example.org", auth.issuer)
        (tmp_path / "tokenvalet.toml").write_text(toml.replace("https://api.example.org", api.url), encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("RECORDS_CLIENT_SECRET", "planted-for-the-readme")
        exec(compile(blocks("python")[1], "README.md", "exec"), {})
        assert auth.issued == 1
