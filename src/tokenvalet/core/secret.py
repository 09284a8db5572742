"""A secret that never shows: not in `repr`, `str`, f-strings or pickles, nor in the time that a comparison takes."""

from __future__ import annotations

import hmac
from typing import Any

__all__ = ["Secret"]


class Secret:
    """A string that is shown as asterisks. `reveal()` is the one way to it, and easy to search for."""

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        # Bytes that are no UTF-8 are kept as surrogates: an error of decoding would hold the secret.
        self._value = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, others = (one._value.encode("utf-8", "surrogatepass") for one in (self, other))
        return hmac.compare_digest(mine, others)

    def __hash__(self) -> int:
        return hash(Secret)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __str__(self) -> str:
        return "**********"

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled: configure its file or environment variable in both processes")

    def __getstate__(self) -> Any:
        # Without it, those who write objects down in their own way would be handed the string by `object`.
        return self.__reduce__()

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self
