"""When to renew, when to try again, how long to leave a server alone: the numbers of the token's life, in one place.

Plain functions of times and random numbers, so that a test or a simulation can run the very same policy.
"""

from __future__ import annotations

from ..errors import ConfigurationError, ProofError, TokenRefusedError, TokenRequestError, TokenValetError

__all__ = [
    "FIRST_RENEWAL_ATTEMPTS",
    "FLEET_ATTEMPTS",
    "FLEET_PAUSE",
    "FORCED_RENEWAL_SPACING",
    "LONGEST_RETRY_AFTER",
    "PROBE_PATIENCE",
    "back_off",
    "hurried",
    "look_again",
    "pause_between_attempts",
    "pause_between_looks",
    "renewal_window",
]

SHARE_OF_LIFETIME = 0.2
LARGEST_JITTER = 0.25
FORCED_RENEWAL_SPACING = 10.0
FIRST_RENEWAL_ATTEMPTS = 3
LONGEST_RETRY_AFTER = 60.0
FIRST_BACK_OFF = 1.0
LONGEST_BACK_OFF_PASSING = 15.0
LONGEST_BACK_OFF_LASTING = 60.0
# Where another process has asked in vain: to look whether it has a token by now is no request to the server.
LONGEST_BACK_OFF_ELSEWHERE = 4.0
SMALLEST_SHARE_OF_BACK_OFF = 0.8
FIRST_PAUSE = 0.25
# While a failure is remembered and its interval has passed, one caller's request probes the server; callers give the
# probe this many seconds before they get the remembered error, so that a hanging server does not hang them.
PROBE_PATIENCE = 1.0
# After a failure nobody who shares the store asks the server for one to two times this many seconds.
FLEET_PAUSE = 0.75
FLEET_ATTEMPTS = 2
FIRST_LOOK = 0.05
LONGEST_LOOK = 0.5
LOOKS_PER_LIFE = 20
LONGEST_LOOK_AGAIN = 10.0


def renewal_window(lifetime: float, renew_before: float, jitter: float) -> float:
    """Return how many seconds before its end a token becomes due.

    Args:
        lifetime: seconds that the token lives.
        renew_before: seconds configured; a fifth of the lifetime where that is less.
        jitter: a random number from 0 to 1; it widens the window by up to a quarter, so that processes differ.
    """
    return min(renew_before, lifetime * SHARE_OF_LIFETIME) * (1 + LARGEST_JITTER * jitter)


def back_off(error: TokenValetError, failures: int, jitter: float) -> float:
    """Return the seconds to leave the token endpoint alone after the `failures`-th failed renewal in a row.

    Intervals double from one second to fifteen for what can heal by itself and to sixty for what somebody has to mend;
    to four where it was another process that met the fault. ``Retry-After`` is honoured up to sixty. `jitter` is a random
    number from 0 to 1.
    """
    longest = LONGEST_BACK_OFF_LASTING if is_lasting(error) else LONGEST_BACK_OFF_PASSING
    if error.code == "token_request_failed_elsewhere":
        longest = LONGEST_BACK_OFF_ELSEWHERE
    interval = min(longest, FIRST_BACK_OFF * 2.0 ** min(failures - 1, 16))
    interval *= SMALLEST_SHARE_OF_BACK_OFF + (1 - SMALLEST_SHARE_OF_BACK_OFF) * jitter
    asked = error.retry_after if isinstance(error, TokenRequestError) else None
    return max(interval, min(asked, LONGEST_RETRY_AFTER)) if asked is not None else interval


def hurried(pause: float, error: TokenValetError, seconds_left: float, lifetime: float) -> float:
    """Return the seconds until the next attempt, where `pause` is the interval and a token is at hand.

    Towards its end attempts come closer, so that a server that is back just before it is met just before it: after half of
    the life that is left, and no less than a second, or a fiftieth of a short life. What somebody has to mend, and a server
    that has named its time, are not hurried.
    """
    if is_lasting(error) or (isinstance(error, TokenRequestError) and error.retry_after is not None):
        return pause
    return min(pause, max(seconds_left / 2, min(FIRST_BACK_OFF, lifetime / 50)))


def is_lasting(error: TokenValetError) -> bool:
    """Whether trying again soon is pointless: the server refused, or the configuration cannot work.

    A server that asks for a nonce once more, since the one it sent was replaced meanwhile, has refused nothing.
    """
    if isinstance(error, TokenRefusedError):
        return error.error != "use_dpop_nonce"
    return isinstance(error, ConfigurationError | ProofError)


def pause_between_attempts(error: TokenRequestError, attempt: int, jitter: float) -> float:
    """Return the seconds between two attempts of a first renewal, after its `attempt`-th one failed."""
    pause = FIRST_PAUSE * 2.0 ** (attempt - 1) * (1 + jitter)
    return max(pause, error.retry_after) if error.retry_after is not None else pause


def pause_between_looks(looks: int, jitter: float) -> float:
    """Return the seconds until the store is looked into again for what another process is renewing."""
    return min(LONGEST_LOOK, FIRST_LOOK * 1.5 ** min(looks, 16)) * (0.5 + jitter)


def look_again(seconds_left: float, jitter: float) -> float:
    """Return the seconds until a due token, which another process is renewing, is looked for in the store again."""
    return min(LONGEST_LOOK_AGAIN, seconds_left / LOOKS_PER_LIFE) * (0.5 + jitter)
