"""Virtual time. What blocks in a real process switches away here, and goes on when its moment has come.

Everything that happens has its place in one queue, so that a run depends on its seed and on nothing else.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import greenlet  # type: ignore[import-untyped]

__all__ = ["Hub"]


class Hub:
    """The queue of all that is to happen, and the clock that it moves.

    Attributes:
        now: seconds since the beginning.
        steps: how many things have happened.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._queue: list[tuple[float, int, Callable[[], Any]]] = []
        self._order = 0
        self._main = greenlet.getcurrent()

    def at(self, moment: float, happen: Callable[[], Any]) -> None:
        """Have something happen at a moment, or now if that has passed."""
        self._order += 1
        heapq.heappush(self._queue, (max(moment, self.now), self._order, happen))

    def spawn(self, run: Callable[[], Any]) -> None:
        """Have something run that may block."""
        self.at(self.now, greenlet.greenlet(run, self._main).switch)

    def sleep(self, seconds: float) -> None:
        """Block what is running for so long."""
        self.at(self.now + seconds, greenlet.getcurrent().switch)
        self._main.switch()

    def wait(self, future: Future[Any], seconds: float) -> None:
        """Block what is running until the future has come, or for so long."""
        waiting = greenlet.getcurrent()
        over = False

        def wake(_: object = None) -> None:
            nonlocal over
            if not over:
                over = True
                self.at(self.now, waiting.switch)

        self.at(self.now + seconds, wake)
        future.add_done_callback(wake)
        self._main.switch()

    def run(self, until: float) -> None:
        """Let everything happen up to a moment."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, happen = heapq.heappop(queue)
            self.steps += 1
            happen()
        self.now = until
