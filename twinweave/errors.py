"""Errors a user can act on: each names the rule broken and the remedy, never a cell's value.

Every class owns one exit status, which the commands in `scripts` pass to the shell; what to do
about each is in docs/errors.md:

    0  the command did what was asked
    1  an unexpected failure: a mistake in the program
    2  a wrong command line
    10 AppError         base of the others, never raised itself
    11 ConfigError      a field of the configuration or of a site file
    12 ColumnError      a column of a table breaks its schema
    13 SchemaError      a schema is malformed, or two of them disagree
    14 SourceError      a file, a database or a run directory cannot be read
    15 BudgetError      a party's privacy budget would be exceeded
    16 ProtocolError    a message breaks the protocol
    17 ChannelError     a sealed message or a signed key does not verify
    18 RunError         the run cannot go on
    19 InternalError    an unexpected failure at a party, told in that party's log alone
    20 OutputError      the folder of a run, or of a party, cannot be written
    21 DivergedError    a training diverged, and every try would again
    22 WithheldError    the audit's gate withholds the synthetic tables
    130 interrupted from the keyboard
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

MOST_CHARACTERS = 2000
"""Of an error that travelled."""


class AppError(Exception):
    """Base of every error that Twinweave raises on purpose."""

    exit_code = 10

    def at(self, party: str) -> AppError:
        """Return the same error with the party's name in front of its message, once."""
        named = f"party {party!r}: "
        text = str(self)
        return self if text.startswith(named) else type(self).restore(named + text)

    @classmethod
    def restore(cls, message: str) -> AppError:
        """Rebuild an error from the text that travelled, without running `__init__`.

        The text is another party's: it goes to a terminal without control characters, cut.
        """
        error = cls.__new__(cls)
        shown = "".join(c if c.isprintable() else "?" for c in message[:MOST_CHARACTERS])
        Exception.__init__(error, shown)
        return error


class ConfigError(AppError, ValueError):
    """A field of the configuration breaks a rule.

    A ValueError too, so that a parser goes on and finds what else is wrong.
    """

    exit_code = 11

    def __init__(self, field: str, rule: str, remedy: str) -> None:
        super().__init__(f"configuration {field!r}: {rule}. {remedy}")


class ColumnError(AppError):
    """Columns of a party's table break their schema.

    parts: (column, rule, remedy) of each fault; none in an error that travelled.
    """

    exit_code = 12
    parts: tuple[tuple[str, str, str], ...] = ()

    def __init__(self, column: str, rule: str, remedy: str) -> None:
        super().__init__(f"column {column!r}: {rule}. {remedy}")
        self.parts = ((column, rule, remedy),)

    @classmethod
    def of_many(cls, errors: Sequence[ColumnError]) -> ColumnError:
        """One error with every fault of these, columns with the same fault together."""
        parts = tuple(dict.fromkeys(part for error in errors for part in error.parts))
        alike: dict[tuple[str, str], list[str]] = {}
        for column, rule, remedy in parts:
            alike.setdefault((rule, remedy), []).append(repr(column))
        told = (
            f"column{'s' if len(names) > 1 else ''} {', '.join(names)}: {rule}. {remedy}"
            for (rule, remedy), names in alike.items()
        )
        error = cls.__new__(cls)
        Exception.__init__(error, " And ".join(told))
        error.parts = parts
        return error


class SchemaError(AppError, ValueError):
    """A schema is malformed, or two parties' schemas disagree. A ValueError as ConfigError is."""

    exit_code = 13


class SourceError(AppError):
    """A party's table cannot be read (file, format, database)."""

    exit_code = 14


class BudgetError(AppError):
    """A release would exceed a party's privacy budget; nothing was released."""

    exit_code = 15


class ProtocolError(AppError):
    """A message breaks the protocol: unknown field, wrong phase, wrong shape, contradiction."""

    exit_code = 16


class ChannelError(ProtocolError):
    """A sealed message or a signed key does not verify."""

    exit_code = 17


class RunError(AppError):
    """The run cannot go on: a party did not answer, or answered with an error."""

    exit_code = 18


class InternalError(AppError):
    """An unexpected failure at a party; details stay in that party's own log."""

    exit_code = 19


class OutputError(AppError):
    """The folder that a run is to be written in cannot be made, is taken, or its disk is full."""

    exit_code = 20


class DivergedError(AppError):
    """An update of the training left the range that can be summed."""

    exit_code = 21


class WithheldError(AppError):
    """The run is finished, but for its synthetic tables: an audit withholds them."""

    exit_code = 22


@contextmanager
def unquoted() -> Iterator[None]:
    """Let an AppError out without its cause: that of a reading library could quote a cell."""
    try:
        yield
    except AppError as error:
        error.__cause__ = error.__context__ = None
        raise


BY_NAME: dict[str, type[AppError]] = {
    cls.__name__: cls
    for cls in (
        AppError,
        ConfigError,
        ColumnError,
        SchemaError,
        SourceError,
        BudgetError,
        ProtocolError,
        ChannelError,
        RunError,
        InternalError,
        OutputError,
        DivergedError,
        WithheldError,
    )
}
