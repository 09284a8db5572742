"""An outage with thousands of calls, or of thousands of tenants, is a few warnings, each with what was left out."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from life.makers import Clock, FakeBackchannel, config, refusal, unreachable
from secrecy.stage import Stage
from secrecy.walker import LogRecords
from tokenvalet import Event, TokenValet, TokenValetError
from tokenvalet.observe import EVENT_NAMES, MOST_WARNED_OF, MOST_WARNINGS, WARNING_SPACING, Observers, log_event

WARNED_OF = (
    "renewal_failed",
    "call_refused",
    "call_rejected",
    "endpoint_changed",
    "store_away",
    "store_value_refused",
)


class Stopwatch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def observers(stopwatch: Stopwatch) -> Observers:
    return Observers(clock=stopwatch)


@pytest.fixture
def at_warning() -> Iterator[LogRecords]:
    logger = logging.getLogger("tokenvalet")
    former = logger.level
    with LogRecords() as log:
        logger.setLevel(logging.WARNING)
        yield log
    logger.setLevel(former)


def failed(client: str = "m2m", code: str = "token_refused", name: str = "renewal_failed") -> Event:
    return Event(name=name, client=client, code=code, detail="for some reason")


# One client ---------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-168")
def test_the_same_warning_is_written_once_in_ten_seconds_with_the_number_of_those_left_out(
    observers: Observers, stopwatch: Stopwatch, at_warning: LogRecords
) -> None:
    for _ in range(1000):
        observers.tell(failed())
    assert len(at_warning.lines()) == 1
    assert "more like it" not in at_warning.lines()[0]
    stopwatch.now += WARNING_SPACING - 0.001
    observers.tell(failed())
    assert len(at_warning.lines()) == 1
    stopwatch.now += 0.001
    observers.tell(failed())
    assert at_warning.lines()[1:] == [
        "renewal_failed client=m2m code=token_refused for some reason (and 1000 more like it since it was last told)"
    ]
    stopwatch.now += WARNING_SPACING
    observers.tell(failed())
    assert "more like it" not in at_warning.lines()[2]


@pytest.mark.standards("S-168")
def test_another_client_another_cause_and_another_kind_are_told_at_once(
    observers: Observers, at_warning: LogRecords
) -> None:
    for event in (failed(), failed(client="other"), failed(code="token_request_timeout"), failed(name="call_rejected")):
        observers.tell(event)
        observers.tell(event)
    assert len(at_warning.lines()) == 4


@pytest.mark.standards("S-168")
def test_what_is_left_out_of_the_warnings_is_still_a_line_at_debug_and_an_event(stopwatch: Stopwatch) -> None:
    heard: list[Event] = []
    with LogRecords() as log:
        observers = Observers([heard.append], clock=stopwatch)
        for _ in range(5):
            observers.tell(failed())
    assert [one.levelname for one in log.records if one.name == "tokenvalet"] == ["WARNING", *["DEBUG"] * 4]
    assert len(heard) == 5


# Many clients -------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-168")
@pytest.mark.parametrize("name", WARNED_OF)
def test_an_outage_of_thousands_of_tenants_is_twenty_lines_in_ten_seconds(
    name: str, observers: Observers, stopwatch: Stopwatch, at_warning: LogRecords
) -> None:
    tenants = 2 * MOST_WARNED_OF
    for period in range(3):
        for number in range(tenants):
            observers.tell(failed(client=f"tenant-{number}", name=name))
        assert len(at_warning.lines()) == MOST_WARNINGS * (period + 1)
        stopwatch.now += WARNING_SPACING
    first_of_each = at_warning.lines()[::MOST_WARNINGS]
    left_out = [re.findall(rf"(\d+) more {name} of others", line) for line in first_of_each]
    assert left_out == [[], [str(tenants - MOST_WARNINGS)], [str(tenants - MOST_WARNINGS)]]


@pytest.mark.standards("S-168")
def test_one_kind_of_warning_leaves_room_for_the_others(observers: Observers, at_warning: LogRecords) -> None:
    for number in range(1000):
        observers.tell(failed(client=f"tenant-{number}"))
    for name in WARNED_OF[1:]:
        observers.tell(failed(name=name))
    assert len(at_warning.lines()) == MOST_WARNINGS + len(WARNED_OF) - 1


@pytest.mark.standards("S-168", "S-190")
def test_what_was_warned_of_takes_a_bounded_memory(observers: Observers, stopwatch: Stopwatch) -> None:
    for number in range(3 * MOST_WARNED_OF):
        stopwatch.now += WARNING_SPACING / MOST_WARNINGS
        observers.tell(failed(client=f"tenant-{number}"))
    assert len(observers._restraint._told) <= MOST_WARNED_OF
    assert len(observers._restraint._windows) <= len(EVENT_NAMES) + 1


@pytest.mark.standards("S-168")
def test_a_listener_that_raises_is_told_of_once_and_the_others_hear_everything(
    stopwatch: Stopwatch, at_warning: LogRecords
) -> None:
    heard: list[Event] = []

    def raises(event: Event) -> None:
        raise RuntimeError("planted-in-an-observer")

    observers = Observers([raises, heard.append, raises], clock=stopwatch)
    for _ in range(100):
        observers.tell(Event(name="cache_hit", client="m2m"))
    assert len(heard) == 100
    assert at_warning.lines() == ["an observer of tokenvalet raised RuntimeError"]


# The whole ----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-168", "S-062")
def test_thousands_of_calls_in_an_outage_are_one_warning(at_warning: LogRecords) -> None:
    for answer in (unreachable, refusal()):
        before = len(at_warning.lines())
        clock = Clock()
        with TokenValet({"m2m": config()}, backchannel=FakeBackchannel(answer), clock=clock) as valet:

            def ask(valet: TokenValet = valet) -> None:
                for _ in range(500):
                    with pytest.raises(TokenValetError):
                        valet.token("m2m")

            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(at_warning.lines()) == before + 1


@pytest.mark.standards("S-168", "S-205")
def test_hundreds_of_calls_that_the_api_rejects_are_one_warning(stage: Stage, at_warning: LogRecords) -> None:
    async def all_at_once(valet: TokenValet) -> None:
        async with valet.async_client("m2m") as api:
            for _ in range(10):
                answers = await asyncio.gather(*(api.get("/echo") for _ in range(20)))
                assert {one.status_code for one in answers} == {401}

    stage.api.reject_all = 'Bearer error="invalid_token"'
    with stage.valet("client_secret_basic") as valet:
        asyncio.run(all_at_once(valet))
    assert len(at_warning.lines()) == 1
    assert at_warning.lines()[0].startswith("call_rejected client=m2m")


@pytest.mark.standards("S-168", "S-222")
def test_thousands_of_uses_of_a_file_that_others_can_read_are_one_warning(stage: Stage, at_warning: LogRecords) -> None:
    settings = stage.settings("assertion_file")
    Path(settings["assertion_file"]).chmod(0o644)
    with stage.valet("assertion_file") as valet:
        Path(settings["assertion_file"]).chmod(0o644)
        for _ in range(20):
            valet.invalidate("m2m")
            assert valet.token("m2m").value
    assert len([line for line in at_warning.lines() if "chmod 600" in line]) == 1


# The names ----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-164")
def test_every_event_is_documented_and_stands_at_the_head_of_its_line() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    section = text.partition("## Events and logs")[2]
    assert [name for name in EVENT_NAMES if f"`{name}`" not in section] == []
    with LogRecords() as log:
        for name in EVENT_NAMES:
            log_event(Event(name=name, client="m2m"))
    records = [one for one in log.records if one.name == "tokenvalet"]
    assert [vars(one)["tokenvalet_event"] for one in records] == list(EVENT_NAMES)
    assert [one.getMessage().split()[0] for one in records] == list(EVENT_NAMES)
    assert {vars(one)["tokenvalet_event"] for one in records if one.levelname == "WARNING"} == set(WARNED_OF)


@pytest.mark.standards("S-164")
def test_no_event_is_told_that_has_no_documented_name() -> None:
    sources = (Path(__file__).parents[2] / "src" / "tokenvalet").rglob("*.py")
    told = {
        name
        for source in sources
        if "testing" not in source.parts and "cli" not in source.parts
        for name in re.findall(
            r"(?:Event\(\s*name=|_tell\(|_end\(renewal, ticket, |tell\(self\._client, )\s*\"(\w+)\"",
            source.read_text(encoding="utf-8"),
        )
    }
    assert told <= set(EVENT_NAMES)
    assert len(told) >= 10


@pytest.mark.standards("S-164")
def test_what_hangs_on_a_record_is_what_the_documentation_lists() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(tokenvalet_\w+)`", text, flags=re.MULTILINE))
    full = Event(
        "token_request", "m2m", "retry", 0.5, "a_code", "GET /x 200", 0.5, 7, "login.example.org:443", "GET", 200
    )
    with LogRecords() as log:
        log_event(full)
        log_event(Event(name="cache_miss", client="m2m"))
    whole, bare = (
        {name: value for name, value in vars(one).items() if name.startswith("tokenvalet_")} for one in log.records
    )
    assert set(whole) == documented
    assert list(whole.values()) == list(full)
    assert bare == {"tokenvalet_event": "cache_miss", "tokenvalet_client": "m2m"}


def test_the_client_on_a_record_is_as_harmless_as_in_its_line() -> None:
    with LogRecords() as log:
        log_event(Event(name="cache_miss", client="evil\nWARNING forged"))
    [record] = log.records
    assert vars(record)["tokenvalet_client"].endswith(r"\nWARNING forged")
