"""What several runs spent together, and who adds it up: lines below a table of runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from math import isinf
from pathlib import Path
from typing import Any

from twinweave.errors import ConfigError
from twinweave.privacy import accountant
from twinweave.privacy.book import EVERY, Book, Spend, events_of
from twinweave.privacy.guard import FILE, Limit, room
from twinweave.report.sweep import counted
from twinweave.rundir import CONFIGURATION, SPEC

LASTING = (
    "Name a file that lasts, and their runs add up under one limit: privacy.guard.path=FILE "
    "privacy.guard.epsilon=E."
)


@dataclass(frozen=True, kw_only=True)
class _Guarded:
    """A run's folder and what its configuration says of its guard."""

    path: Path
    conf: Mapping[str, Any]

    @property
    def dataset(self) -> str:
        return str(self.conf["data"]["name"])

    @cached_property
    def guard(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.conf["privacy"]["guard"]
        return found

    @property
    def delta(self) -> float:
        return float(self.guard["delta"] or self.conf["privacy"]["delta"])

    @property
    def simulated(self) -> bool:
        return all((p["source"] or {}).get("campaign") for p in self.conf["data"]["parties"])

    @property
    def kind(self) -> tuple[str, ...]:
        """Runs of one kind are told of together."""
        if self.conf["federation"]["mode"] == "deployment":
            return "parties", self.dataset
        if self.guard["mode"] == "off":
            return "off", self.dataset
        if self.guard["path"]:
            return "lasting", self.dataset, self.guard["path"]
        return "this run", self.dataset


def spending(runs: Iterable[Path]) -> list[str]:
    """Lines that say what the runs spent in all, by dataset and guard, and what is left.

    Runs that never began have spent nothing, and are not spoken of. Each epsilon is composed anew
    by the accountant from the charges in the parties' books.
    """
    found = sorted(filter(None, map(_read, runs)), key=lambda run: run.kind)
    lines: list[str] = []
    for kind, group in groupby(found, key=lambda run: run.kind):
        lines += _TOLD[kind[0]](list(group))
    return lines


def _read(path: Path) -> _Guarded | None:
    try:
        return _Guarded(path=path, conf=json.loads((path / CONFIGURATION).read_text()))
    except (OSError, ValueError):
        return None


def _off(runs: Sequence[_Guarded]) -> Iterator[str]:
    what = "simulated data" if all(run.simulated for run in runs) else "public data"
    yield f"guard: off ({what}). Nothing adds up the {counted(len(runs))} on {runs[0].dataset!r}."


def _at_parties(runs: Sequence[_Guarded]) -> Iterator[str]:
    yield (
        f"guard: each party's own, which adds up the {counted(len(runs))} on {runs[0].dataset!r}. "
        "A party sees it by scripts.guard SITE.yaml."
    )


def _this_run(runs: Sequence[_Guarded]) -> Iterator[str]:
    """Each has a book in its own folder; what they add up to is in no book."""
    books = (book for run in runs for book in run.path.glob(f"parties/*/{FILE}"))
    spends = _by_party(spend for book in books for spend in _rows(book))
    delta = max(run.delta for run in runs)
    most = max((_epsilon(charged, delta) for charged in spends.values()), default=0.0)
    yield (
        f"warning: guard: each run's own, which forgets with it. The {counted(len(runs))} on "
        f"{runs[0].dataset!r} add up to epsilon {_shown(most)} (composed, at delta {delta:g}), and "
        f"no limit holds them. {LASTING}"
    )


def _lasting(runs: Sequence[_Guarded]) -> Iterator[str]:
    path, dataset = Path(runs[0].guard["path"]), runs[0].dataset
    limit = Limit(epsilon=max(run.guard["epsilon"] for run in runs), delta=runs[0].delta)
    spends = [s for s in _rows(path) if s.dataset in (dataset, EVERY)]
    if not spends:
        yield f"guard: {path} has no charge on {dataset!r}, or is not here."
        return
    own = _numbers(runs)
    told: dict[str, list[str]] = {}
    for party, charged in _by_party(spends).items():
        total = _epsilon(charged, limit.delta)
        here = _epsilon([s for s in charged if s.run in own], limit.delta)
        left = room(events_of(charged), limit)
        text = (
            f"spent {_shown(total)} of {limit.epsilon:g} in all, {_shown(here)} of it by the "
            f"{counted(len(runs))} here alone; "
            + (f"left: one more run of epsilon {left:.3f}" if left else "nothing is left")
        )
        told.setdefault(text, []).append(party)
    for text, parties in told.items():
        yield f"guard: {path}, {dataset!r} at {', '.join(parties)}: {text} (delta {limit.delta:g})."


_TOLD = {"off": _off, "parties": _at_parties, "this run": _this_run, "lasting": _lasting}


def _numbers(runs: Sequence[_Guarded]) -> set[str]:
    """By which the guards know the runs: those of their specifications."""
    found = set()
    for run in runs:
        try:
            found.add(json.loads((run.path / SPEC).read_text())["run"])
        except (OSError, ValueError, KeyError):
            continue
    return found


def _rows(book: Path) -> tuple[Spend, ...]:
    try:
        return Book(path=book).rows()
    except ConfigError:
        return ()


def _by_party(spends: Iterable[Spend]) -> dict[str, list[Spend]]:
    found: dict[str, list[Spend]] = {}
    for spend in spends:
        found.setdefault(spend.party, []).append(spend)
    return found


def _epsilon(spends: Sequence[Spend], delta: float) -> float:
    return accountant.epsilon(events_of(spends), delta)


def _shown(epsilon: float) -> str:
    return "∞" if isinf(epsilon) else f"{epsilon:.4g}"
