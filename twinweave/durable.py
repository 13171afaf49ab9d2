"""Files that are whole or not there at all, whenever the machine stops."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinweave.errors import OutputError

PRIVATE, COMMON = 0o600, 0o666
_TORN = ".new"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_new(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Write a file and bring it to the disk. A crash on the way leaves a part of it."""
    with named(path):
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def write_whole(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Write a file, or put another in its place, at once: the old one or the new one is there."""
    aside = path.with_name(f".{path.name}{_TORN}")
    write_new(aside, data, mode)
    rename(aside, path)


def is_torn(path: Path) -> bool:
    """Whether it is what a crash left of a file that was being written."""
    return path.name.startswith(".") and path.name.endswith(_TORN)


def rename(path: Path, to: Path) -> None:
    """Put what is at `path`, a file or a folder, at `to`, and bring that to the disk."""
    with named(to):
        path.replace(to)
        _sync(to.parent)


def _sync(folder: Path) -> None:
    """Bring a folder's own list of names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Say of a full disk what could not be written to it. Raises OutputError."""
    try:
        yield
    except OSError as error:
        told = explained(error, path.name.removeprefix(".").removesuffix(_TORN))
        if told is error:
            raise
        raise told from None


def explained(error: OSError, what: str) -> OSError | OutputError:
    """The error itself, or one that says in a line that the disk is full."""
    if error.errno not in _FULL:
        return error
    return OutputError(f"the disk is full: {what} could not be written. Free some space.")
