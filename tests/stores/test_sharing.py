"""The dance around a renewal that processes share, driven by hand: no store, no network, no clock."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from core.makers import order
from stores.makers import KEY, PLANTED, granted
from tokenvalet.core.messages import (
    Claim,
    HttpReply,
    HttpRequest,
    Keep,
    Lease,
    Outcome,
    Pause,
    Recall,
    Release,
    StoreReply,
    Transmit,
)
from tokenvalet.core.obtain import Obtained
from tokenvalet.core.policy import FLEET_PAUSE, FORCED_RENEWAL_SPACING
from tokenvalet.core.sharing import Found, Share, Step, renew_shared
from tokenvalet.core.stored import StoredToken, read_stored, written
from tokenvalet.core.token import Moment
from tokenvalet.errors import TokenRequestError

START = Moment(1000.0, 1_800_000_000.0)
SEND = Transmit(request=HttpRequest(method="POST", url="https://login.example.org/token", headers=()))
OK = HttpReply(status=200, headers=(), body=b"")
AWAY = StoreReply(away=True)
NOTHING = StoreReply()
GRANTED = StoreReply(lease=Lease.GRANTED)
HELD = StoreReply(lease=Lease.HELD)
PAUSED = StoreReply(lease=Lease.PAUSED)

Dance = Callable[[Moment], Generator[Transmit | Pause, Outcome, Obtained]]


class Hand:
    """Moves a flow on, a step at a time, on a clock that moves when it is told to."""

    def __init__(self, share: Share, dance: Dance | None = None) -> None:
        self.now = START
        self.began_at: list[Moment] = []
        inner = dance if dance is not None else transmissions(1)

        def begin(now: Moment) -> Generator[Transmit | Pause, Outcome, Obtained]:
            self.began_at.append(now)
            return inner(now)

        self.flow = renew_shared(share, begin, START)
        self.step: Step | None = next(self.flow)
        self.result: Obtained | Found | None = None

    def answer(self, reply: StoreReply | HttpReply | None = None, *, after: float = 0.0) -> Step | None:
        """Answer the last step, and return the next; None when the flow has ended."""
        self.now = Moment(self.now.monotonic + after, self.now.wall + after)
        store = reply if isinstance(reply, StoreReply) else None
        result = reply if isinstance(reply, HttpReply) else None
        return self._move(lambda: self.flow.send(Outcome(now=self.now, result=result, store=store)))

    def fail(self, error: Exception) -> Step | None:
        return self._move(lambda: self.flow.throw(error))

    def _move(self, move: Callable[[], Step]) -> Step | None:
        try:
            self.step = move()
        except StopIteration as stop:
            self.step, self.result = None, stop.value
        return self.step


def transmissions(count: int, *, lifetime: float = 100.0, error: Exception | None = None) -> Dance:
    """A dance with the server of so many requests, with a pause between two."""

    def dance(now: Moment) -> Generator[Transmit | Pause, Outcome, Obtained]:
        asked_at = now
        for number in range(count):
            asked_at = now
            now = (yield SEND).now
            if number + 1 < count:
                now = (yield Pause(seconds=0.5)).now
        if error is not None:
            raise error
        return Obtained(granted=granted(lifetime=lifetime), asked_at=asked_at, transmissions=count)

    return dance


def share(cause: str = "missing", *, awaited: Any = True, will_do: Any = None, **settings: Any) -> Share:
    return Share(
        **{
            "client": "m2m",
            "key": KEY,
            "cause": cause,
            "read": lambda content, left: read_stored(content, KEY, left, order()),
            "will_do": will_do if will_do is not None else lambda stored, now: True,
            "awaited": awaited if callable(awaited) else lambda: awaited,
            "lease": 5.0,
            "deadline": START.monotonic + 10.0,
            "jitter": lambda: 0.5,
            **settings,
        }
    )


def holding(
    value: str = PLANTED, *, left: float = 60.0, forced: bool = False, lease: Lease = Lease.NOT_ASKED
) -> StoreReply:
    content = written(granted(value), KEY, forced=forced)
    return StoreReply(content=content, left=left, lease=lease)


def never(stored: StoredToken, now: Moment) -> bool:
    return False


# What the store has


def test_a_token_that_the_store_has_is_taken_after_one_look_and_nobody_else_is_asked() -> None:
    hand = Hand(share())
    assert hand.step == Recall()
    assert hand.answer(holding(left=60), after=0.25) is None
    assert isinstance(hand.result, Found)
    assert (hand.result.stored.granted.access_token, hand.result.stored.left) == (PLANTED, 60)
    assert hand.result.read_at.monotonic == START.monotonic + 0.25
    assert hand.began_at == []


@pytest.mark.standards("S-192")
@pytest.mark.parametrize(
    "reply", [NOTHING, StoreReply(content=b"rubbish", left=60.0), holding(left=0.0), holding("a b")], ids=range(4)
)
def test_where_the_store_has_nothing_usable_the_lease_is_asked_for(reply: StoreReply) -> None:
    hand = Hand(share())
    assert hand.answer(reply) == Claim(seconds=5.0)


def test_whether_a_token_will_do_is_asked_with_the_moment_at_which_it_was_read() -> None:
    asked: list[tuple[str, float]] = []

    def will_do(stored: StoredToken, now: Moment) -> bool:
        asked.append((stored.granted.access_token, now.monotonic))
        return False

    hand = Hand(share(will_do=will_do))
    assert hand.answer(holding("a"), after=1) == Claim(seconds=5.0)
    hand.answer(holding("b", lease=Lease.HELD), after=2)
    assert asked == [("a", START.monotonic + 1), ("b", START.monotonic + 3)]


# With the lease


def test_who_has_the_lease_asks_the_server_and_stores_what_it_gave() -> None:
    hand = Hand(share())
    hand.answer(NOTHING)
    assert hand.answer(GRANTED, after=0.5) == SEND
    assert [one.monotonic for one in hand.began_at] == [START.monotonic + 0.5]
    step = hand.answer(OK, after=2)
    assert isinstance(step, Keep)
    assert step.seconds == 98  # the lifetime counts from before the request
    assert PLANTED not in repr(step)
    stored = read_stored(step.content, KEY, step.seconds, order())
    assert stored is not None
    assert (stored.granted, stored.forced) == (granted(), False)
    assert hand.answer() is None
    assert isinstance(hand.result, Obtained)


@pytest.mark.parametrize(
    ("cause", "forced"), [("missing", False), ("expired", False), ("due", False), ("rejected", True), ("forced", True)]
)
def test_a_token_that_was_got_although_there_was_another_is_marked(cause: str, forced: bool) -> None:
    hand = Hand(share(cause))
    hand.answer(NOTHING)
    hand.answer(GRANTED)
    step = hand.answer(OK)
    assert isinstance(step, Keep)
    stored = read_stored(step.content, KEY, 50, order())
    assert stored is not None
    assert stored.forced is forced


def test_a_token_without_life_is_not_stored_and_the_lease_is_given_back() -> None:
    hand = Hand(share(), transmissions(1, lifetime=0.0))
    hand.answer(NOTHING)
    hand.answer(GRANTED)
    assert hand.answer(OK) == Release(pause=0.0)
    assert hand.answer() is None
    assert isinstance(hand.result, Obtained)


@pytest.mark.standards("S-189")
def test_a_failure_is_not_stored_and_gives_the_lease_back_with_a_pause() -> None:
    error = TokenRequestError("no", code="token_request_server_error")
    hand = Hand(share(), transmissions(1, error=error))
    hand.answer(NOTHING)
    hand.answer(GRANTED)
    assert hand.answer(OK) == Release(pause=FLEET_PAUSE * 1.5)
    with pytest.raises(TokenRequestError) as caught:
        hand.answer()
    assert caught.value is error


@pytest.mark.parametrize("error", [TokenRequestError("too late"), RuntimeError("broken")])
def test_an_error_of_the_driver_gives_the_lease_back_too(error: Exception) -> None:
    hand = Hand(share(), transmissions(2))
    hand.answer(NOTHING)
    hand.answer(GRANTED)
    step = hand.fail(error)
    assert isinstance(step, Release)
    assert step.pause > 0
    with pytest.raises(type(error)) as caught:
        hand.answer()
    assert caught.value is error


def test_an_error_while_the_lease_is_prolonged_gives_it_back() -> None:
    hand = Hand(share(), transmissions(2))
    hand.answer(NOTHING)
    hand.answer(GRANTED)
    hand.answer(OK, after=3)
    assert hand.answer() == Claim(seconds=5.0)
    assert isinstance(hand.fail(TokenRequestError("too late")), Release)


def test_an_error_without_the_lease_gives_nothing_back() -> None:
    for replies in ([], [NOTHING], [NOTHING, HELD]):
        hand = Hand(share())
        for reply in replies:
            hand.answer(reply)
        with pytest.raises(RuntimeError):
            hand.fail(RuntimeError())


def test_a_dance_that_takes_long_prolongs_the_lease_before_it_asks_again() -> None:
    hand = Hand(share(), transmissions(4))
    hand.answer(NOTHING)
    assert hand.answer(GRANTED) == SEND
    hand.answer(OK, after=2.4)
    assert hand.answer() == SEND  # not half of it is over
    hand.answer(OK, after=0.2)
    assert hand.answer() == Claim(seconds=5.0)
    assert hand.answer(GRANTED) == SEND
    hand.answer(OK, after=2.4)
    assert hand.answer() == SEND  # counted from the prolonging
    assert isinstance(hand.answer(OK), Keep)


@pytest.mark.parametrize("reply", [AWAY, HELD, PAUSED])
def test_a_lease_that_cannot_be_prolonged_ends_nothing(reply: StoreReply) -> None:
    hand = Hand(share(), transmissions(2))
    hand.answer(NOTHING)
    hand.answer(GRANTED)
    hand.answer(OK, after=4)
    assert hand.answer() == Claim(seconds=5.0)
    assert hand.answer(reply) == SEND
    assert isinstance(hand.answer(OK), Keep)


def test_a_token_that_came_with_the_lease_is_taken_and_the_lease_given_back() -> None:
    hand = Hand(share())
    hand.answer(NOTHING)
    assert hand.answer(holding(lease=Lease.GRANTED)) == Release(pause=0.0)
    assert hand.answer() is None
    assert isinstance(hand.result, Found)
    assert hand.began_at == []


# Another has the lease


@pytest.mark.parametrize("reply", [HELD, PAUSED])
def test_where_nobody_waits_it_is_left_to_the_one_with_the_lease(reply: StoreReply) -> None:
    hand = Hand(share("due", awaited=False, will_do=never))
    hand.answer(holding())
    assert hand.answer(reply) is None
    assert hand.result is None
    assert hand.began_at == []


def test_where_somebody_waits_the_store_is_looked_into_again_at_growing_intervals_until_it_is_there() -> None:
    hand = Hand(share())
    hand.answer(NOTHING)
    pauses = []
    for _ in range(12):
        step = hand.answer(HELD)
        assert isinstance(step, Pause)
        pauses.append(step.seconds)
        assert hand.answer(after=step.seconds) == Claim(seconds=5.0)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.05, 0.5)
    assert hand.answer(holding(lease=Lease.HELD)) is None
    assert isinstance(hand.result, Found)


def test_who_waits_and_is_given_the_lease_asks_the_server() -> None:
    hand = Hand(share())
    hand.answer(NOTHING)
    hand.answer(HELD)
    hand.answer(after=0.1)
    assert hand.answer(GRANTED) == SEND


def test_somebody_who_begins_to_wait_in_the_middle_is_seen() -> None:
    waits = iter([True, False])
    hand = Hand(share("due", awaited=lambda: next(waits), will_do=never))
    hand.answer(NOTHING)
    assert isinstance(hand.answer(HELD), Pause)
    hand.answer(after=0.1)
    assert hand.answer(HELD) is None
    assert hand.result is None


def test_nobody_waits_beyond_the_time_limit_and_nothing_is_asked_in_vain() -> None:
    hand = Hand(share())
    hand.answer(NOTHING)
    assert isinstance(hand.answer(HELD, after=9.8), Pause)
    hand.answer(after=0.15)
    with pytest.raises(TokenRequestError, match="takes too long") as caught:
        hand.answer(HELD)
    assert caught.value.code == "token_request_timeout"


def test_the_first_token_is_waited_for_over_the_pause_of_another_that_failed() -> None:
    hand = Hand(share("missing"))
    hand.answer(NOTHING)
    assert isinstance(hand.answer(PAUSED), Pause)
    hand.answer(after=0.1)
    assert hand.answer(GRANTED) == SEND


def test_who_waited_over_pauses_only_is_told_that_another_got_none() -> None:
    hand = Hand(share("missing"))
    hand.answer(NOTHING, after=9.9)
    hand.answer(PAUSED)
    hand.answer(after=0.05)
    with pytest.raises(TokenRequestError) as caught:
        hand.answer(PAUSED)
    assert caught.value.code == "token_request_failed_elsewhere"


@pytest.mark.parametrize("cause", ["expired", "due", "rejected", "forced"])
def test_whoever_had_a_token_is_told_at_once_that_another_got_none(cause: str) -> None:
    hand = Hand(share(cause))
    hand.answer(NOTHING)
    with pytest.raises(TokenRequestError, match="the log says why") as caught:
        hand.answer(PAUSED)
    assert caught.value.code == "token_request_failed_elsewhere"


# Rejected by an API


@pytest.mark.standards("S-205")
@pytest.mark.parametrize("lease", [Lease.NOT_ASKED, Lease.HELD, Lease.GRANTED])
def test_what_was_renewed_for_a_rejection_a_moment_ago_is_not_renewed_again(lease: Lease) -> None:
    hand = Hand(share("rejected", will_do=never))
    reply = holding(left=100 - FORCED_RENEWAL_SPACING + 0.1, forced=True, lease=lease)
    if lease is not Lease.NOT_ASKED:
        hand.answer(NOTHING)
    if lease is Lease.GRANTED:
        assert hand.answer(reply) == Release(pause=0.0)
        reply = NOTHING
    with pytest.raises(TokenRequestError) as caught:
        hand.answer(reply)
    assert caught.value.code == "renewal_spaced"
    assert hand.began_at == []


@pytest.mark.standards("S-205")
@pytest.mark.parametrize(
    ("cause", "forced", "age"),
    [
        ("rejected", False, 1.0),
        ("rejected", True, FORCED_RENEWAL_SPACING),
        ("due", True, 1.0),
        ("forced", True, 1.0),
    ],
)
def test_everything_else_that_will_not_do_is_renewed(cause: str, forced: bool, age: float) -> None:
    hand = Hand(share(cause, will_do=never))
    hand.answer(holding(left=100 - age, forced=forced))
    assert hand.answer(holding(left=100 - age, forced=forced, lease=Lease.GRANTED)) == SEND


# The store is away


@pytest.mark.standards("S-188")
@pytest.mark.parametrize("replies", [[AWAY], [NOTHING, AWAY], [NOTHING, HELD, None, AWAY]])
def test_a_store_that_is_away_is_done_without_at_every_step(replies: list[StoreReply | None]) -> None:
    hand = Hand(share())
    for reply in replies:
        hand.answer(reply)
    assert hand.step == SEND
    assert hand.answer(OK) is None
    assert isinstance(hand.result, Obtained)


@pytest.mark.standards("S-188")
def test_without_a_store_a_failure_is_the_servers_own() -> None:
    error = TokenRequestError("no", code="token_request_server_error")
    hand = Hand(share(), transmissions(1, error=error))
    hand.answer(AWAY)
    with pytest.raises(TokenRequestError) as caught:
        hand.answer(OK)
    assert caught.value is error
