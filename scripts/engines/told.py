"""What a user is told of a run: our own lines. What libraries say goes into a file beside them."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from server.lifecycle import OURS
from twinweave.errors import BY_NAME, AppError
from twinweave.folder import STATUS

ASIDE = "engine.log"
"""In the folder of a run, for its owner alone: a library may quote a table of a simulation."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = " \r\n│╭╮╰╯─"
_RAISED = re.compile(r"twinweave\.errors\.(\w+): (.*)")
_STARTED = re.compile(r"started run (\d+)")
_LAST = 12


class Told:
    """The lines of a run through Flower, sorted into ours and others.

    last: of the others, without their colours. number: of the run, as Flower counts, once it
    started. error: that the server raised, where it is one of ours.
    """

    def __init__(self, aside: IO[bytes]) -> None:
        self._aside = aside
        self.last: deque[str] = deque(maxlen=_LAST)
        self.number: str | None = None
        self.error: AppError | None = None

    def ours(self, lines: Iterable[str]) -> Iterator[str]:
        """Our own lines, without their ends and the mark that says so."""
        for line in lines:
            if line.startswith(OURS):
                yield line.removeprefix(OURS).rstrip("\n")
                continue
            self._aside.write(line.encode())
            plain = _COLOUR.sub("", line).strip(_FRAME)
            if plain:
                self.last.append(plain)
            if self.number is None and (started := _STARTED.search(plain)):
                self.number = started[1]
            if found := _RAISED.match(plain):
                self.error = BY_NAME.get(found[1], AppError).restore(found[2])


@contextmanager
def aside(out: Path) -> Iterator[IO[bytes]]:
    """A file for what is not ours; at the end it is added to that of the run, where there is a
    run: before it began, its folder must be empty."""
    with tempfile.NamedTemporaryFile() as file:
        try:
            yield file
        finally:
            file.flush()
            with suppress(OSError):
                if (out / STATUS).exists() and Path(file.name).stat().st_size:
                    _add(Path(file.name), out / ASIDE)


@contextmanager
def quiet(out: Path) -> Iterator[IO[str]]:
    """This process's output and errors go aside, whoever writes them: yields the way to the
    terminal that is left."""
    sys.stdout.flush()
    sys.stderr.flush()
    held = os.dup(1), os.dup(2)
    try:
        with aside(out) as file, os.fdopen(os.dup(held[0]), "w") as terminal:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            try:
                yield terminal
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os.dup2(held[0], 1)
                os.dup2(held[1], 2)
    finally:
        for descriptor in held:
            os.close(descriptor)


def _add(file: Path, whole: Path) -> None:
    descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with file.open("rb") as source, os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(source, target)
