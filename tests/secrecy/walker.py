"""Looks for planted secrets where an error tracker, a log or a debugger would find them.

What is walked is what Sentry and its kin send home: an error with everything it is chained to, and the local variables of
every frame, with mappings and sequences taken apart, and any other object as its `repr`. The frames of the tests
themselves are left out, since they hold the secrets that they plant.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, quote_plus

__all__ = ["LogRecords", "Plant", "found", "seen_in", "shown_by_error", "shown_by_value"]

TESTS = str(Path(__file__).parent.parent)
DEEPEST = 8

Text = tuple[str, str]  # where it was seen, and what


@dataclass(frozen=True, slots=True)
class Plant:
    """A secret, and every form in which it would be given away."""

    name: str
    forms: tuple[str, ...]

    @classmethod
    def of(cls, name: str, secret: str, *more: str) -> Self:
        """Return a secret with its encoded forms, and its hashes, which can be guessed at (S-165)."""
        raw = secret.encode()
        forms = {
            secret,
            quote(secret, safe=""),
            quote_plus(secret),
            base64.b64encode(raw).decode().rstrip("="),
            base64.urlsafe_b64encode(raw).decode().rstrip("="),
            raw.hex(),
            repr(secret)[1:-1],
            *(hashlib.new(name, raw).hexdigest() for name in ("md5", "sha1", "sha256", "sha512")),
            *more,
        }
        # A JWT is as good as given away with its signature.
        if secret.count(".") == 2:
            forms.add(secret.rpartition(".")[2])
        return cls(name, tuple(sorted(form for form in forms if len(form) >= 8)))


def found(plants: Iterable[Plant], texts: Iterable[Text]) -> list[str]:
    """Return where which secret was seen; an empty list is what every test wants."""
    listed = list(plants)
    assert listed, "a test that looks for nothing proves nothing"
    return sorted(
        {
            f"{plant.name} in {where}: {_around(text, form)}"
            for where, text in texts
            for plant in listed
            for form in plant.forms
            if form in text
        }
    )


def seen_in(plants: Iterable[Plant], texts: Iterable[Text]) -> set[str]:
    """Return the names of the secrets that were seen: for a test of the test."""
    return {line.partition(" in ")[0] for line in found(plants, texts)}


def _around(text: str, form: str) -> str:
    at = text.index(form)
    return repr(text[max(0, at - 60) : at + 12] + "…")


# Values ----------------------------------------------------------------------------------------------------------


def shown_by_value(where: str, value: Any) -> Iterator[Text]:
    """Return what a value shows: `repr`, `str` and `format`, and what is in it where it is a mapping or a sequence."""
    yield from _value(where, value, 0)


def _value(where: str, value: Any, depth: int) -> Iterator[Text]:
    if isinstance(value, bytes | bytearray):
        yield where, bytes(value).decode("latin-1")
    elif isinstance(value, str):
        yield where, value
    else:
        for how in (repr, str, format):
            yield where, _safely(how, value)
    if depth == DEEPEST or isinstance(value, str | bytes | bytearray):
        return
    if isinstance(value, Mapping):
        for key, one in list(value.items()):
            yield from _value(f"{where}[key]", key, depth + 1)
            yield from _value(f"{where}[{key!r}]", one, depth + 1)
    elif isinstance(value, Sequence | Set) and not isinstance(value, range):
        for at, one in enumerate(list(value)):
            yield from _value(f"{where}[{at}]", one, depth + 1)


def _safely(how: Any, value: Any) -> str:
    try:
        return str(how(value))
    except Exception as error:  # a half-made object
        return f"<{type(error).__name__}>"


# Errors ----------------------------------------------------------------------------------------------------------


def shown_by_error(error: BaseException) -> Iterator[Text]:
    """Return all that an error shows, with whatever it is chained to, suppressed or not, and every frame's variables."""
    left: list[BaseException] = [error]
    known: set[int] = set()
    while left:
        one = left.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        yield from _one_error(one)
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def _one_error(error: BaseException) -> Iterator[Text]:
    name = type(error).__name__
    yield f"str({name})", _safely(str, error)
    yield f"repr({name})", _safely(repr, error)
    yield f"the text of {name}", "".join(traceback.format_exception_only(error))
    yield from shown_by_value(f"{name}.args", error.args)
    yield from shown_by_value(f"{name}.__dict__", dict(vars(error)))
    yield from shown_by_value(f"{name}.__notes__", getattr(error, "__notes__", ()))
    # What a UnicodeError could not decode, and a JSONDecodeError not parse.
    for attribute in ("object", "doc"):
        yield from shown_by_value(f"{name}.{attribute}", getattr(error, attribute, None))
    # httpx and httpx2 hang the request on their errors, for handlers that log it.
    for attribute in ("_request", "_response", "response"):
        message = vars(error).get(attribute)
        for one in (message, getattr(message, "_request", None)):
            yield from shown_by_value(
                f"{name}.{attribute}.headers", list(getattr(getattr(one, "headers", None), "raw", ()))
            )
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if code.co_filename.startswith(TESTS):
            continue
        place = f"{Path(code.co_filename).name}:{line} {code.co_name}"
        for variable, value in list(frame.f_locals.items()):
            yield from shown_by_value(f"{place} {variable}", value)
    yield from _as_reported(name, error)


def _as_reported(name: str, error: BaseException) -> Iterator[Text]:
    """Return what the standard library captures for those who send errors home, as it writes it."""
    report = traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=True, compact=True)
    for frame in report.stack:
        if not frame.filename.startswith(TESTS):
            for variable, text in (frame.locals or {}).items():
                yield f"{name}, reported {Path(frame.filename).name}:{frame.lineno} {variable}", text


# Logs ------------------------------------------------------------------------------------------------------------


class LogRecords(logging.Handler):
    """Every record of every logger at DEBUG, while it is open as a context manager."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._former = root.level
        root.setLevel(logging.DEBUG)
        root.addHandler(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._former)

    def names(self) -> set[str]:
        """The names of the loggers that wrote something, cut to their first part."""
        return {record.name.partition(".")[0] for record in self.records}

    def lines(self, level: int = logging.NOTSET, logger: str = "tokenvalet") -> list[str]:
        """The messages of one logger."""
        return [one.getMessage() for one in self.records if one.name == logger and one.levelno >= level]

    def texts(self) -> Iterator[Text]:
        """What the records show: the message, the arguments, the error, and everything else that hangs on them."""
        for record in list(self.records):
            where = f"the log of {record.name}"
            yield where, record.getMessage()
            for name, value in vars(record).items():
                if name == "exc_info" and value:
                    yield from shown_by_error(value[1])
                else:
                    yield from shown_by_value(f"{where} ({name})", value)
