"""The back channel, overheard: what `check` learns from the answers beyond what a token request needs of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..backchannel import Backchannel, HttpBackchannel
from ..core.messages import Failure, HttpReply, HttpRequest
from ..core.response import date_of, json_object
from ..core.secret import Secret
from ..tls import TlsIdentity

__all__ = ["Exchange", "Overheard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request to the authorization server, without what it carried, and what came back."""

    method: str
    url: str
    result: HttpReply | Failure
    sent: float
    received: float

    @property
    def clock_offset(self) -> float | None:
        """Seconds that the server's clock is ahead of ours, give or take one, or None where it does not tell."""
        date = date_of(self.result) if isinstance(self.result, HttpReply) else None
        if date is None:
            return None
        # A Date field is cut to whole seconds, and was written at some time between the two readings.
        return max(0.0, date - self.received) or min(0.0, date + 1.0 - self.sent)

    @property
    def document(self) -> Mapping[str, Any] | None:
        """The JSON object that came back, or None."""
        return json_object(self.result)[0] if isinstance(self.result, HttpReply) else None


class Overheard:
    """A back channel that remembers its exchanges."""

    def __init__(self, inner: Backchannel | None = None) -> None:
        self._inner = inner if inner is not None else HttpBackchannel()
        self.exchanges: list[Exchange] = []

    def send(
        self, request: HttpRequest, *, timeout: float, identity: TlsIdentity | None, proxy: Secret | None
    ) -> HttpReply | Failure:
        """Send a request with the back channel below."""
        sent = time.time()
        result = self._inner.send(request, timeout=timeout, identity=identity, proxy=proxy)
        exchange = Exchange(method=request.method, url=request.url, result=result, sent=sent, received=time.time())
        self.exchanges.append(exchange)
        return result

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        self._inner.after_fork()

    def metadata(self, issuer: str | None) -> Mapping[str, Any] | None:
        """Return the metadata of `issuer` as the server wrote it, or None."""
        documents = [one.document for one in self.exchanges if one.method == "GET"]
        return next((one for one in documents if one is not None and one.get("issuer") == issuer), None)

    def stated_issuers(self) -> list[str]:
        """Return the issuers that metadata named."""
        found = [one.document.get("issuer") for one in self.exchanges if one.method == "GET" and one.document]
        return [one for one in found if isinstance(one, str)]

    def asked_for_token(self) -> str | None:
        """Return the URL that was last asked for a token, or None."""
        return next((one.url for one in reversed(self.exchanges) if one.method == "POST"), None)

    def clock_offset(self) -> float | None:
        """Return the smallest of the offsets of the exchanges, in seconds, or None where no answer has a date."""
        offsets = [one.clock_offset for one in self.exchanges]
        return min((one for one in offsets if one is not None), key=abs, default=None)
