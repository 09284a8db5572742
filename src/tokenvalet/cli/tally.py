"""What was promised of each act of the demo, and what the servers counted: compared, and shown as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .demo_stage import Browser, Stage
from .screen import WIDTH

__all__ = ["Act", "Promise", "Tally"]

_HEADS = ("token requests", "API calls", "401s put right", "waits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What must happen in one act.

    token_requests: what the authorization server makes of each request to its token endpoint, in order.
    calls: the status of each request to the API, in order.
    waits: how many callers wait for a renewal; None where that depends on how they are scheduled.
    scheme: the authentication scheme of every call.
    """

    token_requests: tuple[str, ...] = ()
    calls: tuple[int, ...]
    waits: int | None = 0
    scheme: str = "Bearer"


@dataclass(slots=True)
class Act:
    """One act while it is played, and what came of it. before: how many events of each name had come when it began."""

    title: str
    before: Counter[str]
    counted: tuple[int, int, int, int] = (0, 0, 0, 0)
    faults: list[str] = field(default_factory=list)

    def expect(self, fault: str) -> None:
        """Take what is wrong, which is nothing if the text is empty."""
        if fault:
            self.faults.append(fault)


class Tally:
    """The acts of one demo."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._acts: list[Act] = []

    @contextmanager
    def act(self, title: str, browser: Browser, promise: Promise) -> Iterator[Act]:
        """Play an act in the body of the `with`, and count what the servers see meanwhile."""
        act = Act(f"{len(self._acts) + 1}  {title}", browser.narrator.counts.copy())
        self._acts.append(act)
        auth, api = self._stage.auth, self._stage.api
        requests_before, calls_before = len(auth.token_requests), len(api.calls)
        self._stage.screen.heading(act.title)
        yield act
        outcomes = tuple(seen.outcome for seen in auth.token_requests[requests_before:])
        calls = api.calls[calls_before:]
        statuses = tuple(call.status for call in calls)
        waits = browser.narrator.counts["wait"] - act.before["wait"]
        act.counted = (len(outcomes), len(calls), statuses.count(401), waits)
        act.expect(_difference("token requests", promise.token_requests, outcomes))
        act.expect(_difference("calls to the API", promise.calls, statuses))
        if promise.waits is not None:
            act.expect(_difference("waits for a renewal", (promise.waits,), (waits,)))
        schemes = {str(call.scheme) for call in calls}
        act.expect("" if schemes <= {promise.scheme} else f"calls came as {', '.join(sorted(schemes))}")

    def show(self) -> bool:
        """Show the table, and what was not as promised. Returns whether all was."""
        screen = self._stage.screen
        room = WIDTH - sum(len(head) + 3 for head in _HEADS) - 3
        screen.heading(f"{'What the servers counted':<{room}}" + "".join(f"   {head}" for head in _HEADS))
        for act in self._acts:
            numbers = "".join(f"   {number:>{len(head)}}" for number, head in zip(act.counted, _HEADS, strict=True))
            verdict, mood = ("✗", "bad") if act.faults else ("✓", "good")
            screen.line(f"{act.title:<{room}}{numbers}  {verdict}", mood=mood)
        screen.line()
        faults = [f"act {act.title.partition(' ')[0]}: {fault}" for act in self._acts for fault in act.faults]
        if faults:
            for fault in faults:
                screen.line(fault, mood="bad")
        else:
            screen.line("All of it as promised.", mood="good", bold=True)
        return not faults


def _difference(what: str, promised: tuple[object, ...], counted: tuple[object, ...]) -> str:
    return "" if promised == counted else f"{what}: promised {_listed(promised)}, and it was {_listed(counted)}"


def _listed(things: tuple[object, ...]) -> str:
    counted = Counter(str(thing) for thing in things)
    return ", ".join(f"{times} × {thing}" if times > 1 else thing for thing, times in counted.items()) or "none"
