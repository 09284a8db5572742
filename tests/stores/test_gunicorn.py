"""A web host under gunicorn, with uvicorn's workers: one token request for all of them, and a clean end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stores.makers import line_of
from stores.redis_server import RedisServer
from tokenvalet.stores import FileStore, Lease
from tokenvalet.testing import AuthorizationServer, RegisteredClient, serve

TESTS = Path(__file__).parents[1]
WORKERS = 4
PATIENCE = 60.0


class Gunicorn:
    """A gunicorn with four workers on a Unix socket."""

    def __init__(self, folder: Path, settings: dict[str, Any], *options: str) -> None:
        self._socket = folder / "g.sock"
        self._log = folder / "gunicorn.log"
        command = [sys.executable, "-m", "gunicorn", "stores.web_app:app", "--bind", f"unix:{self._socket}"]
        command += [
            "--worker-class",
            "uvicorn.workers.UvicornWorker",
            "--workers",
            str(WORKERS),
            *options,
            "--no-control-socket",
        ]
        paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "WEB_APP": json.dumps(settings), "PYTHONPATH": os.pathsep.join(paths)}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)

    def tokens(self) -> dict[int, str]:
        """Ask until every worker has answered, and return what each has."""
        found: dict[int, str] = {}
        deadline = time.monotonic() + PATIENCE

        def ask() -> None:
            # A connection of its own, or one worker would get them all.
            with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE)
                connection.connect(str(self._socket))
                connection.sendall(b"GET /token HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
                answer = connection.makefile("rb").read()
                assert answer.startswith(b"HTTP/1.1 200"), answer
                document = json.loads(answer.partition(b"\r\n\r\n")[2])
                assert found.setdefault(document["process"], document["token"]) == document["token"]

        with ThreadPoolExecutor(16) as pool:
            while len(found) < WORKERS:
                assert self.process.poll() is None, self.log()
                assert time.monotonic() < deadline, f"only {len(found)} workers answer:\n{self.log()}"
                for one in [pool.submit(ask) for _ in range(16)]:
                    one.result()
                time.sleep(0.05)
        return found

    def log(self) -> str:
        return self._log.read_text()

    def end(self) -> None:
        """Have it end, and see that nothing went wrong on the way."""
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.log()
        for trouble in ("Traceback", "Exception", "WORKER TIMEOUT", "SIGKILL"):
            assert trouble not in self.log()


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer([RegisteredClient(client_id="web", client_secret="planted-client-secret")])
    server.token_delay = 0.3
    with serve(server):
        yield server


@pytest.mark.standards("S-200", "S-203", "S-209")
@pytest.mark.parametrize(
    ("kind", "options", "renews_at_import"),
    [
        ("folder", [], False),
        ("folder", ["--preload"], True),
        ("redis", [], False),
        ("redis", ["--preload"], False),
        ("redis", ["--preload"], True),
    ],
    ids=[
        "folder",
        "folder, forked in the middle of a renewal",
        "redis",
        "redis, preload",
        "redis, forked in the middle",
    ],
)
def test_all_workers_use_one_token_and_end_without_leaving_a_lease(
    auth: AuthorizationServer, place: Path, kind: str, options: list[str], renews_at_import: bool
) -> None:
    with RedisServer(place) as server:
        url = server.url if kind == "redis" else f"file://{place}/tokens"
        settings = {
            "client": {
                "token_endpoint": auth.token_endpoint,
                "client_id": "web",
                "client_secret": "planted-client-secret",
                "timeout": 30,
            },
            "store": {"url": url, "encryption_keys": line_of("a", 1)},
            "renews_at_import": renews_at_import,
        }
        gunicorn = Gunicorn(place, settings, *options)
        try:
            found = gunicorn.tokens()
            assert len(found) == WORKERS
            assert len(set(found.values())) == 1
            assert len(auth.token_requests) == 1
            gunicorn.end()
        finally:
            gunicorn.process.kill()
            gunicorn.process.wait()
        if kind == "redis":
            with server.client() as eye:
                (name,) = eye.keys()
                assert name.endswith(b":token")
        else:
            store = FileStore(place / "tokens")
            locks = [file.stem for file in (place / "tokens").glob("*.lock")]
            assert [store.claim(lock, "after", 5)[0] for lock in locks] == [Lease.GRANTED]
            store.close()
