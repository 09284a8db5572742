"""`make soak`: an hour of trouble in two minutes, and what it leaves behind, which has to be nothing.

A token lives for five seconds in the place of five minutes, and what lasts for minutes or is kept by the thousand is made
short and small in proportion, so that it comes round many times: pools, idle threads, swept folders, forgotten keys. The
intervals of the policy (between attempts, between forced renewals, until a store is asked again) stay as they are, which
makes it harder. All that goes wrong is drawn from the seed; how the calls fall in with it is the machine's.

Threads and tasks call an API with Bearer and DPoP tokens through `httpx2`, from five valets: one without a store, and two
with a folder and two with Redis, as two processes would share them; tenants come, call and go. The servers run in a process
of their own. At a fifth of the time and at its end everything is let heal, every caller gets one more good answer and
stands still, and it is counted what there is. The exit code is 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from soak_judge import Judge
from soak_load import TENANT_PAUSE, Load, Program
from soak_plan import Trouble, plan_of
from soak_servers import SECRET, Stage, stage
from soak_troubles import Conductor
from stores.makers import line_of
from stores.redis_server import RedisServer, Unavailable, executable
from tokenvalet import ClientConfig, StoreConfig, TokenValet, workers
from tokenvalet.clients import pools
from tokenvalet.core import dpop
from tokenvalet.stores import file

LIFETIME = 5
STANDS_FOR = 300
SCHEMES = ("bearer", "dpop")
KINDS = {"none": 1, "folder": 2, "Redis": 2}  # stores, and how many valets share each
CAPACITY = 16
LONGEST_SHARE = 0.75  # of its life for which a token is used at least, before another is asked for

Line = tuple[str, bool]


def compress() -> None:
    """Make short and small what would not come round within a soak."""
    pools.POOL_SECONDS = 10.0  # in the place of 120
    workers.IDLE_SECONDS = 0.5  # 30
    file.SWEEP_SECONDS = 5.0  # 600
    file.STALE_SECONDS = 10.0  # 3,600
    dpop.MOST_NONCES = 32  # 1,000


@dataclass(frozen=True, slots=True)
class Holdings:
    """What this process holds when everybody stands still, and what there is in the folder."""

    traced: float
    resident: float
    threads: int
    sockets: int
    others: int
    files: int


def holdings(folder: Path) -> Holdings:
    """Count it."""
    gc.collect()
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of the listing
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    sockets = sum(name.startswith("socket:") for name in names)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Holdings(
        traced=tracemalloc.get_traced_memory()[0] / 1024,
        resident=resident / 1024,
        threads=threading.active_count(),
        sockets=sockets,
        others=len(names) - sockets,
        files=len(list(folder.iterdir())) if folder.exists() else 0,
    )


# What may be there more at the end than at a fifth, and why as much as that.
BOUNDS = {
    "memory of Python objects, KiB": ("traced", 256),  # the caches of the interpreter and of the libraries
    "memory of the process, KiB": ("resident", 6144),  # the allocator gives back by the arena
    "threads": ("threads", 0),
    "sockets": ("sockets", 5),  # one for each valet: as many renewals as were under way at once
    "other open files": ("others", 0),
    "files in the folder": ("files", int(2 * KINDS["folder"] * 10 / TENANT_PAUSE)),  # of the tenants between two sweeps
}


class Soak:
    """One run.

    Args:
        seconds: how long calls are made.
        seed: of the troubles.
    """

    def __init__(self, seconds: float, seed: int, place: Path, servers: Stage, redis: RedisServer) -> None:
        self.seconds = seconds
        self.fifth = seconds / 5
        self.plan: tuple[Trouble, ...] = plan_of(seed, seconds, LIFETIME, self.fifth)
        self.folder = place / "tokens"
        self.servers = servers
        self.conductor = Conductor(self.plan, servers, redis, self.folder)
        self.judge = Judge(self.conductor.spells)
        self._seed = seed
        self._urls = {"folder": f"file://{self.folder}", "Redis": redis.url}
        self._key = place / "dpop.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        self._key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self._key.chmod(0o600)

    def run(self) -> Iterator[Line]:
        """Make the calls, and yield what came of them."""
        with contextlib.ExitStack() as stack:
            programs = [
                stack.enter_context(self._program(kind, number))
                for kind, many in KINDS.items()
                for number in range(many)
            ]
            load = Load(programs, self.judge, self._seed)
            with load.running():
                parked, held = [], []
                tracemalloc.start()
                for until in (self.fifth, self.seconds):
                    load.go()
                    self.conductor.play(until)
                    parked.append(load.park())
                    time.sleep(2 * workers.IDLE_SECONDS)
                    held.append(holdings(self.folder))
                tracemalloc.stop()
        yield from self._calls()
        yield f"every caller has a good answer when all is well again: {all(parked)}", all(parked)
        yield from growth(*held)

    @contextlib.contextmanager
    def _program(self, kind: str, number: int) -> Iterator[Program]:
        def config(scheme: str, **settings: Any) -> ClientConfig:
            return ClientConfig(
                token_endpoint=self.servers.token_endpoint,
                client_id=f"{kind}-{scheme}",
                client_secret=SECRET,
                base_url=self.servers.api,
                timeout=4,
                **settings,
            )

        # Only the holders of the same proof key can share what is bound to it.
        key = {"dpop": True} if kind == "none" else {"dpop_key_file": self._key, "dpop": True}
        clients = {"bearer": config("bearer"), "dpop": config("dpop", **key)}
        store = StoreConfig(url=self._urls[kind], encryption_keys=line_of("soak", 1)) if kind in self._urls else None
        label = f"{kind} {number}"
        listener = self.judge.listener(label)
        with TokenValet(clients, store=store, observers=[listener], capacity=CAPACITY) as valet:
            yield Program(label, valet, SCHEMES, config("tenant"))

    def _calls(self) -> Iterator[Line]:
        sums = {kind: Counter[str]() for kind in KINDS}
        for label, counts in self.judge.counts.items():
            sums[label.split()[0]] += counts
        yield _row("", *KINDS), True
        for title, names in (
            ("calls", ("good", "cancelled", "the API's own", "401s", "no token", "broken")),
            ("answered", ("good",)),
            ("given up by the caller", ("cancelled",)),
            ("failed by the API", ("the API's own",)),
            ("handed a 401, no token to be had", ("401s",)),
            ("failed, no token to be had", ("no token",)),
        ):
            yield _row(title, *(sum(counts[name] for name in names) for counts in sums.values())), True
        broken = [counts["broken"] for counts in sums.values()]
        yield _row("failed while a token could be had", *broken) + "   (bound: 0)", not any(broken)
        for sentence in self.judge.broken:
            yield f"    {sentence}", False
        yield _row("waits for a renewal", *(counts["waits"] for counts in sums.values())), True
        yield from self._tokens()

    def _tokens(self) -> Iterator[Line]:
        issued = self.servers.counts()
        revoked = sum(trouble.place == "tokens" for trouble in self.plan)
        lifetimes = self.seconds / LIFETIME
        # A renewal at the earliest moment, all the time, in every valet; one more for the start, and for each revocation.
        most = 1 / LONGEST_SHARE + (3 + 2 * revoked) / lifetimes
        shares = [
            sum(issued.get(f"{kind}-{scheme}", 0) for scheme in SCHEMES) / len(SCHEMES) / many / lifetimes
            for kind, many in KINDS.items()
        ]
        row = _row("tokens per lifetime and process", *(f"{share:.2f}" for share in shares))
        yield f"{row}   (bound: {most:.2f})", max(shares) <= most
        yield f"token requests in all, those of tenants included: {issued['requests']}", True


def growth(early: Holdings, late: Holdings) -> Iterator[Line]:
    yield _row("", "at 20 %", "at 100 %", "growth", "bound"), True
    for title, (name, bound) in BOUNDS.items():
        before, after = getattr(early, name), getattr(late, name)
        growth = after - before
        yield _row(title, *(f"{value:,.0f}" for value in (before, after, growth, bound))), growth <= bound


def _row(title: str, *cells: object) -> str:
    return f"{title:<34}" + "".join(f"{cell:>11}" for cell in cells)


def main(arguments: list[str] | None = None) -> int:
    """Run one soak and print its table. Returns the exit code."""
    parser = argparse.ArgumentParser(description="An hour of trouble in two minutes.")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        executable()
    except Unavailable as reason:
        print(f"no soak: it {reason}")
        return 1
    logging.getLogger("tokenvalet").addHandler(logging.NullHandler())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers are ended too
    compress()
    clients = [f"{kind}-{scheme}" for kind in KINDS for scheme in (*SCHEMES, "tenant")]
    place = Path(tempfile.mkdtemp(prefix="tv-"))
    held = True
    try:
        with RedisServer(place) as redis, stage(clients, LIFETIME) as servers:
            soak = Soak(options.seconds, options.seed, place, servers, redis)
            hours = options.seconds * STANDS_FOR / LIFETIME / 3600
            kinds = len({(trouble.place, trouble.kind) for trouble in soak.plan})
            print(
                f"{options.seconds:.0f} s with tokens of {LIFETIME} s, as {hours:.1f} h with tokens of {STANDS_FOR} s; "
                f"seed {options.seed}: {len(soak.plan)} troubles of {kinds} kinds\n"
            )
            for line, good in soak.run():
                held = held and good
                print(f"{'ok  ' if good else 'MISS'}  {line}", flush=True)
    finally:
        shutil.rmtree(place)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
