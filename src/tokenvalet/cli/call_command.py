"""``tokenvalet call``: one request to an API, as the library would send it, and its answer as it comes."""

from __future__ import annotations

import codecs
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from ..core.token import TokenParameters
from ..errors import shown
from ..observe import Event
from ..valet import TokenValet
from .configured import CLIENT, CONFIG, configured
from .outcomes import Exit, ended, quiet, told
from .token_command import asked_for, asking_options

__all__ = ["call"]

PIECE = 64 * 1024
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


@click.command()
@CONFIG
@CLIENT
@click.argument("url")
@click.option("-X", "--request", "method", help="The method.  [default: GET, POST with a body, PUT with --upload-file]")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="A header field.")
@click.option("-d", "--data", "data", help="The body; @FILE reads it from a file, @- from standard input.")
@click.option("--json", "json_body", help="The body, sent as application/json; @FILE and @- as with --data.")
@click.option("-T", "--upload-file", type=click.Path(path_type=Path), help="A file to stream as the body.")
@click.option("-i", "--include", is_flag=True, help="Print the status line and the header fields of the answer too.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the answer to this file.")
@click.option("-f", "--fail", is_flag=True, help="Exit with 22 if the API answers 400 or above.")
@click.option("-L", "--location", is_flag=True, help="Follow redirects; the token goes to allowed origins only.")
@click.option("-v", "--verbose", is_flag=True, help="Tell on standard error what happens, without any secret.")
@click.option("--max-time", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait for the API each time.")
@asking_options
def call(
    config: Path | None,
    client: str,
    url: str,
    method: str | None,
    headers: tuple[str, ...],
    data: str | None,
    json_body: str | None,
    upload_file: Path | None,
    include: bool,
    output: Path | None,
    fail: bool,
    location: bool,
    verbose: bool,
    max_time: float | None,
    scope: tuple[str, ...],
    resource: tuple[str, ...],
    audience: tuple[str, ...],
    parameters: tuple[str, ...],
    force: bool,
) -> None:
    """Call an API as CLIENT. URL is absolute, or a path below the client's base_url.

    The answer goes to standard output as it arrives. For example:

    \b
      tokenvalet call m2m /api/v1/integration/health-records
      tokenvalet call m2m /api/v1/records --json '{"patient": 1}' --fail
    """
    if not _is_plain(url):
        raise click.BadParameter("has a character that no URL has", param_hint="URL")
    if method is not None and not _TOKEN.fullmatch(method):
        raise click.BadParameter("is no method such as GET", param_hint="--request")
    fields = _fields(headers)
    body, kind = _body(data, json_body, upload_file)
    if kind and not any(name.lower() == b"content-type" for name, _ in fields):
        fields.append((b"Content-Type", kind.encode()))
    asked = TokenParameters(force_renewal=force, **asked_for(scope, resource, audience, parameters))
    quiet()
    with told(), contextlib.ExitStack() as stack:
        settings = configured(config)
        valet = stack.enter_context(
            TokenValet(settings.clients, store=settings.store, observers=[_tell] if verbose else ())
        )
        named = settings.clients.get(client)
        if named is not None and named.base_url is None and "://" not in url:
            raise ended(Exit.USAGE, f"client {client} has no base_url: give the whole URL, or configure one")
        options: dict[str, Any] = {"follow_redirects": location, "timeout": max_time or 30.0}
        http = stack.enter_context(valet.client(client, **options))
        content: Any = body
        if upload_file is not None:
            content = _pieces(stack.enter_context(_opened(upload_file, "rb")))
        chosen = method or ("PUT" if upload_file is not None else "POST" if body is not None else "GET")
        response = stack.enter_context(
            http.stream(chosen.upper(), url, headers=fields, content=content, extensions={"tokenvalet": asked})
        )
        _print(response, include, output, stack)
        if fail and response.status_code >= 400:
            raise ended(Exit.API_ERROR, f"the API answered {response.status_code}")


def _is_plain(text: str) -> bool:
    return not any(ord(one) < 32 or ord(one) == 127 or "\ud800" <= one <= "\udfff" for one in text)


def _fields(headers: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    fields = []
    for one in headers:
        name, colon, value = (part.strip() for part in one.partition(":"))
        if not (colon and _TOKEN.fullmatch(name)):
            raise click.BadParameter("should look like 'Name: value'", param_hint="--header")
        if any(ord(char) < 32 and char != "\t" for char in value):
            raise click.BadParameter(f"the value of {name} has a character that no header has", param_hint="--header")
        fields.append((name.encode(), value.encode("utf-8", "surrogateescape")))
    return fields


def _body(data: str | None, json_body: str | None, upload: Path | None) -> tuple[bytes | None, str]:
    given = [
        name for name, one in (("--data", data), ("--json", json_body), ("--upload-file", upload)) if one is not None
    ]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} are each a body: give one")
    if json_body is not None:
        return _content(json_body, "--json"), "application/json"
    if data is not None:
        return _content(data, "--data"), "application/x-www-form-urlencoded"
    return None, ""


def _content(text: str, option: str) -> bytes:
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    if text == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{text[1:]}: {error.strerror}", param_hint=option) from None


def _opened(path: Path, mode: str) -> IO[bytes]:
    try:
        return path.open(mode)
    except OSError as error:
        raise ended(Exit.USAGE, f"{path}: {error.strerror}") from None


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece


def _print(response: Any, include: bool, output: Path | None, stack: contextlib.ExitStack) -> None:
    target = sys.stdout.buffer
    escaped = output is None and sys.stdout.isatty()
    # The file is made when there is something to write, so that a refused call leaves the old one alone.
    if output is not None:
        target = stack.enter_context(_opened(output, "wb"))
    if include:
        lines = [f"{response.http_version} {response.status_code} {response.reason_phrase}"]
        lines += [f"{name}: {value}" for name, value in response.headers.multi_items()]
        target.write("".join(f"{shown(line, PIECE)}\r\n" for line in [*lines, ""]).encode())
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in response.iter_bytes():
        target.write(_harmless(decoder.decode(piece)).encode() if escaped else piece)
        target.flush()
    target.flush()


def _harmless(text: str) -> str:
    """Return text without what would steer a terminal: an API may send anything."""
    return "".join(one if one.isprintable() or one in "\n\t" else shown(one) for one in text.replace("\r\n", "\n"))


def _tell(event: Event) -> None:
    words = [event.name, event.detail, f"({event.cause})" if event.cause else "", event.code or ""]
    if event.seconds is not None:
        words.append(f"{event.seconds:.3f} s")
    click.echo("* " + " ".join(word for word in words if word), err=True)
