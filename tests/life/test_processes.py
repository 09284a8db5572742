"""The same promises in forked children, in spawned ones, and at the end of the interpreter (promise 11)."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from life.makers import PATIENCE, SECRET, Bench, config, in_threads, until, workers_of
from support.children import Forked
from support.raw_server import RawServer, never_answer
from tokenvalet import TokenValet
from tokenvalet.files import read_file
from tokenvalet.testing import AuthorizationServer, Fault, RegisteredClient, serve

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
# From Python 3.12 on, every fork of a process with threads is warned of: it is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer([RegisteredClient(client_id="web", client_secret=SECRET)])
    with serve(server):
        yield server


@pytest.fixture
def valet(auth: AuthorizationServer) -> Iterator[TokenValet]:
    with TokenValet({"m2m": config(token_endpoint=auth.token_endpoint)}) as made:
        yield made


@forks
@pytest.mark.standards("S-203")
def test_a_child_that_is_forked_in_the_middle_of_a_renewal_gets_a_token_of_its_own(
    auth: AuthorizationServer, valet: TokenValet
) -> None:
    auth.token_delay = 0.3
    with in_threads() as threads:
        threads.start(lambda: valet.token("m2m").value)
        until(lambda: auth.token_requests)
        auth.token_delay = 0.0
        child = Forked(lambda: valet.token("m2m").value)
        in_child = child.result()
    assert len({in_child, *threads.values}) == 2
    assert (len(auth.token_requests), auth.issued) == (2, 2)
    # The connection is the parent's, and still in order.
    valet.invalidate("m2m")
    valet.token("m2m")
    assert auth.issued == 3


@forks
@pytest.mark.standards("S-203")
def test_a_child_uses_the_token_that_its_parent_has(auth: AuthorizationServer, valet: TokenValet) -> None:
    token = valet.token("m2m").value
    assert Forked(lambda: valet.token("m2m").value).result() == token
    assert auth.issued == 1


@forks
@pytest.mark.standards("S-203")
def test_parent_and_child_renew_side_by_side(auth: AuthorizationServer, valet: TokenValet) -> None:
    """Neither reads from the other's connection, which is kept open between renewals."""

    def five() -> list[str]:
        values = []
        for _ in range(5):
            valet.invalidate("m2m")
            values.append(valet.token("m2m").value)
        return values

    valet.token("m2m")
    children = [Forked(five) for _ in range(2)]
    found = [*five(), *(value for child in children for value in child.result())]
    assert len(set(found)) == 15
    assert auth.issued == 16


@contextlib.contextmanager
def everything_locked(valet: TokenValet) -> Iterator[None]:
    """Hold every lock that some thread might hold in the moment of a fork."""
    around = valet._around
    owners: list[Any] = [valet._pools, valet._renewer, around.directory, around.tls, around.backchannel]
    with contextlib.ExitStack() as stack:
        for owner in owners:
            stack.enter_context(owner._lock)
        stack.enter_context(workers_of(valet)._condition)
        yield


@forks
@pytest.mark.standards("S-203")
def test_no_lock_that_was_held_in_the_moment_of_the_fork_is_missed_in_the_child(
    auth: AuthorizationServer,
) -> None:
    settings = config(issuer=auth.issuer, token_endpoint=None)
    with TokenValet({"m2m": settings}) as valet:

        def use() -> str:
            token = valet.token("m2m")
            valet.add_client("b", settings)
            valet.close()
            return token.token_type

        with everything_locked(valet):
            child = Forked(use)
        assert child.result() == "Bearer"
        assert valet.token("m2m").token_type == "Bearer"


@forks
@pytest.mark.standards("S-203")
def test_a_lock_of_an_issuer_that_was_held_in_the_moment_of_the_fork_is_not_missed(auth: AuthorizationServer) -> None:
    with TokenValet({"m2m": config(issuer=auth.issuer, token_endpoint=None)}) as valet:
        valet.token("m2m")
        valet._around.directory._kept.clear()
        valet.invalidate("m2m")
        locks = list(valet._around.directory._locks.values())
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            child = Forked(lambda: valet.token("m2m").token_type)
        assert child.result() == "Bearer"


@forks
@pytest.mark.standards("S-203")
def test_the_event_that_ends_pauses_is_not_missed_when_it_was_busy_in_the_moment_of_the_fork(
    auth: AuthorizationServer, valet: TokenValet
) -> None:
    def use() -> str:
        token = valet.token("m2m")
        valet.close()
        return token.token_type

    stopping: Any = valet._around.stopping
    auth.misbehave(Fault.status_only(503))
    with stopping._cond:
        child = Forked(use)
    assert child.result() == "Bearer"


@forks
@pytest.mark.standards("S-203")
def test_a_secret_that_is_being_read_again_in_the_moment_of_the_fork_can_be_read_in_the_child(
    auth: AuthorizationServer, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o600)
    settings = config(token_endpoint=auth.token_endpoint, client_secret=None, client_secret_file=file)
    parent, reading, go_on = os.getpid(), threading.Event(), threading.Event()

    def slowly(path: Path, *, private: bool) -> Any:
        if os.getpid() == parent:
            reading.set()
            assert go_on.wait(PATIENCE)
        return read_file(path, private=private)

    with TokenValet({"m2m": settings}) as valet, pytest.MonkeyPatch.context() as patch, in_threads() as threads:
        patch.setattr("tokenvalet.files.read_file", slowly)
        file.write_text(SECRET)
        threads.start(lambda: valet.token("m2m").token_type)
        assert reading.wait(PATIENCE)
        child = Forked(lambda: valet.token("m2m").token_type)
        go_on.set()
        assert child.result() == "Bearer"
    assert threads.values == ["Bearer"]


@forks
@pytest.mark.standards("S-213")
def test_a_token_set_aside_in_the_moment_of_the_fork_is_back_in_the_child() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.backchannel.hold()
        bench.renewer.replace(bench.ticket(), first)
        bench.backchannel.wait_for(2)
        assert Forked(lambda: [bench.valet.token("m2m").value, bench.count]).result() == ["token-0", 2]


@forks
@pytest.mark.standards("S-091", "S-203")
def test_no_proof_of_four_children_and_their_parent_has_the_jti_of_another() -> None:
    import base64

    def jtis(count: int) -> list[str]:
        token = bench.valet.token("m2m")
        found = []
        for _ in range(count):
            payload = token.proof("GET", "https://api.example.org/").split(".")[1]
            found.append(json.loads(base64.urlsafe_b64decode(payload + "=="))["jti"])
        return found

    with Bench(dpop=True) as bench:
        from life.makers import tokens

        bench.backchannel.answer = tokens(token_type="DPoP")
        bench.valet.token("m2m")
        children = [Forked(lambda: jtis(2500)) for _ in range(4)]
        found = [jti for child in children for jti in child.result()] + jtis(500)
    assert len(set(found)) == 10_500


@forks
@pytest.mark.standards("S-203")
def test_the_jitter_of_children_differs() -> None:
    def window() -> float:
        token = bench.valet.token("m2m", scope="x")
        return token.end.monotonic - token.due.monotonic

    with Bench() as bench:
        bench.valet.token("m2m")
        assert len({Forked(window).result() for _ in range(4)}) == 4


@forks
def test_a_closed_valet_is_closed_in_the_child_too() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.valet.close()

        def ask() -> str:
            with pytest.raises(Exception, match="closed") as caught:
                bench.valet.token("m2m")
            return type(caught.value).__name__

        assert Forked(ask).result() == "ValetClosedError"


@forks
def test_a_child_closes_its_copy_without_touching_the_connections_of_its_parent(
    auth: AuthorizationServer, valet: TokenValet
) -> None:
    valet.token("m2m")
    assert Forked(valet.close).result() is None
    valet.invalidate("m2m")
    assert valet.token("m2m").token_type == "Bearer"
    assert auth.issued == 2


# Spawn -----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-160", "S-225")
def test_nothing_of_a_valet_is_pickled_and_each_says_what_to_do_instead() -> None:
    from life.makers import tokens

    with Bench(tokens(token_type="DPoP"), dpop=True) as bench:
        token = bench.valet.token("m2m")
        settings = bench.valet._clients["m2m"].config
        for thing in (bench.valet, token, settings, settings.client_secret, token.proof_key):
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                with pytest.raises(TypeError, match="not pickled") as caught:
                    pickle.dumps(thing, protocol)
                assert SECRET not in str(caught.value)
        assert copy.copy(token) is copy.deepcopy(token) is token


def test_a_spawned_process_gets_its_token_from_the_same_configuration(auth: AuthorizationServer) -> None:
    script = f"""
        import multiprocessing

        from tokenvalet import TokenValet

        SETTINGS = {{"token_endpoint": {auth.token_endpoint!r}, "client_id": "web", "client_secret": {SECRET!r}}}

        def work(_):
            with TokenValet.from_dict({{"clients": {{"m2m": SETTINGS}}}}) as valet:
                return valet.token("m2m").token_type

        if __name__ == "__main__":
            with TokenValet.from_dict({{"clients": {{"m2m": SETTINGS}}}}) as valet:
                valet.token("m2m")
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.map(work, [1]))
    """
    assert run(script).stdout == "['Bearer']\n"
    assert auth.issued == 2


# The interpreter's end, and its beginning ------------------------------------------------------------------------


def run(script: str, *, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own; it has to end by itself, and without a word on stderr."""
    # As a file, since a spawned process imports its parent's main module.
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", RUNNER, textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done


RUNNER = """
import os, runpy, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "script.py")
    with open(path, "w") as file:
        file.write(sys.argv[1])
    runpy.run_path(path, run_name="__main__")
"""


@pytest.mark.standards("S-208", "S-209")
def test_the_interpreter_ends_with_a_renewal_in_flight_and_people_waiting_for_it() -> None:
    with RawServer(never_answer) as server:
        began = time.monotonic()
        done = run(
            f"""
            import asyncio, threading, time
            from tokenvalet import ClientConfig, TokenValet

            settings = ClientConfig(token_endpoint={server.url!r}, client_id="web", client_secret="s3cret", timeout=300)
            valet = TokenValet({{"m2m": settings}})
            threading.Thread(target=valet.token, args=("m2m",), daemon=True).start()

            async def main():
                task = asyncio.create_task(valet.async_token("m2m"))
                await asyncio.sleep(0.05)
                task.cancel()

            asyncio.run(main())
            while not any(thread.name.startswith("tokenvalet") for thread in threading.enumerate()):
                time.sleep(0.001)
            print("over")
            """
        )
    assert done.stdout == "over\n"
    assert time.monotonic() - began < 20


@pytest.mark.standards("S-209")
def test_a_token_that_is_asked_for_while_the_interpreter_ends_is_an_error_and_no_hang() -> None:
    with RawServer(never_answer) as server:
        done = run(
            f"""
            import atexit, logging
            from tokenvalet import ClientConfig, TokenValet, TokenValetError

            settings = ClientConfig(token_endpoint={server.url!r}, client_id="web", client_secret="s3cret", timeout=0.3)
            valet = TokenValet({{"m2m": settings}})

            logging.getLogger("tokenvalet").addHandler(logging.NullHandler())

            def late():
                try:
                    valet.token("m2m")
                except TokenValetError as error:
                    print(error.code)

            atexit.register(late)
            """
        )
    assert done.stdout in ("token_request_timeout\n", "renewal_broke\n")


@pytest.mark.standards("S-208")
def test_nothing_is_started_at_import_or_when_a_valet_is_made() -> None:
    done = run(
        """
        import sys, threading
        import tokenvalet
        light = sorted(name for name in ("pydantic", "httpx2", "httpcore2", "cryptography", "ssl") if name in sys.modules)
        valet = tokenvalet.TokenValet(
            tokenvalet.ClientConfig(token_endpoint="http://127.0.0.1:1/", client_id="web", client_secret="s3cret")
        )
        print(light, threading.active_count())
        """
    )
    assert done.stdout == "[] 1\n"


def test_threads_of_ours_do_not_keep_the_interpreter_alive() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        ours = [thread for thread in threading.enumerate() if thread.name.startswith("tokenvalet")]
        assert ours
        assert all(thread.daemon for thread in ours)
