"""Looking for secrets where they must not be: in an exception, as a crash reporter walks it, and in log records."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["found_in", "in_exception", "in_records"]

OURS = str(Path(__file__).parent)
DEEPEST = 6


def found_in(text: str | bytes, secrets: Iterable[str]) -> list[str]:
    """Return the secrets that `text` has in it, whole or by a good part."""
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    return [secret for secret in secrets if secret.encode() in data or secret[-40:].encode() in data]


def in_exception(error: BaseException, secrets: Iterable[str]) -> list[str]:
    """Return the secrets that a crash reporter would send of an exception, each with its place."""
    wanted = list(secrets)
    assert wanted, "there is nothing to look for"
    found: list[str] = []
    for place, text in _texts(error):
        found += [f"{place}: {secret[:12]}…" for secret in found_in(text, wanted)]
    return found


def in_records(records: Iterable[logging.LogRecord], secrets: Iterable[str]) -> list[str]:
    """Return the secrets in log records: in their text, their arguments and their tracebacks."""
    wanted = list(secrets)
    assert wanted, "there is nothing to look for"
    found: list[str] = []
    for record in records:
        text = f"{record.getMessage()} {record.args!r} {record.exc_text!r} {record.__dict__!r}"
        found += [f"{record.name}: {text[:60]}…" for _ in found_in(text, wanted)]
    return found


def _texts(error: BaseException) -> Iterator[tuple[str, str]]:
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        name = type(one).__name__
        yield f"{name}, its traceback", "".join(traceback.format_exception(one))
        yield f"{name}, its text", f"{one!r} {one!s} {getattr(one, '__notes__', ())!r}"
        yield f"{name}, its args and attributes", " ".join(_shown([one.args, vars(one)], 0))
        yield f"{name}, its traceback with locals", _with_locals(one)
        yield from _frames(name, one.__traceback__)
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def _with_locals(error: BaseException) -> str:
    """Return the traceback as crash reporters print it, but for the frames of the tests, which know everything."""
    shown = traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=True)
    return repr([(frame.name, frame.locals) for frame in shown.stack if not frame.filename.startswith(OURS)])


def _frames(name: str, trace: TracebackType | None) -> Iterator[tuple[str, str]]:
    while trace is not None:
        code = trace.tb_frame.f_code
        # The locals of the test itself, and of whoever called it, know everything.
        if not code.co_filename.startswith(OURS):
            for variable, value in list(trace.tb_frame.f_locals.items()):
                place = f"{name} in {Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}(), {variable}"
                yield place, " ".join(_shown(value, 0))
        trace = trace.tb_next


def _shown(value: Any, depth: int) -> Iterator[str]:
    """Yield what is shown of a value: its repr, that of what it contains, and the header fields that it carries."""
    try:
        yield repr(value)
    except Exception:
        yield object.__repr__(value)
    if depth == DEEPEST:
        return
    if isinstance(value, Mapping):
        for key, one in list(value.items()):
            yield from _shown(key, depth + 1)
            yield from _shown(one, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in list(value):
            yield from _shown(one, depth + 1)
    else:
        held = None
        with contextlib.suppress(Exception):  # of one that has nothing to show any more
            held = getattr(value, "headers", None)
        if held is not None and not callable(held):
            # Where their repr leaves something out, the fields themselves are elsewhere.
            yield from _shown(getattr(held, "raw", held), depth + 1)
