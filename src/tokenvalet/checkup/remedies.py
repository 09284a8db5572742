"""What most likely helps, as far as an error and its answer tell: a sentence for each kind of fault."""

from __future__ import annotations

import re

from ..config import ClientConfig
from ..errors import TokenRefusedError, TokenRequestError, TokenResponseError, shown
from .overheard import Overheard

__all__ = ["of_no_answer", "of_refusal", "of_strange_answer"]

_TLS = {
    "wrong_version_number": "what listens there speaks no TLS: check the port, and whether it is https",
    "record_layer": "what listens there speaks no TLS: check the port, and whether it is https",
    "unable to get": "name the authority's certificate in ca_file",
    "self-signed": "name the authority's certificate in ca_file",
    "self signed": "name the authority's certificate in ca_file",
    "has expired": "the server's certificate is out of date, or this machine's clock is wrong",
    "not yet valid": "this machine's clock is wrong, or the server's certificate is not in force yet",
    "hostname mismatch": "the certificate is another host's: check issuer and token_endpoint",
    "ip address mismatch": "the certificate is another host's: check issuer and token_endpoint",
    "alert": "the server wants a client certificate that it knows: check certificate_file and what is registered",
}
_GENERAL_TLS = "; check the certificate, ca_file and certificate_file"
# What servers say of an iat, an exp or a nbf that does not fit their clock.
_OF_TIME = re.compile(r"\b(expired|exp|iat|nbf|clock|skew|not yet|in the future|too old|issued at)\b")
_OF_PROOFS = ("invalid_dpop_proof", "use_dpop_nonce")


def of_no_answer(error: TokenRequestError, text: str) -> str:
    """Return `text`, which is what the error says, with the remedy."""
    if "tls" in error.code:
        remedy = next((one for part, one in _TLS.items() if part in text.lower()), "")
        return f"{text.removesuffix(_GENERAL_TLS)}: {remedy}" if remedy else text
    if error.status == 429:
        return f"{text}: this client, or this address, asks too often; try again later"
    return f"{text}: try again later, or ask those who run it" if error.status is not None else text


def of_strange_answer(error: TokenResponseError, text: str, endpoint: str | None) -> str:
    """Return `text`, which is what the error says of an answer that is no token response, with the remedy."""
    if error.status in (404, 405, 410, 501):
        return f"{text}: is {endpoint or 'this'} really the token endpoint? Leave token_endpoint out, or correct it"
    if "text/html" in text:
        return f"{text}: a proxy, a gateway or a sign-in page may stand in between, or the address is another page's"
    return text


def of_refusal(config: ClientConfig, error: TokenRefusedError, overheard: Overheard) -> str:
    """Return what to look at where no other way of asking was granted a token."""
    said = (error.error_description or "").lower()
    has_key = config.private_key is not None or config.private_key_file is not None or config.signer is not None
    if error.error in _OF_PROOFS:
        return (
            "the server does not take the DPoP proof: compare this machine's clock with the server's, and dpop_alg with "
            "what it offers; where several servers answer under one name, do they share their nonces?"
        )
    if (has_key or config.auth_method == "client_secret_jwt") and _OF_TIME.search(said):
        return (
            "the server minds the time in the assertion: compare this machine's clock with its own, and let NTP set it"
        )
    if error.error in ("unauthorized_client", "unsupported_grant_type", "invalid_grant"):
        return "allow this client the client credentials grant, at the authorization server"
    if error.error == "invalid_scope":
        return f"compare scope, letter by letter, with what the server offers this client{_scopes(config, overheard)}"
    if error.error == "invalid_target":
        return "compare resource and audience, letter by letter, with what the authorization server knows"
    if has_key:
        file = config.private_key_file or "FILE"
        return (
            "is the public key registered for this client_id, under this kid? "
            f"tokenvalet keys public {file} prints what to register"
        )
    if config.assertion is not None or config.assertion_file is not None:
        return "does the server trust whoever makes the assertion, for this client_id and with this audience?"
    if config.certificate_file is not None and config.client_secret is None and config.client_secret_file is None:
        return "is this certificate, or its subject, registered for this client_id?"
    return (
        "compare client_id and client_secret with what is registered: the secret may have been rotated, or the client "
        "is registered for another method"
    )


def _scopes(config: ClientConfig, overheard: Overheard) -> str:
    document = overheard.metadata(config.issuer) or {}
    offered = document.get("scopes_supported")
    if not isinstance(offered, list):
        return ""
    names = [one for one in offered if isinstance(one, str)]
    return f"; the server lists {shown(', '.join(names), 200)}" if names else ""
