"""Metadata of issuers, kept for an hour, and for a day while an issuer cannot be reached."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .config import ClientConfig
from .core.metadata import Metadata
from .core.token import Moment
from .errors import TokenValetError
from .observe import Event, Observers

__all__ = ["Directory"]

FRESH_SECONDS = 3600.0
LAST_RESORT_SECONDS = 24 * 3600.0
RETRY_SECONDS = 60.0
MOST_ISSUERS = 4096


# An issuer, and how it is made sure that it is the one. What one client was told without making sure, or by a server that
# only its own authorities vouch for, would decide where another client's credentials go.
_Place = tuple[str, Path | None, bool]


@dataclass(slots=True)
class _Kept:
    metadata: Metadata
    fetched: Moment
    ask_again: Moment


class Directory:
    """What is known of each issuer. Used on the renewer's threads only; one request at a time for each issuer."""

    def __init__(self, observers: Observers) -> None:
        self._kept: dict[_Place, _Kept] = {}
        self._locks: dict[_Place, threading.Lock] = {}
        self._lock = threading.Lock()
        self._observers = observers

    def look_up(
        self, client: str, config: ClientConfig, fetch: Callable[[bool], Metadata], clock: Callable[[], Moment]
    ) -> Metadata:
        """Return the metadata of a client's issuer; `fetch` gets it where it is not known or no longer fresh.

        `fetch` is told whether there is a copy to fall back on.

        Clients of one issuer share it where they trust the same servers.

        Raises:
            TokenValetError: as `fetch` does, when there is no copy that is young enough.
        """
        assert config.issuer is not None
        place = (config.issuer, config.ca_file, config.allow_insecure_tls)
        kept = self._kept.get(place)
        if kept is not None and _before(clock(), kept.ask_again):
            return kept.metadata
        with self._lock_of(place):
            now = clock()
            kept = self._kept.get(place)
            if kept is not None and _before(now, kept.ask_again):
                return kept.metadata
            falls_back = kept is not None and _before(now, _later(kept.fetched, LAST_RESORT_SECONDS))
            try:
                metadata = fetch(falls_back)
            except TokenValetError:
                if kept is None or not falls_back:
                    self._let_go(place)
                    raise
                kept.ask_again = _later(now, RETRY_SECONDS)
                return kept.metadata
            self._tell_change(client, kept, metadata)
            self._keep(place, _Kept(metadata=metadata, fetched=now, ask_again=_later(now, FRESH_SECONDS)))
            return metadata

    def after_fork(self) -> None:
        """Take new locks: the old ones may have been held when the process forked."""
        self._lock = threading.Lock()
        self._locks = {}

    def _lock_of(self, place: _Place) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(place, threading.Lock())

    def _keep(self, place: _Place, kept: _Kept) -> None:
        with self._lock:
            self._kept.pop(place, None)
            while len(self._kept) >= MOST_ISSUERS:
                leaving = next(iter(self._kept))
                del self._kept[leaving]
                self._locks.pop(leaving, None)
            self._kept[place] = kept

    def _let_go(self, place: _Place) -> None:
        # Or the locks of issuers that never answered would be kept for ever.
        with self._lock:
            if place not in self._kept:
                self._locks.pop(place, None)

    def _tell_change(self, client: str, kept: _Kept | None, metadata: Metadata) -> None:
        if kept is None:
            return
        for before, after in (
            (kept.metadata.token_endpoint, metadata.token_endpoint),
            (kept.metadata.mtls_endpoint, metadata.mtls_endpoint),
        ):
            if before.origin != after.origin:
                detail = f"from {before.origin} to {after.origin}"
                self._observers.tell(Event(name="endpoint_changed", client=client, detail=detail))
                return


def _later(moment: Moment, seconds: float) -> Moment:
    return Moment(moment.monotonic + seconds, moment.wall + seconds)


def _before(now: Moment, then: Moment) -> bool:
    return now.monotonic < then.monotonic and now.wall < then.wall
