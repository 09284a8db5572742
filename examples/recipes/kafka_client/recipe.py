"""Kafka: confluent-kafka's clients log in with the token of a valet (SASL/OAUTHBEARER, RFC 7628).

librdkafka asks for a token on a thread of its own: when a client is made, and again when four fifths of the life that it
was told are over. A valet's token may be older than its first use, so it is told when that token really ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer

from tokenvalet import ProofError, TokenValet, TokenValetError


def oauth_cb(valet: TokenValet, name: str | None = None) -> Callable[[str | None], tuple[str, float]]:
    """Return what librdkafka calls for a token: its value, and its end in seconds since the epoch."""

    def token_and_end(_: str | None) -> tuple[str, float]:
        token = valet.token(name)
        if not token.is_fresh(token.now()):
            # It is due: good for an HTTP request, but librdkafka would log in with it until shortly before its end.
            # The renewal is under way, and this waits for it. Where it fails, the token is used to its end.
            with contextlib.suppress(TokenValetError):
                token = valet.token(name, force_renewal=True)
        if token.token_type != "Bearer":
            raise ProofError("Kafka has no place for a DPoP proof: name a client without dpop")
        return token.value, token.expires_at.timestamp()

    return token_and_end


def producer(valet: TokenValet, settings: dict[str, Any], name: str | None = None) -> Producer:
    """Return a producer; consumers and admin clients take the same settings.

    Raises:
        TokenValetError: why there is no token. Without the first line, librdkafka would wait ten seconds and not say it.
    """
    callback = oauth_cb(valet, name)
    callback(None)
    security = {"security.protocol": "SASL_SSL", "sasl.mechanisms": "OAUTHBEARER", "oauth_cb": callback}
    return Producer({**settings, **security})


if __name__ == "__main__":
    with TokenValet.from_toml("tokenvalet.toml") as valet:
        events = producer(valet, {"bootstrap.servers": "kafka.example.org:9093", "error_cb": print})
        events.produce("records", b"a record")
        events.flush(10)
