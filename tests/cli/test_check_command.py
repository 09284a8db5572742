"""`tokenvalet check`: each fault is explained, with the remedy, and the remedy works."""

from __future__ import annotations

import functools
import json
import re
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn

from cli.command_line import SECRET, run, written
from support.raw_server import RawServer, answer
from tokenvalet.testing import AuthorizationServer, Fault, ProtectedApi, RegisteredClient, serve

ENV = {"SECRET_OF_M2M": SECRET}


def found(
    path: Path, *arguments: str, env: dict[str, str] | None = None
) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """Return the exit code and what was found, by subject."""
    result = run("check", "-c", str(path), "--json", *arguments, env={**ENV, **(env or {})})
    assert b"Traceback" not in result.stderr, result.stderr
    assert SECRET.encode() not in result.stdout + result.stderr
    by_subject: dict[str, list[tuple[str, str]]] = {}
    for one in json.loads(result.stdout):
        by_subject.setdefault(one["subject"], []).append((one["level"], one["text"]))
    return result.returncode, by_subject


def with_key(folder: Path, auth: AuthorizationServer, more: str = "", **registered: Any) -> Path:
    """Write a configuration of a client with a key, and register it."""
    made = run("keys", "new-client-key", "--out", str(folder / "key.pem"))
    auth.register(
        RegisteredClient(
            client_id="with-key", auth_method="private_key_jwt", jwks={"keys": [json.loads(made.stdout)]}, **registered
        )
    )
    path = folder / "tokenvalet.toml"
    path.write_text(
        f'[clients.m2m]\nissuer = "{auth.issuer}"\nclient_id = "with-key"\nprivate_key_file = "key.pem"\n{more}'
    )
    return path


def test_a_client_that_works_is_told_from_end_to_end(
    auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path
) -> None:
    result = run("check", "-c", str(written(tmp_path, auth, api, more='scope = ["records:read"]\n')), env=ENV)
    told = result.stdout.decode()
    assert result.returncode == 0
    for line in (
        "✓ configuration  authenticates as records-web with client_secret_basic",
        f"✓ metadata       token endpoint {auth.token_endpoint}",
        "✓ clock          this machine's and the server's agree",
        "✓ token          Bearer, good for 3600 s, scope: records:read",
        f"✓ origins        tokens go to {api.origin}",
        "nothing is wrong",
    ):
        assert line in told
    assert auth.issued == 1
    assert auth.issued_tokens[0] not in told


def test_a_configuration_with_faults_is_told_whole(tmp_path: Path) -> None:
    path = tmp_path / "tokenvalet.toml"
    path.write_text('[clients.a]\nissuer = "http://x.example"\n[clients.b]\nclient_idd = "b"\n')
    code, subjects = found(path)
    assert code == 3
    assert {"clients.a.client_id", "clients.a.issuer", "clients.b.client_idd"} <= subjects.keys()


def test_secrets_in_clear_are_remarked_on(auth: AuthorizationServer, tmp_path: Path) -> None:
    path = written(tmp_path, auth)
    path.write_text(path.read_text().replace("${SECRET_OF_M2M}", SECRET))
    code, subjects = found(path)
    assert code == 0
    assert subjects["secrets"][0][0] == "odd"
    assert "clients.m2m.client_secret" in subjects["secrets"][0][1]


def test_nothing_is_asked_when_offline(auth: AuthorizationServer, tmp_path: Path) -> None:
    code, _ = found(written(tmp_path, auth), "--offline")
    assert (code, auth.token_requests, auth.metadata_requests) == (0, [], [])


def test_a_method_that_the_server_does_not_offer_is_named_with_those_that_it_does(
    auth: AuthorizationServer, tmp_path: Path
) -> None:
    auth.metadata_overrides = {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}
    code, subjects = found(written(tmp_path, auth))
    assert code == 1
    assert "offers private_key_jwt" in subjects["configuration"][1][1]


def test_the_issuer_that_the_server_states_is_told(auth: AuthorizationServer, tmp_path: Path) -> None:
    auth.metadata_overrides = {"issuer": auth.issuer + "/"}
    code, subjects = found(written(tmp_path, auth))
    assert code == 1
    assert any(f"the server names itself {auth.issuer}/" in text for _, text in subjects["metadata"])


@pytest.mark.parametrize(
    ("registered", "more", "remedy"),
    [
        ({"auth_method": "client_secret_post"}, "", 'auth_method = "client_secret_post"'),
        ({}, 'auth_method = "client_secret_post"\n', 'auth_method = "client_secret_basic"'),
        ({"basic_encoding": "raw", "client_secret": "with space+and%"}, "", 'basic_encoding = "raw"'),
        ({"dpop_bound_access_tokens": True}, "", "dpop = true"),
        ({"resources": ("https://api.example.org",)}, 'resource = "https://other.example.org"\n', "resource to one"),
    ],
)
def test_the_remedy_for_a_refused_client_is_found_by_trying_and_works(
    auth: AuthorizationServer, tmp_path: Path, registered: dict[str, Any], more: str, remedy: str
) -> None:
    client = {"client_id": "records-web", "client_secret": SECRET, "scopes": ("records:read",), **registered}
    auth.register(RegisteredClient(**client))
    env = {"SECRET_OF_M2M": client["client_secret"]}
    code, subjects = found(written(tmp_path, auth, more=more), env=env)
    assert code == 1
    assert remedy in subjects["remedy"][0][1]
    setting = re.search(r"set (\w+ = \S+)", subjects["remedy"][0][1])
    if setting:
        rest = more if setting[1].partition(" ")[0] not in more else ""
        assert found(written(tmp_path, auth, more=rest + setting[1] + "\n"), env=env)[0] == 0


@pytest.mark.parametrize(
    ("registered", "remedy"),
    [
        ({"assertion_audience": "TOKEN_ENDPOINT"}, 'assertion_audience = "TOKEN_ENDPOINT"'),
        ({"assertion_max_lifetime": 10}, "assertion_lifetime = 10"),
    ],
)
def test_what_the_server_wants_of_an_assertion_is_found_by_trying_and_works(
    auth: AuthorizationServer, tmp_path: Path, registered: dict[str, Any], remedy: str
) -> None:
    if "assertion_audience" in registered:
        registered = {"assertion_audience": auth.token_endpoint}
    path = with_key(tmp_path, auth, **registered)
    remedy = remedy.replace("TOKEN_ENDPOINT", auth.token_endpoint)
    code, subjects = found(path)
    assert code == 1
    assert subjects["remedy"][0][1].endswith(f"set {remedy}")
    path.write_text(f"{path.read_text()}{remedy}\n")
    assert found(path)[0] == 0


def test_a_key_that_is_not_registered_is_named_with_the_way_to_register_it(
    auth: AuthorizationServer, tmp_path: Path
) -> None:
    path = with_key(tmp_path, auth)
    (tmp_path / "key.pem").unlink()
    run("keys", "new-client-key", "--out", str(tmp_path / "key.pem"))
    code, subjects = found(path)
    assert code == 1
    assert "is the public key registered" in subjects["remedy"][0][1]
    assert f"tokenvalet keys public {tmp_path}/key.pem" in subjects["remedy"][0][1]
    before = len(auth.token_requests)
    found(path, "--no-trials")
    assert len(auth.token_requests) == before + 1


def test_a_refused_scope_is_told_from_the_others(auth: AuthorizationServer, tmp_path: Path) -> None:
    more = 'scope = ["records:read", "records:destroy"]\n'
    code, subjects = found(written(tmp_path, auth, more=more))
    assert code == 1
    assert "refused each by itself: records:destroy; granted: records:read" in subjects["remedy"][0][1]


@pytest.mark.parametrize("ahead", [-600, 600])
def test_a_clock_that_is_off_is_told_with_its_seconds(tmp_path: Path, ahead: int) -> None:
    date = (datetime.now(UTC) + timedelta(seconds=ahead)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    head = f"Content-Type: application/json\r\nDate: {date}\r\n".encode()
    token = json.dumps({"access_token": "t0ken-t0ken", "token_type": "Bearer", "expires_in": 600}).encode()
    with RawServer(answer(token, headers=head)) as raw:
        path = tmp_path / "tokenvalet.toml"
        path.write_text(
            f'[clients.m2m]\ntoken_endpoint = "{raw.url}/token"\nclient_id = "a"\n'
            'client_secret = "${SECRET_OF_M2M}"\nassertion_audience = "https://x.example"\n'
        )
        code, subjects = found(path)
    assert code == 1
    way = "behind" if ahead > 0 else "ahead of"
    assert re.search(rf"this machine is (59\d|60\d) s {way} the server", subjects["clock"][0][1])


def test_a_server_that_is_down_or_not_trusted_is_told_from_one_another(
    auth: AuthorizationServer, tmp_path: Path
) -> None:
    auth.misbehave(Fault.status_only(503), times=None)
    code, subjects = found(written(tmp_path, auth))
    assert (code, subjects["server"][0][0]) == (1, "bad")

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with RawServer(answer(), ssl_context=context) as raw:
        path = tmp_path / "tokenvalet.toml"
        text = f'[clients.m2m]\nissuer = "{raw.url}"\nclient_id = "a"\nclient_secret = "${{SECRET_OF_M2M}}"\n'
        path.write_text(text)
        code, subjects = found(path)
        assert code == 1
        assert "name the authority's certificate in ca_file" in subjects["TLS"][0][1]


def test_a_certificate_is_told_with_its_end(auth: AuthorizationServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for days, level in ((5, "odd"), (300, "good"), (-5, "bad")):
        end = datetime.now(UTC) + timedelta(days=days, hours=1)
        leaf = authority.issue_cert("records-web.example", not_after=end, not_before=datetime.now(UTC) - timedelta(30))
        leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
        (tmp_path / "client.pem").chmod(0o600)
        path = tmp_path / "tokenvalet.toml"
        path.write_text(f'[clients.m2m]\nissuer = "{auth.issuer}"\nclient_id = "a"\ncertificate_file = "client.pem"\n')
        _, subjects = found(path, "--offline")
        assert subjects["certificate"][0][0] == level
        assert end.strftime("%Y-%m-%d") in subjects["certificate"][0][1]


def test_a_store_that_cannot_be_used_is_told(auth: AuthorizationServer, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(run("keys", "new-store-key").stdout)
    (tmp_path / "keys").chmod(0o600)
    store = '[store]\nurl = "redis://127.0.0.1:1/0"\nencryption_keys_file = "keys"\n'
    code, subjects = found(written(tmp_path, auth, more=store))
    assert code == 1
    assert "it cannot be used" in subjects["store"][0][1]
    fine = store.replace("redis://127.0.0.1:1/0", f"file://{tmp_path}/tokens")
    code, subjects = found(written(tmp_path, auth, more=fine))
    assert (code, subjects["store"]) == (0, [("good", "tokens are kept sealed")])


def test_only_the_named_clients_are_looked_at(auth: AuthorizationServer, tmp_path: Path) -> None:
    path, second = written(tmp_path, auth), tmp_path / "second"
    second.mkdir()
    other = AuthorizationServer([RegisteredClient(client_id="records-web", client_secret=SECRET)])
    with serve(other):
        path.write_text(path.read_text() + written(second, other, name="two").read_text())
        assert found(path, "m2m")[0] == 0
        assert (auth.issued, other.issued) == (1, 0)
    result = run("check", "-c", str(path), "m2n", env=ENV)
    assert result.returncode == 3
    assert b"did you mean 'm2m'?" in result.stderr


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_server_whose_clock_is_off_and_that_sends_no_true_date_leads_to_the_clocks(
    tmp_path: Path, ahead: int
) -> None:
    auth = AuthorizationServer([], clock=lambda: time.time() + ahead)
    with serve(auth):
        code, subjects = found(with_key(tmp_path, auth))
    assert code == 1
    assert "compare this machine's clock" in subjects["remedy"][0][1]


def test_where_the_time_alone_is_wrong_the_clock_is_named_as_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 600.0
    monkeypatch.setattr(uvicorn, "Config", functools.partial(uvicorn.Config, date_header=False))
    auth = AuthorizationServer([], clock=lambda: time.time() + ahead)
    with serve(_Dated(auth, ahead)):
        code, subjects = found(with_key(tmp_path, auth))
    assert code == 1
    assert re.search(r"this machine is (59\d|60\d) s behind the server", subjects["clock"][0][1])
    assert "set this machine's clock right" in subjects["remedy"][0][1]


class _Dated:
    """A server with a Date of its own, as one has whose clock is off."""

    def __init__(self, auth: AuthorizationServer, ahead: float) -> None:
        self._auth = auth
        self._ahead = ahead
        self.served_at = auth.served_at

    @property
    def app(self) -> Any:
        async def dated(scope: Any, receive: Any, send: Any) -> None:
            async def sent(message: Any) -> None:
                if message["type"] == "http.response.start":
                    date = formatdate(time.time() + self._ahead, usegmt=True).encode()
                    message = {**message, "headers": [*message["headers"], (b"date", date)]}
                await send(message)

            await self._auth.app(scope, receive, sent)

        return dated


def test_white_space_around_a_secret_is_found(auth: AuthorizationServer, tmp_path: Path) -> None:
    code, subjects = found(written(tmp_path, auth), env={"SECRET_OF_M2M": f" {SECRET}"})
    assert code == 1
    assert "client_secret without the white space around it" in subjects["remedy"][0][1]


def test_files_of_secrets_that_others_can_read_are_told(auth: AuthorizationServer, tmp_path: Path) -> None:
    path = with_key(tmp_path, auth)
    assert "file" not in found(path)[1]
    (tmp_path / "key.pem").chmod(0o644)
    code, subjects = found(path)
    assert code == 0
    assert subjects["file"] == [("odd", f"{tmp_path / 'key.pem'} can be read by others on this machine: chmod 600 it")]


def test_a_client_whose_authorities_cannot_be_read_does_not_hide_the_others(
    auth: AuthorizationServer, tmp_path: Path
) -> None:
    path = written(tmp_path, auth, name="second")
    path.write_text(
        '[clients.first]\nissuer = "https://x.example"\nclient_id = "a"\nclient_secret = "${SECRET_OF_M2M}"\n'
        f'ca_file = "nothing.pem"\n{path.read_text()}'
    )
    for more in ((), ("--offline",)):
        code, subjects = found(path, *more)
        assert code == 1
        assert any("ca_file" in text and level == "bad" for level, text in subjects["configuration"])
    assert auth.issued == 1


@pytest.mark.parametrize(
    ("fault", "subject", "remedy"),
    [
        (Fault.status_only(429), "server", "asks too often"),
        (Fault.status_only(503), "server", "try again later"),
        (Fault.status_only(404).at("token"), "token", "really the token endpoint"),
        (Fault.html().at("token"), "token", "a sign-in page"),
        (Fault.oauth_error("invalid_dpop_proof"), "remedy", "compare this machine's clock"),
    ],
)
def test_an_answer_that_is_no_refusal_of_the_client_has_a_remedy_of_its_own(
    auth: AuthorizationServer, tmp_path: Path, fault: Fault, subject: str, remedy: str
) -> None:
    auth.misbehave(fault, times=None)
    code, subjects = found(written(tmp_path, auth, more="dpop = true\n"))
    assert code == 1
    assert remedy in subjects[subject][-1][1]


def test_a_port_without_tls_is_told(auth: AuthorizationServer, tmp_path: Path) -> None:
    path = written(tmp_path, auth)
    path.write_text(path.read_text().replace("http://", "https://"))
    code, subjects = found(path)
    assert code == 1
    assert "speaks no TLS" in subjects["TLS"][0][1]


def test_one_fault_with_its_remedy_is_one_fault(auth: AuthorizationServer, tmp_path: Path) -> None:
    result = run("check", "-c", str(written(tmp_path, auth)), env={"SECRET_OF_M2M": "another"})
    assert result.stdout.decode().splitlines()[-1] == "1 fault"


def test_a_configuration_without_an_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenvalet.toml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    result = run("check", "-c", str(tmp_path / "tokenvalet.toml"))
    assert (result.returncode, b"is it the right file?" in result.stderr) == (3, True)
