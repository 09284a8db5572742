"""The dance around one renewal that many processes share: read the store, take the lease or wait, renew, store.

A generator of steps without I/O, like `obtain`, which it goes around. Whoever finds a token in the store that will do uses
it; of those who find none, the one with the lease asks the server and the others look again. The lease ends by itself, so
that a process that dies with it delays the others and no more. A store that is away is done without.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from ..errors import TokenRequestError
from .messages import Claim, Keep, Lease, Outcome, Pause, Recall, Release, StoreReply, Transmit
from .obtain import Obtained
from .policy import FLEET_PAUSE, FORCED_RENEWAL_SPACING, pause_between_looks
from .stored import StoredToken, written
from .token import Moment

__all__ = ["FORCED_CAUSES", "Found", "Share", "Step", "renew_shared"]

# Why a token is got although there is another that has not expired.
FORCED_CAUSES = frozenset({"rejected", "forced"})

Step = Transmit | Pause | Recall | Claim | Keep | Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What there is to know of a renewal that is shared.

    Attributes:
        client: the client's name, for errors.
        key: the token key.
        cause: ``missing``, ``expired``, ``due``, ``rejected`` or ``forced``.
        read: makes a token of what a store holds, or None where it cannot be used.
        will_do: whether a stored token, read at that moment, is what is wanted.
        awaited: whether anybody waits for this renewal by now.
        lease: seconds for which the lease is asked for.
        deadline: on the monotonic clock, in seconds; nobody waits beyond it.
        jitter: gives random numbers from 0 to 1.
    """

    client: str
    key: str
    cause: str
    read: Callable[[bytes, float], StoredToken | None]
    will_do: Callable[[StoredToken, Moment], bool]
    awaited: Callable[[], bool]
    lease: float
    deadline: float
    jitter: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A token that the store had; it was read at `read_at`."""

    stored: StoredToken
    read_at: Moment


def renew_shared(
    share: Share, obtain: Callable[[Moment], Generator[Transmit | Pause, Outcome, Obtained]], now: Moment
) -> Generator[Step, Outcome, Obtained | Found | None]:
    """Return the token that the store had or the server gave, or None: another process is about it, and nobody waits.

    Args:
        share: what is wanted.
        obtain: begins the dance with the server, given the clocks.
        now: the clocks at the start.

    Raises:
        TokenValetError: as `obtain` says; or the process that has the lease failed, or took too long.
    """
    outcome = yield Recall()
    looks = 0
    while True:
        now = outcome.now
        reply = _store_reply(outcome)
        if reply.away:
            return (yield from obtain(now))
        stored = share.read(reply.content, reply.left) if reply.content is not None else None
        if stored is not None and share.will_do(stored, now):
            if reply.lease is Lease.GRANTED:
                yield Release()
            return Found(stored=stored, read_at=now)
        if share.cause == "rejected" and stored is not None and stored.forced and stored.age < FORCED_RENEWAL_SPACING:
            if reply.lease is Lease.GRANTED:
                yield Release()
            raise _spaced(share)
        if reply.lease is Lease.GRANTED:
            return (yield from _with_lease(share, obtain, now))
        if reply.lease is not Lease.NOT_ASKED:
            if not share.awaited():
                return None
            if reply.lease is Lease.PAUSED and share.cause != "missing":
                raise _failed_elsewhere(share)
            pause = pause_between_looks(looks, share.jitter())
            looks += 1
            if now.monotonic + pause >= share.deadline:
                raise _failed_elsewhere(share) if reply.lease is Lease.PAUSED else _slow_elsewhere(share)
            yield Pause(seconds=pause)
        outcome = yield Claim(seconds=share.lease)


def _with_lease(
    share: Share, obtain: Callable[[Moment], Generator[Transmit | Pause, Outcome, Obtained]], now: Moment
) -> Generator[Step, Outcome, Obtained]:
    flow = obtain(now)
    taken = now.monotonic
    try:
        step = next(flow)
        while True:
            # Each attempt has the lease to itself, though not the moment between asking for it and having it.
            if isinstance(step, Transmit) and now.monotonic - taken > share.lease / 2:
                taken = now.monotonic
                yield Claim(seconds=share.lease)
            outcome = yield step
            now = outcome.now
            step = flow.send(outcome)
    except StopIteration as stop:
        obtained: Obtained = stop.value
    except Exception:
        # Nobody in the fleet asks again at once: one failure after the other is spaced, whoever meets it.
        yield Release(pause=FLEET_PAUSE * (1 + share.jitter()))
        raise
    left = obtained.asked_at.monotonic + obtained.granted.lifetime - now.monotonic
    if left > 0:
        content = written(obtained.granted, share.key, forced=share.cause in FORCED_CAUSES)
        yield Keep(content=content, seconds=left)
    else:
        yield Release()
    return obtained


def _store_reply(outcome: Outcome) -> StoreReply:
    assert outcome.store is not None
    return outcome.store


def _failed_elsewhere(share: Share) -> TokenRequestError:
    return TokenRequestError(
        f"client {share.client!r}: this token was asked for a moment ago, by this process or another that shares the "
        "store, and there was none: the log says why; the next attempt comes within seconds",
        code="token_request_failed_elsewhere",
    )


def _slow_elsewhere(share: Share) -> TokenRequestError:
    return TokenRequestError(
        f"client {share.client!r}: another process that shares the store is asking for this token and takes too long: "
        "is the token endpoint slow? raise timeout if it is",
        code="token_request_timeout",
    )


def _spaced(share: Share) -> TokenRequestError:
    return TokenRequestError(
        f"client {share.client!r}: the API rejects a token that was renewed for this very reason less than "
        f"{FORCED_RENEWAL_SPACING:g} s ago, by this process or another: no further one is asked for yet",
        code="renewal_spaced",
    )
