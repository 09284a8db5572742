"""Several processes with a valet each, told what to do all at once."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest

PATIENCE = 30.0
WORKER = Path(__file__).with_name("worker.py")


class Nursery:
    """Makes processes; one interpreter that has imported everything, and forks.

    Args:
        allowed: warnings that are no fault there, as the interpreter's ``-W`` takes them.
    """

    def __init__(self, *allowed: str) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            warnings = [word for warning in ("error", *allowed) for word in ("-W", warning)]
            command = [sys.executable, *warnings, str(WORKER), str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)

    def fleet(self, size: int) -> Fleet:
        return Fleet([self.process() for _ in range(size)])

    def process(self) -> Process:
        (commands, tells), (hears, answers) = os.pipe(), os.pipe()
        socket.send_fds(self._control, [b"x"], [commands, answers])
        os.close(commands)
        os.close(answers)
        return Process(tells, hears)

    def close(self) -> None:
        self._control.close()
        _, written = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, written
        assert written == "", written


class Process:
    """A worker; see worker.py for what it can be asked."""

    def __init__(self, tells: int, hears: int) -> None:
        self._tells, self._hears = os.fdopen(tells, "w"), os.fdopen(hears)
        self._pid = 0

    def begin(self, name: str, **arguments: Any) -> None:
        """Ask for something, without waiting for it."""
        if not self._pid:
            self._pid = self.end()
        self._tells.write(json.dumps([name, arguments]) + "\n")
        self._tells.flush()

    def end(self) -> Any:
        """Return what came of what was asked for."""
        ready, _, _ = select.select([self._hears], [], [], PATIENCE)
        text = self._hears.readline() if ready else ""
        if not text:
            pytest.fail("a process of the fleet has ended" if ready else "a process of the fleet hangs")
        return json.loads(text)

    def ask(self, name: str, **arguments: Any) -> Any:
        self.begin(name, **arguments)
        return self.end()

    def send(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)

    def kill(self) -> None:
        """End it on the spot, and return when it has ended."""
        if not self._hears.closed:
            if not self._pid:
                self._pid = self.end()
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
            self._hears.read()
            self._hears.close()
            self._tells.close()

    def leave(self) -> None:
        """Let it end by itself, as a program does, and return when it has ended."""
        if not self._hears.closed:
            self._tells.close()
            ready, _, _ = select.select([self._hears], [], [], PATIENCE)
            assert ready, "a process of the fleet does not end"
            self._hears.read()
            self._hears.close()


class Fleet:
    """Processes that are asked all at once; they end with the block, by themselves."""

    def __init__(self, processes: list[Process]) -> None:
        self.processes = processes

    def ask(self, name: str, **arguments: Any) -> list[Any]:
        """Ask all of them at once, and return what came of it."""
        for process in self.processes:
            process.begin(name, **arguments)
        return [process.end() for process in self.processes]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.leave()
