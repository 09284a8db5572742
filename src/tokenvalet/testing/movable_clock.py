"""A clock that stands still until a test moves it, for a valet and its servers at once.

For development only.
"""

from __future__ import annotations

from ..core.token import Moment

__all__ = ["MovableClock"]


class MovableClock:
    """Both clocks of a machine: hand the object itself to `TokenValet(clock=...)`, and its `time` to the servers.

    Args:
        wall: seconds since the epoch at the start.
        monotonic: what the monotonic clock shows at the start.
    """

    def __init__(self, wall: float = 1_800_000_000.0, monotonic: float = 100_000.0) -> None:
        self._now = Moment(monotonic, wall)

    def __call__(self) -> Moment:
        """Return what both clocks show, as a valet asks for it."""
        return self._now

    def time(self) -> float:
        """Return the seconds since the epoch, as a server asks for them."""
        return self._now.wall

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._now = Moment(self._now.monotonic + seconds, self._now.wall + seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock alone: somebody corrected it, or the machine slept and its monotonic clock stood still."""
        self._now = Moment(self._now.monotonic, self._now.wall + seconds)
