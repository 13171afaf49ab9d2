"""A party's own record of a run: what it answered, and the state it is in. On its own disk.

Flower keeps a context for each node, but a server that replays messages can take that back, so
nothing that must not be rolled back is kept there. Every answer is a folder, written aside and
then renamed, and brought to the disk before it leaves: a crash leaves it whole or not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twinweave import durable
from twinweave.errors import BY_NAME, AppError, ProtocolError
from twinweave.protocols import wire
from twinweave.protocols.alignment.party import Aligned
from twinweave.protocols.channel.messages import ErrorReply
from twinweave.protocols.party import Finished, Introduced, Joined, Released
from twinweave.protocols.products.state import Agreed, Shared
from twinweave.protocols.training.party import Trained
from twinweave.site import PARTY_LOG, Site

KEPT = 24 * 3600.0
"""Seconds after the last answer of a run for which a party still repeats its answers."""

STATES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (Joined, Introduced, Aligned, Shared, Agreed, Trained, Released, Finished)
}
_COUNTERS = ("step", "hop", "round")  # of requests that a phase sends several times in a run


class Journal:
    """The record of one run at one party; `locked` while a message is answered."""

    def __init__(self, site: Site, run: str) -> None:
        self.folder = folder_of(site, run)

    @property
    def begun(self) -> bool:
        """Whether the run was ever set up here: only then is there anything to answer from."""
        return self.folder.exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One message of the run at a time, whatever processes play this party."""
        _private_folder(self.folder)
        with open(self.folder / "lock", "w", opener=_private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def claim(self, phase: str, request: Any) -> str:
        """Note that this request, and no other, is considered under its name.

        Returns a mark, drawn when it first came, that what is charged for it is bound to: a
        record that was set back to before it came draws another, and so cannot use the charge.

        Raises ProtocolError for another one, whether the first was answered or refused: two
        answers could release the same data under fresh noise, and refusals of many requests
        could tell what one answer does not.
        """
        claim, asked = self.folder / f"claim-{_name(phase, request)}", _digest(request)
        if not claim.exists():
            durable.write_whole(claim, f"{asked} {secrets.token_hex(16)}".encode())
        earlier, _, mark = claim.read_text().partition(" ")
        if earlier != asked:
            raise ProtocolError("another request came under this run and phase before. Refused.")
        return mark

    def state(self) -> Any:
        """The party's state in the run, None before its first answer."""
        files = sorted(self.folder.glob("[0-9]*/state"))
        if not files:
            return None
        name, _, data = files[-1].read_bytes().partition(b"\n")
        return wire.from_bytes(STATES[name.decode()], data)

    def answered(self, phase: str, request: Any, reply: type[Any]) -> Any:
        """The stored answer to a request that was claimed, None where there is none yet.

        Raises the stored error where the answer is one.
        """
        failed = self._failed(phase, request)
        if failed.exists():
            told = wire.from_bytes(ErrorReply, failed.read_bytes())
            raise BY_NAME[told.error].restore(told.message)
        found = next(self.folder.glob(f"[0-9]*-{_name(phase, request)}"), None)
        return None if found is None else wire.from_bytes(reply, (found / "reply").read_bytes())

    def write(self, phase: str, request: Any, reply: Any, state: Any) -> None:
        """Keep an answer and the state after it; earlier states, secrets included, go."""
        earlier = sorted(self.folder.glob("[0-9]*-*"))
        aside = self.folder / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        with durable.named(aside):
            aside.mkdir(mode=0o700)
        durable.write_new(aside / "reply", wire.to_bytes(reply))
        name = type(state).__name__.encode()
        durable.write_new(aside / "state", name + b"\n" + wire.to_bytes(state))
        durable.rename(aside, self.folder / f"{len(earlier):04d}-{_name(phase, request)}")
        for folder in earlier:
            (folder / "state").unlink(missing_ok=True)

    def fail(self, phase: str, request: Any, error: AppError) -> None:
        """Keep the error as the answer to a request that the guard was charged for.

        What was drawn may have led to it: a second draw, for the same charge, must not follow.
        """
        told = ErrorReply(error=type(error).__name__, message=str(error))
        durable.write_whole(self._failed(phase, request), wire.to_bytes(told))

    def _failed(self, phase: str, request: Any) -> Path:
        return self.folder / f"error-{_name(phase, request)}"


class OwnLog(logging.Handler):
    """What the library logs about a party's table goes into that party's own log."""

    def __init__(self, site: Site) -> None:
        super().__init__(logging.INFO)
        self._site = site

    def emit(self, record: logging.LogRecord) -> None:
        loud = "WARNING " if record.levelno >= logging.WARNING else ""
        note(self._site, loud + record.getMessage())


def note(site: Site, text: str) -> None:
    """Append to the party's own log, which nobody else reads: it may quote cells."""
    path = Path(site.work) / PARTY_LOG
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path, "a", encoding="utf-8", opener=_private) as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def folder_of(site: Site, run: str) -> Path:
    """The folder of a run's record. Names come from outside, so hashes stand for them."""
    party, name = (hashlib.sha256(text.encode()).hexdigest()[:24] for text in (site.party, run))
    return Path(site.work) / "runs" / party / name


def forget(site: Site, run: str) -> None:
    """Delete the records, and with them the secrets, of runs silent for longer than KEPT.

    Not of `run`, the one that begins. A repeat that comes later still gets no second release:
    the guard remembers what it was charged for.
    """
    current = folder_of(site, run)
    for folder in current.parent.glob("*"):
        with suppress(FileNotFoundError):  # another run that begins forgets as well
            if folder != current and _last_answer(folder) < time.time() - KEPT:
                shutil.rmtree(folder, ignore_errors=True)


def _last_answer(folder: Path) -> float:
    """When a run was last answered; a refused request does not keep its secrets alive."""
    answers = [path.stat().st_mtime for path in folder.glob("[0-9]*-*")]
    return max(answers, default=folder.stat().st_mtime)


def _private_folder(path: Path) -> None:
    """Make a folder, and those on the way to it, that only their owner can enter."""
    for part in reversed((path, *path.parents)):
        part.mkdir(exist_ok=True, mode=0o700)


def _name(phase: str, request: Any) -> str:
    counters = [str(getattr(request, name)) for name in _COUNTERS if hasattr(request, name)]
    return "-".join((phase, *counters))


def _digest(request: Any) -> str:
    return hashlib.sha256(wire.to_bytes(request)).hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
