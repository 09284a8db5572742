"""What the buttons of the live page do with the stage, and what its counters count."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ..testing import Fault
from .demo_stage import Browser, Stage
from .live_feed import LiveFeed

__all__ = ["CROWD", "LiveDemo", "redacted_headers"]

CROWD = 1000
_SECRET_FIELDS = frozenset({"authorization", "dpop", "cookie", "proxy-authorization"})
_KNOWN_SCHEMES = frozenset({"basic", "bearer", "dpop"})


class LiveDemo:
    """A stage whose service is played by buttons."""

    def __init__(self, stage: Stage) -> None:
        self.feed = LiveFeed(lambda lane: redacted_headers(stage, lane))
        self.browser: Browser | None = None
        self._stage = stage
        self._stopped = False
        self._storming = threading.Lock()

    def press(self, action: str) -> None:
        """Do what a button says; blocking."""
        stage, browser = self._stage, self.browser
        assert browser is not None
        if action == "call":
            browser.load()
        elif action == "storm":
            # Of several presses, as of two windows, one counts until its crowd is through.
            if not self._storming.acquire(blocking=False):
                return
            self.feed.begin_crowd()
            try:
                browser.load_at_once(CROWD)
            finally:
                self.feed.end_crowd()
                self._storming.release()
        elif action == "revoke":
            stage.auth.revoke_all()
            self._remark("token endpoint", "every token is revoked")
        elif action == "nonce":
            stage.auth.rotate_nonce()
            stage.api.rotate_nonce()
            self._remark("API", "a new nonce from now on")
        elif action == "stop":
            stage.auth.misbehave(Fault.status_only(503), times=None)
            self._stopped = True
            self._remark("token endpoint", "goes down")
        elif action == "start":
            stage.auth.behave()
            self._stopped = False
            self._remark("token endpoint", "is back")

    def counts(self) -> Mapping[str, int]:
        """Return what has happened so far, the requests as the servers count them."""
        told = self.browser.narrator.counts if self.browser is not None else {}
        return {
            "token requests": len(self._stage.auth.token_requests),
            "calls to the API": len(self._stage.api.calls),
            "hits": told.get("cache_hit", 0),
            "waits": told.get("wait", 0),
            "put right": told.get("call_retried", 0),
            "failed renewals": told.get("renewal_failed", 0),
            "provider stopped": int(self._stopped),
        }

    def _remark(self, lane: str, text: str) -> None:
        self.feed.arrow(lane, lane, f"… {text}", mood="odd")


def redacted_headers(stage: Stage, lane: str) -> list[tuple[str, str]]:
    """Return the header fields of the last request that reached a server, as it saw them, without what is secret."""
    seen = stage.api.calls if lane == "API" else stage.auth.token_requests
    if not seen:
        return []
    return [(name, _redacted(name, value)) for name, value in list(seen[-1].headers)]


def _redacted(name: str, value: str) -> str:
    if name.lower() not in _SECRET_FIELDS:
        return value
    scheme = value.partition(" ")[0]
    return f"{scheme} ●●●" if scheme.lower() in _KNOWN_SCHEMES and " " in value else "●●●"
