"""`tokenvalet call`: one request, as the library sends it, and the answer as it comes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.command_line import SECRET, run, written
from support.raw_server import RawServer, answer, close_midway
from tokenvalet.testing import AuthorizationServer, ProtectedApi

ENV = {"SECRET_OF_M2M": SECRET}
RECORDS = "/api/v1/integration/health-records"


def test_the_answer_goes_to_standard_output(auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path) -> None:
    result = run("call", "m2m", RECORDS, "-c", str(written(tmp_path, auth, api)), env=ENV)
    assert result.returncode == 0
    assert len(json.loads(result.stdout)) == 3
    assert result.stderr == b""


@pytest.mark.parametrize("more", ["", "dpop = true\n"])
def test_what_happens_is_told_without_a_secret(
    auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path, more: str
) -> None:
    path = written(tmp_path, auth, api, more=more)
    result = run("call", "m2m", RECORDS, "-v", "-i", "-c", str(path), env=ENV)
    told = result.stderr.decode()
    assert "* token_request" in told
    assert "* call_sent" in told
    assert result.stdout.startswith(b"HTTP/1.1 200 OK\r\n")
    assert SECRET not in told
    assert auth.issued_tokens[0] not in told
    assert "eyJ" not in told


@pytest.mark.parametrize(
    ("options", "method", "body", "kind"),
    [
        (["-d", "a=1"], "POST", b"a=1", "application/x-www-form-urlencoded"),
        (["-d", "@body"], "POST", b"of a file", "application/x-www-form-urlencoded"),
        (["-d", "@-"], "POST", b"of stdin", "application/x-www-form-urlencoded"),
        (["--json", '{"a": 1}'], "POST", b'{"a": 1}', "application/json"),
        (["-T", "body"], "PUT", b"of a file", None),
        (["-X", "patch", "-d", "x", "-H", "Content-Type: text/plain"], "PATCH", b"x", "text/plain"),
    ],
)
def test_methods_and_bodies_are_those_of_curl(
    auth: AuthorizationServer,
    api: ProtectedApi,
    tmp_path: Path,
    options: list[str],
    method: str,
    body: bytes,
    kind: str | None,
) -> None:
    written(tmp_path, auth, api)
    (tmp_path / "body").write_bytes(b"of a file")
    result = run("call", "m2m", "/echo", *options, cwd=tmp_path, stdin=b"of stdin", env=ENV)
    echo = json.loads(result.stdout)
    assert (echo["method"], echo["body_sha256"]) == (method, hashlib.sha256(body).hexdigest())
    kinds = [value for name, value in api.calls[0].headers if name.lower() == "content-type"]
    assert kinds == ([kind] if kind else [])


def test_the_token_may_be_asked_for_with_something_else(
    auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path
) -> None:
    path = written(tmp_path, auth, api)
    assert run("call", "m2m", RECORDS, "--scope", "records:write", "-c", str(path), env=ENV).returncode == 0
    assert auth.token_requests[0].form["scope"] == ["records:write"]


def test_an_error_of_the_api_is_printed_and_is_22_with_fail_only(
    auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path
) -> None:
    path = str(written(tmp_path, auth, api))
    assert run("call", "m2m", "/nowhere", "-c", path, env=ENV).returncode == 0
    result = run("call", "m2m", "/nowhere", "--fail", "-c", path, env=ENV)
    assert (result.returncode, result.stdout) == (22, b'{"error":"not_found"}')
    assert result.stderr == b"tokenvalet: the API answered 404\n"


def test_the_answer_may_go_to_a_file_which_a_refused_call_leaves_alone(
    auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path
) -> None:
    path = str(written(tmp_path, auth, api))
    output = tmp_path / "records.json"
    output.write_text("what was there before")
    arguments = ["-c", path, "-o", str(output)]
    assert run("call", "m2m", "https://elsewhere.example/", *arguments, env=ENV).returncode == 3
    assert output.read_text() == "what was there before"
    assert run("call", "m2m", RECORDS, *arguments, env=ENV).stdout == b""
    assert len(json.loads(output.read_text())) == 3


@pytest.mark.standards("S-200")
def test_what_the_token_may_not_go_to_is_refused_before_anything_is_sent(
    auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path
) -> None:
    path = str(written(tmp_path, auth, api))
    abroad = run("call", "m2m", "https://elsewhere.example/", "-c", path, env=ENV)
    assert abroad.returncode == 3
    assert b"allowed_origins" in abroad.stderr
    own = run("call", "m2m", RECORDS, "-H", "Authorization: Bearer mine", "-c", path, env=ENV)
    assert own.returncode == 3
    nowhere = run("call", "m2m", RECORDS, "-c", str(written(tmp_path, auth)), env=ENV)
    assert nowhere.returncode == 2
    assert b"base_url" in nowhere.stderr
    assert (api.calls, auth.issued) == ([], 0)


def test_redirects_are_followed_when_asked_to(auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path) -> None:
    path = str(written(tmp_path, auth, api))
    stays = run("call", "m2m", f"/redirect?to={RECORDS}", "-i", "-c", path, env=ENV)
    assert stays.stdout.startswith(b"HTTP/1.1 307 ")
    follows = run("call", "m2m", f"/redirect?to={RECORDS}", "-L", "-c", path, env=ENV)
    assert len(json.loads(follows.stdout)) == 3


def test_an_api_that_breaks_off_is_a_sentence_and_exit_code_6(auth: AuthorizationServer, tmp_path: Path) -> None:
    with RawServer(close_midway(b"half of it and more")) as raw:
        path = str(written(tmp_path, auth, more=f'base_url = "{raw.url}"\n'))
        result = run("call", "m2m", "/", "-c", path, env=ENV)
    assert (result.returncode, result.stdout) == (6, b"half of i")
    assert result.stderr.startswith(b"tokenvalet: the call to the API failed: ")
    assert b"Traceback" not in result.stderr
    gone = run("call", "m2m", "/", "-c", path, env=ENV)
    assert gone.returncode == 6


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_what_would_steer_a_terminal_is_shown_and_not_done(auth: AuthorizationServer, tmp_path: Path) -> None:
    import pty

    with RawServer(answer("red: \x1b[31m, C1: \x9b31m, fine: æøå\n".encode())) as raw:
        path = str(written(tmp_path, auth, more=f'base_url = "{raw.url}"\n'))
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "tokenvalet", "call", "m2m", "/", "-c", path]
        subprocess.run(command, stdout=slave, env={**os.environ, **ENV, "PYTHONUTF8": "1"}, check=True)
        os.close(slave)
        seen = os.read(master, 65536).decode()
        os.close(master)
    assert seen == "red: \\x1b[31m, C1: \\x9b31m, fine: æøå\r\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a process the signal of Ctrl-C alone")
def test_ctrl_c_is_a_word_and_exit_code_130(auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path) -> None:
    api.delay = 20
    command = [
        sys.executable,
        "-m",
        "tokenvalet",
        "call",
        "m2m",
        RECORDS,
        "-v",
        "-c",
        str(written(tmp_path, auth, api)),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **ENV},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        assert process.stderr is not None
        while b"token_cached" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rest.endswith(b"tokenvalet: interrupted\n")
    assert b"Traceback" not in rest
