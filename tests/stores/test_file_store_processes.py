"""The store in a folder among processes: killed, stopped and forked ones, and many at once."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from stores.makers import KEY, key_of
from support.children import Forked, Script, until
from tokenvalet.stores import FileStore, Lease, StoreError

# From Python 3.12 on, every fork of a process with threads is warned of: it is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

NOBODY = 65534

HOLDER = """
    import json, sys, time
    from tokenvalet.stores import FileStore
    store = FileStore(sys.argv[1])
    print(json.dumps(store.claim(sys.argv[2], "holder", float(sys.argv[3]))[0].value), flush=True)
    sys.stdin.readline()
"""


def test_a_lease_ends_with_the_process_that_is_killed(folder: Path) -> None:
    store = FileStore(folder)
    with Script(HOLDER, folder, KEY, 3600) as holder:
        assert holder.line() == "granted"
        assert store.claim(KEY, "a", 5)[0] is Lease.HELD
        holder.kill()
    assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED
    store.close()


def test_a_process_that_is_stopped_does_not_keep_the_lease_for_ever(folder: Path) -> None:
    store = FileStore(folder)
    with Script(HOLDER, folder, KEY, 0.3) as holder:
        assert holder.line() == "granted"
        holder.process.send_signal(signal.SIGSTOP)
        until(lambda: store.claim(KEY, "a", 60)[0] is Lease.GRANTED)
        assert FileStore(folder).claim(KEY, "b", 5)[0] is Lease.HELD
        # When it goes on and ends, it takes nothing away from the one that has the lease by now.
        holder.process.send_signal(signal.SIGCONT)
        holder.tell()
        holder.end()
    assert FileStore(folder).claim(KEY, "b", 5)[0] is Lease.HELD
    store.close()


@pytest.mark.standards("S-203")
def test_a_forked_child_neither_keeps_nor_gives_back_the_lease_of_its_parent(folder: Path) -> None:
    store = FileStore(folder)
    store.claim(KEY, "a", 60)
    (go_on, told), (heard, tells) = os.pipe(), os.pipe()

    def child() -> Any:
        store.release(KEY, "a", 0)
        store.close()
        found = store.claim(KEY, "child", 60)[0].value
        os.write(tells, b"x")
        os.read(go_on, 1)
        return found

    forked = Forked(child)
    os.read(heard, 1)
    # The child is alive, and the parent gives its lease back.
    store.release(KEY, "a", 0)
    assert store.claim(KEY, "b", 60)[0] is Lease.GRANTED
    os.write(told, b"x")
    assert forked.result() == "held"
    for descriptor in (go_on, told, heard, tells):
        os.close(descriptor)
    store.close()


PARENT = """
    import json, os, sys
    from tokenvalet.stores import FileStore
    store = FileStore(sys.argv[1])
    store.claim(sys.argv[2], "parent", 3600)
    if os.fork() == 0:
        print(json.dumps(os.getpid()), flush=True)  # by now it has let go
    sys.stdin.readline()
"""


@pytest.mark.standards("S-203")
def test_a_lease_ends_with_the_process_that_is_killed_though_a_child_of_it_lives_on(folder: Path) -> None:
    store = FileStore(folder)
    with Script(PARENT, folder, KEY) as parent:
        child = parent.line()
        assert store.claim(KEY, "a", 5)[0] is Lease.HELD
        os.kill(parent.process.pid, signal.SIGKILL)
        parent.process.wait()
        try:
            os.kill(child, 0)
            assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED
        finally:
            os.kill(child, signal.SIGKILL)
    store.close()


@pytest.mark.standards("S-203")
def test_a_lease_that_is_given_back_is_free_even_where_a_child_has_its_descriptor(folder: Path) -> None:
    """A thread may be between locking and noting that down in the moment of a fork."""
    store = FileStore(folder)
    store.claim(KEY, "a", 60)
    ((held,),) = [store._held.values()]
    go_on, told = os.pipe()
    copied = os.dup(held.descriptor)  # what such a child has
    forked = Forked(lambda: os.read(go_on, 1).decode())
    store.release(KEY, "a", 0)
    assert FileStore(folder).claim(KEY, "b", 5)[0] is Lease.GRANTED
    os.write(told, b"x")
    assert forked.result() == "x"
    for descriptor in (copied, go_on, told):
        os.close(descriptor)


@pytest.mark.standards("S-203")
def test_a_child_that_was_forked_while_a_lock_was_held_does_not_hang(folder: Path) -> None:
    store = FileStore(folder)
    with store._lock:
        forked = Forked(lambda: store.claim(KEY, "child", 5)[0].value)
    assert forked.result() == "granted"


def test_a_folder_that_is_read_only_is_told() -> None:
    with tempfile.TemporaryDirectory(prefix="tv-") as parent:
        folder = Path(parent) / "tokens"
        store = FileStore(folder)
        store.write(KEY, b"old", 60, "a")
        if os.geteuid() == 0:
            for path in (Path(parent), folder, *folder.iterdir()):
                os.chown(path, NOBODY, NOBODY)
        folder.chmod(0o500)

        def child() -> list[str]:
            if os.geteuid() == 0:
                os.setresuid(NOBODY, NOBODY, NOBODY)
            told = []
            for use in (lambda: store.write(KEY, b"new", 60, "a"), lambda: store.claim(KEY, "a", 5)):
                try:
                    use()
                except StoreError as error:
                    told.append(str(error))
            entry = store.read(KEY)
            return [*told, entry.value.decode() if entry is not None else ""]

        written, claimed, found = Forked(child).result()
        assert "Permission denied" in written
        assert "Permission denied" in claimed
        assert found == "old"
        folder.chmod(0o700)


def test_a_disk_without_room_for_a_value_is_told_and_nothing_is_left_behind(folder: Path) -> None:
    store = FileStore(folder)

    def child() -> list[str]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED
        try:
            store.write(KEY, b"x" * 5000, 60, "a")
        except StoreError as error:
            return [str(error), store.claim(KEY, "b", 5)[0].value]
        return []

    text, lease = Forked(child).result()
    assert "File too large" in text
    assert lease == "granted"
    assert [file.suffix for file in folder.iterdir()] == [".lock"]


HAMMER = """
    import json, sys, threading
    from tokenvalet.stores import FileStore, Lease

    folder, me, keys = sys.argv[1], sys.argv[2], sys.argv[3:]
    store = FileStore(folder)
    print('"ready"', flush=True)
    sys.stdin.readline()
    wrong, granted = [], 0

    def hammer(name):
        global granted
        for turn in range(60):
            key = keys[turn % len(keys)]
            owner = f"{me}-{name}-{turn}"
            lease, entry = store.claim(key, owner, 5)
            if entry is not None:
                text = entry.value.decode()
                # Whole, and what somebody wrote under this very name.
                if len(text) % 97 or len(set(text[i:i + 97] for i in range(0, len(text), 97))) != 1 or key not in text:
                    wrong.append(text[:200])
            if lease is Lease.GRANTED:
                granted += 1
                unit = (key + owner).ljust(97, ".")[:97]
                store.write(key, (unit * (1 + turn * 7)).encode(), 60, owner)

    threads = [threading.Thread(target=hammer, args=(name,)) for name in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    store.close()
    print(json.dumps([granted, wrong]), flush=True)
"""


def test_eight_processes_with_four_threads_each_read_nothing_but_whole_values(folder: Path) -> None:
    keys = [key_of(number) for number in range(3)]
    scripts = [Script(HAMMER, folder, number, *keys) for number in range(8)]
    try:
        for script in scripts:
            assert script.line() == "ready"
        for script in scripts:
            script.tell()
        granted = 0
        for script in scripts:
            count, wrong = script.line()
            granted += count
            assert wrong == []
            script.end()
    finally:
        for script in scripts:
            script.kill()
    assert granted > 0
    assert {file.suffix for file in folder.iterdir()} == {".token", ".lock"}
    store = FileStore(folder)
    assert all(store.claim(key, "after", 5)[0] is Lease.GRANTED for key in keys)
    store.close()


def test_no_two_processes_have_a_lease_at_once(folder: Path) -> None:
    """Each adds one to a number in a file, under the lease; nothing is lost."""
    counter = folder.parent / "counter"
    counter.write_text("0")

    def child(number: int) -> Any:
        store = FileStore(folder)
        done = 0
        while done < 25:
            owner = f"{number}-{done}"
            if store.claim(KEY, owner, 60)[0] is Lease.GRANTED:
                counter.write_text(str(int(counter.read_text()) + 1))
                store.release(KEY, owner, 0)
                done += 1
        return done

    children = [Forked(lambda number=number: child(number)) for number in range(6)]  # type: ignore[misc]
    assert [one.result() for one in children] == [25] * 6
    assert counter.read_text() == "150"


def test_threads_of_one_process_share_a_store(folder: Path) -> None:
    store = FileStore(folder)
    granted: list[int] = []

    def work(number: int) -> None:
        for turn in range(50):
            owner = f"{number}-{turn}"
            if store.claim(KEY, owner, 60)[0] is Lease.GRANTED:
                granted.append(number)
                store.write(KEY, owner.encode(), 60, owner)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert granted
    assert store._held == {}
    entry = store.read(KEY)
    assert entry is not None
