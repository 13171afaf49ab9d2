"""The run specification: what every party accepts, by hash, before anything else happens.

Public. Everything a party needs to know of a run is in it, so a party computes its own costs
and its own tables from it and never from what the server says later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import ceil
from typing import Literal

from twinweave.errors import BudgetError, ConfigError, ProtocolError
from twinweave.generators.conf import GeneratorConf
from twinweave.parsing import STRICT, canonical_json, load_json, parse
from twinweave.privacy.events import DiscreteGaussian, Event, SharedBinomial, Stage
from twinweave.privacy.mechanisms import noise_scale, noise_variance
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload.queries import Query

VERSION = 2

CrossTables = Literal["secret_sharing", "homomorphic"]
"""The product that a run computes: from dealt randomness, or under encryption (BFV)."""

SecureSum = Literal["masking", "secret_sharing", "homomorphic"]
"""How updates are added up."""


@dataclass(frozen=True, kw_only=True)
class PlannedQuery:
    """A table and the noise it gets.

    unknown: of a pooled table, to which every party that is asked adds noise of its own, the
        parties whose noise a reader cannot know: all but those that collude, and the reader.
        0 for every other table.
    """

    __pydantic_config__ = STRICT

    query: Query
    stage: Stage
    mechanism: DiscreteGaussian | SharedBinomial
    unknown: int = 0

    def __post_init__(self) -> None:
        if self.query.is_pooled != (0 < self.unknown < len(self.query.parties)):
            raise ProtocolError(
                f"table {self.query.name!r}: a pooled table, and no other, counts on the noise of "
                "some of its parties, fewer than all. Start a new run."
            )
        if isinstance(self.mechanism, SharedBinomial):
            several = self.query.is_cross or self.query.is_pooled
            fits = several and self.query.weight is None
        else:
            fits = self.mechanism.sensitivity == (VALUE_UNITS if self.query.weight else 1)
        if not fits:
            raise ProtocolError(
                f"table {self.query.name!r}: its mechanism does not bound what one user changes. "
                "Coins are for counts across parties; a sum's sensitivity is VALUE_UNITS."
            )

    @property
    def scale(self) -> float:
        """Standard deviation of one party's own noise, for a discrete Gaussian."""
        assert isinstance(self.mechanism, DiscreteGaussian)
        return noise_scale(self.mechanism)

    @property
    def coins(self) -> int | None:
        """Coins that the server deals to two parties, a cell; None for any other noise."""
        return None if self.query.is_pooled else self._tossed

    @property
    def own_coins(self) -> int | None:
        """Coins that each party of a pooled table tosses by itself, a cell: an even number, so
        that half of them, its mean, is whole. Binomials with one half add up to a binomial:
        those of `unknown` parties alone are the mechanism's coins or more."""
        if self._tossed is None or not self.query.is_pooled:
            return None
        return 2 * ceil(self._tossed / (2 * self.unknown))

    @property
    def _tossed(self) -> int | None:
        return self.mechanism.coins if isinstance(self.mechanism, SharedBinomial) else None

    @property
    def variance(self) -> float:
        """Of the noise in a cell: known, public. Several parties add a Gaussian each, at full
        scale: two make 2 s^2; or coins of their own."""
        if self.coins is not None:
            return noise_variance(self.mechanism)
        each = self.own_coins / 4 if self.own_coins else noise_variance(self.mechanism)
        return each * len(self.query.parties)

    @property
    def event(self) -> Event:
        return Event(
            label=self.query.name,
            stage=self.stage,
            parties=self.query.parties,
            mechanism=self.mechanism,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """The federated training of a run. colluding: parties that may pool what they know."""

    __pydantic_config__ = STRICT

    generator: GeneratorConf
    colluding: int
    secure_sum: SecureSum = "masking"


@dataclass(frozen=True, kw_only=True)
class SecondPlan:
    """The tables chosen after a selection, as they travel."""

    __pydantic_config__ = STRICT

    plan: tuple[PlannedQuery, ...]


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run. run: unique id; plan: every table, its noise, in the order it is measured.

    selects: the plan's tables only select features; a second plan, made from them, follows.
    cross_tables: the protocol of the products between parties.
    """

    __pydantic_config__ = STRICT

    version: int
    run: str
    schema: JointSchema
    plan: tuple[PlannedQuery, ...]
    epsilon: float
    delta: float
    alignment: Literal["ristretto", "prf"]
    training: TrainingSpec | None = None
    selects: bool = False
    cross_tables: CrossTables = "secret_sharing"

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ProtocolError(
                f"run specification of version {self.version}; this party speaks {VERSION}. "
                "Install the same release at every party."
            )
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
        return parse(cls, load_json(text, "the run specification"), where="run specification")

    def dumps(self) -> str:
        return canonical_json(self)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hex."""
        return hashlib.sha256(self.dumps().encode()).hexdigest()

    @property
    def parties(self) -> tuple[str, ...]:
        return self.schema.parties

    @property
    def trained(self) -> TrainingSpec:
        """The run's training. Raises ProtocolError where it has none."""
        if self.training is None:
            raise ProtocolError("the run specification has no training. Start a new run.")
        return self.training

    @property
    def pools(self) -> tuple[tuple[str, ...], ...]:
        return tuple(unit for unit in self.schema.units if len(unit) > 1)

    def second(self, plan: str) -> RunSpec:
        """The run with its second plan (JSON) in the place of the first.

        Raises ProtocolError when this run has no second plan.
        """
        if not self.selects:
            raise ProtocolError("this run has one plan of tables. Start a new run for others.")
        data = load_json(plan, "the second plan")
        return replace(self, plan=parse(SecondPlan, data, where="second plan").plan)

    def local(self, party: str) -> dict[int, PlannedQuery]:
        """The party's own tables by index in the plan."""
        return {i: p for i, p in enumerate(self.plan) if p.query.parties == (party,)}

    def crossing(self, first: str, second: str) -> dict[int, PlannedQuery]:
        """Tables between two parties, pooled ones included, by index in the plan."""
        return {i: p for i, p in enumerate(self.plan) if p.query.crosses(first, second)}

    def pooled(self, party: str) -> dict[int, PlannedQuery]:
        """Tables of the party's pool alone, sums of the members', by index in the plan."""
        return {
            i: p
            for i, p in enumerate(self.plan)
            if p.query.is_pooled and not p.query.is_cross and party in p.query.parties
        }

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Pairs of parties with a table between them, in run order."""
        asked = {
            frozenset(pair)
            for p in self.plan
            if p.query.is_cross
            for pair in product(*(side.members for side in p.query.sides))
        }
        return tuple(p for p in combinations(self.parties, 2) if frozenset(p) in asked)

    def peers(self, party: str) -> tuple[str, ...]:
        """Parties with which this one computes a product, in run order."""
        return tuple(a if b == party else b for a, b in self.pairs() if party in (a, b))

    def within_budget(self, events: Sequence[Event]) -> None:
        """Raise BudgetError unless the events compose to the run's own epsilon or less."""
        from twinweave.privacy import accountant

        if accountant.epsilon(events, self.delta) > self.epsilon * (1 + 1e-6):
            raise BudgetError(
                "the plan exceeds the run's own epsilon. Nothing was released for it."
            )
