"""A token as it is kept outside this process: written, and read back with the same distrust as a server's answer."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from .request import TokenOrder
from .response import LONGEST_LIFETIME, Granted, token_fault
from .scope import scope_tokens

__all__ = ["StoredToken", "read_stored", "written"]

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StoredToken:
    """A token that was read back.

    Attributes:
        granted: what the server granted, with the lifetime that it had when it was issued, in seconds.
        left: seconds of life left when it was read.
        forced: whether it was got although there was another that had not expired.
    """

    granted: Granted
    left: float
    forced: bool

    @property
    def age(self) -> float:
        """Seconds since it was asked for, when it was read."""
        return self.granted.lifetime - self.left

    def __repr__(self) -> str:
        return f"<StoredToken {self.granted.token_type}, {self.left:.0f} s left>"


def written(granted: Granted, key: str, *, forced: bool) -> bytes:
    """Return what `read_stored` reads. It is bound to its token key, and holds neither a private key nor a credential."""
    members = {
        "schema": SCHEMA,
        "key": key,
        "access_token": granted.access_token,
        "token_type": granted.token_type,
        "scope": granted.scope,
        "lifetime": granted.lifetime,
        "forced": forced,
    }
    return json.dumps(members, separators=(",", ":")).encode("ascii")


def read_stored(content: bytes, key: str, left: float, order: TokenOrder) -> StoredToken | None:
    """Return the token in `content`, which the store holds for `left` seconds more; None where it cannot be used.

    It has to fit `order` as an answer of the server would have to.
    """
    members = _members(content)
    if members is None or members["schema"] != SCHEMA or members["key"] != key:
        return None
    if not math.isfinite(left) or left <= 0:
        return None
    token_type = "Bearer" if order.proof_key is None else "DPoP"  # not a password
    scope, lifetime, value = members["scope"], members["lifetime"], members["access_token"]
    if members["token_type"] != token_type or token_fault(value, token_type):
        return None
    if not isinstance(scope, str | None):
        return None
    try:
        granted_scope = frozenset(order.scope if scope is None else scope_tokens(scope))
    except ValueError:
        return None
    if not order.required_scopes <= granted_scope or not isinstance(members["forced"], bool):
        return None
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not 0 < lifetime <= LONGEST_LIFETIME:
        return None
    granted = Granted(access_token=value, token_type=token_type, lifetime=float(lifetime), scope=scope)
    return StoredToken(granted=granted, left=min(left, granted.lifetime), forced=members["forced"])


def _members(content: bytes) -> dict[str, Any] | None:
    try:
        members = json.loads(content)
    except (ValueError, RecursionError):
        return None
    expected = {"schema", "key", "access_token", "token_type", "scope", "lifetime", "forced"}
    return members if isinstance(members, dict) and members.keys() == expected else None
