"""What a request of httpx2 or httpx is made of, looked at and copied in as few steps as can be: it is done for every call.

The public ways encode, parse and lower anew what the libraries keep ready underneath. Where it is as expected, which is
tried once for each library, it is used as it is; where it is not, the public ways are taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import attrgetter
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["Address", "Field", "Looks", "looks_of"]

# A name as it is sent, the same in lower case, and the value.
Field = tuple[bytes, bytes, bytes]
# Scheme, user information, host in A-labels, and port; as the library has them, so that equal ones are equal addresses.
Address = tuple[Any, ...]


class Looks(NamedTuple):
    """How to look at requests of one library.

    Attributes:
        fields: the header fields of these headers; not to be changed.
        headers: headers of these fields.
        address: where this URL leads to; of more parts, the first four.
    """

    fields: Callable[[Any], list[Field]]
    headers: Callable[[list[Field]], Any]
    address: Callable[[Any], Address]


@functools.cache
def looks_of(library: ModuleType) -> Looks:
    """Return how to look at requests of httpx2 or httpx."""
    return _looks_of(library)


def _looks_of(library: Any) -> Looks:
    headers_class = library.Headers
    new = headers_class.__new__

    def headers_around(fields: list[Field]) -> Any:
        headers = new(headers_class)
        headers._list = fields
        headers._encoding = None
        return headers

    def made_headers(fields: list[Field]) -> Any:
        return headers_class([(name, value) for name, _, value in fields])

    keeps_fields = vars(made_headers([_SAMPLE])) == {"_list": [_SAMPLE], "_encoding": None}
    parts = getattr(library.URL("https://name@host:1/path"), "_uri_reference", ())
    keeps_parts = isinstance(parts, tuple) and parts[:4] == ("https", "name", "host", 1)
    return Looks(
        attrgetter("_list") if keeps_fields else _fields,
        headers_around if keeps_fields else made_headers,
        attrgetter("_uri_reference") if keeps_parts else _address,
    )


_SAMPLE = (b"Name", b"name", b"value")


def _fields(headers: Any) -> list[Field]:
    return [(name, name.lower(), value) for name, value in headers.raw]


def _address(url: Any) -> Address:
    return (url.scheme, url.userinfo, url.raw_host, url.port)
