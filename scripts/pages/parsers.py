"""The parser of a command, as the command itself builds it, without running the command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any, NoReturn
from unittest import mock


class Taken(BaseException):
    """A command's parser, and the words that it took. No error: no command may handle it."""

    def __init__(self, parser: argparse.ArgumentParser, taken: argparse.Namespace | None) -> None:
        super().__init__()
        self.parser = parser
        self.taken = taken


def parser_of(module: str) -> argparse.ArgumentParser | None:
    """The parser of `python -m MODULE`; None where it has none."""
    found = _stopped(module, (), parse=False)
    return None if found is None else found.parser


def taken(module: str, words: Sequence[str]) -> argparse.Namespace | None:
    """What the command's own parser makes of these words; None for a command without one.

    Raises SystemExit where it refuses them.
    """
    found = _stopped(module, words, parse=True)
    return None if found is None else found.taken


def _stopped(module: str, words: Sequence[str], *, parse: bool) -> Taken | None:
    loaded = importlib.import_module(module)
    if not hasattr(loaded, "argparse"):
        return None
    silent = redirect_stdout(StringIO())  # of one without a parser, that prints how it is used
    with _stopping(parse), mock.patch.object(sys, "argv", [module, *words]), silent:
        try:
            loaded.main()
        except Taken as found:
            return found
    return None


@contextmanager
def _stopping(parse: bool) -> Iterator[None]:
    """Commands end where they would have parsed their words."""
    real = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> NoReturn:
        raise Taken(self, real(self, args, namespace) if parse else None)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        yield
