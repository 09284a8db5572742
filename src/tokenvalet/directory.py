"""Metadata of issuers, kept for an hour, and for a day while an issuer cannot be reached."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from .core.metadata import Metadata
from .core.token import Moment
from .errors import TokenValetError
from .observe import Event, Observers

__all__ = ["Directory"]

FRESH_SECONDS = 3600.0
LAST_RESORT_SECONDS = 24 * 3600.0
RETRY_SECONDS = 60.0
MOST_ISSUERS = 4096


@dataclass(slots=True)
class _Kept:
    metadata: Metadata
    fetched: Moment
    ask_again: Moment


class Directory:
    """What is known of each issuer. Used on the renewer's threads only; one request at a time for each issuer."""

    def __init__(self, observers: Observers) -> None:
        self._kept: dict[str, _Kept] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._observers = observers

    def look_up(self, client: str, issuer: str, fetch: Callable[[], Metadata], clock: Callable[[], Moment]) -> Metadata:
        """Return the issuer's metadata; `fetch` gets it where it is not known or no longer fresh.

        Raises:
            TokenValetError: as `fetch` does, when there is no copy that is young enough.
        """
        kept = self._kept.get(issuer)
        if kept is not None and _before(clock(), kept.ask_again):
            return kept.metadata
        with self._lock_of(issuer):
            now = clock()
            kept = self._kept.get(issuer)
            if kept is not None and _before(now, kept.ask_again):
                return kept.metadata
            try:
                metadata = fetch()
            except TokenValetError:
                if kept is None or not _before(now, _later(kept.fetched, LAST_RESORT_SECONDS)):
                    raise
                kept.ask_again = _later(now, RETRY_SECONDS)
                return kept.metadata
            self._tell_change(client, kept, metadata)
            self._kept.pop(issuer, None)
            while len(self._kept) >= MOST_ISSUERS:
                leaving = next(iter(self._kept))
                del self._kept[leaving]
                self._locks.pop(leaving, None)
            self._kept[issuer] = _Kept(metadata=metadata, fetched=now, ask_again=_later(now, FRESH_SECONDS))
            return metadata

    def after_fork(self) -> None:
        """Take new locks: the old ones may have been held when the process forked."""
        self._lock = threading.Lock()
        self._locks = {}

    def _lock_of(self, issuer: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(issuer, threading.Lock())

    def _tell_change(self, client: str, kept: _Kept | None, metadata: Metadata) -> None:
        if kept is None or kept.metadata.token_endpoint.origin == metadata.token_endpoint.origin:
            return
        detail = f"from {kept.metadata.token_endpoint.origin} to {metadata.token_endpoint.origin}"
        self._observers.tell(Event(name="endpoint_changed", client=client, detail=detail))


def _later(moment: Moment, seconds: float) -> Moment:
    return Moment(moment.monotonic + seconds, moment.wall + seconds)


def _before(now: Moment, then: Moment) -> bool:
    return now.monotonic < then.monotonic and now.wall < then.wall
