"""Real Redis servers, started, paused and killed by the tests: alone, as replicas, behind a sentinel, as a cluster.

Each has a folder of its own, and listens on a Unix socket in it, or on a free port where it has to.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PATIENCE = 10.0


class Unavailable(Exception):
    """Redis is not installed here."""


def executable(name: str = "redis-server") -> str:
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"needs {name}: install redis-server (Debian and Ubuntu: apt-get install redis-server)")
    return path


def free_port() -> int:
    """Return a port that nobody listens on; for a cluster, whose bus takes the one 10,000 above it."""
    while True:
        with socket.socket() as listener, socket.socket() as bus:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
            with contextlib.suppress(OSError):
                if port < 55_000:
                    bus.bind(("127.0.0.1", port + 10_000))
                    return port


class RedisServer:
    """A redis-server process.

    Args:
        folder: for its socket, its log and what it writes; short, since the path of a socket may have 107 bytes.
        port: 0 for the Unix socket only.
        settings: options of redis-server, with ``_`` for ``-``.
    """

    def __init__(self, folder: Path, *, port: int = 0, **settings: str | int) -> None:
        self.folder = folder
        self.port = port
        self.socket = folder / "r.sock"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of the test's own, which looks at what there is."""
        at_once = Retry(NoBackoff(), 0)
        return redis.Redis(
            **{"unix_socket_path": str(self.socket), "socket_timeout": PATIENCE, "retry": at_once, **options}
        )

    def start(self, *, wait: bool = True) -> Self:
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": self.socket,
            "save": "",
            "appendonly": "no",
            "dir": self.folder,
            "logfile": self.folder / "log",
            "daemonize": "no",
            **self._settings,
        }
        command = [executable()]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", *(str(value).split(" ") if value != "" else [""])]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if wait:
            self.wait_until_it_answers()
        return self

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self.client() as client:
                    client.execute_command("PING")
                return
            except (redis.AuthenticationError, redis.ResponseError):
                return  # it answers, if not to everybody
            except (redis.ConnectionError, redis.TimeoutError, FileNotFoundError):
                assert self._process is not None
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextlib.contextmanager
def sentinel(folder: Path, primary: RedisServer, *, password: str = "") -> Iterator[int]:
    """Run a sentinel that watches `primary`, and yield its port."""
    port = free_port()
    file = folder / "sentinel.conf"
    lines = [f"port {port}", f"dir {folder}", "bind 127.0.0.1", f"sentinel monitor primary 127.0.0.1 {primary.port} 1"]
    if password:
        lines.append(f"sentinel auth-pass primary {password}")
    file.write_text("\n".join(lines) + "\n")
    command = [executable(), str(file), "--sentinel"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(redis.RedisError), redis.Redis(port=port, socket_timeout=1) as client:
                if client.sentinel_get_master_addr_by_name("primary"):
                    break
            assert time.monotonic() < deadline, "the sentinel does not answer"
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def cluster(folder: Path, *, replicas: int = 0, node_timeout: int = 2000) -> Iterator[list[RedisServer]]:
    """Run a cluster of three on this machine, and yield its nodes.

    Args:
        folder: for the folders of its nodes.
        replicas: how many each of the three has; they come behind the three.
        node_timeout: milliseconds after which a node that is silent counts as failed.
    """
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in range(3 * (1 + replicas)):
            place = folder / str(number)
            place.mkdir()
            settings: dict[str, str | int] = {"cluster_node_timeout": node_timeout, "repl_diskless_sync_delay": 0}
            node = RedisServer(place, port=free_port(), cluster_enabled="yes", **settings)
            nodes.append(stack.enter_context(node))
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        command = [executable("redis-cli"), "--cluster", "create", *addresses, "--cluster-yes"]
        command += ["--cluster-replicas", str(replicas)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        wait_for_the_cluster(nodes, len(nodes))
        yield nodes


def wait_for_the_cluster(nodes: list[RedisServer], known: int) -> None:
    """Wait until each of these nodes says that all is well, and knows of so many."""
    deadline = time.monotonic() + 2 * PATIENCE
    for node in nodes:
        with node.client() as client:
            while not _is_well(dict(client.execute_command("CLUSTER INFO")), known):
                assert time.monotonic() < deadline, "the cluster does not come up"
                time.sleep(0.02)


def _is_well(info: dict[str, str], known: int) -> bool:
    return (info.get("cluster_state"), info.get("cluster_known_nodes")) == ("ok", str(known))


def holders(nodes: list[RedisServer]) -> list[RedisServer]:
    """Return those of these nodes that hold a key."""
    found = []
    for node in nodes:
        with node.client() as client:
            if client.dbsize():
                found.append(node)
    return found
