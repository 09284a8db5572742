"""The valet's own few threads: renewals run here and nowhere else.

Work is filed in lanes, one for each token endpoint, and a lane may hold only a few threads at a time, so that an endpoint
that hangs delays its own clients and nobody else's. Threads start when there is work, end when there is none for a while,
and never keep the interpreter alive.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable

__all__ = ["Workers"]

MOST_THREADS = 16
MOST_IN_A_LANE = 4
IDLE_SECONDS = 30.0

Job = Callable[[], None]


class Workers:
    """A small pool of daemon threads. Jobs must not raise."""

    def __init__(self, *, most: int = MOST_THREADS, most_in_a_lane: int = MOST_IN_A_LANE) -> None:
        self._most = most
        self._most_in_a_lane = most_in_a_lane
        self._lanes: dict[Hashable, deque[Job]] = {}
        self._running: dict[Hashable, int] = {}
        self._ready: deque[Hashable] = deque()  # lanes with work that may start, in turn
        self._threads = 0
        self._idle = 0
        self._called = 0  # idle threads that were notified and have not woken yet
        self._closed = False
        self._condition = threading.Condition()

    def submit(self, lane: Hashable, job: Job) -> bool:
        """Have `job` run soon. Returns False when the pool is closed.

        Raises:
            RuntimeError: there is no thread that could run it, and none can be started.
        """
        with self._condition:
            if self._closed:
                return False
            self._lanes.setdefault(lane, deque()).append(job)
            self._offer(lane)
            if self._idle > self._called:
                self._called += 1
                self._condition.notify()
            elif self._ready and self._threads < self._most:
                self._start_thread()
            return True

    def close(self) -> None:
        """Take no more work and let the threads end; jobs that have not begun are dropped."""
        with self._condition:
            self._closed = True
            self._lanes.clear()
            self._ready.clear()
            self._condition.notify_all()

    def _start_thread(self) -> None:
        self._threads += 1
        try:
            threading.Thread(target=self._work, name=f"tokenvalet-{self._threads}", daemon=True).start()
        except RuntimeError:
            self._threads -= 1
            if self._threads:
                return  # those that there are will come to it
            self._lanes.clear()
            self._ready.clear()
            raise

    def _offer(self, lane: Hashable) -> None:
        if lane not in self._ready and self._running.get(lane, 0) < self._most_in_a_lane:
            self._ready.append(lane)

    def _take(self) -> tuple[Hashable, Job] | None:
        while not self._ready:
            if self._closed:
                return None
            self._idle += 1
            woken = self._condition.wait(IDLE_SECONDS)
            self._idle -= 1
            # Called or not: a call may come in the very moment in which the wait ends by itself.
            self._called = max(0, self._called - 1)
            if not woken and not self._ready:
                return None
        lane = self._ready.popleft()
        jobs = self._lanes[lane]
        job = jobs.popleft()
        self._running[lane] = self._running.get(lane, 0) + 1
        if jobs:
            self._offer(lane)
        else:
            del self._lanes[lane]
        return lane, job

    def _work(self) -> None:
        while True:
            with self._condition:
                taken = self._take()
                if taken is None:
                    self._threads -= 1
                    return
                lane, job = taken
            try:
                job()
            finally:
                del job
                with self._condition:
                    self._running[lane] -= 1
                    if not self._running[lane]:
                        del self._running[lane]
                    if lane in self._lanes:
                        self._offer(lane)
