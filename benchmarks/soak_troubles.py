"""Puts what goes wrong during a soak on and off in time, and remembers when it was."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from soak_plan import MOMENTS, Trouble
from soak_servers import Stage

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from stores.redis_server import RedisServer

__all__ = ["Conductor", "Spells"]


class Spells:
    """When something was really wrong somewhere, on the monotonic clock. Written by one thread, read by many."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spells: list[tuple[str, str, float, float]] = []
        self._on: dict[tuple[str, str], float] = {}

    def begin(self, place: str, kind: str) -> None:
        with self._lock:
            self._on[place, kind] = time.monotonic()

    def end(self, place: str, kind: str) -> None:
        with self._lock:
            self._spells.append((place, kind, self._on.pop((place, kind)), time.monotonic()))

    def touches(self, place: str, begin: float, end: float, *, kind: str = "") -> bool:
        """Tell whether anything, or that, was wrong there between two moments."""
        with self._lock:
            spells = [*self._spells, *((*name, since, end) for name, since in self._on.items())]
        return any(
            known == place and kind in ("", what) and since <= end and until >= begin
            for known, what, since, until in spells
        )


class Conductor:
    """Puts troubles on and off when their time has come."""

    def __init__(self, plan: tuple[Trouble, ...], stage: Stage, redis: RedisServer, folder: Path) -> None:
        self.spells = Spells()
        self._stage, self._redis, self._folder = stage, redis, folder
        acts = [(trouble.begin, True, trouble) for trouble in plan]
        acts += [(trouble.begin + trouble.length, False, trouble) for trouble in plan if trouble.kind not in MOMENTS]
        # What ends at the moment at which something begins ends first.
        self._acts = sorted(acts, key=lambda act: (act[0], act[1]))
        self._played = 0.0

    def play(self, until: float) -> None:
        """Play the plan up to that second."""
        start = time.monotonic() - self._played
        while self._acts and self._acts[0][0] <= until:
            at, is_beginning, trouble = self._acts.pop(0)
            time.sleep(max(0.0, start + at - time.monotonic()))
            if is_beginning:
                self._begin(trouble)
            else:
                self._end(trouble)
        time.sleep(max(0.0, start + until - time.monotonic()))
        self._played = until

    def _begin(self, trouble: Trouble) -> None:
        self.spells.begin(trouble.place, trouble.kind)
        if trouble.place == "Redis":
            self._trouble_redis(trouble.kind)
        elif trouble.place == "folder":
            self._trouble_folder(trouble.kind)
        else:
            self._stage.tell("begin", trouble.place, trouble.kind)
        if trouble.kind in MOMENTS:
            self.spells.end(trouble.place, trouble.kind)

    def _end(self, trouble: Trouble) -> None:
        if trouble.place == "Redis":
            if trouble.kind == "killed":
                self._redis.start()
            else:
                self._redis.go_on()
        elif trouble.place == "folder":
            with contextlib.suppress(FileNotFoundError):
                self._folder.chmod(0o700)
        else:
            self._stage.tell("end", trouble.place, trouble.kind)
        self.spells.end(trouble.place, trouble.kind)

    def _trouble_redis(self, kind: str) -> None:
        if kind == "killed":
            self._redis.kill()
        elif kind == "stopped":
            self._redis.pause()
        else:
            with self._redis.client() as client:
                client.flushall()

    def _trouble_folder(self, kind: str) -> None:
        if kind == "removed":
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        with contextlib.suppress(FileNotFoundError):
            if kind == "spoilt":
                for number, file in enumerate(self._folder.glob("*.token")):
                    if number % 2:
                        os.truncate(file, file.stat().st_size // 2)
                    else:
                        file.write_bytes(b"tokenvalet 1 nonsense\n" + os.urandom(200))
            else:  # read-only is nothing to root
                self._folder.chmod(0o755 if kind == "open to others" else 0o500)
