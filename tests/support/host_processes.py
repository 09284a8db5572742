"""Examples as processes: a copy beside a configuration with addresses of a test, run by the servers that people use."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tokenvalet.cli.demo_serve import PORTS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENCE = 60.0


def placed(name: str, folder: Path, issuer: str, api: str, more: str = "") -> Path:
    """Copy an example into `folder`, and write other addresses into its configuration. Returns where it is."""
    place = folder / name
    shutil.copytree(EXAMPLES / name, place)
    toml = place / "tokenvalet.toml"
    text = toml.read_text(encoding="utf-8")
    for port, url in zip(PORTS, (issuer, api), strict=False):
        assert f'"http://127.0.0.1:{port}"' in text
        text = text.replace(f"http://127.0.0.1:{port}", url)
    toml.write_text(text + more, encoding="utf-8")
    return place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def surroundings(**more: str) -> dict[str, str]:
    """Return the environment for a process, without what would configure tokenvalet."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TOKENVALET", "RECORDS_", "DJANGO_", "PYTEST_"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


class HostProcess:
    """A process with what it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, url: str = "") -> None:
        self.process = process
        self.url = url
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < give_up, self.output
            time.sleep(0.02)

    def end(self) -> int:
        """End it as a supervisor would. Returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


@contextmanager
def process(arguments: list[str], folder: Path, environ: Mapping[str, str]) -> Iterator[HostProcess]:
    """Run ``python -m ARGUMENTS...`` in `folder`, and end it."""
    log = folder / "output.txt"
    with log.open("wb") as sink:
        started = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = HostProcess(started, log)
    try:
        yield running
    finally:
        running.end()


def command(server: str, app: str, port: int, workers: int = 1) -> list[str]:
    if server == "uvicorn":
        return ["uvicorn", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers), app]
    return ["gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", str(workers), "--no-control-socket", app]


@contextmanager
def served(server: str, app: str, folder: Path, environ: Mapping[str, str], workers: int = 1) -> Iterator[HostProcess]:
    """Serve an application of `folder`, and wait until it answers connections."""
    port = free_port()
    with process(command(server, app, port, workers), folder, environ) as running:
        running.url = f"http://127.0.0.1:{port}"
        give_up = time.monotonic() + PATIENCE
        while True:
            assert running.process.poll() is None, running.output
            assert time.monotonic() < give_up, running.output
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield running


def shared_by_workers(folder: Path) -> str:
    """Make keys in `folder`. Returns what an example's configuration takes more to share its token by a folder."""
    for arguments, name in ((["new-store-key"], "store-keys"), (["new-proof-key", "--out"], "proof-key.pem")):
        path = folder / name
        command = [sys.executable, "-m", "tokenvalet", "keys", *arguments, *([str(path)] if arguments[1:] else [])]
        made = subprocess.run(command, capture_output=True, check=True)
        if not path.exists():
            path.write_bytes(made.stdout)
        path.chmod(0o600)
    return f"""
dpop_key_file = "{folder / "proof-key.pem"}"

[store]
url = "file://{folder / "tokens"}"
encryption_keys_file = "{folder / "store-keys"}"
"""
