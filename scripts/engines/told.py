"""What of Flower's output a user is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_RAISED = re.compile(r"\b(Simulation|ServerApp) raised an exception")
_OURS = "twinweave.errors."
_TRAILER = re.compile(
    r"\s*$|.*Exit Code: \d+|An unhandled exception occurred|For more information, visit"
)


def without_tracebacks(lines: Iterable[str]) -> Iterator[str]:
    """The lines, but for Flower's report of an error that a user can act on.

    That error ends the run, and whoever started the run prints it as one line. The traceback of
    a mistake in the program stays.
    """
    held: list[str] = []  # since Flower said that something was raised
    dropped = False
    for line in lines:
        if held:
            held.append(line)
            if _within(line):
                continue
            dropped = line.startswith(_OURS)
            if not dropped:
                yield from held
            held = []
        elif _RAISED.search(line):
            held = [line]
        elif not (dropped and _TRAILER.match(line)):
            yield line
    yield from held


def _within(line: str) -> bool:
    """Whether a traceback goes on: its last line, the error's own, is the first flush left."""
    return not line.strip() or line[0] == " " or line.startswith(("Traceback", "During handling"))
