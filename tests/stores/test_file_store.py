"""The store in a folder: what may be in it, what may happen to it, and what is left alone (STANDARDS.md 2.4)."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stores.makers import KEY, OTHER, PLANTED, Heard, key_of, secret_of
from tokenvalet.observe import Observers
from tokenvalet.shelf import Shelf
from tokenvalet.stores import Entry, FileStore, Lease, StoreError
from tokenvalet.stores import file as room
from tokenvalet.stores.sealing import Sealer

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")
NOBODY = 65534


@pytest.fixture
def store(folder: Path) -> FileStore:
    return FileStore(folder)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def token_file(folder: Path, key: str = KEY) -> Path:
    return folder / f"{key}.token"


def age(path: Path, seconds: float) -> None:
    """Make a file look as if it had last been written to so long ago."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


class HostClock:
    """The clocks of a host, and the number of its run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.uptime = 1_800_000_000.0, 5000.0
        monkeypatch.setattr(room, "_now", lambda: room._Now(self.wall, self.uptime))
        self._monkeypatch = monkeypatch

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.uptime += seconds

    def boot(self, name: str) -> None:
        self._monkeypatch.setattr(room, "_boot_id", lambda: name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HostClock:
    return HostClock(monkeypatch)


# Modes and owners


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_folder_is_for_its_user_alone_and_so_is_every_file(folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = FileStore(folder)
        store.claim(KEY, "a", 5)
        store.write(KEY, b"value", 60, "a")
        store.claim(OTHER, "a", 5)
    finally:
        os.umask(before)
    assert mode_of(folder) == 0o700
    assert [mode_of(file) for file in folder.iterdir()] == [0o600] * 3
    store.close()


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o755, 0o770, 0o777, 0o1777])
def test_a_folder_that_is_open_to_others_is_refused_then_and_later(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StoreError, match="chmod 700"):
        FileStore(folder)
    folder.chmod(0o700)
    store = FileStore(folder)
    store.write(KEY, b"value", 60, "a")
    folder.chmod(mode)
    for use in (lambda: store.read(KEY), lambda: store.claim(KEY, "a", 5), lambda: store.write(KEY, b"x", 60, "a")):
        with pytest.raises(StoreError, match="chmod 700"):
            use()
    folder.chmod(0o700)
    assert store.read(KEY) is not None


@as_root
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(StoreError, match="belongs to another user"):
        FileStore(folder)


def test_a_folder_that_is_a_symbolic_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        FileStore(folder)
    folder.unlink()
    folder.symlink_to("nowhere")
    with pytest.raises(StoreError, match="symbolic link"):
        FileStore(folder)
    folder.unlink()
    folder.write_text("a file")
    with pytest.raises(StoreError, match="no folder"):
        FileStore(folder)


def test_a_folder_that_becomes_a_symbolic_link_is_not_followed(folder: Path, tmp_path: Path, store: FileStore) -> None:
    folder.rename(tmp_path / "moved")
    folder.symlink_to("moved")
    with pytest.raises(StoreError, match="symbolic link"):
        store.write(KEY, b"value", 60, "a")
    assert list((tmp_path / "moved").iterdir()) == []


def test_the_parent_of_the_folder_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        FileStore(tmp_path / "a" / "b")


@pytest.mark.standards("S-180")
@pytest.mark.parametrize("key", ["", "../x", "a" * 63, "A" * 64, "g" * 64, "/" * 64, KEY + "\n", "\0" * 64])
def test_a_name_that_is_no_token_key_reaches_no_file(store: FileStore, folder: Path, key: str) -> None:
    for use in (lambda: store.read(key), lambda: store.claim(key, "a", 5), lambda: store.write(key, b"x", 60, "a")):
        with pytest.raises(StoreError, match="no token key"):
            use()
    assert list(folder.iterdir()) == []


# What lies in the folder


GOOD = b"tokenvalet 1 9999999999.000000 9999999999.000000 \nvalue"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"t",
        b"tokenvalet 1 99",
        GOOD[:-6],
        GOOD.replace(b" 1 ", b" 2 "),
        GOOD.replace(b" 1 ", b" lease "),
        GOOD.replace(b"9999999999.000000", b"1e99"),
        GOOD.replace(b"9999999999.000000", b"nan"),
        GOOD.replace(b"9999999999.000000", b"-9999999999.000000"),
        b"\x80\x04\x95" + GOOD,
        b"\n" + GOOD,
        GOOD + b"x" * 200_000,
        os.urandom(1000),
    ],
    ids=range(13),
)
def test_what_is_no_value_of_ours_is_missing_and_replaced(store: FileStore, folder: Path, content: bytes) -> None:
    token_file(folder).write_bytes(content)
    token_file(folder).chmod(0o600)
    assert store.read(KEY) is None
    assert store.claim(KEY, "a", 5) == (Lease.GRANTED, None)
    store.write(KEY, b"new", 60, "a")
    entry = store.read(KEY)
    assert entry is not None
    assert entry.value == b"new"


def test_a_file_that_was_cut_is_missing(store: FileStore, folder: Path) -> None:
    sealer = Sealer([("a", secret_of(1))])
    shelf = Shelf(store, lambda: sealer, Observers([Heard()]))
    shelf.keep("m2m", KEY, "a", PLANTED.encode(), 60)
    (file,) = folder.glob("*.token")
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert shelf.recall("m2m", KEY).content is None
    file.write_bytes(whole)
    assert shelf.recall("m2m", KEY).content == PLANTED.encode()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o666])
def test_a_file_that_others_can_read_or_write_is_not_trusted(store: FileStore, folder: Path, mode: int) -> None:
    store.write(KEY, b"value", 60, "a")
    token_file(folder).chmod(mode)
    assert store.read(KEY) is None
    store.write(KEY, b"value", 60, "a")
    assert mode_of(token_file(folder)) == 0o600
    assert store.read(KEY) is not None


@as_root
def test_a_file_of_another_user_is_not_trusted(store: FileStore, folder: Path) -> None:
    store.write(KEY, b"value", 60, "a")
    os.chown(token_file(folder), NOBODY, NOBODY)
    assert store.read(KEY) is None
    (folder / f"{KEY}.lock").touch()
    os.chown(folder / f"{KEY}.lock", NOBODY, NOBODY)
    with pytest.raises(StoreError, match="no regular file of ours"):
        store.claim(KEY, "a", 5)


def test_a_symbolic_link_is_neither_read_nor_written_through(store: FileStore, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    store.write(KEY, b"value", 60, "a")
    token_file(folder).rename(target)
    before = target.read_bytes()
    token_file(folder).symlink_to(target)
    assert store.read(KEY) is None
    store.write(KEY, b"new", 60, "a")
    assert target.read_bytes() == before
    assert not token_file(folder).is_symlink()
    (folder / f"{OTHER}.lock").symlink_to(target)
    with pytest.raises(StoreError):
        store.claim(OTHER, "a", 5)
    assert target.read_bytes() == before


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_does_not_hang_the_reader(store: FileStore, folder: Path, kind: str) -> None:
    for name in (f"{KEY}.token", f"{KEY}.lock"):
        if kind == "pipe":
            os.mkfifo(folder / name, 0o600)
        else:
            (folder / name).mkdir()
    assert store.read(KEY) is None
    with pytest.raises(StoreError):
        store.claim(KEY, "a", 5)
    assert not store._held


@pytest.mark.standards("S-184")
def test_values_that_were_swapped_between_two_names_are_both_missing(store: FileStore, folder: Path) -> None:
    sealer, heard = Sealer([("a", secret_of(1))]), Heard()
    shelf = Shelf(store, lambda: sealer, Observers([heard]))
    for key in (KEY, OTHER):
        shelf.keep("m2m", key, "a", PLANTED.encode(), 60)
    first, second = folder.glob("*.token")
    first.rename(folder / "aside")
    second.rename(first)
    (folder / "aside").rename(second)
    assert shelf.recall("m2m", KEY).content is None
    assert shelf.recall("m2m", OTHER).content is None
    assert heard.names() == ["store_value_refused"] * 2


@pytest.mark.standards("S-184", "S-186")
def test_no_token_is_in_any_file_where_there_are_keys(store: FileStore, folder: Path) -> None:
    sealer = Sealer([("a", secret_of(1))])
    Shelf(store, lambda: sealer, Observers([])).keep("m2m", KEY, "a", PLANTED.encode(), 60)
    for file in folder.iterdir():
        assert PLANTED.encode() not in file.read_bytes()
        assert KEY not in file.name


# Trouble


def test_a_folder_that_is_removed_while_it_is_in_use_is_made_anew(store: FileStore, folder: Path) -> None:
    """Removing it throws the tokens away, and is no reason to go on without a store."""
    store.write(KEY, b"value", 60, "a")
    store.claim(KEY, "a", 5)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert store.read(KEY) is None
    assert mode_of(folder) == 0o700
    assert store.claim(KEY, "b", 5)[0] is Lease.GRANTED
    store.write(KEY, b"new", 60, "b")
    store.release(KEY, "a", 1)
    assert FileStore(folder).read(KEY) is not None


def broken(number: int) -> Any:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["fdopen", "rename"])
def test_a_full_disk_is_told_leaves_the_old_value_and_no_half_of_a_new_one(
    store: FileStore, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store.write(KEY, b"old", 60, "a")
    store.claim(KEY, "a", 5)
    with monkeypatch.context() as patched:
        patched.setattr(os, call, broken(28))
        with pytest.raises(StoreError, match="No space left on device"):
            store.write(KEY, b"new", 60, "a")
    entry = store.read(KEY)
    assert entry is not None
    assert entry.value == b"old"
    assert {file.suffix for file in folder.iterdir()} == {".token", ".lock"}
    assert store.claim(KEY, "b", 5)[0] is Lease.GRANTED  # given back all the same


def test_a_full_disk_does_not_keep_a_lease_from_being_taken(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", broken(28))
    assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED
    with pytest.raises(StoreError, match="No space left"):
        store.release(KEY, "a", 1)
    assert store.claim(KEY, "b", 5)[0] is Lease.GRANTED


@pytest.mark.parametrize("call", ["fstat", "read", "open"])
def test_a_disk_that_fails_is_told_and_holds_nothing_up(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store.write(KEY, b"value", 60, "a")
    descriptors = os.listdir("/dev/fd")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, broken(5))
        for use in (lambda: store.read(KEY), lambda: store.claim(KEY, "a", 5)):
            with pytest.raises(StoreError, match="Input/output error"):
                use()
    assert len(os.listdir("/dev/fd")) == len(descriptors)
    assert store.claim(KEY, "b", 5)[0] is Lease.GRANTED


def test_a_disk_that_cannot_lock_is_told(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "fcntl", SimpleNamespace(flock=broken(37), LOCK_EX=2, LOCK_NB=4, LOCK_UN=8))
    with pytest.raises(StoreError, match="No locks available"):
        store.claim(KEY, "a", 5)


# Clocks


@pytest.mark.standards("S-204")
def test_a_value_is_over_when_either_clock_says_so(folder: Path, clock: HostClock) -> None:
    store = FileStore(folder)
    store.write(KEY, b"value", 60, "a")
    clock.wall -= 3600  # set back: the uptime still counts
    clock.uptime += 59
    entry = store.read(KEY)
    assert entry is not None
    assert entry.left == pytest.approx(1)
    clock.uptime += 1
    assert store.read(KEY) is None
    store.write(KEY, b"value", 60, "a")
    clock.wall += 61  # set forward, or suspended where the uptime does not count on
    assert store.read(KEY) is None


@pytest.mark.standards("S-204")
def test_after_the_machine_was_started_anew_the_wall_clock_alone_counts(folder: Path, clock: HostClock) -> None:
    clock.boot("0a")
    FileStore(folder).write(KEY, b"value", 60, "a")
    clock.boot("0b")
    clock.wall, clock.uptime = clock.wall + 30, 3.0
    store = FileStore(folder)
    entry = store.read(KEY)
    assert entry is not None
    assert entry.left == pytest.approx(30)
    clock.pass_by(30)
    assert store.read(KEY) is None


def test_leases_and_pauses_end_by_the_clock_of_the_host(folder: Path, clock: HostClock) -> None:
    first, second = FileStore(folder), FileStore(folder)
    first.claim(KEY, "a", 5)
    clock.pass_by(4.9)
    assert second.claim(KEY, "b", 5)[0] is Lease.HELD
    clock.pass_by(0.2)
    assert second.claim(KEY, "b", 5)[0] is Lease.GRANTED
    second.release(KEY, "b", 2)
    clock.pass_by(1.9)
    assert first.claim(KEY, "a", 5)[0] is Lease.PAUSED
    clock.pass_by(0.2)
    assert first.claim(KEY, "a", 5)[0] is Lease.GRANTED
    first.close()


def test_a_pause_does_not_last_for_years_because_the_clock_was_set_back(folder: Path, clock: HostClock) -> None:
    clock.boot("0a")
    store = FileStore(folder)
    store.claim(KEY, "a", 5)
    store.release(KEY, "a", 2)
    clock.boot("0b")
    clock.wall -= 10**8
    assert FileStore(folder).claim(KEY, "b", 5)[0] is Lease.GRANTED


# Leases


def test_two_stores_of_one_process_exclude_one_another_too(folder: Path) -> None:
    first, second = FileStore(folder), FileStore(folder)
    assert first.claim(KEY, "a", 5)[0] is Lease.GRANTED
    assert second.claim(KEY, "b", 5)[0] is Lease.HELD
    first.close()
    assert second.claim(KEY, "b", 5)[0] is Lease.GRANTED
    second.close()


def test_leases_that_were_never_given_back_hold_no_descriptors_for_ever(folder: Path, clock: HostClock) -> None:
    store = FileStore(folder)
    descriptors = len(os.listdir("/dev/fd"))
    for number in range(50):
        assert store.claim(key_of(number), str(number), 5)[0] is Lease.GRANTED
        clock.pass_by(1)
    assert len(os.listdir("/dev/fd")) <= descriptors + 7
    store.close()
    assert len(os.listdir("/dev/fd")) == descriptors


def test_a_lock_that_is_removed_while_it_is_held_locks_nobody_out_for_ever(folder: Path, store: FileStore) -> None:
    store.claim(KEY, "a", 5)
    (folder / f"{KEY}.lock").unlink()
    other = FileStore(folder)
    assert other.claim(KEY, "b", 5)[0] is Lease.GRANTED
    assert FileStore(folder).claim(KEY, "c", 5)[0] is Lease.HELD
    store.release(KEY, "a", 0)
    assert FileStore(folder).claim(KEY, "c", 5)[0] is Lease.HELD
    other.close()


# Sweeping


def sweep(folder: Path) -> None:
    """Have a new store write once, which sweeps."""
    FileStore(folder).write(key_of("sweeper"), b"x", 60, "a")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {f"{key_of('sweeper')}.token"}


def test_what_is_over_and_what_the_dead_have_left_is_swept_and_the_rest_is_not(folder: Path) -> None:
    store = FileStore(folder)
    held = FileStore(folder)
    store.write(KEY, b"over", 0.001, "a")
    store.write(OTHER, b"good", 60, "a")
    held.claim(key_of("held"), "h", 5)
    stays = {f"{OTHER}.token", f"{key_of('held')}.lock", f"{key_of('young')}.lock", f"{KEY}.{'0' * 16}.tmp"}
    goes = {f"{KEY}.token", f"{KEY}.{'1' * 16}.tmp", f"{key_of('old')}.lock", f"{key_of('broken')}.token"}
    for name in stays | goes:
        if not (folder / name).exists():
            (folder / name).touch(mode=0o600)
    for name in (
        f"{KEY}.{'1' * 16}.tmp",
        f"{key_of('old')}.lock",
        f"{key_of('held')}.lock",
        f"{key_of('broken')}.token",
    ):
        age(folder / name, 4000)
    time.sleep(0.002)
    sweep(folder)
    assert names(folder) == stays
    held.close()


def test_what_is_not_ours_is_left_alone(folder: Path, tmp_path: Path) -> None:
    FileStore(folder)
    foreign = ["README", "notes.token", "a.tmp", f"{KEY}.token.bak", f"x{KEY}.lock", f"{KEY}.pem"]
    for name in foreign:
        (folder / name).write_text("mine")
        age(folder / name, 10**6)
    (folder / f"{KEY}.token").symlink_to(tmp_path)
    (folder / f"{OTHER}.token").mkdir()
    (folder / f"{OTHER}.lock").symlink_to("README")
    sweep(folder)
    assert names(folder) == {*foreign, f"{KEY}.token", f"{OTHER}.token", f"{OTHER}.lock"}
    assert (folder / "README").read_text() == "mine"


def test_sweeping_happens_once_in_a_while_and_looks_at_so_many_files_at_most(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []

    def not_over(folder: int, name: str, boot: str) -> bool:
        looked_at.append(name)
        return False

    monkeypatch.setattr(room, "_is_over", not_over)
    monkeypatch.setattr(room, "MOST_SWEPT", 10)
    store = FileStore(folder)
    for number in range(200):
        (folder / f"{key_of(number)}.token").touch()
    for _ in range(5):
        store.write(KEY, b"x", 60, "a")
    assert len(looked_at) == 10
    seen = set(looked_at)
    for _ in range(200):
        store._swept = float("-inf")
        store.write(KEY, b"x", 60, "a")
    # By chance, so that in the end every file is looked at, and not the same ten each time.
    assert len(seen.union(looked_at)) > 190
    assert len(looked_at) <= 10 + 200 * 10


def test_a_lock_that_is_swept_away_while_it_is_being_taken_is_taken_anew(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = folder / f"{KEY}.lock"
    swept: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        if not swept:
            # Opened, and not locked yet.
            swept.append(descriptor)
            lock.unlink()
        fcntl.flock(descriptor, operation)

    with monkeypatch.context() as patched:
        patched.setattr(
            room,
            "fcntl",
            SimpleNamespace(flock=flock, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB, LOCK_UN=fcntl.LOCK_UN),
        )
        assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED
    assert swept
    assert FileStore(folder).claim(KEY, "b", 5)[0] is Lease.HELD
    store.close()


def test_a_lock_is_swept_only_by_the_one_who_could_take_it(folder: Path, store: FileStore) -> None:
    lock = folder / f"{KEY}.lock"
    store.claim(KEY, "a", 60)
    age(lock, 4000)
    sweep(folder)
    assert lock.exists()
    store.release(KEY, "a", 0)
    age(lock, 4000)
    sweep(folder)
    assert not lock.exists()


def test_a_lock_that_was_just_taken_is_not_taken_over_for_an_old_pause_that_stands_in_it(
    folder: Path, clock: HostClock
) -> None:
    store, other = FileStore(folder), FileStore(folder)
    store.claim(KEY, "a", 5)
    store.release(KEY, "a", 1)
    clock.pass_by(2)
    with store._opened() as opened:
        # Locked by somebody who has not written down yet for how long.
        held = room._locked(opened, f"{KEY}.lock")
        assert held is not None
        assert other.claim(KEY, "b", 5)[0] is Lease.HELD
        room._unlock(held)
    assert other.claim(KEY, "b", 5)[0] is Lease.GRANTED
    other.close()


def test_an_entry_is_what_the_protocol_says(store: FileStore) -> None:
    store.write(KEY, b"value", 60, "a")
    assert isinstance(store.read(KEY), Entry)
