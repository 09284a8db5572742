"""The pages of the documentation: every configuration on them is taken, every example runs, every link leads somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import trustme
from celery import Celery
from cryptography import x509
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask
from litestar import Litestar

import tokenvalet
from cli.command_line import run
from tokenvalet import TokenValet, errors, testing
from tokenvalet.cli.commands import commands
from tokenvalet.hosts.celery import CeleryValet
from tokenvalet.hosts.fastapi import lifespan
from tokenvalet.hosts.flask import FlaskValet
from tokenvalet.hosts.litestar import TokenValetPlugin
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "index.md", DOCS / "tutorial_web_host.md", DOCS / "migration.md", *sorted(DOCS.glob("how_to/*.md"))]
SECRET = "a-secret-of-the-documentation"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


CONFIGURATIONS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(blocks(page, "toml"))
    if "[clients." in text
]


def prepared(text: str, folder: Path) -> str:
    """Make the files that a configuration names, in `folder`, and return it with their paths."""

    def made(match: re.Match[str]) -> str:
        field, name = match[1], folder / Path(match[2]).name
        if not name.exists():
            if field in ("private_key_file", "dpop_key_file"):
                run("keys", "new-client-key", "--out", str(name))
            elif field == "encryption_keys_file":
                name.write_bytes(run("keys", "new-store-key").stdout)
            elif field == "assertion_file":
                name.write_text("eyJhbGciOiJFUzI1NiJ9.e30.c2ln")
            elif field == "certificate_file":
                leaf = trustme.CA().issue_cert("records-web.example")
                leaf.cert_chain_pems[0].write_to_path(name)
                leaf.private_key_pem.write_to_path(folder / "client.key")
            else:
                name.write_text(SECRET)
            name.chmod(0o600)
        return f'{field} = "{name}"'

    text = re.sub(r'(\w+_file) = "([^"]+)"', made, text)
    return re.sub(r'url = "file://[^"]+"', f'url = "file://{folder}/tokens"', text)


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_every_configuration_on_the_pages_is_taken(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenvalet.toml"
    path.write_text(prepared(text, tmp_path), encoding="utf-8")
    if (tmp_path / "client.key").exists():
        (tmp_path / "client.key").chmod(0o600)
    with TokenValet.from_toml(path, environ={"RECORDS_CLIENT_SECRET": SECRET}) as valet:
        assert "1 clients" in repr(valet)


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    client = RegisteredClient(client_id="records-web", client_secret=SECRET, scopes=("records:read",))
    server = AuthorizationServer([client])
    with serve(server):
        yield server


@pytest.fixture
def api(auth: AuthorizationServer) -> Iterator[ProtectedApi]:
    server = ProtectedApi(auth)
    with serve(server):
        yield server


def localized(text: str, auth: AuthorizationServer, api: ProtectedApi) -> str:
    text = re.sub(r'issuer = "[^"]*"', f'issuer = "{auth.issuer}"', text)
    return re.sub(r'base_url = "[^"]*"', f'base_url = "{api.origin}"', text)


@pytest.fixture
def here(auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with the configuration of the first page, for servers on this machine."""
    first = blocks(DOCS / "index.md", "toml")[0]
    (tmp_path / "tokenvalet.toml").write_text(localized(first, auth, api))
    monkeypatch.setenv("RECORDS_CLIENT_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_of_the_first_page_runs(here: Path, api: ProtectedApi) -> None:
    names: dict[str, Any] = {}
    exec(blocks(DOCS / "index.md", "python")[0], names)
    assert len(names["records"]) == 3
    assert len(api.calls) == 1


MIGRATIONS = [text for text in blocks(DOCS / "migration.md", "python") if not text.startswith("# before")]


@pytest.mark.parametrize("text", MIGRATIONS[1:])
def test_every_example_of_the_migration_runs(
    text: str, here: Path, auth: AuthorizationServer, api: ProtectedApi
) -> None:
    names: dict[str, Any] = {"valet_base_url": api.origin}
    exec(MIGRATIONS[0], names)
    with names["valet"]:
        exec(text, names)
    assert auth.issued == 1
    assert [call.status for call in api.calls] in ([], [200])
    assert api.calls or names["headers"]["Authorization"] == f"Bearer {auth.issued_tokens[0]}"


def test_the_callable_on_the_page_about_hosts_makes_a_valet_for_each_of_them(
    here: Path, auth: AuthorizationServer
) -> None:
    (text,) = [one for one in blocks(DOCS / "how_to" / "hosts.md", "python") if "telemetry" in one]
    names: dict[str, Any] = {}
    exec(text, names)
    opened = names["opened"]
    for app in (FastAPI(lifespan=lifespan(opened)), Litestar(plugins=[TokenValetPlugin(opened)])):
        with TestClient(app):  # type: ignore[arg-type]  # Litestar says it in other words
            app.state.tokenvalet.token("m2m")
    flask = Flask("records")
    flask.config["TOKENVALET"] = opened
    FlaskValet(flask)
    with flask.extensions["tokenvalet"] as valet:
        valet.token("m2m")
    celery = CeleryValet(Celery("records"), opened)
    celery.valet.token("m2m")
    celery.close()
    assert auth.issued == 4


def test_the_service_of_the_tutorial_runs(here: Path, auth: AuthorizationServer, api: ProtectedApi) -> None:
    page = DOCS / "tutorial_web_host.md"
    (here / "tokenvalet.toml").write_text(localized(blocks(page, "toml")[0], auth, api))
    names: dict[str, Any] = {"__name__": "app"}
    exec(compile(blocks(page, "python")[0], "app.py", "exec", dont_inherit=True), names)
    with TestClient(names["app"]) as browser:
        assert [len(browser.get("/records").json()) for _ in range(3)] == [3, 3, 3]
    assert auth.issued == 1
    assert {call.scheme for call in api.calls} == {"DPoP"}


def test_a_proof_made_by_hand_is_taken(here: Path, auth: AuthorizationServer, api: ProtectedApi) -> None:
    import httpx2

    text = (here / "tokenvalet.toml").read_text()
    (here / "tokenvalet.toml").write_text(text + "dpop = true\n")
    example = blocks(DOCS / "how_to" / "dpop.md", "python")[0]
    url = f"{api.origin}/api/v1/integration/health-records"
    with TokenValet.from_toml("tokenvalet.toml") as valet:
        names: dict[str, Any] = {"valet": valet}
        exec(example.replace("https://api.example.org/records", url), names)
    assert httpx2.get(url, headers=names["headers"], trust_env=False).status_code == 200


def test_every_link_between_pages_leads_to_a_page_and_a_heading_that_are_there() -> None:
    broken = []
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []


NOTEBOOK = DOCS.parent / "examples" / "code_lab" / "call_an_api_from_a_web_host.ipynb"


def test_the_code_lab_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 8
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code"), "what it printed is not kept"
    names: dict[str, Any] = {}
    for number, cell in enumerate(code, 1):
        exec(compile(cell, f"cell {number}", "exec"), names)
    assert "eyJ" not in capsys.readouterr().out


COMMANDS = sorted(
    {
        (page.relative_to(DOCS.parent).as_posix(), line)
        for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md"), *DOCS.parent.glob("examples/*/README.md")]
        for text in blocks(page, "console")
        for line in re.findall(r"tokenvalet [^|()&>\n]+", "\n".join(re.findall(r"^\$ (.*)", text, re.MULTILINE)))
    }
)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_on_the_pages_is_one_that_there_is(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = commands
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    with command.make_context(command.name, words):
        pass


def test_the_keys_of_the_pages_are_made_as_they_are_written(tmp_path: Path) -> None:
    made = 0
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for page in (*sorted(DOCS.glob("how_to/*.md")), DOCS / "tutorial_web_host.md", DOCS / "stores.md"):
        folder = tmp_path / page.stem
        folder.mkdir()
        for text in blocks(page, "console"):
            for line in re.findall(r"^\$ (tokenvalet keys .*)", text, re.MULTILINE):
                done = subprocess.run(
                    ["bash", "-c", line], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, check=False
                )
                assert done.returncode == 0, done.stderr
                made += 1
    assert made >= 6
    request = x509.load_pem_x509_csr((tmp_path / "mutual_tls" / "client.csr").read_bytes())
    assert request.is_signature_valid
    assert json.loads((tmp_path / "client_authentication" / "public.jwk.json").read_text())["kty"] == "EC"


def test_the_examples_of_the_pages_on_settings_and_telemetry_run(
    here: Path, auth: AuthorizationServer, api: ProtectedApi
) -> None:
    url = f"{api.origin}/api/v1/integration/health-records"
    known = RegisteredClient(
        client_id="records-web",
        client_secret=SECRET,
        scopes=("records:read", "records:write"),
        resources=("https://api.example.org/records",),
    )
    auth.register(known)
    names: dict[str, Any] = {"url": url, "by_tenant": lambda request: None}
    exec(blocks(DOCS / "telemetry.md", "python")[0], names)
    with names["valet"] as valet, valet.client("m2m") as names["api"]:
        exec(blocks(DOCS / "configuration.md", "python")[0], names)
        names["stop"]()
    assert [one.form.get("scope") for one in auth.token_requests] == [["records:write"], ["records:read"]]
    assert [call.status for call in api.calls] == [200]


def test_the_reference_has_every_public_name() -> None:
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    public = {name for name in tokenvalet.__all__ if name not in errors.__all__ and not name.startswith("__")}
    public -= {"telemetry"}
    assert {name for name in public if not re.search(rf":: {name}\b", page)} == set()
    assert {name for name in testing.__all__ if f"tokenvalet.testing.{name}" not in page} == set()
    assert "automodule:: tokenvalet.errors" in page
