"""How far a piece of work is: said by whoever does it, heard by whoever shows it.

Names and numbers of steps follow from what is public (rounds, rows, tables); nothing that depends
on a cell is said. The library knows no terminal: without a listener nothing happens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

FILE = "progress.json"
_PAUSE = 0.2  # seconds between two notes of one step: more often nobody looks

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Step:
    """done of total units of the work of this name; total 0: nobody knows how many there will be.

    asked: parties that are at it, each of which says how far it is; 0: the server itself.
    since, at: seconds since the epoch, of the step's begin and of this word.
    """

    name: str
    done: float
    total: float
    asked: int = 0
    since: float = 0.0
    at: float = 0.0


Listener = Callable[[Step], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def report(name: str, done: float = 0, total: float = 0, *, asked: int = 0) -> None:
    """Say how far the work of this name is."""
    listener = _listener.get()
    if listener is not None:
        listener(Step(name=name, done=done, total=total, asked=asked))


def parts(
    name: str, items: Iterable[tuple[Item, float]]
) -> Iterator[tuple[Item, AbstractContextManager[None]]]:
    """The items, each with the context to work on it in (`part`).

    items: with the units of work that each takes.
    """
    held = list(items)
    done, total = 0.0, sum(units for _, units in held)
    for item, units in held:
        yield item, part(name, done, units, total)
        done += units


@contextmanager
def heard_by(listener: Listener | None) -> Iterator[None]:
    """What is said inside goes to this listener alone."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def part(name: str, done: float, units: float, total: float) -> Iterator[None]:
    """Inside, so many units of the work of this name are done, of a total, after those done.

    What is said inside says how far they are.
    """
    outer = _listener.get()
    if outer is None:
        yield
        return
    told = outer

    def scaled(step: Step) -> None:
        share = step.done / step.total if step.total else 0
        told(Step(name=name, done=done + share * units, total=total))

    report(name, done, total)
    with heard_by(scaled):
        yield
    report(name, done + units, total)


class Note:
    """A listener that keeps the last word in a file, for another process to look at."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock = folder / FILE, clock
        self._last = Step(name="", done=0, total=0)

    def __call__(self, step: Step) -> None:
        now, last = self._clock(), self._last
        begins = step.name != last.name or step.done < last.done or step.done == 0
        if not begins and now - last.at < _PAUSE and step.done < step.total:
            return
        since = now if begins else last.since
        self._last = Step(**{**asdict(step), "since": since, "at": now})
        beside = self._file.with_suffix(".new")
        with suppress(OSError):  # a full disk ends no run for want of a bar
            beside.write_text(json.dumps(asdict(self._last)))
            beside.replace(self._file)

    def forget(self) -> None:
        """Delete the file."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)


def read(folder: Path) -> Step | None:
    """The last word in a folder; None where there is none, or it is damaged."""
    try:
        return Step(**json.loads((folder / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
