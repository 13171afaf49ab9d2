"""A run's directory from first line to last: log, status, and one clear line on failure."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twinweave import rundir
from twinweave.config import RunConf
from twinweave.errors import AppError

PRIVATE = "private"
"""Attribute of log records that are for the terminal of a simulation alone."""


@contextmanager
def run_directory(conf: RunConf) -> Iterator[Callable[[str], None]]:
    """Open conf.output; yields a function that prints to the terminal and to the log.

    status.json says running, finished or failed (with the error's text and exit code), so
    that whoever started the run can tell without reading logs.
    """
    out = Path(conf.output).resolve()
    out.mkdir(parents=True, exist_ok=True)
    rundir.write_json(out / rundir.CONFIGURATION, conf)
    rundir.write_json(out / rundir.STATUS, {"state": "running", "pid": os.getpid()})
    logger = logging.getLogger("twinweave.run")
    handlers = _handlers(out / rundir.LOG)
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield lambda text: logger.info("%s", text)
        rundir.write_json(out / rundir.STATUS, {"state": "finished"})
    except AppError as error:
        _fail(out, logger, str(error), error.exit_code)
        raise
    except BaseException as error:
        _fail(out, logger, f"unexpected {type(error).__name__}: {error}", 1)
        raise
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _fail(out: Path, logger: logging.Logger, text: str, code: int) -> None:
    rundir.write_json(out / rundir.STATUS, {"state": "failed", "error": text, "exit_code": code})
    logger.error("error: %s", text)


def _handlers(path: Path) -> list[logging.Handler]:
    terminal = logging.StreamHandler(sys.stdout)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    # The error is raised too: whoever started the run prints it, once.
    terminal.addFilter(lambda record: record.levelno < logging.ERROR)
    file = logging.FileHandler(path)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    file.addFilter(lambda record: not hasattr(record, PRIVATE))
    return [terminal, file]
