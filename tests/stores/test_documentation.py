"""docs/stores.md is run: its configurations, its addresses, its rights, its commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stores.makers import KEY, line_of
from stores.redis_server import RedisServer
from tokenvalet import TokenValet
from tokenvalet.stores import Lease, RedisStore
from tokenvalet.stores.redis import client_maker
from tokenvalet.stores.sealing import parse_keys
from tokenvalet.testing import AuthorizationServer, RegisteredClient, serve

PAGE = (Path(__file__).parents[2] / "docs" / "stores.md").read_text(encoding="utf-8")
PASSWORD = "planted-password"
CLIENT = """
[clients.m2m]
token_endpoint = "{endpoint}"
client_id = "records-web"
client_secret = "planted-for-the-page"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer([RegisteredClient(client_id="records-web", client_secret="planted-for-the-page")])
    with serve(server):
        yield server


@pytest.fixture
def keys(tmp_path: Path) -> str:
    file = tmp_path / "keys"
    file.write_text(line_of("a", 1))
    file.chmod(0o600)
    return str(file)


@pytest.mark.standards("S-191")
@pytest.mark.parametrize("number", [0, 1])
def test_the_configurations_work_as_written(
    number: int, auth: AuthorizationServer, keys: str, place: Path, tmp_path: Path
) -> None:
    with RedisServer(place, requirepass=PASSWORD) as server:
        text = blocks("toml")[number].replace("/run/secrets/tokenvalet-keys", keys)
        text = text.replace("/var/lib/records/tokens", f"{tmp_path}/tokens")
        text = text.replace("rediss://", "unix://").replace("cache.example.org:6379/0", f"{server.socket}?db=0")
        file = tmp_path / "tokenvalet.toml"
        file.write_text(text + CLIENT.format(endpoint=auth.token_endpoint), encoding="utf-8")
        tokens = set()
        for _ in range(2):
            with TokenValet.from_toml(file, environ={"REDIS_PASSWORD": PASSWORD}) as valet:
                tokens.add(valet.token("m2m").value)
                assert PASSWORD not in repr(vars(valet))
        assert len(tokens) == auth.issued == 1
        with server.client(password=PASSWORD) as eye:
            names = [name.decode() for name in eye.scan_iter()]
        assert all(name.startswith("records:") for name in names)
        assert len(names) == number


def test_the_example_with_a_client_of_ones_own_works_as_written(
    auth: AuthorizationServer, keys: str, server: RedisServer
) -> None:
    text = blocks("python")[0].replace("/run/secrets/tokenvalet-keys", keys).replace("…", "planted-for-the-page")
    text = text.replace('host="cache.example.org"', f'unix_socket_path="{server.socket}"')
    names: dict[str, Any] = {}
    exec(compile(text.replace("https://login.example.org", auth.issuer), "stores.md", "exec"), names)
    with names["valet"] as valet:
        valet.token("m2m")
    assert auth.issued == 1
    with server.client() as eye:
        assert eye.dbsize() == 1
    names["client"].close()


def test_every_address_of_the_table_can_be_read() -> None:
    rows = re.findall(r"^\| `(\w+[+\w]*://[^`]+)` \|", PAGE, flags=re.MULTILINE)
    assert len(rows) == 5
    for row in rows:
        for url in (row, row.replace("redis", "rediss", 1)) if not row.startswith(("rediss", "unix")) else (row,):
            assert callable(client_maker(url, 1))


def test_the_rights_are_enough(server: RedisServer) -> None:
    (rights,) = re.findall(r"^```\n(~.*)\n```$", PAGE, flags=re.MULTILINE)
    with server.client() as eye:
        arguments: list[Any] = ["ACL", "SETUSER", "web", "on", f">{PASSWORD}", *rights.split(" ")]
        execute: Any = eye.execute_command
        execute(*arguments)
    store = RedisStore.from_url(f"unix://web:{PASSWORD}@{server.socket}")
    assert store.claim(KEY, "a", 5) == (Lease.GRANTED, None)
    store.write(KEY, b"value", 60, "a")
    assert store.read(KEY) is not None
    store.claim(KEY, "a", 5)
    store.release(KEY, "a", 1)
    store.close()


def test_the_command_makes_a_file_of_keys() -> None:
    (command,) = re.findall(r"^\$ tokenvalet (.*) > tokenvalet-keys$", blocks("console")[0], flags=re.MULTILINE)
    program = [sys.executable, "-m", "tokenvalet", *shlex.split(command)]
    done = subprocess.run(program, capture_output=True, check=True)
    assert len(parse_keys(done.stdout)) == 1
