"""How a command ends: the exit codes, and every error as one sentence on standard error.

0    what was asked for was done
1    what was looked at is not as it should be: `check` found a fault, the demo's counts differ
2    the command line cannot be understood
3    the configuration cannot work, or the URL is none that the token may go to
4    the authorization server refused
5    no token: the authorization server was not reached, not in time, or answered with nothing that can be used
6    the API was not reached, or broke off
22   the API answered 400 or above, and --fail was given; or it wants more than a token can show
130  interrupted
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from enum import IntEnum

import click

from ..errors import (
    ConfigurationError,
    OriginError,
    StepUpRequiredError,
    TokenRefusedError,
    TokenValetError,
    shown,
)

__all__ = ["Exit", "ended", "told"]


class Exit(IntEnum):
    """The exit codes."""

    DONE = 0
    NOT_AS_IT_SHOULD_BE = 1
    USAGE = 2
    CONFIGURATION = 3
    REFUSED = 4
    NO_TOKEN = 5
    API_UNREACHABLE = 6
    API_ERROR = 22
    INTERRUPTED = 128 + signal.SIGINT


def ended(code: Exit, message: str = "") -> click.exceptions.Exit:
    """Return what to raise to end the command, once `message` has been written to standard error."""
    if message:
        click.echo(f"tokenvalet: {message}", err=True)
    return click.exceptions.Exit(code)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what goes wrong inside into a sentence and an exit code. No traceback, whatever the server did."""
    try:
        yield
    except KeyboardInterrupt:
        raise ended(Exit.INTERRUPTED, "interrupted") from None
    except TokenValetError as error:
        raise ended(code_of(error), str(error)) from None
    except BrokenPipeError:
        # As of `tokenvalet call … | head`: nobody reads on, and the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(Exit.DONE) from None
    except Exception as error:
        import httpx2

        if not isinstance(error, httpx2.HTTPError | httpx2.InvalidURL):
            raise
        raise ended(Exit.API_UNREACHABLE, _of_the_api(error)) from None


def code_of(error: TokenValetError) -> Exit:
    """Return the exit code for an error of ours."""
    if isinstance(error, ConfigurationError | OriginError):
        return Exit.CONFIGURATION
    if isinstance(error, TokenRefusedError):
        return Exit.REFUSED
    return Exit.API_ERROR if isinstance(error, StepUpRequiredError) else Exit.NO_TOKEN


def _of_the_api(error: Exception) -> str:
    # The texts of httpx2's errors name hosts and reasons, and may quote what a server sent.
    kind, text = type(error).__name__, shown(str(error), 300)
    return f"the call to the API failed: {kind}: {text}" if text else f"the call to the API failed: {kind}"
