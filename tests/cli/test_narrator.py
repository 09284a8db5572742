"""The narrator: lines in an order that makes sense whichever thread was first, and one line for a crowd."""

from __future__ import annotations

import io
import sys

import pytest

from tokenvalet.cli.narrator import Narrator
from tokenvalet.cli.screen import Screen
from tokenvalet.observe import EVENT_NAMES, Event

POST = "POST http://127.0.0.1:9400/token 200"
REASONS = [("missing", "wait"), ("expired", "wait"), ("rejected", "wait"), ("due", "cache_hit")]


class Told:
    """A narrator and the lines that it has shown."""

    def __init__(self, scheme: str = "Bearer", outcome: str = "issued") -> None:
        self.lines: list[str] = []
        self.narrator = Narrator(Screen(self.lines.append), scheme=scheme, outcome=lambda: outcome)

    def tell(self, name: str, **values: object) -> None:
        self.narrator(Event(name=name, client="m2m", **values))  # type: ignore[arg-type]


@pytest.mark.parametrize(("cause", "reason"), REASONS)
def test_a_renewal_is_told_after_the_reason_for_it(cause: str, reason: str) -> None:
    told = Told()
    told.tell("renewal_started", cause=cause)
    told.tell("token_request", detail=POST, seconds=0.001)
    assert told.lines == []
    told.tell(reason, cause=cause)
    told.tell("token_cached", cause=cause, seconds=600.0)
    assert told.lines[-2:] == [
        "  renewal ─▶ token endpoint  POST /token  client credentials  200  (1 ms)",
        "  renewal ─▶ cache           Bearer ●●●, good for 600 s",
    ]
    assert "client " in told.lines[0]
    assert told.narrator.counts["renewal_started"] == 1


def test_the_reason_for_one_renewal_is_none_for_the_next() -> None:
    told = Told()
    for _ in range(2):
        told.tell("renewal_started", cause="due")
        assert told.lines == []
        told.tell("cache_hit", cause="due")
        told.tell("renewal_failed", cause="due", code="token_request_timeout", seconds=1.0)
        told.lines.clear()


def test_a_renewal_by_force_has_no_other_reason() -> None:
    told = Told()
    told.tell("renewal_started", cause="forced")
    told.tell("token_request", detail=POST, seconds=0.001)
    assert len(told.lines) == 1


def test_what_a_crowd_does_is_told_once_with_how_often() -> None:
    told = Told()
    with told.narrator.crowd():
        for _ in range(3):
            told.tell("wait", cause="missing")
        assert told.lines == []
        told.tell("token_cached", cause="missing", seconds=60.0)
        told.tell("cache_hit")
    assert told.lines == [
        "  client  ─▶ renewal         3 × waits for it",
        "  renewal ─▶ cache           Bearer ●●●, good for 60 s",
        "  client  ─▶ cache           hit: a fresh token",
    ]


def test_a_refusal_of_the_authorization_server_is_told_in_its_words() -> None:
    told = Told(scheme="DPoP", outcome="invalid_scope")
    told.tell("token_request", detail="POST http://127.0.0.1:9400/token 400", seconds=0.002)
    assert told.lines[0].endswith("POST /token  client credentials + proof ●●●  400 invalid_scope")


def test_every_event_has_a_line_or_belongs_to_one() -> None:
    for name in EVENT_NAMES:
        told = Told()
        told.tell(name, detail="GET /x 200", seconds=1.0, code="a_code")
        assert told.narrator.counts[name] == 1
        assert len(told.lines) == (name != "renewal_started")


class Terminal(io.TextIOWrapper):
    """A standard output that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "encoding", "line"),
    [
        ({}, "utf-8", "\x1b[2m  client  ─▶ cache         \x1b[0m  \x1b[32mhit…\x1b[0m"),
        ({"NO_COLOR": "1"}, "utf-8", "  client  ─▶ cache           hit…"),
        ({"TERM": "dumb"}, "utf-8", "  client  ─▶ cache           hit…"),
        ({"NO_COLOR": "1"}, "ascii", "  client  -> cache           hit..."),
    ],
)
def test_a_line_is_what_the_terminal_can_show(
    variables: dict[str, str], encoding: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    Screen.of_standard_output().arrow("client", "cache", "hit…", mood="good")
    terminal.flush()
    assert terminal.buffer.getvalue().decode(encoding) == f"{line}\n"  # type: ignore[attr-defined]
