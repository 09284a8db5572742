"""Clients that come and go, tokens that are thrown away or forced, and what tokens are filed under (S-180 to S-183)."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from life.makers import Bench, config, in_threads, refusal, token_of, tokens, until
from tokenvalet import AccessToken, ClientConfig, ConfigurationError, TokenParameters, TokenRefusedError, TokenValet
from tokenvalet.pending import Waiting

# Invalidate ------------------------------------------------------------------------------------------------------


def test_after_an_invalidation_the_next_use_gets_new_tokens_whatever_they_were_asked_with() -> None:
    with Bench() as bench:
        old = [bench.valet.token("m2m"), bench.valet.token("m2m", scope="a")]
        bench.valet.invalidate("m2m")
        new = [bench.valet.token("m2m"), bench.valet.token("m2m", scope="a")]
        assert not set(old) & set(new)
        assert [bench.valet.token("m2m"), bench.valet.token("m2m", scope="a")] == new
        assert bench.count == 4


def test_an_invalidation_touches_no_other_client() -> None:
    with Bench() as bench:
        bench.valet.add_client("other", config(client_id="other"))
        kept = bench.valet.token("other")
        bench.valet.invalidate("m2m")
        assert bench.valet.token("other") is kept


def test_a_token_that_was_under_way_when_its_client_was_invalidated_is_not_used_later() -> None:
    with Bench() as bench:
        bench.backchannel.hold()
        waiting = bench.renewer.get(bench.ticket())
        bench.backchannel.wait_for(1)
        bench.valet.invalidate("m2m")
        bench.backchannel.release()
        stale = token_of(waiting)
        bench.settle()
        assert bench.valet.token("m2m") is not stale
        assert bench.count == 2


@pytest.mark.standards("S-183")
def test_two_names_for_the_same_client_share_a_token_and_invalidating_one_makes_no_ping_pong() -> None:
    with Bench() as bench:
        bench.valet.add_client("twin", config())
        assert bench.valet.token("twin") is bench.valet.token("m2m")
        for name in ("twin", "m2m", "twin"):
            before = bench.count
            bench.valet.invalidate(name)
            for _ in range(10):
                bench.valet.token("m2m")
                bench.valet.token("twin")
            assert bench.count == before + 1


# Force -----------------------------------------------------------------------------------------------------------


def test_a_renewal_can_be_forced_though_the_token_is_fresh_and_not_more_often_than_every_ten_seconds() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        second = bench.valet.token("m2m", force_renewal=True)
        assert second is not first
        assert bench.valet.token("m2m") is second  # for all who use that key
        bench.clock.advance(9.9)
        assert bench.valet.token("m2m", force_renewal=True) is second
        bench.clock.advance(0.2)
        assert bench.valet.token("m2m", force_renewal=True) is not second
        assert bench.count == 3
        assert bench.seen.of("renewal_started")[-1].cause == "forced"


def test_forced_renewals_at_once_are_one() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.backchannel.hold()
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m", force_renewal=True), times=16)
            bench.backchannel.wait_for(2)
            until(lambda: len(bench.renewer._under_way) == 1)
            threads.start(lambda: bench.valet.token("m2m", force_renewal=True), times=16)
            bench.backchannel.release()
        assert ({token.value for token in threads.values}, bench.count) == ({"token-1"}, 2)


def test_a_forced_renewal_and_a_rejection_share_their_ten_seconds() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m", force_renewal=True)
        assert bench.renewer.replace(bench.ticket(), first) is None
        assert bench.count == 1


def test_who_does_not_force_is_not_kept_waiting_by_who_does() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.backchannel.hold()
        assert isinstance(bench.renewer.get(bench.ticket(force_renewal=True)), Waiting)
        assert bench.valet.token("m2m") is first


def test_a_forced_renewal_that_fails_says_so_and_leaves_the_token_as_it_is() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.backchannel.answer = refusal()
        with pytest.raises(TokenRefusedError):
            bench.valet.token("m2m", force_renewal=True)
        assert bench.valet.token("m2m") is first


def test_forcing_where_there_is_no_token_is_an_ordinary_renewal() -> None:
    with Bench() as bench:
        assert bench.valet.token("m2m", force_renewal=True).value == "token-0"
        bench.clock.advance(5)
        assert bench.valet.token("m2m").value == "token-0"
        bench.clock.advance(3600)
        assert bench.valet.token("m2m", force_renewal=True).value == "token-1"


# Add, remove, resolve --------------------------------------------------------------------------------------------


def test_a_client_can_be_added_and_removed_at_run_time() -> None:
    with Bench() as bench:
        with pytest.raises(ConfigurationError, match="tenant-1") as caught:
            bench.valet.token("tenant-1")
        assert caught.value.code == "unknown_client"
        bench.valet.add_client("tenant-1", config(client_id="t1"))
        assert bench.valet.token("tenant-1").client == "tenant-1"
        bench.valet.remove_client("tenant-1")
        with pytest.raises(ConfigurationError):
            bench.valet.token("tenant-1")
        bench.valet.remove_client("tenant-1")  # once more does no harm


def test_a_client_that_is_replaced_gets_a_new_token_although_it_is_filed_under_the_same_key() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.valet.add_client("m2m", config(base_url="https://api.example.org"))
        second = bench.valet.token("m2m")
        assert second is not first
        assert bench.valet.token("m2m") is second


def test_those_who_still_hold_the_former_client_and_those_who_have_the_new_one_get_along() -> None:
    with Bench() as bench:
        former = bench.valet._clients["m2m"].ticket()
        bench.valet.token("m2m")
        bench.valet.add_client("m2m", config(base_url="https://api.example.org"))
        for _ in range(10):
            token_of(bench.renewer.get(former))
            bench.valet.token("m2m")
        assert bench.count == 2


def test_a_client_with_faults_is_not_added_and_the_former_one_stays() -> None:
    with Bench() as bench:
        with pytest.raises(ConfigurationError, match="issuer"):
            bench.valet.add_client("m2m", ClientConfig(client_id="x", client_secret="y"))
        assert bench.valet.token("m2m").value == "token-0"


class Resolver:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, name: str) -> ClientConfig | None:
        self.asked.append(name)
        return config(client_id=name) if name.startswith("tenant") else None


def resolving(resolver: Any) -> tuple[Bench, TokenValet]:
    bench = Bench()
    valet = TokenValet(
        resolver=resolver, clock=bench.clock, backchannel=bench.backchannel, observers=[bench.seen], capacity=100
    )
    return bench, valet


def test_a_client_that_is_not_known_is_asked_for_once() -> None:
    resolver = Resolver()
    bench, valet = resolving(resolver)
    with bench, valet:
        for _ in range(10):
            assert valet.token("tenant-1").client == "tenant-1"
        with pytest.raises(ConfigurationError, match="nobody"):
            valet.token("nobody")
        assert (resolver.asked, bench.count) == (["tenant-1", "nobody"], 1)
        valet.remove_client("tenant-1")
        valet.token("tenant-1")
        assert resolver.asked == ["tenant-1", "nobody", "tenant-1"]


@pytest.mark.standards("S-200")
def test_a_client_that_many_ask_for_at_once_for_the_first_time_is_one_client_and_costs_one_request() -> None:
    arrived: list[None] = []
    calls = itertools.count()

    def resolver(name: str) -> ClientConfig:
        until(lambda: len(arrived) == 8)
        if next(calls):  # these found it missing too, and come back when the first has asked for a token already
            bench.backchannel.wait_for(1)
        return config(client_id=name)

    def ask() -> AccessToken:
        arrived.append(None)
        return valet.token("tenant-1")

    bench, valet = resolving(resolver)
    with bench, valet:
        with in_threads() as threads:
            threads.start(ask, times=8)
        for _ in range(3):
            threads.values.append(valet.token("tenant-1"))
        assert (len(threads.values), len(set(threads.values)), bench.count, threads.errors) == (11, 1, 1, [])


@pytest.mark.standards("S-190")
def test_of_the_resolved_clients_the_least_recently_used_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenvalet.client_book.MOST_RESOLVED", 2)
    resolver = Resolver()
    bench, valet = resolving(resolver)
    with bench, valet:
        for name in ("tenant-1", "tenant-2", "tenant-1", "tenant-3"):
            valet.token(name)
        resolver.asked.clear()
        valet.token("tenant-1")  # used after tenant-2, so it was kept
        assert resolver.asked == []
        valet.token("tenant-2")
        assert resolver.asked == ["tenant-2"]


# Token keys ------------------------------------------------------------------------------------------------------

BASE: dict[str, Any] = {
    "issuer": "https://login.example.org",
    "token_endpoint": "https://login.example.org/token",
    "client_id": "web",
    "client_secret": "secret-one-secret-one",
    "scope": "a b",
    "resource": ["https://r.example/1", "https://r.example/2"],
    "audience": ["x", "y"],
    "parameters": {"p": "1"},
}


def key_of(asked: TokenParameters | None = None, /, **changes: Any) -> str:
    values = {**BASE, **changes}
    with TokenValet(ClientConfig(**{name: value for name, value in values.items() if value is not None})) as valet:
        return valet._clients["default"].ticket(asked).key


@pytest.mark.standards("S-181", "S-183")
@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://login.example.org/a"},
        {"issuer": "https://login.example.org/"},
        {"token_endpoint": "https://login.example.org/token2"},
        {"token_endpoint": None},
        {"client_id": "web2"},
        {"client_secret": "secret-two-secret-two"},
        {"auth_method": "client_secret_post"},
        {"auth_method": "client_secret_jwt", "client_secret": "s" * 40},
        {"scope": "a"},
        {"scope": None},
        {"scope": "a b c"},
        {"resource": ["https://r.example/1"]},
        {"audience": ["x"]},
        {"parameters": {"p": "2"}},
        {"parameters": {"q": "1"}},
        {"parameters": {"p": "1", "q": "1"}},
        {"required_scopes": "a"},
        {"dpop": True},
    ],
    ids=str,
)
def test_whatever_the_server_would_see_differ_is_another_token(change: dict[str, Any]) -> None:
    assert key_of(**change) != key_of()


@pytest.mark.standards("S-181")
@pytest.mark.parametrize(
    "change",
    [
        {"scope": "b a"},
        {"scope": ["b", "a"]},
        {"scope": "b  a a"},
        {"resource": ["https://r.example/2", "https://r.example/1"]},
        {"audience": ["y", "x", "x"]},
        {"base_url": "https://api.example.org"},
        {"renew_before": 60},
        {"timeout": 3},
        {"name": "default"},
    ],
    ids=str,
)
def test_whatever_the_server_would_not_see_is_the_same_token(change: dict[str, Any]) -> None:
    assert key_of(**change) == key_of()


@pytest.mark.standards("S-181")
def test_what_is_asked_for_now_and_what_is_configured_are_filed_alike() -> None:
    assert key_of(TokenParameters(scope="b a")) == key_of()
    assert key_of(TokenParameters(scope="c"), scope="a b") == key_of(scope="c")
    assert key_of(TokenParameters(parameters={"q": "1"})) == key_of(parameters={"p": "1", "q": "1"})
    assert key_of(TokenParameters(force_renewal=True)) == key_of()


@pytest.mark.standards("S-180")
def test_separators_in_names_and_scopes_cannot_make_two_requests_look_alike() -> None:
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"client_id": "a::b", "scope": "c"}, {"client_id": "a", "scope": "b::c"}),
        ({"client_id": 'a","scope":["c', "scope": "d"}, {"client_id": "a", "scope": "c"}),
        ({"audience": ["x", "y"]}, {"audience": ["x y"]}),
        ({"audience": ["x,y"]}, {"audience": ["x", "y"]}),
        ({"scope": None, "audience": ["a", "b"]}, {"scope": "a b", "audience": None}),
        ({"parameters": {"p": "1&q=2"}}, {"parameters": {"p": "1", "q": "2"}}),
        ({"resource": ["urn:a", "urn:b"], "audience": None}, {"resource": None, "audience": ["urn:a", "urn:b"]}),
    ]
    for one, other in pairs:
        assert key_of(**one) != key_of(**other)


_words = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=6
)
_asked = st.fixed_dictionaries(
    {
        "scope": st.frozensets(_words, max_size=3),
        "audience": st.frozensets(_words, max_size=3),
        "parameters": st.dictionaries(_words.map(lambda word: "x-" + word), _words, max_size=2),
    }
)


@pytest.mark.standards("S-180", "S-181")
@given(_asked, _asked, st.randoms())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_keys_are_equal_exactly_when_what_is_asked_for_is(one: Any, other: Any, chance: Any) -> None:
    def key(asked: Any) -> str:
        shuffled = {name: chance.sample(sorted(asked[name]), len(asked[name])) for name in ("scope", "audience")}
        return (
            shared_valet()._clients["default"].ticket(TokenParameters(**shuffled, parameters=asked["parameters"])).key
        )

    assert (key(one) == key(other)) == (one == other)
    assert key(one) == key(one)


@functools.cache
def shared_valet() -> TokenValet:
    return TokenValet(config(token_endpoint="https://login.example.org/token"))


@pytest.mark.standards("S-183")
def test_two_clients_with_one_client_id_and_different_secrets_never_share() -> None:
    with Bench(tokens()) as bench:
        bench.valet.add_client("other", config(client_secret="another-secret"))
        assert bench.valet.token("m2m").value != bench.valet.token("other").value
        assert bench.count == 2


@pytest.mark.standards("S-165", "S-180")
def test_a_token_key_shows_nothing_of_what_went_into_it() -> None:
    key = key_of()
    assert len(key) == 64
    assert set(key) <= set("0123456789abcdef")
