"""What servers, requests and names say can forge no line of a log and hide nothing in one."""

from __future__ import annotations

import logging
import unicodedata
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.makers import pem
from secrecy.stage import SECRET, Stage
from secrecy.walker import LogRecords
from tokenvalet import ClientConfig, ConfigurationError, ConfigurationFault, Event, TokenValet, TokenValetError
from tokenvalet.errors import shown
from tokenvalet.observe import Observers, log_event
from tokenvalet.testing import Fault

EVIL: dict[str, str] = {
    "a line": "no\r\n2026-01-01 WARNING tokenvalet: all is well",
    "a colour": "\x1b[31mred\x1b[0m \x9b31m",
    "a direction": "\u202eesrever\u202c \u2066x\u2069 \u200f",
    "a separator": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "nothing to be seen": "a\u200bb\ufeffc\u00add\x00e\x7f\U000e0041",
    "a format": "%s %(name)s %d {} {0} {name!r} ${HOME}",
    "half a character": "a\ud800b",
    "much": "x" * 5000 + "\n" * 5000,
}
# What a reader of a log may be deceived with: controls, formats, surrogates, separators other than the blank.
DECEIVING: tuple[Literal["Cc", "Cf", "Cs", "Zl", "Zp"], ...] = ("Cc", "Cf", "Cs", "Zl", "Zp")


def deceiving(text: str) -> list[str]:
    return [ch for ch in text if unicodedata.category(ch) in DECEIVING]


def ours(log: LogRecords) -> list[str]:
    return [logging.Formatter("%(message)s").format(one) for one in log.records if one.name == "tokenvalet"]


# The rule -----------------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters() | st.characters(categories=DECEIVING), max_size=400)


@pytest.mark.standards("S-063", "S-166")
@given(ANY_TEXT, st.integers(0, 300))
def test_a_text_of_others_is_one_line_without_anything_that_deceives_and_of_bounded_length(
    text: str, limit: int
) -> None:
    safe = shown(text, limit)
    assert safe.isprintable()
    assert deceiving(safe) == []
    assert len(safe) <= 10 * limit + 1
    assert shown(safe, len(safe)) == safe, "what is safe stays as it is"
    assert safe.endswith("…") == (len(text) > limit or text.endswith("…"))


@pytest.mark.standards("S-063")
@given(ANY_TEXT)
def test_a_text_that_deceives_nobody_is_shown_as_it_is(text: str) -> None:
    if text.isprintable():
        assert shown(text, 400) == text
    assert shown(text, 400).count(" ") == text.count(" ")


@pytest.mark.standards("S-166")
@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_an_event_is_one_line_whatever_is_in_it(client: str, detail: str, place: str) -> None:
    heard: list[Event] = []
    with LogRecords() as log:
        Observers([heard.append]).tell(Event(name="renewal_failed", client=client, detail=detail))
        log_event(Event(name="call_sent", client=client))
    assert [line for line in ours(log) if deceiving(line) or not line.isprintable()] == []
    assert len(ours(log)) == 2
    assert deceiving(heard[0].detail) == []
    assert heard[0].client == client, "a listener may look it up"
    assert deceiving(str(ConfigurationFault(place=place, message="is wrong"))) == []


# What the servers say -------------------------------------------------------------------------------------------------


def lines_of(stage: Stage, log: LogRecords, ask: Any) -> list[str]:
    """Return all that is shown of what a server said: the lines of the log, the error, the events."""
    with pytest.raises(TokenValetError) as caught:
        ask()
    error = caught.value
    attributes = [str(value) for value in vars(error).values()]
    return [*ours(log), str(error), *attributes, *(event.detail for event in stage.listener.events)]


@pytest.mark.standards("S-063", "S-166")
@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("status", [200, 400, 401, 503])
def test_what_a_token_endpoint_says_forges_no_line(
    name: str, status: int, stage: Stage, log: LogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = EVIL[name]
    monkeypatch.setattr("tokenvalet.core.policy.FIRST_PAUSE", 0.001)
    faults = [
        Fault.oauth_error("invalid_client", description=text, status=status),
        Fault.json({"error": text}, status=status),
        Fault.json({"error": text, "error_description": text, "error_uri": text}, status=status),
        Fault.json({"access_token": text, "token_type": "Bearer"}, status=status),
        Fault.json({"access_token": "a", "token_type": text}, status=status),
        Fault.json({"access_token": "a", "token_type": "Bearer", "scope": text, "expires_in": text}, status=status),
        Fault.json({text: text}, status=status),
        Fault(
            status=status, headers=(("content-type", text.encode("ascii", "ignore").decode().replace("\n", "")[:50]),)
        ),
    ]
    faults = [fault for fault in faults if not any(ch in str(fault.headers) for ch in ("\\r", "\\x0", "\\x1", "\\x7"))]
    for fault in faults:
        stage.auth.misbehave(fault, times=None)
        with stage.valet("client_secret_basic", timeout=5.0) as valet:
            lines = lines_of(stage, log, lambda valet=valet: valet.token("m2m"))
        stage.auth.behave()
        assert [line for line in lines if deceiving(line)] == []
        assert max(map(len, lines)) < 6000
    assert len(stage.auth.token_requests) >= len(faults) >= 7


@pytest.mark.standards("S-063", "S-166", "S-008")
@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize(
    "member",
    [
        "issuer",
        "token_endpoint",
        "token_endpoint_auth_methods_supported",
        "grant_types_supported",
        "dpop_signing_alg_values_supported",
    ],
)
def test_what_metadata_says_forges_no_line(member: str, name: str, stage: Stage, log: LogRecords) -> None:
    text = EVIL[name]
    value: Any = [text, text] if member.endswith("supported") else f"https://127.0.0.1/{text}"
    stage.auth.metadata_overrides = {member: value}
    with stage.valet("client_secret_basic", dpop=True, timeout=5.0) as valet:
        lines = lines_of(stage, log, lambda: valet.token("m2m"))
    assert [line for line in lines if deceiving(line)] == []
    assert max(map(len, lines)) < 6000


@pytest.mark.standards("S-166")
def test_what_an_api_says_forges_no_line(stage: Stage, log: LogRecords) -> None:
    for text in ("\x9b31m red", 'a\\"b', "%s {}", "\u202e".encode().decode("latin-1")):
        with stage.valet("client_secret_basic") as valet, valet.client("m2m") as api:
            stage.api.reject_next(2, challenge=f'Bearer error="{text}", error_description="{text}", realm="{text}"')
            assert api.get("/echo").status_code == 401
    assert "call_rejected" in stage.listener.names()
    assert [line for line in ours(log) if deceiving(line)] == []


@pytest.mark.standards("S-166")
def test_the_path_of_a_call_forges_no_line(stage: Stage, log: LogRecords) -> None:
    with stage.valet("client_secret_basic") as valet, valet.client("m2m") as api:
        api.get("/echo/%0d%0aWARNING/\u202e/ü")
        api.request("GET", "/echo/\\x/%1b[31m")
    lines = ours(log)
    assert sum("call_sent" in line for line in lines) == 2
    assert [line for line in lines if deceiving(line)] == []


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-166")
@pytest.mark.parametrize("name", EVIL)
def test_the_name_of_a_client_forges_no_line(name: str, stage: Stage, log: LogRecords) -> None:
    # Those of tenants may come from a request.
    evil = EVIL[name]
    config = ClientConfig(**stage.settings("client_secret_basic"))
    errors: list[str] = []
    with TokenValet(resolver=lambda asked: config if asked == evil else None) as valet:
        assert valet.token(evil).value
        with valet.client(evil) as api:
            assert api.get("/echo").status_code == 200
        stage.auth.misbehave(Fault.oauth_error("invalid_client", status=401), times=None)
        valet.invalidate(evil)
        with pytest.raises(TokenValetError) as refused:
            valet.token(evil)
        with pytest.raises(ConfigurationError) as unknown:
            valet.token(f"{evil}?")
        with pytest.raises(ConfigurationError, match="known clients: ") as far_off:
            valet.token("~" * 99)
        errors += [str(refused.value), str(unknown.value), str(far_off.value), repr(valet), repr(api)]
        with pytest.raises(ConfigurationError) as faulty:
            valet.add_client(
                evil, ClientConfig(issuer="https://a.example", client_id="a", private_key_file="/not/there")
            )
        errors += str(faulty.value).splitlines()
    assert [line for line in [*ours(log), *errors] if deceiving(line)] == []


@pytest.mark.standards("S-166")
def test_the_name_of_a_client_forges_no_line_among_the_warnings_at_the_start(stage: Stage, log: LogRecords) -> None:
    settings: dict[str, Any] = {
        "issuer": "https://a.example",
        "client_id": "a",
        "private_key": pem("RSA"),
        "signing_alg": "RS256",
    }
    key = stage.file("rsa.pem", pem("RSA-2048"))
    settings |= {"dpop": True, "dpop_key_file": key, "dpop_alg": "RS256"}
    with TokenValet({EVIL["a line"]: ClientConfig(**settings)}):
        lines = ours(log)
    assert len(lines) == 2
    assert [line for line in lines if deceiving(line)] == []
    assert SECRET not in "".join(lines)
