"""How every command ends: one line for an error, with its exit status (docs/errors.md)."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import IO, ParamSpec

from twinweave.errors import AppError

HELP = "docs/errors.md"
UNEXPECTED, USAGE, INTERRUPTED = 1, 2, 130
DEVELOPER = "HYDRA_FULL_ERROR"
"""Variable that lets every traceback through."""

AS_IT_IS = os.environ.get(DEVELOPER) == "1"  # before Hydra is told the same, by scripts.run

Given = ParamSpec("Given")


def command(main: Callable[Given, int]) -> Callable[Given, int]:
    """The same command, whose errors end it with their exit status and one line."""

    @wraps(main)
    def ended(*args: Given.args, **kwargs: Given.kwargs) -> int:
        printable(sys.stdout)
        try:
            return main(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            return tell(error)

    return ended


def tell(error: BaseException) -> int:
    """Print an error, in one line; its exit status. Raises it again for a developer, unless it
    is one that a user can act on."""
    if isinstance(error, KeyboardInterrupt):
        print(f"interrupted [exit status {INTERRUPTED}: {HELP}]", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, AppError):
        return say(str(error), error.exit_code)
    if AS_IT_IS:
        raise error
    what = " ".join(str(error).split())
    return say(f"{unexpected(error)}: {what}. {DEVELOPER}=1 shows where.", UNEXPECTED)


def printable(stream: IO[str]) -> None:
    """From here on a sign that the terminal's encoding lacks is shown as "?", and ends nothing."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


def unexpected(error: BaseException) -> str:
    """A mistake in the program, in a few words."""
    return f"unexpected {type(error).__name__}"


def say(text: str, status: int) -> int:
    """Print what is wrong and where there is help; the exit status."""
    print(f"error: {text} [exit status {status}: {HELP}]", file=sys.stderr)
    return status
