"""A run's directory from first line to last: log, status, and one clear line on failure."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from twinweave import durable, folder, rundir
from twinweave.checkpoint import FOLDER, Begun, Checkpoint, Paid, Shown
from twinweave.config import RunConf
from twinweave.errors import AppError, InternalError, OutputError, RunError
from twinweave.progress import Note, heard_by
from twinweave.synthesis.public import public_rows

INTERRUPTED = 130

OURS = "twinweave| "
"""Begins every line for the terminal where others print too: in Flower's log."""

_shown: ContextVar[Callable[[str], None] | None] = ContextVar("shown", default=None)

PRIVATE = "private"
"""Attribute of log records that are for the terminal of a simulation alone."""


@contextmanager
def run_directory(conf: RunConf) -> Iterator[Callable[[str], None]]:
    """Open conf.output; yields a function that prints to the terminal and to the log.

    It is this run's alone, and locked. status.json says running, finished or failed (with the
    error's text and exit code), so that whoever started the run can tell without reading logs.
    An error says how to go on. Raises OutputError where the folder is not to be had.
    """
    out, new = Path(conf.output).resolve(), conf.resume is None
    if new:
        folder.make(out, another=False)
    with folder.held(out, new=new):
        if new:
            rundir.write_json(out / rundir.CONFIGURATION, conf)
        else:
            check_goes_on(out)  # nobody else can bring it to its end any more
        folder.set_status(out, "running")
        note = Note(out)
        with _logging(out) as logger, heard_by(note):
            try:
                yield lambda text: logger.info("%s", text)
                folder.set_status(out, "finished")
            except BaseException as error:
                raise _failed(out, logger, error) from error.__cause__
            finally:
                note.forget()


@contextmanager
def shown_by(line: Callable[[str], None]) -> Iterator[None]:
    """What is for the terminal is shown by this, unmarked, and not on the standard output."""
    token = _shown.set(line)
    try:
        yield
    finally:
        _shown.reset(token)


@contextmanager
def unmarked() -> Iterator[None]:
    """Lines need no mark in a process of our own, where no engine prints among them."""
    with shown_by(_shown.get() or print):
        yield


def pinned(conf: RunConf) -> RunConf:
    """The same, and on disk too, with the hash of what its generator reads from there.

    So a run that goes on, and rows that are drawn from it later, are of the model that it began
    with, also where parties train nothing. Raises ConfigError for one that may not be used, and
    the AppErrors of a public file (`public_rows`), which is read before anything is spent.
    """
    if conf.generator is None:
        return conf
    if conf.generator.public_file:
        public_rows(conf.data.analyses.schema, conf.generator.public_file)
    held = replace(conf, generator=conf.generator.pinned())
    if held != conf:
        rundir.write_json(
            Path(conf.output).resolve() / rundir.CONFIGURATION, replace(held, resume=None)
        )
    return held


def check_goes_on(out: Path) -> None:
    """Raise OutputError for a run that is finished, or that lost what it needs to go on.

    A run that has asked its parties and no longer knows which requests it sent would be another
    one: paid for again, and written over what was paid for.
    """
    if folder.status(out)["state"] == "finished":
        raise OutputError(
            f"resume: the run in {str(out)!r} is finished. Its report is in {rundir.REPORT}; "
            "for another run, leave resume= out."
        )
    asked = (out / rundir.SPEC).exists() or next(out.glob("parties/*/runs"), None) is not None
    if asked and not Checkpoint.at(out).has(Begun):
        raise OutputError(
            f"resume: {str(out / FOLDER)!r}, from which the run goes on, is not there any more. "
            "What it measured stays in its folder. Bring it back from a copy, or start a new run "
            "in another folder."
        )


def _failed(out: Path, logger: logging.Logger, error: BaseException) -> BaseException:
    """Write down how the run ended; the error to raise, with a word on how to go on."""
    told: BaseException = (
        durable.explained(error, "the run") if isinstance(error, OSError) else error
    )
    code = told.exit_code if isinstance(told, AppError) else 1
    text = str(told) if isinstance(told, AppError) else f"unexpected {type(told).__name__}: {told}"
    if isinstance(told, KeyboardInterrupt):
        text, code = "interrupted.", INTERRUPTED
    text = " ".join([text if text.endswith(".") else f"{text}.", *_advice(out, told)])
    with suppress(OSError, OutputError):  # of a full disk: whoever reads finds that the run died
        folder.set_status(out, "failed", error=text, exit_code=code)
    logger.error("error: %s", text, exc_info=None if isinstance(told, _EXPECTED) else told)
    return type(told).restore(text) if isinstance(told, AppError) else told


_EXPECTED = (AppError, KeyboardInterrupt)
"""What needs no traceback."""


def _advice(out: Path, error: BaseException) -> Iterator[str]:
    """How to go on after an error, if there is a way."""
    kept = Checkpoint.at(out)
    if kept.has(Paid):
        again = f"Go on with resume={out}, or end" if _passing(error) else "End"
        yield (
            f"The measurement and its report are in {out}. {again} the run without synthetic "
            f"tables: resume={out} generator=none."
        )
        if kept.has(Shown):
            yield f"Or end it without the parties' audit of them: resume={out} audit=off."
    elif kept.has(Begun) and _passing(error):
        yield f"Go on with resume={out}: parties repeat their answers, and pay for none twice."


def _passing(error: BaseException) -> bool:
    """Whether another try may end better: not of a table or a specification that is refused,
    nor of a training that diverged, which every later try would repeat."""
    lasting = isinstance(error, AppError)
    return not lasting or isinstance(error, RunError | InternalError | OutputError)


@contextmanager
def _logging(out: Path) -> Iterator[logging.Logger]:
    """The run's log, on the terminal and in its file."""
    logger = logging.getLogger("twinweave.run")
    handlers = _handlers(out / rundir.LOG)
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield logger
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            with suppress(OSError):
                handler.close()


def _handlers(path: Path) -> list[logging.Handler]:
    shown = _shown.get()
    terminal = _Shown(shown) if shown else logging.StreamHandler(sys.stdout)
    terminal.setFormatter(logging.Formatter("%(message)s") if shown else _Marked("%(message)s"))
    terminal.setLevel(logging.INFO)  # what is below is for the file
    # The error is raised too: whoever started the run prints it, once.
    terminal.addFilter(lambda record: record.levelno < logging.ERROR)
    file = logging.FileHandler(path)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    file.addFilter(lambda record: not hasattr(record, PRIVATE))
    return [terminal, file]


class _Shown(logging.Handler):
    """Hands what is logged on."""

    def __init__(self, line: Callable[[str], None]) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line(self.format(record))


class _Marked(logging.Formatter):
    """Every line begins with the mark of ours."""

    def format(self, record: logging.LogRecord) -> str:
        return OURS + super().format(record).replace("\n", f"\n{OURS}")
