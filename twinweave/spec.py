"""The run specification: what every party accepts, by hash, before anything else happens.

Public. Everything a party needs to know of a run is in it, so a party computes its own costs
and its own tables from it and never from what the server says later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

from twinweave.errors import BudgetError, ConfigError, ProtocolError
from twinweave.generators.conf import NamedGenerator
from twinweave.names import MOST_CHARACTERS
from twinweave.parsing import Parsed, canonical_json, check_positive, load_json, parse
from twinweave.privacy import accountant
from twinweave.privacy.accountant import LEAST_DELTA
from twinweave.privacy.events import MOST_NOISE, DiscreteGaussian, Event, Stage
from twinweave.privacy.guard import MOST_DELTA, MOST_EPSILON, Limit
from twinweave.tables.schema import JointSchema
from twinweave.workload.audit import AuditPlan
from twinweave.workload.overlap import OverlapCheck
from twinweave.workload.plan import PlannedQuery, TablePlan

VERSION = 9

RESERVE_UNITS = 1024
"""Sensitivity of the release that stands for tables chosen later: in many units it is as good as
continuous."""

CrossTables = Literal["secret_sharing", "homomorphic"]
"""The product that a run computes: from dealt randomness, or under encryption (BFV)."""

SecureSum = Literal["masking", "secret_sharing", "homomorphic"]
"""How updates are added up."""


@dataclass(frozen=True, kw_only=True)
class TrainingSpec(Parsed):
    """The federated training of a run. colluding: parties that may pool what they know.

    unsafe: without noise: what it releases has no guarantee, and is held to no epsilon.
    """

    generator: NamedGenerator
    colluding: int
    secure_sum: SecureSum = "masking"
    unsafe: bool = False

    def __post_init__(self) -> None:
        self.generator.check_unsafe(self.unsafe)


@dataclass(frozen=True, kw_only=True)
class SecondPlan(Parsed):
    """The tables chosen in view of a first pass, as they travel."""

    plan: tuple[PlannedQuery, ...]


@dataclass(frozen=True, kw_only=True)
class RunSpec(Parsed):
    """One run. run: unique id; plan: every table, its noise, in the order it is measured.

    reserved: a second plan, made in view of the plan's tables, follows (features were selected
        by them, or clips of sums), and its tables show together no more than one Gaussian of this
        noise multiplier, whatever they are. None: one plan of tables.
    cross_tables: the protocol of the products between parties.
    overlap: noise of the counts by which a run stops that matches hardly anyone; None for a
        second plan, which comes after them.
    audit: of the synthetic tables, and who is set aside for it; None for a run without.
    """

    version: int
    run: str
    schema: JointSchema
    plan: tuple[PlannedQuery, ...]
    epsilon: float
    delta: float
    alignment: Literal["ristretto", "prf"]
    training: TrainingSpec | None = None
    reserved: float | None = None
    cross_tables: CrossTables = "secret_sharing"
    overlap: OverlapCheck | None = None
    audit: AuditPlan | None = None

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ProtocolError(
                f"run specification of version {self.version}; this party speaks {VERSION}. "
                "Install the same release at every party."
            )
        if not (0 < len(self.run) <= MOST_CHARACTERS and self.run.isprintable()):
            raise ProtocolError(
                f"a run's id is a text of up to {MOST_CHARACTERS} characters that print. Refused."
            )
        if not (0 < self.epsilon < MOST_EPSILON and LEAST_DELTA <= self.delta < MOST_DELTA):
            raise ProtocolError(
                f"a run's epsilon is in (0, {MOST_EPSILON:g}) and its delta in "
                f"[{LEAST_DELTA:g}, {MOST_DELTA:g}). Refused."
            )
        if self.reserved is not None:
            check_positive("run specification", self, "reserved", most=MOST_NOISE)
        if self.cross_tables == "homomorphic" and any(p.coins for p in self.plan):
            raise ProtocolError(
                "coins need a dealer, and homomorphic tables have none. Use Gaussian noise."
            )
        if self.cross_tables == "homomorphic" and any(
            p.query.is_cross and p.query.is_pooled for p in self.plan
        ):
            raise ConfigError(
                "protocol.cross_tables",
                "homomorphic tables have no sum over a pool",
                "Choose secret_sharing, or take data.pools out.",
            )

    @classmethod
    def loads(cls, text: str) -> RunSpec:
        """Parse what travelled. Raises ConfigError, SchemaError or ProtocolError."""
        return _loaded(text)

    def dumps(self) -> str:
        return canonical_json(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hex."""
        return hashlib.sha256(self.dumps().encode()).hexdigest()

    @cached_property
    def tables(self) -> TablePlan:
        """The plan, and who takes part in which of its tables."""
        counting = self.overlap.events(self.schema) if self.overlap else ()
        return TablePlan(schema=self.schema, tables=self.plan, counting=counting)

    @property
    def parties(self) -> tuple[str, ...]:
        return self.schema.parties

    @property
    def two_passes(self) -> bool:
        """Whether a second plan of tables follows."""
        return self.reserved is not None

    @property
    def reserve(self) -> DiscreteGaussian | None:
        """The release that bounds the second plan's tables."""
        if self.reserved is None:
            return None
        return DiscreteGaussian(noise_multiplier=self.reserved, sensitivity=RESERVE_UNITS)

    @property
    def later(self) -> tuple[Event, ...]:
        """What stands for the second plan's tables before they are chosen: one event, or none."""
        if self.reserve is None:
            return ()
        return (
            Event(
                label="tables chosen later",
                stage=Stage.MEASUREMENT,
                parties=self.parties,
                mechanism=self.reserve,
            ),
        )

    @property
    def holdout(self) -> float:
        """Part of the users that every party sets aside."""
        return self.audit.holdout if self.audit else 0.0

    def evaluation(self, *parties: str) -> tuple[Event, ...]:
        """What the audit releases at these parties, or at every one."""
        if self.audit is None:
            return ()
        return tuple(e for p in parties or self.parties for e in self.audit.events(p))

    @property
    def trained(self) -> TrainingSpec:
        """The run's training. Raises ProtocolError where it has none."""
        if self.training is None:
            raise ProtocolError("the run specification has no training. Start a new run.")
        return self.training

    @property
    def unsafe(self) -> bool:
        """Whether it trains without noise."""
        return self.training is not None and self.training.unsafe

    @property
    def limit(self) -> Limit:
        """What the run may cost."""
        return Limit(epsilon=self.epsilon, delta=self.delta, unsafe=self.unsafe)

    @property
    def pools(self) -> tuple[tuple[str, ...], ...]:
        return tuple(unit for unit in self.schema.units if len(unit) > 1)

    def second(self, plan: str) -> RunSpec:
        """The run with its second plan (JSON) in the place of the first.

        Raises ProtocolError when this run has no second plan.
        """
        if not self.two_passes:
            raise ProtocolError("this run has one plan of tables. Start a new run for others.")
        data = load_json(plan, "the second plan")
        return replace(self, plan=parse(SecondPlan, data, where="second plan").plan, overlap=None)

    def within_reserve(self, second: TablePlan) -> None:
        """Raise BudgetError unless the second plan's tables show no more than was reserved.

        They were chosen in view of the first's, so that what they cost was to be fixed before.
        """
        noise = [planned.noise.mechanism for planned in second.tables]
        if self.reserve is not None and not accountant.dominated(noise, self.reserve):
            raise BudgetError(
                "the tables chosen after the first pass show more than was reserved for them. "
                "Nothing was released for them."
            )

    def within_budget(self, events: Sequence[Event]) -> None:
        """Raise BudgetError unless the events compose to the run's own epsilon or less, but for
        the training of an unsafe run."""
        if accountant.epsilon(self.limit.bounded(events), self.delta) > self.epsilon * (1 + 1e-6):
            raise BudgetError(
                "the plan exceeds the run's own epsilon. Nothing was released for it."
            )


@lru_cache(maxsize=4)
def _loaded(text: str) -> RunSpec:
    """A process that handles several messages of a run reads its specification once: hundreds of
    tables, whose digest is asked for with every message."""
    return parse(RunSpec, load_json(text, "the run specification"), where="run specification")
