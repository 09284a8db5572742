"""The valet's own few threads: renewals run here and nowhere else.

Work is filed in lanes, one for each token endpoint, and lanes by the server that they lead to. A lane may hold only a few
threads at a time and a server not all of them, so that an endpoint that hangs delays its own clients and nobody else's.
Threads start when there is work, end when there is none for a while, and never keep the interpreter alive.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

__all__ = ["Executor", "Lane", "Workers"]

MOST_THREADS = 64
MOST_FOR_A_SERVER = 16
MOST_IN_A_LANE = 4
IDLE_SECONDS = 30.0

Job = Callable[[], None]
Lane = tuple[Hashable, Hashable]
"""What a job shares its threads by: the server, and the endpoint on it."""


class Executor(Protocol):
    """What renewals run on."""

    def submit(self, lane: Lane, job: Job) -> bool:
        """Have `job` run soon. Returns False when closed; raises RuntimeError where there is no thread for it."""

    def close(self) -> None:
        """Take no more work."""


class _Server:
    """One server's share of the threads, and its lanes with work that may start, in turn."""

    __slots__ = ("key", "lanes", "queued", "ready", "running")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.lanes: dict[Hashable, _Queue] = {}
        self.ready: deque[_Queue] = deque()
        self.running = 0
        self.queued = False


class _Queue:
    """The jobs of one lane that have not begun."""

    __slots__ = ("jobs", "key", "queued", "running", "server")

    def __init__(self, key: Hashable, server: _Server) -> None:
        self.key = key
        self.server = server
        self.jobs: deque[Job] = deque()
        self.running = 0
        self.queued = False


class Workers:
    """A small pool of daemon threads. Jobs must not raise."""

    def __init__(
        self,
        *,
        most: int = MOST_THREADS,
        most_for_a_server: int = MOST_FOR_A_SERVER,
        most_in_a_lane: int = MOST_IN_A_LANE,
    ) -> None:
        self._most = most
        self._most_for_a_server = most_for_a_server
        self._most_in_a_lane = most_in_a_lane
        self._servers: dict[Hashable, _Server] = {}
        self._ready: deque[_Server] = deque()  # servers with work that may start, in turn
        self._threads = 0
        self._idle = 0
        self._called = 0  # idle threads that were notified and have not woken yet
        self._closed = False
        self._condition = threading.Condition()

    def submit(self, lane: Lane, job: Job) -> bool:
        """Have `job` run soon. Returns False when the pool is closed.

        Raises:
            RuntimeError: there is no thread that could run it, and none can be started.
        """
        with self._condition:
            if self._closed:
                return False
            queue = self._queue(lane)
            queue.jobs.append(job)
            self._offer(queue)
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
            self._drop_all()
            self._condition.notify_all()

    def _drop_all(self) -> None:
        for server in self._servers.values():
            server.ready.clear()
            for queue in server.lanes.values():
                queue.jobs.clear()
        self._ready.clear()

    def _start_thread(self) -> None:
        self._threads += 1
        try:
            threading.Thread(target=self._work, name=f"tokenvalet-{self._threads}", daemon=True).start()
        except RuntimeError:
            self._threads -= 1
            if self._threads:
                return  # those that there are will come to it
            self._servers.clear()
            self._ready.clear()
            raise

    def _queue(self, lane: Lane) -> _Queue:
        server = self._servers.get(lane[0])
        if server is None:
            server = self._servers[lane[0]] = _Server(lane[0])
        queue = server.lanes.get(lane[1])
        if queue is None:
            queue = server.lanes[lane[1]] = _Queue(lane[1], server)
        return queue

    def _offer(self, queue: _Queue) -> None:
        server = queue.server
        if queue.jobs and not queue.queued and queue.running < self._most_in_a_lane:
            queue.queued = True
            server.ready.append(queue)
        if server.ready and not server.queued and server.running < self._most_for_a_server:
            server.queued = True
            self._ready.append(server)

    def _take(self) -> tuple[_Queue, Job] | None:
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
        server = self._ready.popleft()
        queue = server.ready.popleft()
        server.queued = queue.queued = False
        server.running += 1
        queue.running += 1
        job = queue.jobs.popleft()
        self._offer(queue)
        return queue, job

    def _give_back(self, queue: _Queue) -> None:
        server = queue.server
        server.running -= 1
        queue.running -= 1
        self._offer(queue)
        if not queue.running and not queue.jobs:
            del server.lanes[queue.key]
        if not server.lanes:
            del self._servers[server.key]

    def _work(self) -> None:
        while True:
            with self._condition:
                taken = self._take()
                if taken is None:
                    self._threads -= 1
                    return
                queue, job = taken
            try:
                job()
            finally:
                del job, taken
                with self._condition:
                    self._give_back(queue)
