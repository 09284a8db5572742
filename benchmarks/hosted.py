"""The examples of web hosts and of Celery, each with eight worker processes and a store, under load: one token request."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.host_processes import placed, process, served, shared_by_workers, surroundings
from tokenvalet.cli.demo_stage import Stage
from tokenvalet.cli.screen import Screen

WORKERS = 8
CALLS = 800
MOST_CALLS = 6400
THREADS = 16
PATIENCE = 120.0
HOSTS = {
    "FastAPI, uvicorn": ("fastapi", "uvicorn", "app:app"),
    "Starlette, uvicorn": ("starlette", "uvicorn", "app:app"),
    "Litestar, uvicorn": ("litestar", "uvicorn", "app:app"),
    "Flask, gunicorn": ("flask", "gunicorn", "app:create_app()"),
    "Django, gunicorn": ("django", "gunicorn", "service.wsgi:application"),
}

# Python runs it in each process that begins: which worker has called the API, without a line of the examples changed.
PROBE = """
import os
from tokenvalet import observe
def note(event):
    if event.name == "call_sent":
        with open(os.environ["CALLS_NOTED"], "a") as notes:
            notes.write(f"{os.getpid()}\\n")
kept = observe.observed_everywhere(note)
kept.__enter__()
"""
DEPLOYED = """
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit
import tasks
here = Path(__file__).parent
for name in ("queue", "control"):
    (here / name).mkdir(exist_ok=True)
app = tasks.app
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={"data_folder_in": here / "queue", "data_folder_out": here / "queue",
                              "control_folder": here / "control"},
    task_ignore_result=True,
)
"""


def run() -> Iterator[tuple[str, bool]]:
    """Yield a line for each host, and whether its workers made one token request."""
    for name, (example, server, app) in HOSTS.items():
        yield _measured(name, example, partial(_web, server, app))
    yield _measured("Celery, prefork", "celery", _celery)


class _Notes:
    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    @property
    def lines(self) -> list[str]:
        return self._path.read_text(encoding="ascii").split()


def _measured(name: str, example: str, load: Callable[[Path, dict[str, str]], int]) -> tuple[str, bool]:
    with tempfile.TemporaryDirectory() as made, Stage(Screen(lambda line: None)) as stage:
        place = Path(made)
        (place / "sitecustomize.py").write_text(PROBE, encoding="utf-8")
        notes = _Notes(place / "notes")
        folder = placed(example, place, stage.auth.issuer, stage.api.origin, shared_by_workers(place))
        environ = surroundings(
            RECORDS_CLIENT_SECRET=stage.client_secret, PYTHONPATH=made, CALLS_NOTED=str(place / "notes")
        )
        failed = load(folder, environ)
        workers, asked = len(set(notes.lines)), len(stage.auth.token_requests)
        served_calls = len(stage.api.calls)
    line = f"{name}: {workers} workers, {served_calls:,} calls, {failed} failed: {asked} token requests (1)"
    return line, asked == 1 and failed == 0 and workers == WORKERS


def _web(server: str, app: str, folder: Path, environ: dict[str, str]) -> int:
    notes = _Notes(Path(environ["CALLS_NOTED"]))
    failed: list[str] = []
    done = threading.Event()

    def user(url: str) -> None:
        for turn in range(MOST_CALLS // THREADS):
            # A connection for each, so that all the workers get some.
            browser = HTTPConnection(urlsplit(url).netloc, timeout=60)
            try:
                browser.request("GET", "/records")
                answer = browser.getresponse()
                if answer.status != 200 or not answer.read():
                    failed.append(f"{answer.status}")
            except OSError as error:
                failed.append(type(error).__name__)
            finally:
                browser.close()
            if turn % 10 == 9 and len(lines := notes.lines) >= CALLS and len(set(lines)) == WORKERS:
                done.set()
            if done.is_set():
                return

    with served(server, app, folder, environ, workers=WORKERS) as host, ThreadPoolExecutor(THREADS) as users:
        for _ in range(THREADS):
            users.submit(user, host.url)
    return len(failed)


def _celery(folder: Path, environ: dict[str, str]) -> int:
    (folder / "deployed.py").write_text(DEPLOYED, encoding="utf-8")
    send = f"from deployed import tasks\nfor _ in range({CALLS}): tasks.fetch_records.delay()"
    arguments = ["celery", "--app", "deployed", "worker", "--pool", "prefork", "--concurrency", str(WORKERS)]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO", "-O", "fair"]
    notes = _Notes(Path(environ["CALLS_NOTED"]))
    with process([*arguments, *quiet], folder, environ) as worker:
        worker.wait_for(" ready.")
        sender = {**environ, "RECORDS_CLIENT_SECRET": ""}
        subprocess.run([sys.executable, "-c", send], cwd=folder, env=sender, check=True, stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + PATIENCE
        while len(notes.lines) < CALLS and time.monotonic() < give_up:
            time.sleep(0.1)
    return CALLS - len(notes.lines)
