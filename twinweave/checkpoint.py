"""What a run needs to go on after a crash, on the server's disk until the run is finished.

`resume/` in the run's folder, for its owner alone. From the server's secret follows all that it
deals, so a run that is taken up again sends the requests that it sent before, and parties repeat
the answers that they gave. Later, what was measured is in the run's own files, and here is what
the training needs beside.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twinweave import durable
from twinweave.errors import SourceError
from twinweave.parsing import canonical_json
from twinweave.protocols import wire
from twinweave.protocols.channel.server import Roster
from twinweave.protocols.training.plan import TrainingPlan
from twinweave.spec import RunSpec

FOLDER = "resume"


@dataclass(frozen=True, kw_only=True)
class Begun:
    """Before the first message. spec: JSON, with the run's first plan. secret: 32 bytes."""

    spec: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Paid:
    """Once everything is measured, and written. spec: JSON, with the tables that were measured.

    rows, hellos, guards: see Roster. dealt: party -> what it dealt for the secure sums, by
    receiver, as one message. training: the TrainingPlan, JSON, or "".
    """

    spec: str
    rows: dict[str, int]
    hellos: dict[str, str] = field(repr=False)
    guards: dict[str, str]
    dealt: dict[str, bytes] = field(repr=False)
    training: str

    @classmethod
    def of(
        cls,
        spec: RunSpec,
        members: Roster,
        dealt: Mapping[str, Mapping[str, bytes]],
        training: TrainingPlan | None,
    ) -> Paid:
        packed = {party: wire.to_bytes(Dealt(sealed=dict(own))) for party, own in dealt.items()}
        return cls(
            spec=spec.dumps(),
            rows=members.rows,
            hellos=members.hellos,
            guards=members.guards,
            dealt=packed,
            training=canonical_json(training) if training else "",
        )

    @property
    def roster(self) -> Roster:
        return Roster(rows=self.rows, hellos=self.hellos, guards=self.guards)

    def unpacked(self) -> dict[str, dict[str, bytes]]:
        """Sender -> receiver -> what was dealt."""
        return {party: wire.from_bytes(Dealt, data).sealed for party, data in self.dealt.items()}


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """What a party dealt. sealed: by receiver."""

    sealed: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Round:
    """Before a round. number: from 0. weights: the global ones.

    gone: parties that the training goes on without.
    """

    number: int
    gone: dict[str, bool]
    weights: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Before a round's requests leave. number: of the round, whose steps may be charged now."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Closed:
    """Before a round's sum is opened. came: who is in it; nobody else may be, ever."""

    number: int
    came: dict[str, bool]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Before the synthetic rows leave. parties: who is asked to look, and may be charged now."""

    parties: dict[str, bool]


Kept = TypeVar("Kept", Begun, Paid, Round, Asked, Closed, Shown)


class Checkpoint:
    """Messages of a run to itself, one of each kind: the last that was kept.

    folder: None keeps them in memory alone, for a run that nobody will resume.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._memory: dict[str, Any] = {}

    @classmethod
    def at(cls, run: Path) -> Checkpoint:
        """Of the run in this folder."""
        return cls(run / FOLDER)

    def keep(self, message: Kept) -> Kept:
        """Put it in the place of the last one of its kind, at once."""
        name = type(message).__name__.lower()
        self._memory[name] = message
        if self._folder is not None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            durable.write_whole(self._folder / name, wire.to_bytes(message))
        return message

    def has(self, kind: type[Kept]) -> bool:
        """Whether something of a kind was kept, be it readable or not."""
        name = kind.__name__.lower()
        return name in self._memory or (self._folder is not None and (self._folder / name).exists())

    def last(self, kind: type[Kept]) -> Kept | None:
        """What was kept of a kind. Raises SourceError: it is damaged, or of another release."""
        name = kind.__name__.lower()
        path = None if self._folder is None else self._folder / name
        if name not in self._memory and path is not None and path.exists():
            try:
                self._memory[name] = wire.from_bytes(kind, path.read_bytes())
            except Exception:  # of numpy's or zip's, as well as our own
                raise SourceError(
                    f"{path}: cannot be read. Resume the run with the release that began it; where "
                    "the file is damaged, bring it back from a copy, or start a new run."
                ) from None
        found: Kept | None = self._memory.get(name)
        return found

    def clear(self) -> None:
        """The run is over: its secret goes."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
