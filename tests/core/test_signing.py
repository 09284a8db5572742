"""Keys and signatures: every key kind and file form, judged by joserfc, PyJWT and jwcrypto; what is weak is refused."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from typing import Any

import joserfc.errors
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, x25519
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import JWKRegistry
from jwcrypto import jwk as jwcrypto_jwk

from core import vectors
from core.makers import ec_key, ed25519_key, everything_held_by, modest, rsa_key, signing_key, verified
from tokenvalet.core.encoding import b64url, b64url_decode
from tokenvalet.core.signing import (
    ASYMMETRIC_ALGORITHMS,
    HmacSigner,
    KeyFault,
    Signer,
    SigningKey,
    generate_es256,
    load_private_key,
    private_pem,
    sign_jwt,
    thumbprint,
)

PASSWORD = b"planted-password"


def private_jwk(key: Any, **members: Any) -> bytes:
    """Return a private key as a JWK that joserfc has written."""
    return json.dumps(
        JWKRegistry.import_key(private_pem(key).decode(), _kty(key)).as_dict(private=True) | members
    ).encode()


def _kty(key: Any) -> str:
    return "EC" if isinstance(key, ec.EllipticCurvePrivateKey) else "RSA" if key in (rsa_key(),) else "OKP"


def encrypted_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSWORD),
    )
    return pem


def plain_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def refused(data: bytes, **how: Any) -> KeyFault:
    with pytest.raises(KeyFault) as caught:
        load_private_key(data, **how)
    return caught.value


# Signatures ------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-020", "S-221")
@pytest.mark.parametrize("alg", ASYMMETRIC_ALGORITHMS)
def test_every_algorithm_makes_signatures_that_independent_libraries_verify(alg: str) -> None:
    key = signing_key(alg)
    claims = {"text": 'a "quoted" \\ Grüße \u2028', "number": 5}
    judged = verified(sign_jwt(key, {"typ": "JWT"}, claims), key.public_jwk, alg)
    assert judged.header == {"alg": alg, "typ": "JWT"}
    assert judged.claims == claims


@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512"])
def test_an_ecdsa_signature_keeps_its_width_when_a_number_is_short(alg: str) -> None:
    # One in 128 has an r or an s that begins with a zero byte: 400 of them are sure to meet both short forms.
    key = signing_key(alg)
    width = {"ES256": 64, "ES384": 96, "ES512": 132}[alg]
    public = jwt.PyJWK(dict(key.public_jwk), alg)
    judge = jwt.get_algorithm_by_name(alg)
    for number in range(400 if alg != "ES384" else 60):
        data = b"%d" % number
        signature = key.sign(data)
        assert len(signature) == width
        assert judge.verify(data, public.key, signature)


@pytest.mark.parametrize("alg", ["ES256", "PS256", "RS256", "EdDSA", "Ed25519"])
def test_the_judges_refuse_a_signature_that_was_tampered_with(alg: str) -> None:
    key = signing_key(alg)
    head, payload, signature = sign_jwt(key, {}, {"a": 1}).split(".")
    broken = b64url(bytes([b64url_decode(signature)[0] ^ 1]) + b64url_decode(signature)[1:]).decode()
    with pytest.raises((joserfc.errors.BadSignatureError, jwt.InvalidSignatureError)):
        verified(f"{head}.{payload}.{broken}", key.public_jwk, alg)


def test_an_ed25519_signature_is_the_one_of_rfc_8037() -> None:
    key = load_private_key(json.dumps(vectors.RFC8037_PRIVATE_JWK).encode())
    assert b64url(key.sign(vectors.RFC8037_SIGNING_INPUT)).decode() == vectors.RFC8037_SIGNATURE


@pytest.mark.standards("S-020")
def test_an_hmac_is_the_one_of_rfc_7515() -> None:
    signer = HmacSigner(b64url_decode(vectors.RFC7515_HMAC_KEY))
    assert b64url(signer.sign(vectors.RFC7515_SIGNING_INPUT)).decode() == vectors.RFC7515_SIGNATURE


@pytest.mark.standards("S-020")
@pytest.mark.parametrize(("alg", "needed"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_an_hmac_of_a_long_enough_secret_is_verified_by_both_judges(alg: str, needed: int) -> None:
    secret = b"s" * needed
    assert verified(sign_jwt(HmacSigner(secret, alg=alg), {}, {"a": 1}), secret, alg).claims == {"a": 1}


@pytest.mark.standards("S-020", "S-307")
@pytest.mark.parametrize(("alg", "needed"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
@pytest.mark.parametrize("missing", [1, 5, None])
def test_an_hmac_of_a_short_or_empty_secret_is_refused(alg: str, needed: int, missing: int | None) -> None:
    secret = (b"planted!" * 8)[: needed - missing] if missing is not None else b""
    with pytest.raises(KeyFault, match=f"at least {needed} bytes") as caught:
        HmacSigner(secret, alg=alg)
    assert "planted!" not in everything_held_by(caught.value)


@pytest.mark.standards("S-020", "S-306")
@pytest.mark.parametrize("alg", ["none", "None", "", "HS1", "ES256", "RS256"])
def test_a_client_secret_signs_with_no_other_algorithm_than_hmac(alg: str) -> None:
    with pytest.raises(KeyFault):
        HmacSigner(b"s" * 64, alg=alg)


@pytest.mark.standards("S-020")
def test_a_key_id_goes_into_the_header_and_none_does_not() -> None:
    assert verified(sign_jwt(signing_key("ES256", "k-1"), {}, {}), signing_key("ES256").public_jwk, "ES256").header == {
        "alg": "ES256",
        "kid": "k-1",
    }
    assert (
        "kid" not in verified(sign_jwt(signing_key("ES256"), {}, {}), signing_key("ES256").public_jwk, "ES256").header
    )


def test_a_key_elsewhere_can_sign_in_our_place() -> None:
    class Remote:
        alg = "ES256"
        public_jwk: Mapping[str, str] = signing_key("ES256").public_jwk
        key_id: str | None = "kms-7"

        def sign(self, data: bytes) -> bytes:
            return signing_key("ES256").sign(data)

    assert isinstance(Remote(), Signer)
    assert isinstance(signing_key("PS256"), Signer)
    assert verified(sign_jwt(Remote(), {}, {"a": 1}), Remote.public_jwk, "ES256").header["kid"] == "kms-7"


# Public halves and thumbprints -----------------------------------------------------------------------------------


@pytest.mark.standards("S-115")
def test_the_thumbprint_of_rfc_7638_comes_out() -> None:
    assert thumbprint(vectors.RFC7638_JWK) == vectors.RFC7638_THUMBPRINT


@pytest.mark.standards("S-115")
def test_the_thumbprints_of_rfc_8037_and_rfc_9449_come_out() -> None:
    assert thumbprint(vectors.RFC8037_PRIVATE_JWK) == vectors.RFC8037_THUMBPRINT
    assert thumbprint(vectors.RFC9449_JWK) == vectors.RFC9449_THUMBPRINT


@pytest.mark.standards("S-115")
@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "PS256", "EdDSA"])
def test_a_thumbprint_is_the_one_that_joserfc_and_jwcrypto_find(alg: str) -> None:
    jwk = dict(signing_key(alg).public_jwk)
    assert thumbprint(jwk) == JWKRegistry.import_key(dict(jwk)).thumbprint() == jwcrypto_jwk.JWK(**jwk).thumbprint()


@pytest.mark.standards("S-115")
def test_a_thumbprint_is_of_the_required_members_only() -> None:
    jwk = dict(signing_key("ES256").public_jwk)
    assert thumbprint(jwk | {"kid": "a", "use": "sig", "alg": "ES256", "x5t": "b"}) == thumbprint(jwk)


@pytest.mark.standards("S-090")
@pytest.mark.parametrize("alg", ASYMMETRIC_ALGORITHMS)
def test_a_public_jwk_has_the_public_members_and_nothing_else(alg: str) -> None:
    expected = {"EC": {"kty", "crv", "x", "y"}, "RSA": {"kty", "n", "e"}, "OKP": {"kty", "crv", "x"}}
    jwk = signing_key(alg).public_jwk
    assert set(jwk) == expected[jwk["kty"]]


def test_the_coordinates_of_a_public_jwk_keep_their_leading_zeros() -> None:
    # RFC 7518 §6.2.1.2: the full size of a coordinate. One key in 128 has a short one.
    for number in range(1, 400):
        key = SigningKey(ec.derive_private_key(number, ec.SECP256R1()))
        assert len(key.public_jwk["x"]) == len(key.public_jwk["y"]) == 43


# Loading ---------------------------------------------------------------------------------------------------------

KEYS = {"P-256": ("ES256", ec_key), "P-384": ("ES384", ec_key), "P-521": ("ES512", ec_key)}


def key_named(name: str) -> tuple[Any, str]:
    """Return a key and the algorithm that it signs with unless told otherwise."""
    if name == "RSA":
        return rsa_key(), "PS256"
    if name == "Ed25519":
        return ed25519_key(), "EdDSA"
    alg, make = KEYS[name]
    return make(name), alg


@pytest.mark.standards("S-221", "S-222")
@pytest.mark.parametrize(
    ("name", "form"),
    [
        (name, form)
        for name in ("P-256", "P-384", "P-521", "RSA", "Ed25519")
        for form in ("pem", "encrypted pem", "pkcs12", "jwk", "traditional pem")
        if (name, form) != ("Ed25519", "traditional pem")  # there is no such thing
    ],
)
def test_a_key_loads_from_every_form_of_file_and_signs(name: str, form: str) -> None:
    key, alg = key_named(name)
    password = None
    if form == "pem":
        data = plain_pem(key)
    elif form == "encrypted pem":
        data, password = encrypted_pem(key), PASSWORD
    elif form == "pkcs12":
        data, password = (
            pkcs12.serialize_key_and_certificates(
                b"m2m", key, None, None, serialization.BestAvailableEncryption(PASSWORD)
            ),
            PASSWORD,
        )
    elif form == "jwk":
        data = private_jwk(key)
    else:
        data = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    loaded = load_private_key(data, password=password)
    assert loaded.alg == alg
    assert loaded.public_jwk == SigningKey(key).public_jwk
    assert verified(sign_jwt(loaded, {}, {"a": 1}), SigningKey(key).public_jwk, alg).claims == {"a": 1}


def test_a_jwk_is_read_with_white_space_around_it() -> None:
    assert load_private_key(b"\n  " + private_jwk(ec_key()) + b"\n").alg == "ES256"


def test_an_rsa_jwk_without_its_primes_is_read() -> None:
    jwk = json.loads(private_jwk(rsa_key()))
    loaded = load_private_key(json.dumps({name: jwk[name] for name in ("kty", "n", "e", "d")}).encode())
    assert verified(sign_jwt(loaded, {}, {"a": 1}), loaded.public_jwk, "PS256").claims == {"a": 1}


def test_the_jwk_of_rfc_7515_is_read() -> None:
    loaded = load_private_key(json.dumps(vectors.RFC7515_EC_PRIVATE_JWK).encode())
    assert loaded.public_jwk == {k: v for k, v in vectors.RFC7515_EC_PRIVATE_JWK.items() if k != "d"}


@pytest.mark.standards("S-020")
def test_the_key_id_of_a_jwk_is_kept_and_a_configured_one_goes_before_it() -> None:
    data = private_jwk(ec_key(), kid="inside")
    assert load_private_key(data).key_id == "inside"
    assert load_private_key(data, key_id="configured").key_id == "configured"
    assert load_private_key(private_jwk(ec_key())).key_id is None
    assert load_private_key(plain_pem(ec_key()), key_id="configured").key_id == "configured"


@pytest.mark.standards("S-221")
@pytest.mark.parametrize("alg", ["PS256", "PS384", "PS512", "RS256"])
def test_an_rsa_key_signs_with_the_algorithm_that_was_asked_for(alg: str) -> None:
    assert load_private_key(plain_pem(rsa_key()), alg=alg).alg == alg
    assert load_private_key(private_jwk(rsa_key(), alg=alg)).alg == alg


@pytest.mark.standards("S-221")
@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("stated", ["EdDSA", "Ed25519"])
def test_both_names_of_ed25519_mean_the_same_key(alg: str, stated: str) -> None:
    assert load_private_key(private_jwk(ed25519_key(), alg=stated), alg=alg).alg == alg


@pytest.mark.standards("S-020", "S-221", "S-306")
@pytest.mark.parametrize("name", ["P-256", "P-384", "P-521", "RSA", "Ed25519"])
def test_a_key_takes_no_algorithm_but_those_of_its_kind(name: str) -> None:
    key, own = key_named(name)
    fitting = {"RSA": {"PS256", "PS384", "PS512", "RS256"}, "Ed25519": {"EdDSA", "Ed25519"}}.get(name, {own})
    for alg in (*ASYMMETRIC_ALGORITHMS, "HS256", "none", "RS1", "ES256K", "es256"):
        if alg in fitting:
            assert SigningKey(key, alg=alg).alg == alg
        else:
            with pytest.raises(KeyFault):
                SigningKey(key, alg=alg)
    refused(plain_pem(key), alg="none")
    refused(private_jwk(key, alg="none"))
    refused(private_jwk(key), alg="HS256")


@pytest.mark.standards("S-221")
def test_an_algorithm_that_contradicts_the_jwk_is_refused() -> None:
    assert "contradict" in str(refused(private_jwk(rsa_key(), alg="PS256"), alg="RS256"))


@pytest.mark.standards("S-221")
@pytest.mark.parametrize(
    "members", [{"use": "enc"}, {"use": None}, {"key_ops": ["verify"]}, {"key_ops": []}, {"key_ops": "sign"}]
)
def test_a_jwk_that_is_not_for_signing_is_refused(members: dict[str, Any]) -> None:
    assert "not for signing" in str(refused(private_jwk(ec_key(), **members)))


@pytest.mark.standards("S-221")
def test_a_jwk_that_says_that_it_is_for_signing_is_taken() -> None:
    assert load_private_key(private_jwk(ec_key(), use="sig", key_ops=["sign", "verify"])).alg == "ES256"


@pytest.mark.standards("S-221", "S-306")
def test_a_symmetric_key_is_refused_where_a_private_key_belongs() -> None:
    assert "client_secret" in str(refused(b'{"kty": "oct", "k": "cGxhbnRlZC1wbGFudGVkLXBsYW50ZWQtcGxhbnRlZA"}'))


@pytest.mark.standards("S-306")
def test_a_public_key_or_a_certificate_is_refused_where_a_private_key_belongs() -> None:
    public = (
        ec_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    assert "a public key" in str(refused(public))
    assert "a public key" in str(refused(json.dumps(dict(signing_key("ES256").public_jwk)).encode()))
    assert "a certificate" in str(refused(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))


@pytest.mark.standards("S-220")
def test_a_short_rsa_key_is_refused_in_every_form() -> None:
    short = rsa_key(1024)
    with pytest.raises(KeyFault, match="1024 bits; at least 2048"):
        SigningKey(short)
    assert "1024 bits" in str(refused(plain_pem(short)))
    numbers = short.private_numbers()
    jwk = {
        name: b64url(value.to_bytes(128, "big").lstrip(b"\0")).decode()
        for name, value in {"n": numbers.public_numbers.n, "e": 65537, "d": numbers.d}.items()
    }
    assert "1024 bits" in str(refused(json.dumps({"kty": "RSA"} | jwk).encode()))


@pytest.mark.standards("S-220")
def test_keys_of_other_kinds_are_refused() -> None:
    assert "Ed448" in str(refused(plain_pem(ed448.Ed448PrivateKey.generate())))
    assert "X25519" in str(refused(plain_pem(x25519.X25519PrivateKey.generate())))
    assert "DSA" in str(refused(plain_pem(dsa.generate_private_key(1024))))
    assert "secp256k1" in str(refused(plain_pem(ec_key("secp256k1"))))
    assert "curve other than" in str(
        refused(json.dumps(vectors.RFC7515_EC_PRIVATE_JWK | {"crv": "secp256k1"}).encode())
    )
    assert "kind that is not used" in str(refused(json.dumps(vectors.RFC8037_PRIVATE_JWK | {"crv": "Ed448"}).encode()))


@pytest.mark.standards("S-221")
@pytest.mark.parametrize("name", ["P-256", "RSA", "Ed25519"])
def test_a_jwk_whose_halves_do_not_belong_together_is_refused(name: str) -> None:
    others = {"P-256": generate_es256().public_jwk, "RSA": vectors.RFC7638_JWK, "Ed25519": vectors.RFC8037_PRIVATE_JWK}
    own = json.loads(private_jwk(key_named(name)[0]))
    public = {member: others[name][member] for member in ("x", "y", "n") if member in others[name]}
    refused(json.dumps(own | public).encode())


@pytest.mark.standards("S-222")
@pytest.mark.parametrize(
    ("data", "password", "said"),
    [
        (b"-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----\n", None, "cannot be read"),
        (b"planted rubbish", None, "neither PEM, nor a JWK, nor PKCS#12"),
        (b"", None, "neither PEM"),
        (b'{"planted": ', None, "no JSON"),
        (b'{"a":' * 50_000, None, "no JSON"),
        (b'{"keys": [{"kty": "EC", "d": "planted"}]}', None, "JWKS"),
        (b'{"kty": "EC", "crv": "P-256", "d": "planted"}', None, "incomplete"),
        (b'{"kty": "EC", "crv": "P-256", "d": "pl@nted", "x": 5, "y": null}', None, "incomplete"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_a_remedy_and_nothing_of_it(
    data: bytes, password: bytes | None, said: str
) -> None:
    fault = refused(data, password=password)
    assert said in str(fault)
    assert "planted" not in str(fault)
    assert "planted" not in repr(fault.args)


@pytest.mark.standards("S-222")
def test_a_password_that_is_missing_wrong_or_needless_is_told_apart() -> None:
    assert "give private_key_password" in str(refused(encrypted_pem(ec_key())))
    assert "is the password right" in str(refused(encrypted_pem(ec_key()), password=b"planted-and-wrong"))
    assert "leave private_key_password out" in str(refused(plain_pem(ec_key()), password=PASSWORD))
    for fault in (
        refused(encrypted_pem(ec_key()), password=b"planted-and-wrong"),
        refused(plain_pem(ec_key()), password=PASSWORD),
    ):
        assert "planted" not in everything_held_by(fault)


@pytest.mark.standards("S-162")
def test_a_jwk_that_is_no_json_does_not_stay_in_the_chain_of_the_error() -> None:
    assert "planted" not in everything_held_by(refused(b'{"kty": "EC", "d": "planted", '))


@pytest.mark.standards("S-221")
def test_an_alg_that_is_no_string_is_refused() -> None:
    refused(private_jwk(ec_key(), alg=["ES256"]), alg="ES256")


@pytest.mark.standards("S-020", "S-172")
def test_a_kid_that_is_no_string_is_refused() -> None:
    refused(private_jwk(ec_key(), kid=5))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["AQ", "AA", "P-256", "Ed25519"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@pytest.mark.standards("S-221", "S-222")
@modest
@given(
    name=st.sampled_from(["P-256", "RSA", "Ed25519"]),
    changes=st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "d", "n", "e", "p", "q", "use", "key_ops", "alg"]), JSON, min_size=1
    ),
)
def test_whatever_a_jwk_holds_the_outcome_is_a_key_or_a_key_fault(name: str, changes: dict[str, Any]) -> None:
    original = json.loads(private_jwk(key_named(name)[0]))
    try:
        loaded = load_private_key(json.dumps(original | changes).encode())
    except KeyFault as fault:
        said = str(fault)
    else:
        said = repr(loaded)
        assert loaded.alg in ASYMMETRIC_ALGORITHMS
    for member in ("d", "p", "q"):
        assert str(original.get(member, "planted")) not in said


@modest
@given(st.binary(max_size=200))
def test_whatever_a_file_holds_the_outcome_is_a_key_fault(data: bytes) -> None:
    refused(data)


# Keeping it ------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-160", "S-225")
@pytest.mark.parametrize("alg", ["ES256", "PS256", "EdDSA"])
def test_a_signing_key_shows_and_gives_away_nothing_of_its_private_half(alg: str) -> None:
    key = signing_key(alg, "k-1")
    secret = json.loads(private_jwk(key_named({"ES256": "P-256", "PS256": "RSA", "EdDSA": "Ed25519"}[alg])[0]))["d"]
    assert secret not in repr(key) + str(key) + repr(key.public_jwk)
    assert not hasattr(key, "__dict__")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(key, protocol)
    with pytest.raises(TypeError):
        copy.deepcopy(key)


@pytest.mark.standards("S-160")
def test_an_hmac_signer_shows_and_gives_away_nothing_of_the_secret() -> None:
    signer = HmacSigner(b"planted!" * 4)
    assert "planted!" not in repr(signer) + str(signer)
    assert not hasattr(signer, "__dict__")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(signer)


@pytest.mark.standards("S-225")
def test_every_generated_key_is_another_one() -> None:
    assert len({thumbprint(generate_es256().public_jwk) for _ in range(20)}) == 20
    assert generate_es256().alg == "ES256"
