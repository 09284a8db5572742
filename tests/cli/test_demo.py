"""`tokenvalet demo`: what it shows did happen, it says so when it did not, and no secret is among it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

from tokenvalet.cli import demo_stage
from tokenvalet.cli.commands import commands
from tokenvalet.cli.demo import play
from tokenvalet.cli.demo_stage import Stage
from tokenvalet.cli.screen import Screen
from tokenvalet.testing import Fault, serve

TOKENVALET = [sys.executable, "-m", "tokenvalet"]
ANY_PORTS = ["--auth-port", "0", "--api-port", "0", "--port", "0"]
CALL = "GET /api/v1/integration/health-records"
METADATA = "GET /.well-known/oauth-authorization-server  200"
POST = "POST /token  client credentials"

# The acts in which only one thing can happen after the other.
ACTS = {
    1: [
        "browser ─▶ service GET /records",
        'service ─▶ client "m2m" get("/api/v1/integration/health-records")',
        "client ─▶ cache miss: there is no token yet",
        "client ─▶ renewal waits for it",
        f"renewal ─▶ issuer {METADATA}",
        f"renewal ─▶ token endpoint {POST}  200",
        "renewal ─▶ cache Bearer ●●●, good for 600 s",
        f"client ─▶ API {CALL}  Bearer ●●●  200",
        "service ─▶ browser 200, 3 records",
    ],
    2: [
        "browser ─▶ service GET /records",
        'service ─▶ client "m2m" get("/api/v1/integration/health-records")',
        "client ─▶ cache hit: a fresh token",
        f"client ─▶ API {CALL}  Bearer ●●●  200",
        "service ─▶ browser 200, 3 records",
    ],
    4: [
        "… the authorization server revokes every token",
        "browser ─▶ service GET /records",
        'service ─▶ client "m2m" get("/api/v1/integration/health-records")',
        "client ─▶ cache hit: a fresh token",
        f"client ─▶ API {CALL}  Bearer ●●●  401",
        "client ─▶ renewal waits for it, since the API rejected the token",
        f"renewal ─▶ token endpoint {POST}  200",
        "renewal ─▶ cache Bearer ●●●, good for 600 s",
        "client ─▶ API once more, with the new token",
        f"client ─▶ API {CALL}  Bearer ●●●  200",
        "service ─▶ browser 200, 3 records",
    ],
    7: [
        "… another service, with dpop = true; every request has a proof of its own",
        "browser ─▶ service GET /records",
        'service ─▶ client "m2m" get("/api/v1/integration/health-records")',
        "client ─▶ cache miss: there is no token yet",
        "client ─▶ renewal waits for it",
        f"renewal ─▶ issuer {METADATA}",
        f"renewal ─▶ token endpoint {POST} + proof ●●●  400 use_dpop_nonce",
        f"renewal ─▶ token endpoint {POST} + proof ●●●  200",
        "renewal ─▶ cache DPoP ●●●, good for 600 s",
        f"client ─▶ API {CALL}  DPoP ●●● + proof ●●●  401",
        "client ─▶ API once more, with the API's nonce in a new proof",
        f"client ─▶ API {CALL}  DPoP ●●● + proof ●●●  200",
        "service ─▶ browser 200, 3 records",
    ],
    8: [
        "browser ─▶ service GET /records",
        'service ─▶ client "m2m" get("/api/v1/integration/health-records")',
        "client ─▶ cache hit: a fresh token",
        f"client ─▶ API {CALL}  DPoP ●●● + proof ●●●  200",
        "service ─▶ browser 200, 3 records",
    ],
}


def acts_of(output: str) -> dict[int, list[str]]:
    """Return the lines of each act, by its number, with the columns closed up and the durations left out."""
    acts: dict[int, list[str]] = {}
    for line in output.partition("What the servers counted")[0].splitlines():
        if heading := re.match(r"(\d)  ", line):
            acts[int(heading[1])] = []
        elif acts and line:
            plain = re.sub(r"  \(\d+ ms\)$", "", line.strip())
            acts[max(acts)].append(re.sub(r"^(\w+) +─▶ (client \"m2m\"|token endpoint|\w+) +", r"\1 ─▶ \2 ", plain))
    return acts


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOKENVALET, "demo"], capture_output=True, encoding="utf-8", env=utf_8_environment(), check=False
    )


def utf_8_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONIOENCODING": "utf-8"}


def test_the_demo_keeps_what_was_promised_and_says_so(demo: subprocess.CompletedProcess[str]) -> None:
    assert (demo.returncode, demo.stderr) == (0, "")
    assert demo.stdout.endswith("All of it as promised.\n")


@pytest.mark.parametrize("act", ACTS)
def test_the_steps_of_an_act_come_in_their_order(demo: subprocess.CompletedProcess[str], act: int) -> None:
    assert acts_of(demo.stdout)[act] == ACTS[act]


def test_a_token_that_is_due_is_used_while_it_is_renewed(demo: subprocess.CompletedProcess[str]) -> None:
    lines = acts_of(demo.stdout)[3]
    due = lines.index("client ─▶ cache hit: the token is due, and good to use until it expires")
    renewal = lines.index("client ─▶ renewal begins, in the background")
    cached = lines.index("renewal ─▶ cache Bearer ●●●, good for 600 s")
    assert due < renewal < lines.index(f"renewal ─▶ token endpoint {POST}  200") < cached
    assert lines.count(f"client ─▶ API {CALL}  Bearer ●●●  200") == 2
    assert lines.index("client ─▶ cache hit: a fresh token") > cached


def test_calls_succeed_while_the_authorization_server_is_down(demo: subprocess.CompletedProcess[str]) -> None:
    lines = acts_of(demo.stdout)[5]
    down, back = (
        lines.index(line) for line in ("… the authorization server goes down", "… it is back; 20 seconds later:")
    )
    outage = lines[down:back]
    assert outage.count("service ─▶ browser 200, 3 records") == 2
    assert f"renewal ─▶ token endpoint {POST}  no answer" in outage
    assert any(line.startswith("renewal ─▶ cache no token: token_request_unreachable") for line in outage)
    assert "renewal ─▶ cache Bearer ●●●, good for 600 s" in lines[back:]


def test_many_requests_at_once_share_one_token_request(demo: subprocess.CompletedProcess[str]) -> None:
    lines = acts_of(demo.stdout)[6]
    assert lines.count(f"renewal ─▶ token endpoint {POST}  200") == 1
    assert lines.count("client ─▶ cache miss: there is no token yet") == 1
    assert f"client ─▶ API 50 × {CALL}  Bearer ●●●  200" in lines
    assert lines[-1] == "service ─▶ browser 50 × 200, 3 records"


def test_the_table_has_what_the_servers_counted(demo: subprocess.CompletedProcess[str]) -> None:
    table = demo.stdout.partition("What the servers counted")[2].splitlines()
    counted = [[int(number) for number in re.findall(r"   +(\d+)", line)] for line in table if line.endswith("✓")]
    many = counted.pop(5)
    assert many[:3] == [1, 50, 0]  # how many of them wait depends on how they are scheduled
    assert counted == [
        [1, 1, 0, 1],
        [0, 1, 0, 0],
        [1, 2, 0, 0],
        [1, 2, 1, 1],
        [1, 3, 0, 0],
        [2, 2, 1, 1],
        [0, 1, 0, 0],
    ]


def test_the_demo_fits_a_hundred_columns_and_is_plain_where_there_is_no_terminal(
    demo: subprocess.CompletedProcess[str],
) -> None:
    assert max(map(len, demo.stdout.splitlines())) <= 100
    assert "\x1b" not in demo.stdout


def secrets_of(stage: Stage) -> set[str]:
    """Return everything that went over the wire and is nobody's business."""
    names = ("authorization", "dpop", "dpop-nonce")
    seen: list[Any] = [*stage.auth.token_requests, *stage.api.calls]
    fields = {value for one in seen for name, value in one.headers if name in names}
    assert any(value.startswith("Basic ") for value in fields)
    assert any(value.startswith("DPoP ") for value in fields)
    return {stage.client_secret, *stage.auth.issued_tokens, *(value.rpartition(" ")[2] for value in fields)}


@pytest.mark.parametrize("colour", [False, True], ids=["plain", "coloured"])
def test_no_token_secret_or_proof_is_shown(
    colour: bool, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    lines: list[str] = []
    stage = Stage(Screen(lines.append, colour=colour))
    assert play(stage)
    shown = "\n".join([*lines, *capfd.readouterr(), caplog.text])
    assert ("\x1b[" in shown) == colour
    assert len(stage.auth.issued_tokens) == 6
    assert [secret for secret in secrets_of(stage) if secret in shown] == []
    assert "eyJ" not in shown  # how a JWT begins


def test_a_promise_that_is_not_kept_is_named() -> None:
    lines: list[str] = []
    stage = Stage(Screen(lines.append))
    stage.auth.misbehave(Fault.status_only(503))
    stage.api.reject_next()
    assert not play(stage)
    assert lines[-3:] == [
        "act 1: token requests: promised issued, and it was fault, 2 × issued",
        "act 1: calls to the API: promised 200, and it was 401, 200",
        "act 1: waits for a renewal: promised 1, and it was 2",
    ]
    assert "All of it as promised." not in lines


def test_a_page_that_does_not_come_is_named() -> None:
    lines: list[str] = []
    stage = Stage(Screen(lines.append))
    stage.api.required_scope = "records:write"
    assert not play(stage)
    assert "act 1: a page came with 502" in lines


def test_the_exit_code_tells_of_a_promise_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tampered(Stage):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.api.reject_next()

    monkeypatch.setattr(demo_stage, "Stage", Tampered)
    result = CliRunner().invoke(commands, ["demo"])
    assert result.exit_code == 1
    assert "act 1: calls to the API: promised 200, and it was 401, 200" in result.stdout


@pytest.fixture
def served() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*TOKENVALET, "demo", "--serve", *ANY_PORTS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=utf_8_environment(),
        preexec_fn=heed_ctrl_c if os.name == "posix" else None,
    )
    with process:
        yield process
        process.kill()


def heed_ctrl_c() -> None:
    """Undo what a shell does to commands in the background, as these tests may be: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a process the signal of Ctrl-C alone")
@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_served_servers_answer_until_they_are_ended_and_tell_what_they_do(
    served: subprocess.Popen[str], ends: signal.Signals
) -> None:
    assert served.stdout is not None
    head = ""
    while not head.endswith("and watch:\n"):
        line = served.stdout.readline()
        assert line, f"it ended after: {head}"
        head += line
    addresses = dict(re.findall(r"^  (\w[\w -]+\w)  +(http://\S+)$", head, flags=re.MULTILINE))
    assert f'  issuer = "{addresses["authorization server"]}"\n' in head
    assert f'  base_url = "{addresses["health-records API"]}"\n' in head

    with httpx2.Client(trust_env=False) as browser:
        for _ in range(2):
            assert len(browser.get(addresses["service"]).json()["records"]) == 3

    served.send_signal(ends)
    rest, _ = served.communicate(timeout=60)
    assert served.returncode == 0
    mine = [step.replace("600 s", "60 s") for step in ACTS[7] + ACTS[8] if "browser" not in step]
    assert acts_of(f"1  \n{rest}")[1] == [*mine[1:], "Ended."]
    assert "eyJ" not in rest


def test_a_port_that_is_taken_is_said_in_a_sentence() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None: ...

    with serve(nothing) as taken:
        for option in ("--auth-port", "--api-port", "--port"):
            result = CliRunner().invoke(commands, ["demo", option, str(taken.port)])
            assert result.exit_code == 1
            assert result.stderr.startswith("tokenvalet: a server cannot be started: ")
            assert option in result.stderr
