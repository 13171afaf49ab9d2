"""How a run goes, on a terminal: one live display, that vanishes with the run; else plain lines."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from scripts.ending import printable
from twinweave.progress import Step, read

NAMES = {
    "query.setup": "set up",
    "query.blind": "align: own ids",
    "query.match": "align: others' ids",
    "query.agree": "agree on tables",
    "query.share": "products: masks",
    "deal": "products: noise",
    "query.open": "products: tables",
    "train": "train: rounds",
    "fit network": "fit: network",
    "trial fit": "fit: trial",
    "fit mixture": "fit: mixture",
    "refit": "fit: fair labels",
    "rake": "rake",
    "evaluate.synthetic": "audit: parties",
    "canaries": "audit: canaries",
}
"""What a step is called; one of another name is shown by it."""

PAUSE = 0.25
ROWS = 12


class Left(ProgressColumn):
    """Time left at the step's own speed; nothing before that is known."""

    def render(self, task: Task) -> Text:
        seconds = None if task.finished else task.time_remaining
        return Text("" if seconds is None else f"about {clock(seconds)} left", style="dim")


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Display:
    """Shows the steps that a run's processes note in its folder (`twinweave.progress`).

    On a terminal, bars, redrawn from a thread of its own; `line` prints above them. Elsewhere
    lines alone, without control characters. Nothing of it stays but the lines.
    """

    def __init__(
        self, out: Path, terminal: IO[str], now: Callable[[], float] = time.monotonic
    ) -> None:
        printable(terminal)
        self._out, self._terminal, self._since = out, terminal, time.time()
        self.live = terminal.isatty()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            Left(),
            console=Console(file=terminal, highlight=False),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            refresh_per_second=4,
            get_time=now,
        )
        self._step: tuple[str, float] | None = None
        self._task: TaskID | None = None
        self._over = threading.Event()
        self._poll = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Display:
        if self.live:
            self._bars.start()
            self._poll.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live:
            self._over.set()
            self._poll.join()
            self._bars.stop()

    def line(self, text: str) -> None:
        """Print a line, or several. Where nobody reads any more, the run goes on without."""
        try:
            if self.live:
                self._bars.console.print(text, markup=False, soft_wrap=True)
            else:
                print(text, file=self._terminal, flush=True)
        except OSError:
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), self._terminal.fileno())

    def look(self) -> None:
        """Show what the run's folder says now."""
        step = read(self._out)
        if step is not None and step.at >= self._since:  # not of the run that this one resumes
            parties = [read(folder) for folder in self._out.glob("parties/*") if folder.is_dir()]
            self.show(step, [word for word in parties if word is not None])

    def show(self, step: Step, parties: Sequence[Step]) -> None:
        """Show a step of the run, and how far the parties are that are at it."""
        if (step.name, step.since) != self._step:
            self._begin(step)
        assert self._task is not None
        done, total = fraction(step, parties)
        self._bars.update(self._task, completed=done, total=total)

    def _begin(self, step: Step) -> None:
        if self._task is not None:
            self._bars.update(self._task, total=1, completed=1)
            self._bars.stop_task(self._task)
        for old in self._bars.tasks[: -ROWS + 1]:
            self._bars.remove_task(old.id)
        self._step = (step.name, step.since)
        self._task = self._bars.add_task(NAMES.get(step.name, step.name), total=None)

    def _look_on(self) -> None:
        while not self._over.wait(PAUSE):
            with suppress(Exception):  # a bar that cannot be drawn is no reason to end a run
                self.look()


def fraction(step: Step, parties: Sequence[Step]) -> tuple[float, float | None]:
    """(done, of which total) of a step; the total is None as long as nobody knows it.

    parties: their last words, of which those since the step began are of it.
    """
    if not step.asked:
        return (step.done, step.total) if step.total else (step.done, None)
    words = [word for word in parties if word.at >= step.since and word.total]
    done = sum(min(1.0, word.done / word.total) for word in words)
    return (done, float(step.asked)) if words else (0.0, None)
