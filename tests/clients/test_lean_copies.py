"""Copies of requests are made of what the libraries keep underneath; where that is not as expected, the public ways do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import httpx2
import pytest
import requests
from requests.structures import CaseInsensitiveDict

from tokenvalet.clients import requests_copies
from tokenvalet.clients.httpx_requests import _looks_of, looks_of
from tokenvalet.clients.pools import POOL_SECONDS, Pool
from tokenvalet.clients.requests_copies import Way, dressed, own_header_of
from tokenvalet.core.guard import parse_origin

FIELDS = [(b"Accept", b"accept", b"*/*"), (b"X-Two", b"x-two", b"1"), (b"x-two", b"x-two", b"2")]
LIBRARIES = pytest.mark.parametrize("library", [httpx2, httpx], ids=["httpx2", "httpx"])


def strange(library: Any) -> Any:
    """Return a library that keeps nothing where it is expected."""

    class Headers:
        def __init__(self, fields: Any) -> None:
            self.kept = library.Headers(fields)

        @property
        def raw(self) -> Any:
            return self.kept.raw

    class Url:
        def __init__(self, url: str) -> None:
            kept = library.URL(url)
            self.scheme, self.userinfo, self.raw_host, self.port = kept.scheme, kept.userinfo, kept.raw_host, kept.port

    return SimpleNamespace(Headers=Headers, URL=Url)


@LIBRARIES
@pytest.mark.parametrize("keeps", [True, False], ids=["as expected", "otherwise"])
def test_fields_and_addresses_are_the_same_whatever_the_library_keeps(library: Any, keeps: bool) -> None:
    known = library if keeps else strange(library)
    looks = _looks_of(known)
    headers = known.Headers([(name, value) for name, _, value in FIELDS])
    assert looks.fields(headers) == FIELDS
    assert looks.headers(FIELDS).raw == headers.raw
    addresses = [f"https://{where}/path?query" for where in ("api.test", "name@api.test", "other.test", "api.test:444")]
    assert len({tuple(looks.address(known.URL(one))[:4]) for one in addresses}) == len(addresses)
    assert looks.address(known.URL("https://API.test:443/other"))[:4] == looks.address(known.URL(addresses[0]))[:4]


@LIBRARIES
def test_headers_made_of_fields_are_as_good_as_those_of_the_constructor(library: Any) -> None:
    made = looks_of(library).headers([*FIELDS])
    usual = library.Headers([(name, value) for name, _, value in FIELDS])
    assert vars(made) == vars(usual)
    assert (made["x-TWO"], made.encoding, repr(made)) == (usual["x-two"], usual.encoding, repr(usual))


@pytest.mark.parametrize("keeps", [True, False], ids=["as expected", "otherwise"])
def test_a_copy_for_requests_has_the_token_and_the_original_has_not(
    keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_copies, "_KEEPS_STORE", keeps and requests_copies._KEEPS_STORE)
    request = requests.Request("POST", "https://api.test/path", headers={"X-One": "1"}, data=b"body").prepare()
    twin = dressed(request, Way(parse_origin("https://api.test"), None), b"Bearer token", b"proof")
    assert dict(twin.headers) == {**request.headers, "Authorization": b"Bearer token", "DPoP": b"proof"}
    assert twin.headers["authorization"] == b"Bearer token"
    assert "Authorization" not in request.headers
    assert (twin.method, twin.url, twin.body, twin.hooks) == ("POST", request.url, b"body", request.hooks)
    assert own_header_of(request.headers) is None
    assert own_header_of(CaseInsensitiveDict({"AUTHORIZATION": "x"})) == "AUTHORIZATION"
    assert own_header_of({"dPoP": "x"}) == "dPoP"


def test_a_pool_that_is_retired_ends_once_behind_its_last_call() -> None:
    pool = Pool(None, None, 0.0)  # type: ignore[arg-type]
    assert (pool.enter(0.0, None), pool.enter(1.0, None)) == (True, True)
    assert not pool.enter(POOL_SECONDS, None)
    assert not pool.enter(0.0, object())  # type: ignore[arg-type]
    assert not pool.leave()
    assert not pool.retire()
    assert not pool.enter(0.0, None)
    assert (pool.leave(), pool.retire()) == (True, False)


def test_a_call_that_meets_the_end_of_its_pool_is_counted_or_sent_away() -> None:
    """Between the two looks of `enter`, as another thread would."""

    class Calls(list[None]):
        between: Any = None

        def append(self, call: None) -> None:
            super().append(call)
            self.between()

    for is_counted in (False, True):
        pool = Pool(None, None, 0.0)  # type: ignore[arg-type]
        pool._calls = calls = Calls()
        ends: list[bool] = []
        if is_counted:
            calls.between = lambda pool=pool, ends=ends: ends.append(pool.retire())
        else:

            def end(pool: Pool = pool, calls: Calls = calls, ends: list[bool] = ends) -> None:
                calls.pop()
                ends.append(pool.retire())  # as it was before the call was counted in
                list.append(calls, None)

            calls.between = end
        assert pool.enter(0.0, None) is is_counted
        assert ends == [not is_counted]
        assert len(calls) == is_counted
        if is_counted:
            assert pool.leave()
