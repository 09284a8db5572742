"""Processes of their own for the tests: forked ones that compute one thing, and scripts that print what they found."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from typing import IO, Any, Self

import pytest

PATIENCE = 20.0


class Forked:
    """A forked child that computes one thing; killed when it takes too long."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self._read)
                text = json.dumps(compute())
                status = 0
            except BaseException:
                text = json.dumps(traceback.format_exc())
            finally:
                with os.fdopen(write, "wb") as pipe:
                    pipe.write(text.encode())
                os._exit(status)
        os.close(write)

    def result(self) -> Any:
        data = b""
        try:
            while True:
                ready, _, _ = select.select([self._read], [], [], PATIENCE)
                if not ready:
                    os.kill(self.pid, signal.SIGKILL)
                    pytest.fail("the child hangs")
                if not (more := os.read(self._read, 65536)):
                    break
                data += more
        finally:
            os.close(self._read)
            _, status = os.waitpid(self.pid, 0)
        value = json.loads(data)
        assert os.waitstatus_to_exitcode(status) == 0, value
        return value


class Script:
    """A fresh interpreter that runs a text, is told things on its input, and prints one JSON value a line."""

    def __init__(self, text: str, *arguments: object) -> None:
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(text), *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def line(self) -> Any:
        """Return the next thing that it printed."""
        ready, _, _ = select.select([self._out], [], [], PATIENCE)
        text = self._out.readline() if ready else ""
        if not text:
            self.process.kill()
            _, errors = self.process.communicate()
            pytest.fail(f"the process printed nothing more:\n{errors}")
        return json.loads(text)

    def tell(self, text: str = "") -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Let it end by itself; it must do so, without a fault."""
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, errors = self.process.communicate()
            pytest.fail(f"the process does not end:\n{errors}")
        assert self.process.returncode == 0, errors
        assert errors == ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def until(true: Callable[[], object]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)
