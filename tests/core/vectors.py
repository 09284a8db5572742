"""The examples of the RFCs, and the odd spellings of the checklist, as data.

The private keys in here are the published examples of RFC 7515 and RFC 8037: everybody has them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# RFC 7638 §3.1
RFC7638_JWK = {
    "kty": "RSA",
    "n": (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA"
        "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-"
        "kEgU8awapJzKnqDKgw"
    ),
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
RFC7638_THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

# RFC 8037 appendices A.1 to A.4: Ed25519 signatures are deterministic, so this one is compared byte for byte.
RFC8037_PRIVATE_JWK = {
    "kty": "OKP",
    "crv": "Ed25519",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
RFC8037_SIGNING_INPUT = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
RFC8037_SIGNATURE = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
RFC8037_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"

# RFC 7515 appendix A.1: an HMAC.
RFC7515_HMAC_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
RFC7515_SIGNING_INPUT = (
    b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
    b"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
)
RFC7515_SIGNATURE = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

# RFC 7515 appendix A.3: a P-256 key.
RFC7515_EC_PRIVATE_JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
}

# RFC 9449: the key of the examples and its thumbprint (§6.1), a token and its hash (§7.1).
RFC9449_JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
}
RFC9449_THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
RFC9449_TOKEN = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
RFC9449_ATH = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"

# RFC 6749 §2.3.1 and appendix B: client id, secret, and what stands in the Basic credentials before base64.
BASIC_ENCODINGS = [
    ("a:b", "c d%é", "a%3Ab:c+d%25%C3%A9"),
    ("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw", "s6BhdRkqt3:7Fjfp0ZBr1KtDRbnfVdmIw"),
    ("web", " %&+£€", "web:+%25%26%2B%C2%A3%E2%82%AC"),
    ("https://client.example.org/id", "a/b", "https%3A%2F%2Fclient.example.org%2Fid:a%2Fb"),
]

# Issuer, then RFC 8414 §3.1 (inserted), then OpenID Connect Discovery §4 (appended).
METADATA_URLS = [
    (
        "https://example.com",
        "https://example.com/.well-known/oauth-authorization-server",
        "https://example.com/.well-known/openid-configuration",
    ),
    (
        "https://example.com/",
        "https://example.com/.well-known/oauth-authorization-server",
        "https://example.com/.well-known/openid-configuration",
    ),
    (
        "https://example.com/issuer1",
        "https://example.com/.well-known/oauth-authorization-server/issuer1",
        "https://example.com/issuer1/.well-known/openid-configuration",
    ),
    (
        "https://h/a/",
        "https://h/.well-known/oauth-authorization-server/a",
        "https://h/a/.well-known/openid-configuration",
    ),
    (
        "https://h:8443/realms/one%20two",
        "https://h:8443/.well-known/oauth-authorization-server/realms/one%20two",
        "https://h:8443/realms/one%20two/.well-known/openid-configuration",
    ),
]


class ChallengeVector(NamedTuple):
    """WWW-Authenticate fields, and the (scheme, parameters) pairs that they hold."""

    fields: list[str]
    challenges: list[tuple[str, dict[str, str]]]


# RFC 9110 §11.6.1, RFC 6750 §3, RFC 9449 §7 and §9, and what servers make of them.
CHALLENGES: dict[str, ChallengeVector] = {
    "a bare scheme before another": ChallengeVector(
        ['Bearer, DPoP algs="ES256 PS256"'], [("bearer", {}), ("dpop", {"algs": "ES256 PS256"})]
    ),
    "a quoted text that looks like a challenge": ChallengeVector(
        ['Bearer error="invalid_token", error_description="a, DPoP error=\\"use_dpop_nonce\\"", DPoP algs="ES256"'],
        [
            ("bearer", {"error": "invalid_token", "error_description": 'a, DPoP error="use_dpop_nonce"'}),
            ("dpop", {"algs": "ES256"}),
        ],
    ),
    "odd case and a bare token": ChallengeVector(
        ["dpop ERROR=use_dpop_nonce"], [("dpop", {"error": "use_dpop_nonce"})]
    ),
    "a token68 before another": ChallengeVector(
        ['Negotiate abc==, DPoP error="x"'], [("negotiate", {}), ("dpop", {"error": "x"})]
    ),
    "two fields": ChallengeVector(
        ['Bearer realm="a"', 'DPoP error="use_dpop_nonce"'],
        [("bearer", {"realm": "a"}), ("dpop", {"error": "use_dpop_nonce"})],
    ),
    "the example of RFC 9110": ChallengeVector(
        ['Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""'],
        [("basic", {"realm": "simple"}), ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'})],
    ),
    "the example of RFC 9449 §7.1": ChallengeVector(
        ['DPoP error="invalid_token", error_description="Invalid DPoP key binding", algs="ES256"'],
        [("dpop", {"error": "invalid_token", "error_description": "Invalid DPoP key binding", "algs": "ES256"})],
    ),
    "blanks around the equals sign": ChallengeVector(
        ['DPoP error = "a" , algs =ES256'], [("dpop", {"error": "a", "algs": "ES256"})]
    ),
    "empty list elements": ChallengeVector(
        [', ,Bearer realm="a", ,, DPoP,'], [("bearer", {"realm": "a"}), ("dpop", {})]
    ),
    "tabs between the elements": ChallengeVector(
        ['Bearer\trealm="a"\t,\tDPoP\terror="x"'], [("bearer", {"realm": "a"}), ("dpop", {"error": "x"})]
    ),
    "a comma inside quotes": ChallengeVector(['Bearer realm="a, b=c, DPoP"'], [("bearer", {"realm": "a, b=c, DPoP"})]),
    "an empty quoted string": ChallengeVector(['Bearer realm="", error=x'], [("bearer", {"realm": "", "error": "x"})]),
    "an escaped backslash at the end": ChallengeVector(
        ['Bearer realm="a\\\\", DPoP error="b"'], [("bearer", {"realm": "a\\"}), ("dpop", {"error": "b"})]
    ),
    "the same scheme twice": ChallengeVector(
        ["DPoP error=a, DPoP error=b"], [("dpop", {"error": "a"}), ("dpop", {"error": "b"})]
    ),
    "a token68 alone": ChallengeVector(["Negotiate abc"], [("negotiate", {})]),
    "a scheme alone": ChallengeVector(["Bearer"], [("bearer", {})]),
    "nothing": ChallengeVector([""], []),
    "a repeated parameter leaves that challenge out": ChallengeVector(
        ['Bearer error="a", ERROR="b", DPoP error="c"'], [("dpop", {"error": "c"})]
    ),
    "what comes before a break counts": ChallengeVector(
        ['Bearer error="a", DPoP error="never closed'], [("bearer", {"error": "a"})]
    ),
    "a broken field does not spoil the next one": ChallengeVector(
        ['"""', 'DPoP error="a"'], [("dpop", {"error": "a"})]
    ),
}

# Scope strings of RFC 6749 §3.3 that are words and blanks, and such as are not.
SCOPES: list[tuple[str, tuple[str, ...]]] = [
    ("records:read", ("records:read",)),
    ("a b c", ("a", "b", "c")),
    ("  a   b ", ("a", "b")),
    ("b a b", ("b", "a")),
    ("", ()),
    ("!#$%&'()*+,-./:;<=>?@[]^_`{|}~", ("!#$%&'()*+,-./:;<=>?@[]^_`{|}~",)),
    ("Read read", ("Read", "read")),
]
BROKEN_SCOPES = ["a\r\nb", "a\tb", 'a"b', "a\\b", "é", "a\x7f", "a\x00", "a\u2028b"]

# Answers with status 200 that are no token response (RFC 6749 §5.1), and why. {token} is where a token stands.
JSON_HEADERS: dict[str, Any] = {"content-type": "application/json"}
