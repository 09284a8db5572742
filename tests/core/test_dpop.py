"""DPoP (RFC 9449): proofs that independent libraries verify, jti that never repeat, nonces kept apart."""

from __future__ import annotations

import json
import os
import pickle
import string
import threading
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import vectors
from core.makers import (
    API,
    CheapSigner,
    modest,
    new_proof_key,
    payload_of,
    proof_key,
    proof_of,
    signing_key,
    thorough,
    verified,
)
from tokenvalet.core.dpop import NonceStore, ProofKey, access_token_hash, target_uri, usable_nonce
from tokenvalet.core.guard import Origin, parse_origin
from tokenvalet.core.signing import ASYMMETRIC_ALGORITHMS, HmacSigner
from tokenvalet.errors import ProofError

HTU = "https://api.example.org/records"
IAT = 1_800_000_000
NQCHARS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=40
)


def jti_of(proof: bytes) -> str:
    jti = payload_of(proof)["jti"]
    assert isinstance(jti, str)
    return jti


# The proof -------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-090")
@pytest.mark.parametrize("alg", ASYMMETRIC_ALGORITHMS)
def test_a_proof_of_every_algorithm_is_verified_by_independent_libraries(alg: str) -> None:
    signer = signing_key(alg)
    judged = verified(ProofKey(signer).proof("GET", HTU, iat=IAT, nonce="n-1"), signer.public_jwk, alg)
    assert judged.header == {"typ": "dpop+jwt", "alg": alg, "jwk": dict(signer.public_jwk)}
    assert judged.claims == {"jti": judged.claims["jti"], "iat": IAT, "htm": "GET", "htu": HTU, "nonce": "n-1"}


@pytest.mark.standards("S-090")
@pytest.mark.parametrize("alg", ["ES256", "PS256", "EdDSA"])
def test_a_proof_has_no_private_member_in_its_header(alg: str) -> None:
    signer = signing_key(alg, "kid-of-the-file")
    header = verified(ProofKey(signer).proof("GET", HTU, iat=IAT), signer.public_jwk, alg).header
    assert set(header) == {"typ", "alg", "jwk"}
    assert not set(header["jwk"]) & {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "kid", "use", "alg", "x5c", "key_ops"}


@pytest.mark.standards("S-090")
@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_a_signer_that_shows_a_private_member_makes_no_proof_key(member: str) -> None:
    leaking = CheapSigner({**signing_key("ES256").public_jwk, member: "planted"})
    with pytest.raises(ProofError) as caught:
        ProofKey(leaking)
    assert "planted" not in str(caught.value)


@pytest.mark.standards("S-090")
def test_a_symmetric_key_makes_no_proof_key() -> None:
    with pytest.raises(ProofError):
        ProofKey(HmacSigner(b"s" * 64))


@pytest.mark.standards("S-115")
@pytest.mark.parametrize("alg", ["ES256", "ES384", "PS256", "EdDSA"])
def test_the_thumbprint_of_a_proof_key_is_the_one_that_joserfc_finds_in_its_proofs(alg: str) -> None:
    key = ProofKey(signing_key(alg))
    assert proof_of(key.proof("GET", HTU, iat=IAT), alg, jkt=key.jkt).claims["htu"] == HTU


@pytest.mark.standards("S-115")
def test_the_thumbprint_of_the_key_of_rfc_9449_comes_out() -> None:
    assert ProofKey(CheapSigner(vectors.RFC9449_JWK)).jkt == vectors.RFC9449_THUMBPRINT


@pytest.mark.standards("S-096")
def test_the_token_hash_of_rfc_9449_comes_out() -> None:
    assert access_token_hash(vectors.RFC9449_TOKEN) == vectors.RFC9449_ATH


@pytest.mark.standards("S-096")
def test_a_proof_without_a_token_has_no_ath_and_one_without_nonce_no_nonce() -> None:
    assert set(proof_of(proof_key().proof("POST", HTU, iat=IAT)).claims) == {"jti", "iat", "htm", "htu"}
    assert (
        proof_of(proof_key().proof("GET", HTU, iat=IAT, ath=vectors.RFC9449_ATH)).claims["ath"] == vectors.RFC9449_ATH
    )


@pytest.mark.standards("S-095")
def test_the_time_of_a_proof_is_an_integer() -> None:
    iat = proof_of(proof_key().proof("GET", HTU, iat=IAT)).claims["iat"]
    assert iat == IAT
    assert type(iat) is int


@pytest.mark.standards("S-092")
@pytest.mark.parametrize("method", ["GET", "get", "Patch", "M-SEARCH", "x"])
def test_the_method_stands_in_the_proof_as_it_goes_onto_the_wire(method: str) -> None:
    assert proof_of(proof_key().proof(method, HTU, iat=IAT)).claims["htm"] == method


@pytest.mark.standards("S-093", "S-094")
@thorough
@given(
    method=st.text(max_size=12),
    origin=st.builds(Origin, st.just("https"), st.text(min_size=1, max_size=12), st.integers(1, 65535)),
    path=st.text(max_size=30) | st.text("/\\\"{}[],:%~;'\u2028é\x00\x7f\ud800", max_size=20),
    iat=st.integers(0, 2**40),
    token=st.none() | st.text(string.ascii_letters + string.digits + "-._~+/", min_size=1, max_size=40),
    nonce=st.none() | NQCHARS,
)
def test_the_payload_of_a_proof_is_what_was_asked_for_whatever_that_is(
    method: str, origin: Origin, path: str, iat: int, token: str | None, nonce: str | None
) -> None:
    htu = target_uri(origin, path)
    expected: dict[str, Any] = {"htm": method, "htu": htu, "iat": iat}
    if token is not None:
        expected["ath"] = access_token_hash(token)
    if nonce is not None:
        assert usable_nonce([nonce]) == nonce
        expected["nonce"] = nonce
    for _ in range(2):  # made, and then taken from what is kept
        claims = proof_of(proof_key().proof(method, htu, iat=iat, ath=expected.get("ath"), nonce=nonce)).claims
        assert len(claims.pop("jti")) == 32
        assert claims == expected


@pytest.mark.standards("S-093")
@pytest.mark.parametrize(
    ("url", "path", "htu"),
    [
        ("https://API.Example.org:443", "", "https://api.example.org/"),
        ("HTTPS://api.example.org", "/", "https://api.example.org/"),
        ("https://api.example.org:8443", "/a", "https://api.example.org:8443/a"),
        ("https://bücher.example", "/a", "https://xn--bcher-kva.example/a"),
        ("https://[2001:DB8::1]", "/a", "https://[2001:db8::1]/a"),
        ("http://localhost:80", "/a", "http://localhost/a"),
        ("https://h", "//a//b", "https://h//a//b"),
        ("https://h", "/a;v=1/%2F/%7e/~/../.", "https://h/a;v=1/%2F/%7e/~/../."),
        ("https://h", "/a\\b", "https://h/a\\b"),
    ],
)
def test_the_target_is_the_origin_in_one_form_and_the_path_byte_for_byte(url: str, path: str, htu: str) -> None:
    assert target_uri(parse_origin(url), path) == htu


@pytest.mark.standards("S-105")
def test_what_is_kept_of_targets_is_bounded() -> None:
    key = ProofKey(CheapSigner())
    for number in range(5_000):
        assert payload_of(key.proof("GET", f"{HTU}/{number}", iat=IAT))["htu"] == f"{HTU}/{number}"
    assert len(key._targets) <= 512
    assert payload_of(key.proof("GET", f"{HTU}/0", iat=IAT))["htu"] == f"{HTU}/0"


def test_many_targets_on_many_threads_never_get_mixed_up() -> None:
    key = ProofKey(CheapSigner())
    wrong: list[object] = []

    def work(name: str) -> None:
        try:
            for number in range(1_500):
                htu = f"{HTU}/{name}/{number % 600}"
                claims = payload_of(key.proof(name, htu, iat=IAT))
                if (claims["htm"], claims["htu"]) != (name, htu):
                    wrong.append(claims)
        except Exception as error:
            wrong.append(error)

    run_on_threads(work, ["A", "B", "C", "D"])
    assert not wrong


def run_on_threads(work: Any, names: list[str]) -> None:
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


# The jti ---------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-091", "S-097")
def test_a_jti_has_a_hundred_and_twenty_eight_random_bits() -> None:
    seen = [int(jti_of(ProofKey(CheapSigner()).proof("GET", HTU, iat=IAT)), 16) for _ in range(2_000)]
    for bit in range(128):
        ones = sum(number >> bit & 1 for number in seen)
        assert 800 < ones < 1_200, f"bit {bit} is not random"


@pytest.mark.standards("S-091")
def test_a_hundred_thousand_proofs_on_eight_threads_have_as_many_jti() -> None:
    key = ProofKey(CheapSigner())
    found: dict[str, list[str]] = {name: [] for name in "abcdefgh"}

    def work(name: str) -> None:
        found[name] = [jti_of(key.proof("GET", HTU, iat=IAT)) for _ in range(12_500)]

    run_on_threads(work, list(found))
    assert len({jti for some in found.values() for jti in some}) == 100_000


@pytest.mark.standards("S-091", "S-203")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_ten_thousand_proofs_in_four_forked_children_have_as_many_jti() -> None:
    key = ProofKey(CheapSigner())
    before = [jti_of(key.proof("GET", HTU, iat=IAT)) for _ in range(100)]
    children: list[tuple[int, int]] = []
    for _ in range(4):
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that pytest-xdist has threads does not matter to a child like this
            pid = os.fork()
        if pid == 0:
            try:
                os.close(reading)
                made = "\n".join(jti_of(key.proof("GET", HTU, iat=IAT)) for _ in range(2_500)).encode()
                while made:
                    made = made[os.write(writing, made) :]
            finally:
                os._exit(0)
        os.close(writing)
        children.append((pid, reading))
    found = [*before]
    for pid, reading in children:
        with os.fdopen(reading) as pipe:
            found += pipe.read().split("\n")
        os.waitpid(pid, 0)
    assert len(found) == 10_100
    assert len(set(found)) == 10_100


# Keeping it ------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-160", "S-225")
def test_a_proof_key_shows_its_thumbprint_and_is_not_pickled() -> None:
    key = new_proof_key()
    assert repr(key) == f"<ProofKey ES256 jkt={key.jkt}>"
    assert not hasattr(key, "__dict__")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(key, protocol)


@pytest.mark.standards("S-162")
def test_a_signer_that_fails_says_so_itself() -> None:
    class Broken(CheapSigner):
        def sign(self, data: bytes) -> bytes:
            raise OSError("the HSM is away")

    with pytest.raises(OSError, match="the HSM is away"):
        ProofKey(Broken()).proof("GET", HTU, iat=IAT)


# Nonces ----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-103", "S-172")
@pytest.mark.parametrize(
    ("fields", "nonce"),
    [
        (["eyJ7S_zG.eyJH0-Z.HX4w-7v"], "eyJ7S_zG.eyJH0-Z.HX4w-7v"),
        (["!#[]~"], "!#[]~"),
        (["n" * 512], "n" * 512),
        (["n" * 513], None),
        ([], None),
        ([""], None),
        (["a", "a"], None),
        (["a", "b"], None),
        (['a"b'], None),
        (["a\\b"], None),
        (["a b"], None),
        ([" a"], None),
        (["a\n"], None),
        (["a\r\nX: y"], None),
        (["é"], None),
        (["a\x7f"], None),
        (["a\x00"], None),
    ],
)
def test_a_nonce_is_one_field_of_allowed_characters(fields: list[str], nonce: str | None) -> None:
    assert usable_nonce(fields) == nonce


@pytest.mark.standards("S-103")
@modest
@given(st.lists(st.text(max_size=20), max_size=2))
def test_whatever_is_offered_a_nonce_that_is_used_needs_no_escaping(fields: list[str]) -> None:
    nonce = usable_nonce(fields)
    if nonce is not None:
        assert json.loads(f'"{nonce}"') == nonce
        assert nonce.isascii()
        assert fields == [nonce]


@pytest.mark.standards("S-100")
def test_nonces_are_kept_apart_by_role_origin_and_key() -> None:
    store = NonceStore()
    places = [
        (role, origin, jkt)
        for role in ("as", "rs")
        for origin in (API, parse_origin("https://api.example.org:8443"), parse_origin("https://other.example"))
        for jkt in ("one", "two")
    ]
    places.append(("rs", Origin("http", API.host, API.port), "one"))
    for number, place in enumerate(places):
        assert store.get(*place) is None
        store.put(*place, f"nonce-{number}")
    assert [store.get(*place) for place in places] == [f"nonce-{number}" for number in range(len(places))]


@pytest.mark.standards("S-101")
def test_the_latest_nonce_of_a_server_counts() -> None:
    store = NonceStore()
    store.put("rs", API, "jkt", "old")
    store.put("rs", API, "jkt", "new")
    assert store.get("rs", API, "jkt") == "new"


@pytest.mark.standards("S-105", "S-190")
def test_a_thousand_nonces_are_kept_and_the_least_recently_changed_go_first() -> None:
    store = NonceStore()
    origins = [Origin("https", f"h{number}.example", 443) for number in range(1_010)]
    for origin in origins[:1_000]:
        store.put("rs", origin, "jkt", "first")
    store.put("rs", origins[0], "jkt", "second")
    for origin in origins[1_000:]:
        store.put("rs", origin, "jkt", "first")
    kept = [origin for origin in origins if store.get("rs", origin, "jkt") is not None]
    assert len(kept) == 1_000
    assert origins[0] in kept
    assert not set(kept) & set(origins[1:11])


@pytest.mark.standards("S-105")
def test_nonces_of_many_threads_neither_break_nor_overfill_the_store() -> None:
    store = NonceStore()
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(3_000):
                origin = Origin("https", f"{name}{number % 700}.example", 443)
                store.put("rs", origin, "jkt", str(number))
                store.get("rs", origin, "jkt")
        except Exception as error:
            failed.append(error)

    run_on_threads(work, ["a", "b", "c", "d"])
    assert not failed
    kept = sum(
        store.get("rs", Origin("https", f"{name}{number}.example", 443), "jkt") is not None
        for name in "abcd"
        for number in range(700)
    )
    assert 0 < kept <= 1_000
