"""The store from every source of configuration, beside the clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from configuration.makers import faults_of, settings
from tokenvalet import ConfigurationError, StoreConfig, TokenValet
from tokenvalet.configuration_sources import settings_from_dict, settings_from_env, settings_from_toml
from tokenvalet.stores.sealing import new_key

CLIENT = """
[clients.m2m]
token_endpoint = "https://login.example.org/token"
client_id = "web"
client_secret = "s3cret-s3cret"
"""


def variables(**more: str) -> dict[str, str]:
    environ = {
        "TOKENVALET__CLIENTS__M2M__TOKEN_ENDPOINT": "https://login.example.org/token",
        "TOKENVALET__CLIENTS__M2M__CLIENT_ID": "web",
        "TOKENVALET__CLIENTS__M2M__CLIENT_SECRET": "s3cret-s3cret",
    }
    return environ | {f"TOKENVALET__STORE__{name}": value for name, value in more.items()}


def test_toml_names_the_store_and_its_keys_lie_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(new_key("k1"))
    (tmp_path / "keys").chmod(0o600)
    file = tmp_path / "tokenvalet.toml"
    file.write_text(f'{CLIENT}[store]\nurl = "file://{tmp_path}/${{WHERE}}"\nencryption_keys_file = "keys"\n')
    with TokenValet.from_toml(file, environ={"WHERE": "tokens"}):
        assert (tmp_path / "tokens").is_dir()
    store = settings_from_toml(file, {"WHERE": "tokens"}).store
    assert store is not None
    assert store.encryption_keys_file == tmp_path / "keys"


def test_the_environment_names_the_store_too_and_its_secrets_may_lie_in_files(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"file://{tmp_path}/tokens\n")
    (tmp_path / "url").chmod(0o600)
    store = settings_from_env(
        variables(URL_FILE=str(tmp_path / "url"), ENCRYPTION_KEYS=new_key("k1"), TIMEOUT="0.5", PREFIX="us:")
    ).store
    assert store is not None
    assert (store.url.reveal(), store.timeout, store.prefix) == (f"file://{tmp_path}/tokens", 0.5, "us:")


def test_a_store_is_not_left_unsealed_by_the_environment() -> None:
    faults = faults_of(lambda: settings_from_env(variables(URL="redis://cache", ALLOW_UNSEALED_STORE="true")))
    assert "never taken from the environment" in faults["TOKENVALET__STORE__ALLOW_UNSEALED_STORE"]


@pytest.mark.standards("S-184")
def test_without_keys_a_store_is_refused_unless_it_is_written_out_that_it_may_be() -> None:
    clients, store = {"m2m": settings()}, {"url": "redis://cache:6379/0"}
    faults = faults_of(lambda: settings_from_dict({"clients": clients, "store": store}))
    assert "tokenvalet keys new-store-key" in faults["store.encryption_keys_file"]
    written_out = {**store, "allow_unsealed_store": True}
    assert settings_from_dict({"clients": clients, "store": written_out}).store is not None


def test_faults_of_the_store_and_of_clients_are_in_one_error(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    document = {
        "clients": {"m2m": settings(client_secret=..., client_secret_file=str(missing))},
        "store": {"url": f"file://{tmp_path}/no/such/parent", "encryption_keys": "not a key"},
    }
    faults = faults_of(lambda: TokenValet.from_dict(document))
    assert set(faults) == {"clients.m2m.client_secret_file", "store.url", "store.encryption_keys"}


def test_a_store_given_in_python_takes_the_place_of_the_one_in_the_file(tmp_path: Path) -> None:
    document = {"clients": {"m2m": settings()}, "store": {"url": f"file://{tmp_path}/a", "allow_unsealed_store": True}}
    with TokenValet.from_dict(document, store=StoreConfig(url=f"file://{tmp_path}/b", allow_unsealed_store=True)):
        assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.standards("S-162", "S-191")
def test_no_secret_of_a_store_with_faults_is_in_any_variable_of_the_error() -> None:
    planted = "planted-" + "password"
    with pytest.raises(ConfigurationError) as caught:
        StoreConfig(url=f"redis://:{planted}@cache/0", encryption_keys=f"k1:{planted}", prefix="")
    error: BaseException | None = caught.value
    assert error is not None
    frame = error.__traceback__.tb_next if error.__traceback__ is not None else None
    while frame is not None:
        assert planted not in repr(frame.tb_frame.f_locals)
        frame = frame.tb_next
