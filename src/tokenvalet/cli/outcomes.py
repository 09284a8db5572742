"""How a command ends: the exit codes, and every error as one sentence on standard error.

0    what was asked for was done
1    what was looked at is not as it should be: `check` found a fault, the demo's counts differ
2    the command line cannot be understood
3    the configuration cannot work, or the URL is none that the token may go to
4    the authorization server refused
5    no token: the authorization server was not reached, not in time, or answered with nothing that can be used
6    the API was not reached, or broke off
22   the API answered 400 or above, and --fail was given; or it wants more than a token can show
70   a fault of tokenvalet itself
130  interrupted
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NoReturn

import click

from ..errors import (
    ConfigurationError,
    OriginError,
    StepUpRequiredError,
    TokenRefusedError,
    TokenValetError,
    shown,
)

__all__ = ["Commands", "Exit", "ended", "quiet", "told"]


class Commands(click.Group):
    """The commands, each of which ends with an exit code and at most one sentence on standard error."""

    def main(self, *arguments: Any, **options: Any) -> NoReturn:
        """Run the command line; ends the process."""
        _give_what_is_closed_a_place()
        options["standalone_mode"] = False
        try:
            code = super().main(*arguments, **options)
        except click.exceptions.NoArgsIsHelpError as nothing_asked:
            click.echo(nothing_asked.format_message())
            code = Exit.USAGE
        except click.UsageError as error:
            help_of = f" (see {error.ctx.command_path} --help)" if error.ctx is not None else ""
            code = _said(Exit.USAGE, f"{error.format_message().rstrip('.')}{help_of}")
        except click.ClickException as error:
            code = _said(Exit(error.exit_code), error.format_message())
        except click.Abort:
            code = _said(Exit.INTERRUPTED, "interrupted")
        except BrokenPipeError:
            code = _nobody_reads()
        except OSError as error:
            what = error.filename if error.filename is not None else "reading or writing failed"
            code = _said(Exit.USAGE, f"{what}: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001  a traceback tells a user nothing, and may show what it should not
            code = _said(
                Exit.OUR_FAULT, f"a fault of tokenvalet itself ({type(error).__name__}{_place_of(error)}); report it"
            )
        sys.exit(code if isinstance(code, int) else Exit.DONE)


def _give_what_is_closed_a_place() -> None:
    # As of `tokenvalet … >&-`: whatever is opened next would take the descriptor, and be written into.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  for the life of the process


def _said(code: Exit, message: str) -> Exit:
    # One that is full or closed changes nothing about the code.
    with contextlib.suppress(OSError):
        click.echo(f"tokenvalet: {message}", err=True)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return code
    _nobody_reads()
    return code


def _nobody_reads() -> Exit:
    # As of `tokenvalet call … | head`: the interpreter would complain when it flushes.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.DONE


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [one for one in frames if f"{os.sep}tokenvalet{os.sep}" in one.filename] or frames
    return f" at {os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else ""


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
    OUR_FAULT = 70
    INTERRUPTED = 128 + signal.SIGINT


def quiet() -> None:
    """Keep the log's warnings of the flow off standard error, where a sentence says the same."""
    logging.getLogger("tokenvalet").addHandler(logging.NullHandler())


def ended(code: Exit, message: str = "") -> click.exceptions.Exit:
    """Return what to raise to end the command, once `message` has been written to standard error."""
    if message:
        _said(code, message)
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
        raise click.exceptions.Exit(_nobody_reads()) from None
    except Exception as error:
        import httpx2

        if not isinstance(error, httpx2.HTTPError | httpx2.InvalidURL):
            raise
        if isinstance(error, httpx2.InvalidURL):
            raise ended(Exit.USAGE, f"this URL cannot be used: {shown(str(error), 300)}") from None
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
