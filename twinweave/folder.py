"""The folder of one run: made for it alone, and true about how the run stands.

The process that works on a run holds a lock on a file in its folder, and the system takes the
lock back however the process ends. So a status that says "running" while nobody holds the lock
is that of a run that died.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any

from twinweave import durable
from twinweave.errors import OutputError

STATUS, LOCK = "status.json", ".lock"
_PATIENCE = 1.0  # seconds: somebody may just be looking whether the lock is held


def make(path: Path, *, another: bool) -> Path:
    """Make the folder of a new run; one that is there must be empty.

    another: where the name is taken, take the next one that is free: `name-2`, `name-3`. Raises
    OutputError, naming `output`.
    """
    for number in count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with _naming(folder, "cannot be made"):
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                if another:
                    continue
                _check_unused(folder)
        break
    return folder


def drop_if_empty(folder: Path) -> None:
    """Remove the folder of a run that never began."""
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def held(folder: Path, *, new: bool) -> Iterator[None]:
    """Work on a run, and nobody else meanwhile. new: nobody did before.

    Raises OutputError.
    """
    with _opened(folder) as lock:
        _lock(lock, folder)
        if new:
            _check_unused(folder)
        yield


def alive(folder: Path) -> bool:
    """Whether a process works on the run."""
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def set_status(folder: Path, state: str, **more: Any) -> None:
    """Say how the run stands: running, finished, failed. With it who works on it since when."""
    told = {
        "state": state,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **more,
    }
    text = json.dumps(told, indent=2) + "\n"
    durable.write_whole(folder / STATUS, text.encode(), durable.COMMON)


def status(folder: Path) -> dict[str, Any]:
    """How the run stands; its `state` is "died" where nobody works on one that says it runs.

    So too before its first word.
    """
    told = _told(folder)
    if told["state"] == "running" and not alive(folder):
        told = _told(folder)  # it may have ended meanwhile
        return told | {"state": "died"} if told["state"] == "running" else told
    return told


def _told(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / STATUS).read_text())
    except (FileNotFoundError, ValueError):  # not written yet, or damaged
        return {"state": "running"}
    return told


@contextmanager
def _opened(folder: Path) -> Iterator[IO[str]]:
    with _naming(folder, "cannot be written"):
        lock = (folder / LOCK).open("a")
    with lock:
        yield lock


def _lock(lock: IO[str], folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OutputError(
                    f"output: a run in {str(folder)!r} is alive. Wait for its end, or stop it."
                ) from None
            time.sleep(0.05)


def _check_unused(folder: Path) -> None:
    """Raise OutputError unless nothing is in the folder but a lock, or a first file torn."""
    if any(path.name != LOCK and not durable.is_torn(path) for path in folder.iterdir()):
        raise OutputError(
            f"output: the folder {str(folder)!r} is not empty, and would mix two runs. Give "
            "another folder; or, where an unfinished run is in it, resume= it."
        )


@contextmanager
def _naming(folder: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise OutputError(
            f"output: the folder {str(folder)!r} {what} ({reason}). Give output=FOLDER with a "
            "folder that you may write."
        ) from None
