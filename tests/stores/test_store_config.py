"""What can be configured of a store, and everything that can be wrong with it, told together and without a secret."""

from __future__ import annotations

import copy
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
import redis

from life.makers import config
from stores.makers import Heard, line_of
from tokenvalet import ConfigurationError, TokenValet
from tokenvalet.observe import Observers
from tokenvalet.store_config import StoreConfig, open_shelf, validate_store
from tokenvalet.stores import FileStore

PASSWORD = "planted-password-planted"
KEYS = line_of("a", 1)


def faults(**settings: Any) -> dict[str, str]:
    """Return what is wrong with a store's configuration, by place."""
    with pytest.raises(ConfigurationError) as caught:
        open_shelf(StoreConfig(**settings), Observers([]))
    text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert PASSWORD not in text
    assert KEYS[2:20] not in text
    return {fault.place.removeprefix("store."): fault.message for fault in caught.value.faults}


def test_without_keys_a_shared_store_is_refused_unless_that_is_written_out(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/tokens"
    assert "allow_unsealed_store = true" in faults(url=url)["encryption_keys_file"]
    assert not (tmp_path / "tokens").exists()
    open_shelf(StoreConfig(url=url, allow_unsealed_store=True), Observers([])).close()
    open_shelf(StoreConfig(url=url, encryption_keys=KEYS), Observers([])).close()
    assert "contradicts" in faults(url=url, encryption_keys=KEYS, allow_unsealed_store=True)["allow_unsealed_store"]


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ({}, "url", "is missing"),
        ({"url": "redis://x", "store": Heard()}, "store", "should have read, claim, write, release and close"),
        ({"url": "redis://x", "client": object()}, "client", "a second store beside url"),
        (
            {"url": "redis://x", "encryption_keys": KEYS, "encryption_keys_file": "/x"},
            "encryption_keys_file",
            "remove either",
        ),
        ({"url": "redis://x", "timeout": 0}, "timeout", "greater than 0"),
        ({"url": "redis://x", "timeout": "inf"}, "timeout", "finite"),
        ({"url": "redis://x", "prefix": ""}, "prefix", "at least 1"),
        ({"url": "redis://x", "allow_unsealed_store": "yes"}, "allow_unsealed_store", "boolean"),
        ({"url": "redis://x", "urll": "redis://x"}, "urll", "url"),
    ],
    ids=range(9),
)
def test_a_fault_is_told_with_its_place(settings: dict[str, Any], place: str, message: str) -> None:
    found = faults(**{"allow_unsealed_store": True, **settings})
    assert message in found[place], found


@pytest.mark.standards("S-191")
@pytest.mark.parametrize(
    "url",
    [
        f"http://:{PASSWORD}@cache:6379/0",
        f"{PASSWORD}",
        f"redis:/{PASSWORD}",
        f"redis+nothing://:{PASSWORD}@cache",
        f"redis+sentinel://:{PASSWORD}@cache:26379",
        f"redis+sentinel://:{PASSWORD}@cache:{PASSWORD}/primary/0",
        f"redis+sentinel://:{PASSWORD}@cache/primary/{PASSWORD}",
        f"redis://:{PASSWORD}@cache:port/0",
        f"redis://:x@cache/0?socket_timeout={PASSWORD}",
        f"redis://:x@cache/0?{PASSWORD}=1",
        f"redis+cluster://:x@cache/0?socket_timeout={PASSWORD}",
        f"redis://:{PASSWORD}@[::1/0",
        f"file:{PASSWORD}",
        f"file://host/{PASSWORD}",
        f"file:///tmp/x?{PASSWORD}",
    ],
    ids=range(15),
)
def test_an_address_that_cannot_be_is_refused_without_being_shown(url: str) -> None:
    assert list(faults(url=url, allow_unsealed_store=True)) == ["url"]


@pytest.mark.standards("S-191")
def test_the_password_is_in_no_representation() -> None:
    made = StoreConfig(url=f"redis://:{PASSWORD}@cache:6379/0", encryption_keys=KEYS)
    shown = [
        repr(made),
        str(made),
        f"{made}",
        repr(made.model_dump()),
        made.model_dump_json(exclude={"client", "store"}),
    ]
    shelf = open_shelf(made, Observers([]))
    shown += [repr(shelf), repr(shelf._store)]
    for text in shown:
        assert PASSWORD not in text
        assert KEYS[2:20] not in text
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(made)
    assert copy.deepcopy(made.url) == made.url


def test_a_server_that_is_not_there_is_no_fault() -> None:
    heard = Heard()
    shelf = open_shelf(StoreConfig(url="redis://127.0.0.1:1/0", allow_unsealed_store=True), Observers([heard]))
    assert heard.events == []
    assert shelf.recall("m2m", "0" * 64).away
    assert heard.names() == ["store_away"]


def test_a_folder_that_cannot_be_is_a_fault_at_the_start(tmp_path: Path) -> None:
    assert "No such file" in faults(url=f"file://{tmp_path}/a/b", allow_unsealed_store=True)["url"]
    tmp_path.chmod(0o755)
    assert "chmod 700" in faults(url=f"file://{tmp_path}", allow_unsealed_store=True)["url"]


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    shelf = open_shelf(StoreConfig(url=f"file://{tmp_path}/to%20kens", allow_unsealed_store=True), Observers([]))
    assert (tmp_path / "to kens").is_dir()
    shelf.close()


def test_a_file_of_keys_that_cannot_be_used_is_told_by_its_line_and_together_with_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEYS}AAAA\n")
    file.chmod(0o600)
    found = faults(url="http://x", encryption_keys_file=file)
    assert "line 2" in found["encryption_keys_file"]
    assert "redis://" in found["url"]
    assert "cannot be read" in faults(url="redis://x", encryption_keys_file=tmp_path / "none")["encryption_keys_file"]


def test_keys_that_are_rotated_on_disk_are_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(line_of("old", 1))
    file.chmod(0o600)
    shelf = open_shelf(StoreConfig(url=f"file://{tmp_path}/tokens", encryption_keys_file=file), Observers([]))
    shelf.keep("m2m", "0" * 64, "owner", b"before", 60.0)
    file.write_text(f"{line_of('new', 2)}\n{line_of('old', 1)}\n")
    assert shelf.recall("m2m", "0" * 64).content == b"before"
    shelf.keep("m2m", "0" * 64, "owner", b"after", 60.0)
    (value,) = (tmp_path / "tokens").glob("*.token")
    assert b"tv1.new." in value.read_bytes()
    assert shelf.recall("m2m", "0" * 64).content == b"after"
    shelf.close()


@pytest.mark.standards("S-188")
def test_a_client_without_a_time_out_is_refused() -> None:
    client = redis.Redis(socket_timeout=None)
    assert "socket_timeout" in faults(client=client, allow_unsealed_store=True)["client"]
    assert "socket_timeout" in faults(client=object(), allow_unsealed_store=True)["client"]


def test_an_asynchronous_client_is_refused() -> None:
    import redis.asyncio

    client = redis.asyncio.Redis(socket_timeout=1)
    assert "asynchronous" in faults(client=client, allow_unsealed_store=True)["client"]


def test_a_store_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "tokens")
    shelf = open_shelf(StoreConfig(store=store, allow_unsealed_store=True), Observers([]))
    assert shelf._store is store


def test_validation_gives_every_fault_its_place() -> None:
    made, found = validate_store({"url": "redis://x", "timeout": 99, "prefix": 7}, "store")
    assert made is None
    assert sorted(fault.place for fault in found) == ["store.prefix", "store.timeout"]
    made, found = validate_store({"url": "redis://x", "allow_unsealed_store": True}, "store")
    assert made is not None
    assert found == []


def test_a_valet_tells_the_faults_of_its_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="chmod 700"):
        TokenValet(config(), store=StoreConfig(url="file:///", allow_unsealed_store=True))
