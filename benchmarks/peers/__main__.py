"""Runs every scenario with every peer, and writes the table into docs/peers.md."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tokenvalet

from .adapters import PEERS, Peer
from .scenarios import run
from .server import Server, running

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"
FOLDER = Path(__file__).parents[1]
PROCESSES = 8
IMPORTS = 5

HEAD = """# Beside its peers

`make bench-peers` writes this page: every library as its own documentation advises to use it, in one run against one
server in a process of its own. Counts are counts; times are the best of several rounds measured in turns, and ratios within
one row compare the same HTTP client with a static header. Where a peer is better than tokenvalet, and no worse in what
stands beside it, the cell is **bold**.

"""

READING = """
- **cold**: 64 callers at once with an empty cache, token endpoint 200 ms: token requests, and calls that failed.
- **warm**: a call beside the same call of the same HTTP client with a static header.
- **renewal**: 60 calls a second for eight seconds; the token is to be renewed once after about five (twice in tokenvalet's
  case, whose token lives five seconds, as its margin follows the lifetime; the others get a token that lives five seconds
  longer than their margin): calls that waited more than 100 ms, calls that failed, token requests.
- **revoked**: the API refuses the token from now on; 64 callers at once, twice: callers who saw a 401, token requests.
- **outage**: the token endpoint is down when the token would be renewed, and the token is good for seconds more: calls
  that failed, of 20.
- **processes**: eight processes with one call each: token requests. A store of one's own can be written for some of them;
  what counts here is what they bring along.
- **import**: milliseconds beyond starting Python. **memory**: KiB for one token more, for the peers with a client for it.

MSAL and azure-identity speak to a server that plays theirs, over TLS; google-auth sends a signed assertion in the place of
client credentials, which is what it offers. MSAL and azure-identity hand out tokens and make no calls: what a caller has to
do about a 401 is the caller's.
"""


def main() -> int:
    """Measure, and write the page. Returns the exit code."""
    if sys.argv[1:2] == ["one"]:
        peer = next(one for one in PEERS if one.name == sys.argv[2])
        print(json.dumps(run(peer, Server(*json.loads(sys.argv[3])))))
        return 0
    if sys.argv[1:2] == ["call"]:
        peer = next(one for one in PEERS if one.name == sys.argv[2])
        _call_once(peer, Server(*json.loads(sys.argv[3])))
        return 0
    began = time.monotonic()
    results: dict[str, dict[str, dict[str, Any]]] = {}
    with running() as server:
        for peer in PEERS:
            print(f"{peer.name} …", file=sys.stderr, flush=True)
            done = _python("one", peer.name, _told(server))
            results[peer.name] = json.loads(done) if done else {}
            results[peer.name]["import"] = {"ms": _import_ms(peer)}
            results[peer.name]["processes"] = _processes(peer, server)
    PAGE.write_text(HEAD + _shape(began) + table(results) + READING, encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    return 0


def _told(server: Server) -> str:
    return json.dumps([server.http, server.https, server.authority])


def _python(*arguments: str, environment: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-m", "peers", *arguments]
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER, env=env, timeout=300, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
    return done.stdout


def _call_once(peer: Peer, server: Server) -> None:
    from .scenarios import Crowd

    crowd = Crowd(peer, server)
    crowd.one(crowd.client.call)
    crowd.close()


def _processes(peer: Peer, server: Server) -> dict[str, Any]:
    found: dict[str, Any] = {"no store": _count(peer, server, {})}
    if peer.package == "tokenvalet":
        from tokenvalet.stores.sealing import new_key

        folder = Path(tempfile.mkdtemp(prefix="tv-"))
        try:
            found["a folder"] = _count(peer, server, {"PEERS_STORE": f"file://{folder}/t", "PEERS_KEY": new_key(None)})
            found["Redis"] = _with_redis(peer, server, folder, new_key(None))
        finally:
            shutil.rmtree(folder)
    return found


def _with_redis(peer: Peer, server: Server, folder: Path, key: str) -> int | str:
    executable = shutil.which("redis-server")
    if executable is None:
        return "no redis-server"
    socket = folder / "r.sock"
    command = [executable, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as redis:
        try:
            while not socket.exists():
                time.sleep(0.02)
            return _count(peer, server, {"PEERS_STORE": f"unix://{socket}", "PEERS_KEY": key})
        finally:
            redis.terminate()


def _count(peer: Peer, server: Server, environment: dict[str, str]) -> int:
    server.be(delay=0.2)
    command = [sys.executable, "-m", "peers", "call", peer.name, _told(server)]
    env = {**os.environ, **environment}
    children = [subprocess.Popen(command, cwd=FOLDER, env=env) for _ in range(PROCESSES)]
    for child in children:
        child.wait(120)
    return server.token_requests()


def _import_ms(peer: Peer) -> int:
    def best(code: str) -> float:
        times = []
        for _ in range(IMPORTS):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            times.append(time.perf_counter() - began)
        return min(times)

    return round((best(f"import {peer.package}") - best("pass")) * 1000)


COLUMNS = (
    ("cold: token requests", "cold", "token requests"),
    ("failed", "cold", "failed"),
    ("warm: × static", "warm", "times a static header"),
    ("added, µs", "warm", "added, µs"),
    ("renewal: waited", "renewal", "waited"),
    ("failed", "renewal", "failed"),
    ("requests", "renewal", "token requests"),
    ("revoked: saw 401", "revoked", "saw a 401"),
    ("requests", "revoked", "token requests"),
    ("outage: failed", "outage", "failed of 20"),
    ("processes: requests", "processes", "no store"),
    ("import, ms", "import", "ms"),
    ("memory, KiB", "memory", "KiB"),
)


def table(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return the results as Markdown; cells that are better than tokenvalet's are bold."""
    ours = results["tokenvalet"]
    lines = ["| | " + " | ".join(head for head, _, _ in COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for name, found in results.items():
        cells = [_cell(found, ours, scenario, figure) for _, scenario, figure in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    stores = ours.get("processes", {})
    shared = ", ".join(f"{kind}: {count}" for kind, count in stores.items() if kind != "no store")
    return "\n".join(lines) + (f"\n\nEight processes of tokenvalet with a store: {shared}.\n" if shared else "\n")


def _cell(found: dict[str, dict[str, Any]], ours: dict[str, dict[str, Any]], scenario: str, figure: str) -> str:
    value = found.get(scenario, {}).get(figure)
    if value is None:
        return "not measured"
    if isinstance(value, str):
        return value
    pairs = [(found[scenario].get(name), best) for name, best in ours.get(scenario, {}).items()]
    # Fewer token requests are nothing to be proud of where callers got a 401 for it.
    is_worse = any(isinstance(one, int | float) and isinstance(best, int | float) and one > best for one, best in pairs)
    best = ours.get(scenario, {}).get(figure)
    is_better = found is not ours and isinstance(best, int | float) and value < best and not is_worse
    return f"**{value}**" if is_better else str(value)


def _version(package: str) -> str:
    # This one is run from its sources.
    return tokenvalet.__version__ if package == "tokenvalet" else importlib.metadata.version(package)


def _shape(began: float) -> str:
    packages = sorted({package for peer in PEERS for package in peer.packages})
    versions = ", ".join(f"{package} {_version(package)}" for package in packages)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, CPython {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores "
        f"that others use too; {time.monotonic() - began:.0f} s in all. {versions}.\n\n"
    )


if __name__ == "__main__":
    sys.exit(main())
