"""The example of Celery runs with a real worker, over a broker of files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.host_processes import placed, process, surroundings
from tokenvalet.cli.demo_stage import Stage
from tokenvalet.cli.screen import Screen

# What the example leaves to those who deploy it.
DEPLOYED = """
from pathlib import Path
import tasks
here = Path(__file__).parent
for name in ("queue", "control", "results"):
    (here / name).mkdir(exist_ok=True)
app = tasks.app
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={"data_folder_in": here / "queue", "data_folder_out": here / "queue",
                              "control_folder": here / "control"},
    result_backend=f"file://{here / 'results'}",
)
"""
SENT = """
import json
from deployed import tasks
sent = [tasks.fetch_records.delay() for _ in range(12)]
print(json.dumps([one.get(timeout=60) for one in sent]))
"""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage(Screen(lambda line: None)) as servers:
        yield servers


@pytest.fixture
def folder(stage: Stage, tmp_path: Path) -> Path:
    place = placed("celery", tmp_path, stage.auth.issuer, stage.api.origin)
    (place / "deployed.py").write_text(DEPLOYED, encoding="utf-8")
    return place


def worker(pool: str) -> list[str]:
    # Without what needs a broker that can broadcast.
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return ["celery", "--app", "deployed", "worker", "--pool", pool, "--concurrency", "2", *quiet, "--loglevel", "INFO"]


@pytest.mark.parametrize(("pool", "processes"), [("prefork", 2), ("threads", 1), ("solo", 1)])
def test_tasks_share_the_token_of_their_process_and_who_sends_them_needs_no_secret(
    pool: str, processes: int, stage: Stage, folder: Path
) -> None:
    with process(worker(pool), folder, surroundings(RECORDS_CLIENT_SECRET=stage.client_secret)) as running:
        running.wait_for(" ready.")
        sent = subprocess.run(
            [sys.executable, "-c", SENT], cwd=folder, env=surroundings(), capture_output=True, text=True, timeout=120
        )
        assert sent.returncode == 0, sent.stderr + running.output
        assert json.loads(sent.stdout) == [3] * 12
        assert running.end() == 0
        assert "Traceback" not in running.output
        assert stage.client_secret not in running.output
    assert 1 <= stage.auth.issued <= processes
    assert [call.status for call in stage.api.calls] == [200] * 12


def test_a_worker_does_not_start_without_its_secret(folder: Path) -> None:
    with process(worker("prefork"), folder, surroundings()) as running:
        assert running.process.wait(60) != 0
        assert "RECORDS_CLIENT_SECRET is not set" in running.output
