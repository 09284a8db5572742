"""`tokenvalet token`: the token for a script, and nothing on a terminal that was not asked for."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from cli.command_line import SECRET, run, written
from tokenvalet.testing import AuthorizationServer, Fault, RegisteredClient

ENV = {"SECRET_OF_M2M": SECRET}


def test_a_pipe_gets_the_token_and_nothing_else(auth: AuthorizationServer, tmp_path: Path) -> None:
    result = run("token", "m2m", "-c", str(written(tmp_path, auth)), env=ENV)
    assert result.returncode == 0
    assert result.stdout.decode() == auth.issued_tokens[0] + "\n"
    assert result.stderr == b""


def test_json_has_the_names_of_the_token_response(auth: AuthorizationServer, tmp_path: Path) -> None:
    path = written(tmp_path, auth)
    result = run("token", "m2m", "-c", str(path), "--json", "--scope", "records:read", env=ENV)
    told = json.loads(result.stdout)
    assert told["access_token"] == auth.issued_tokens[0]
    assert (told["token_type"], told["scope"]) == ("Bearer", "records:read")
    assert 3500 < told["expires_in"] <= 3600
    assert told["expires_at"].endswith("+00:00")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("show", [False, True])
def test_a_terminal_sees_the_token_only_when_asked_to(auth: AuthorizationServer, tmp_path: Path, show: bool) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "tokenvalet", "token", "m2m", "-c", str(written(tmp_path, auth))]
    subprocess.run([*command, *(["--show"] if show else [])], stdout=slave, env={**os.environ, **ENV}, check=True)
    os.close(slave)
    seen = os.read(master, 65536).decode()
    os.close(master)
    assert (auth.issued_tokens[0] in seen) is show
    assert show or "Bearer token of client m2m, good for 3" in seen


def test_header_lines_of_a_dpop_token_have_a_proof_for_that_request(auth: AuthorizationServer, tmp_path: Path) -> None:
    path = written(tmp_path, auth, more="dpop = true\n")
    url = "https://api.example.org/records"
    result = run("token", "m2m", "-c", str(path), "--headers", "--url", url, "-X", "POST", env=ENV)
    authorization, proof = result.stdout.decode().splitlines()
    assert authorization == f"Authorization: DPoP {auth.issued_tokens[0]}"
    assert proof.startswith("DPoP: ey")
    without = run("token", "m2m", "-c", str(path), "--headers", env=ENV)
    assert (without.returncode, without.stdout) == (2, b"")
    assert b"say which with --url and --method" in without.stderr


def test_a_store_is_shared_with_the_next_command(auth: AuthorizationServer, tmp_path: Path) -> None:
    key = run("keys", "new-store-key").stdout
    (tmp_path / "keys").write_bytes(key)
    (tmp_path / "keys").chmod(0o600)
    path = written(tmp_path, auth, more=f'[store]\nurl = "file://{tmp_path}/tokens"\nencryption_keys_file = "keys"\n')
    first = run("token", "m2m", "-c", str(path), env=ENV).stdout
    assert run("token", "m2m", "-c", str(path), env=ENV).stdout == first
    assert auth.issued == 1
    assert run("token", "m2m", "-c", str(path), "--force", env=ENV).stdout != first
    assert auth.issued == 2


def test_the_configuration_is_found_here_or_named_by_a_variable_or_is_the_environment(
    auth: AuthorizationServer, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = written(tmp_path, auth)
    ways = [
        run("token", "m2m", cwd=tmp_path, env=ENV),
        run("token", "m2m", cwd=elsewhere, env={**ENV, "TOKENVALET_CONFIG": str(path)}),
        run(
            "token",
            "m2m",
            cwd=elsewhere,
            env={
                "TOKENVALET__CLIENTS__M2M__ISSUER": auth.issuer,
                "TOKENVALET__CLIENTS__M2M__CLIENT_ID": "records-web",
                "TOKENVALET__CLIENTS__M2M__CLIENT_SECRET": SECRET,
            },
        ),
    ]
    assert [way.returncode for way in ways] == [0, 0, 0]
    nothing = run("token", "m2m", cwd=elsewhere)
    assert nothing.returncode == 3
    assert b"there is no configuration" in nothing.stderr


def test_each_kind_of_failure_has_its_exit_code_and_a_sentence(auth: AuthorizationServer, tmp_path: Path) -> None:
    path = str(written(tmp_path, auth))

    def fails(*arguments: str, secret: str = SECRET) -> tuple[int, str]:
        result = run("token", *arguments, "-c", path, env={"SECRET_OF_M2M": secret})
        text = result.stderr.decode()
        assert result.stdout == b""
        assert "Traceback" not in text
        assert secret not in text
        return result.returncode, text

    code, text = fails("m2n")
    assert code == 3
    assert "m2m" in text  # the nearest
    code, text = fails("m2m", secret="another-secret-of-somebody")
    assert code == 4
    assert "invalid_client" in text
    auth.misbehave(Fault.status_only(503), times=None)
    code, text = fails("m2m")
    assert code == 5
    assert "503" in text
    assert fails("m2m", "--parameter", "no value")[0] == 2
    assert run("token", env=ENV).returncode == 2


def test_a_client_that_is_not_offered_the_grant_is_told_so(auth: AuthorizationServer, tmp_path: Path) -> None:
    auth.register(RegisteredClient(client_id="records-web", client_secret=SECRET, grant_types=()))
    result = run("token", "m2m", "-c", str(written(tmp_path, auth)), env=ENV)
    assert result.returncode == 4
    assert b"unauthorized_client" in result.stderr
