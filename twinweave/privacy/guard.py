"""A party's own book of what it released: refuses what would exceed a limit, whatever is asked.

One SQLite file at the party (book.py). Every run is held to the epsilon that the party accepted
for it. Where the guard is on, all runs together are held to the party's lasting limit, by
dataset: a name that the party itself states, so that a table may grow, lose rows or be cleaned
by other rules, and reruns and sweeps still add up over the life of the file. The fingerprint of
the ids only warns. A spend is committed before anything is released, so a crash in between costs
budget, never privacy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from twinweave.errors import BudgetError, ConfigError, ProtocolError
from twinweave.parsing import Parsed, check_positive
from twinweave.privacy import accountant
from twinweave.privacy.book import Book, Spend, events_of, grant, granted
from twinweave.privacy.events import DiscreteGaussian, Event

MOST_EPSILON, MOST_DELTA = 100.0, 1e-2
"""Of one run, exclusive: beyond them a guarantee says nothing."""

FILE = "guard.sqlite"
"""In a party's own folder."""

_SLACK = 1e-6  # of a run's epsilon, relative: its events may be composed in another order
log = logging.getLogger("twinweave.party")


@dataclass(frozen=True, kw_only=True)
class GuardConf(Parsed):
    """A party's lasting limit.

    mode: off, no lasting limit, for public data alone. A run's own limit holds either way.
    path: of the guard's file; null: in the party's own folder.
    epsilon, delta: what all runs on a dataset may cost together.
    """

    mode: Literal["on", "off"] = "on"
    path: str | None = None
    epsilon: float | None = None
    delta: float | None = None

    def __post_init__(self) -> None:
        if self.mode == "on" and (self.epsilon is None or self.delta is None):
            raise ConfigError(
                "guard",
                "needs its own epsilon and delta while it is on",
                "Give both, or say `mode: off` in as many words.",
            )

    def check_delta(self, field: str) -> None:
        """Raise ConfigError, naming `field`, where the accountant cannot resolve the delta."""
        if self.mode == "on" and self.delta is not None:
            accountant.check_delta(self.delta, field)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The most that releases may compose to.

    unsafe: leave those out that have no guarantee at all (NonPrivate): of a run that a party
    accepted as such. The others are held to it as ever.
    """

    epsilon: float
    delta: float
    unsafe: bool = False

    def __post_init__(self) -> None:
        check_positive("privacy", self, "epsilon")
        accountant.check_delta(self.delta)

    def bounded(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """Those of the events that are held to it: all, unless it is unsafe."""
        return tuple(e for e in events if e.mechanism.IS_BOUNDED or not self.unsafe)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What paid for a release: `events` were charged, so that they, and no others, may happen.

    epsilon: of all that is charged once this request was granted: on the dataset, at the
        guard's delta; where the guard is off in this run, at the run's.
    fresh: False if this very request had been granted before. Then only the stored answer may
        be sent again: drawing new noise under an old receipt would be a second release.
    guarded: False where the guard is off: only the run's own limit was kept.
    """

    run: str
    phase: str
    request_hash: str
    events: tuple[Event, ...]
    epsilon: float
    fresh: bool
    guarded: bool

    def check(self, event: Event) -> None:
        """Raise ProtocolError unless this receipt paid for that very event, and just now."""
        if event not in self.events:
            raise ProtocolError(
                f"the release {event.label!r} was not paid for in {self.phase!r}. Charge it first."
            )
        if not self.fresh:
            raise ProtocolError(
                f"{self.phase!r} was charged before, and fresh noise would be a second release. "
                "Start a new run."
            )


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The book of one party; safe for threads and processes that share the file.

    dataset: the name under which the party's releases add up. limit: of the dataset over the
    life of the file, or None where the guard is off. It is this object's: a party may raise or
    lower it, and past spends stay. setting: where the guard is configured, for errors.
    """

    path: Path
    party: str
    dataset: str
    limit: Limit | None
    setting: str = "guard"

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if not self.dataset or self.dataset.strip() != self.dataset:
            raise ConfigError(
                "dataset",
                "a name is needed, without blanks around it: releases add up under it",
                "Name the table, and keep the name while the people in it are the same.",
            )
        self.book.prepare()

    @property
    def book(self) -> Book:
        return Book(path=self.path, field=f"{self.setting}.path")

    @classmethod
    def open(
        cls,
        conf: GuardConf,
        *,
        party: str,
        dataset: str,
        folder: str | Path,
        setting: str = "guard",
    ) -> Guard:
        """The guard that a party's configuration describes. folder: the party's own."""
        limit, path = None, path_of(conf, folder)
        if conf.mode == "on":
            assert conf.epsilon is not None
            assert conf.delta is not None
            limit = Limit(epsilon=conf.epsilon, delta=conf.delta)
        return cls(path=path, party=party, dataset=dataset, limit=limit, setting=setting)

    def spend(
        self,
        *,
        fingerprint: str,
        run: str,
        phase: str,
        request_hash: str,
        events: Sequence[Event],
        run_limit: Limit,
    ) -> Receipt:
        """Record `events` durably, then permit their release, in one transaction.

        fingerprint: of the ids that are released about. run_limit: what the party accepted for
        this run. The same request again (run, phase, hash and events) returns its receipt, not
        fresh, and spends nothing. Raises ProtocolError if (run, phase) was used for another
        request, BudgetError if a limit would be exceeded; both leave the file as it was.
        """
        with self.book.transaction() as db:
            past = granted(db, party=self.party, dataset=self.dataset)
            earlier = next((s for s in past if (s.run, s.phase) == (run, phase)), None)
            if earlier is None:
                epsilon = self._admit(past, run, events, run_limit)
                charge = Spend(
                    party=self.party,
                    dataset=self.dataset,
                    fingerprint=fingerprint,
                    run=run,
                    phase=phase,
                    request_hash=request_hash,
                    events=tuple(events),
                    epsilon=epsilon,
                    limit=(self.limit.epsilon, self.limit.delta) if self.limit else None,
                )
                grant(db, charge)
            elif (earlier.request_hash, earlier.events) == (request_hash, tuple(events)):
                epsilon = earlier.epsilon
            else:
                raise ProtocolError(
                    f"phase {phase!r}: granted before for another request. Start a new run."
                )
        return Receipt(
            run=run,
            phase=phase,
            request_hash=request_hash,
            events=tuple(events),
            epsilon=epsilon,
            fresh=earlier is None,
            guarded=self.limit is not None,
        )

    def check(self, *, run: str, events: Sequence[Event], run_limit: Limit) -> None:
        """Raise BudgetError if `events` would now exceed a limit; records nothing."""
        self._admit(self._granted(), run, events, run_limit)

    def watch(self, fingerprint: str) -> None:
        """Warn, in the party's own log, where the dataset's ids are not those of last time.

        Nothing of it leaves the party: that its people changed is a fact about them.
        """
        past = self._granted()
        if past and past[-1].fingerprint != fingerprint:
            log.warning(
                "guard: the ids of dataset %r are not those of its last run. What is spent adds "
                "up under the name; give `dataset` another only for a table of other people.",
                self.dataset,
            )

    def history(self) -> tuple[Event, ...]:
        """Every event granted on the dataset, oldest first."""
        return events_of(self._granted())

    def _granted(self) -> tuple[Spend, ...]:
        with self.book.reading() as db:
            return granted(db, party=self.party, dataset=self.dataset)

    def _admit(
        self, past: Sequence[Spend], run: str, events: Sequence[Event], run_limit: Limit
    ) -> float:
        """Epsilon of everything composed; raises BudgetError above a limit."""
        accepted = replace(run_limit, epsilon=run_limit.epsilon * (1 + _SLACK))
        own = events_of([s for s in past if s.run == run])
        _within(accepted, own, events, "in this run", _RUN_REMEDY)
        if self.limit is None:
            return accountant.epsilon((*own, *events), run_limit.delta)
        if run_limit.delta > self.limit.delta:
            raise BudgetError(
                f"privacy budget: the run's delta {run_limit.delta:g} is above this party's, "
                f"{self.limit.delta:g} ({self.setting}.delta). Nothing was released. Ask for less."
            )
        where = f"on dataset {self.dataset!r}"
        before = events_of(past)
        if not all(e.mechanism.IS_BOUNDED for e in before):
            raise BudgetError(
                f"privacy budget: a run trained without noise {where} (privacy.unsafe): epsilon is "
                "infinite already, and no limit has room for another run. Nothing was released. "
                "Rows that are nobody's secret need no guard: turn it off "
                f"({self.setting}.mode=off)."
            )
        return _within(self.limit, before, events, where, f"raise {self.setting}.epsilon")


def path_of(conf: GuardConf, folder: str | Path) -> Path:
    """The guard's file; one in the party's own folder where none is named, or it is off."""
    named = conf.path if conf.mode == "on" else None
    return Path(named) if named else Path(folder) / FILE


def room(past: Sequence[Event], limit: Limit) -> float:
    """Epsilon, at the limit's delta, of the largest one release that still fits; 0 if none does.

    Of a Gaussian mechanism, to within 1% or .001 from below: what a further run may about cost.
    """
    low, high = 0.0, limit.epsilon
    while high - low > max(1e-2 * low, 1e-3):
        middle = (low + high) / 2
        mu = accountant.gaussian_mu(middle, limit.delta)
        more = DiscreteGaussian(noise_multiplier=1 / mu, sensitivity=1 << 10)
        mechanisms = [*(e.mechanism for e in past), more]
        fits = accountant.epsilon_of_mechanisms(mechanisms, limit.delta) <= limit.epsilon
        low, high = (middle, high) if fits else (low, middle)
    return low


_RUN_REMEDY = "start a run whose privacy.epsilon covers it"


def _within(
    limit: Limit, past: Sequence[Event], new: Sequence[Event], where: str, remedy: str
) -> float:
    """Epsilon of both composed; raises BudgetError above the limit."""
    past, new = limit.bounded(past), limit.bounded(new)
    total = accountant.epsilon((*past, *new), limit.delta)
    if total > limit.epsilon:
        asked = accountant.epsilon(new, limit.delta)
        spent = accountant.epsilon(past, limit.delta)
        raise BudgetError(
            f"privacy budget: epsilon {asked:.4g} was asked and {spent:.4g} is spent {where}; "
            f"together {total:.4g}, over the limit {limit.epsilon:.4g} (delta {limit.delta:g}). "
            f"Nothing was released. Ask for less, or {remedy}."
        )
    return total
