"""The dance around one renewal: token request → DPoP nonce or clock put right, once each → token or error.

A generator of steps without I/O: it asks its driver to send a request or to pause, and is told what came of it and what
the clocks said. Every transmission is drafted anew, with an assertion and a proof of its own (RFC 7523 §3, RFC 9449
§11.1).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import TokenRefusedError, TokenRequestError, TokenValetError
from .dpop import NonceStore, usable_nonce
from .messages import Failure, HttpReply, Outcome, Pause, Transmit
from .policy import pause_between_attempts
from .request import Endpoint, TokenOrder, token_request
from .response import Granted, date_of, failure_error, read_token_response
from .token import Moment

__all__ = ["ClockCorrection", "Obtained", "obtain", "patiently"]

_T = TypeVar("_T")

LARGEST_CORRECTION = 300.0
SMALLEST_CORRECTION = 2.0


@dataclass(slots=True)
class ClockCorrection:
    """Seconds to add to the wall clock when speaking to one authorization server, as learnt from its Date field.

    Only the authorization server is asked, only after it refused an assertion or a proof, and never beyond five
    minutes: proofs for a far future would be worth stealing (RFC 9449 §11.2).
    """

    seconds: float = 0.0

    def learn(self, reply: HttpReply, now: float) -> bool:
        """Take over the server's time. Returns whether that changed anything worth another attempt."""
        date = date_of(reply)
        if date is None:
            return False
        wanted = max(-LARGEST_CORRECTION, min(LARGEST_CORRECTION, date - now))
        if abs(wanted - self.seconds) < SMALLEST_CORRECTION:
            return False
        self.seconds = wanted
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtained:
    """What a renewal brought: `granted`, asked for at `asked_at`, after `transmissions` requests."""

    granted: Granted
    asked_at: Moment
    transmissions: int


def obtain(
    order: TokenOrder,
    endpoint: Endpoint,
    nonces: NonceStore,
    correction: ClockCorrection,
    now: Moment,
    *,
    attempts: int,
    deadline: float,
    jitter: Callable[[], float],
) -> Generator[Transmit | Pause, Outcome, Obtained]:
    """Return a token for `order`.

    Args:
        order: what is asked for.
        endpoint: where.
        nonces: the DPoP nonces of all servers; read and written.
        correction: what is known of the server's clock; read and written.
        now: the clocks at the start.
        attempts: how often the whole may be tried while the fault is a passing one.
        deadline: on the monotonic clock, in seconds; no pause goes beyond it.
        jitter: gives random numbers from 0 to 1.

    Raises:
        TokenValetError: as `read_token_response` says.
    """
    attempt = transmissions = 0
    nonce_put_right = clock_put_right = False
    cause = ""
    while True:
        request = token_request(
            order, endpoint, now=now.wall + correction.seconds, nonce=_nonce(order, endpoint, nonces)
        )
        asked_at, sent_nonce = now, _nonce(order, endpoint, nonces)
        outcome = yield Transmit(request=request, cause=cause)
        transmissions += 1
        now, result = outcome.now, outcome.result
        assert result is not None
        error: TokenValetError
        if isinstance(result, Failure):
            error = failure_error(result, order.client, endpoint.url)
        else:
            new_nonce = _take_nonce(order, endpoint, nonces, result)
            try:
                granted = read_token_response(result, order, endpoint, request.secrets)
            except TokenRefusedError as refusal:
                if _asks_for_nonce(refusal) and not nonce_put_right and new_nonce not in (None, sent_nonce):
                    nonce_put_right, cause = True, "nonce"
                    continue
                if _doubts_the_clock(refusal, order) and not clock_put_right and correction.learn(result, now.wall):
                    clock_put_right, cause = True, "clock"
                    continue
                error = refusal
            except TokenValetError as other:
                error = other
            else:
                return Obtained(granted=granted, asked_at=asked_at, transmissions=transmissions)
        attempt += 1
        if not isinstance(error, TokenRequestError) or attempt >= attempts:
            raise error
        pause = pause_between_attempts(error, attempt, jitter())
        if now.monotonic + pause >= deadline:
            raise error
        now, cause = (yield Pause(seconds=pause)).now, "retry"


def patiently(
    flow: Callable[[], Generator[Any, Outcome, _T]],
    *,
    attempts: int,
    now: Callable[[], Moment],
    deadline: float,
    jitter: Callable[[], float],
) -> Generator[Any, Outcome, _T]:
    """Return what `flow` returns; it is begun anew, up to `attempts` times in all, while its fault is a passing one.

    `deadline` is on the monotonic clock that `now` reads, in seconds; no pause goes beyond it. Raises what `flow` raises.
    """
    for attempt in range(1, attempts):
        try:
            return (yield from flow())
        except TokenRequestError as error:
            pause = pause_between_attempts(error, attempt, jitter())
            if now().monotonic + pause >= deadline:
                raise
        yield Pause(seconds=pause)
    return (yield from flow())


def _nonce(order: TokenOrder, endpoint: Endpoint, nonces: NonceStore) -> str | None:
    return nonces.get("as", endpoint.origin, order.proof_key.jkt) if order.proof_key is not None else None


def _take_nonce(order: TokenOrder, endpoint: Endpoint, nonces: NonceStore, reply: HttpReply) -> str | None:
    if order.proof_key is None:
        return None
    nonce = usable_nonce(reply.fields("dpop-nonce"))
    if nonce is not None:
        nonces.put("as", endpoint.origin, order.proof_key.jkt, nonce)
    return nonce


def _asks_for_nonce(refusal: TokenRefusedError) -> bool:
    # invalid_dpop_proof together with a new nonce is how some servers ask for one.
    return refusal.status in (400, 401) and refusal.error in ("use_dpop_nonce", "invalid_dpop_proof")


def _doubts_the_clock(refusal: TokenRefusedError, order: TokenOrder) -> bool:
    if refusal.error == "invalid_dpop_proof":
        return order.proof_key is not None
    return refusal.error == "invalid_client" and order.authentication.method in ("private_key_jwt", "client_secret_jwt")
