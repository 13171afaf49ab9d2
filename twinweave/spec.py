"""The run specification: what every party accepts, by hash, before anything else happens.

Public. Everything a party needs to know of a run is in it, so a party computes its own costs
and its own tables from it and never from what the server says later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal

from twinweave.errors import ProtocolError
from twinweave.generators.conf import GeneratorConf
from twinweave.generators.plan import SgdPlan
from twinweave.parsing import STRICT, canonical_json, parse
from twinweave.privacy.events import DiscreteGaussian, Event, SharedBinomial, Stage
from twinweave.privacy.mechanisms import noise_scale, noise_variance
from twinweave.protocols.cross_tables import OpenPlan, Pair, pair_of
from twinweave.protocols.secure_sum.fixed_point import FixedPoint
from twinweave.protocols.secure_sum.kinds import Kind, check_kind
from twinweave.protocols.secure_sum.plan import Plan
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.query import Query
from twinweave.tables.schema import JointSchema

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PlannedQuery:
    """A table and the noise it gets."""

    __pydantic_config__ = STRICT

    query: Query
    stage: Stage
    mechanism: DiscreteGaussian | SharedBinomial

    def __post_init__(self) -> None:
        if isinstance(self.mechanism, SharedBinomial):
            fits = self.query.is_cross and self.query.weight is None
        else:
            fits = self.mechanism.sensitivity == (VALUE_UNITS if self.query.weight else 1)
        if not fits:
            raise ProtocolError(
                f"table {self.query.name!r}: its mechanism does not bound what one user changes. "
                "Coins are for counts across two parties; a sum's sensitivity is VALUE_UNITS."
            )

    @property
    def scale(self) -> float:
        """Standard deviation of one party's own noise, for a discrete Gaussian."""
        assert isinstance(self.mechanism, DiscreteGaussian)
        return noise_scale(self.mechanism)

    @property
    def coins(self) -> int | None:
        return self.mechanism.coins if isinstance(self.mechanism, SharedBinomial) else None

    @property
    def variance(self) -> float:
        """Of the noise in a cell: known, public. Two parties add a Gaussian each (2 s^2)."""
        own = noise_variance(self.mechanism)
        return own if self.coins is not None else own * len(self.query.sides)

    @property
    def event(self) -> Event:
        return Event(
            label=self.query.name,
            stage=self.stage,
            parties=self.query.parties,
            mechanism=self.mechanism,
        )


UPDATE_BOUND = 16.0
"""Largest magnitude of one coordinate of a weighted update: far beyond what Adam can reach."""


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """The federated training of a run. colluding: parties that may pool what they know."""

    __pydantic_config__ = STRICT

    generator: GeneratorConf
    colluding: int
    secure_sum: Kind = "masking"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Every party's private steps of one round: fixed once the table sizes are known."""

    __pydantic_config__ = STRICT

    parties: dict[str, SgdPlan]

    def event(self, party: str, rounds: int) -> Event:
        """What `rounds` rounds at a party release."""
        return Event(
            label=f"training at {party}",
            stage=Stage.TRAINING,
            parties=(party,),
            mechanism=self.parties[party].mechanism(rounds),
        )


@dataclass(frozen=True, kw_only=True)
class SecondPlan:
    """The tables chosen after a selection, as they travel."""

    __pydantic_config__ = STRICT

    plan: tuple[PlannedQuery, ...]


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run. run: unique id; plan: every table, its noise, in the order it is measured.

    selects: the plan's tables only select features; a second plan, made from them, follows.
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

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ProtocolError(
                f"run specification of version {self.version}; this party speaks {VERSION}. "
                "Install the same release at every party."
            )

    @classmethod
    def loads(cls, text: str) -> RunSpec:
        """Parse what travelled. Raises ConfigError, SchemaError or ProtocolError."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError:
            raise ProtocolError("the run specification is not JSON. Start the run again.") from None
        return parse(cls, data, where="run specification")

    def dumps(self) -> str:
        return canonical_json(self)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hex."""
        return hashlib.sha256(self.dumps().encode()).hexdigest()

    @property
    def parties(self) -> tuple[str, ...]:
        return self.schema.parties

    def second(self, plan: str) -> RunSpec:
        """The run with its second plan (JSON) in the place of the first.

        Raises ProtocolError when this run has no second plan.
        """
        if not self.selects:
            raise ProtocolError("this run has one plan of tables. Start a new run for others.")
        return replace(self, plan=parse(SecondPlan, json.loads(plan)).plan)

    def local(self, party: str) -> dict[int, PlannedQuery]:
        """The party's own tables by index in the plan."""
        return {i: p for i, p in enumerate(self.plan) if p.query.parties == (party,)}

    def crossing(self, first: str, second: str) -> dict[int, PlannedQuery]:
        """Tables between two parties, by index in the plan."""
        both = {first, second}
        return {i: p for i, p in enumerate(self.plan) if set(p.query.parties) == both}

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Pairs of parties with a table between them, in run order."""
        return tuple(p for p in combinations(self.parties, 2) if self.crossing(*p))

    def peers(self, party: str) -> tuple[str, ...]:
        """Parties with which this one computes a product, in run order."""
        return tuple(a if b == party else b for a, b in self.pairs() if party in (a, b))

    def product(self, a: str, b: str, n_slots: int) -> Pair:
        """Public shape of the secure product between two parties, whatever their order."""
        first, second = sorted((a, b), key=self.parties.index)
        queries = [p.query for p in self.crossing(first, second).values()]
        return pair_of(self.schema, queries, n_slots, first=first, second=second)

    @cached_property
    def sums(self) -> Plan:
        """Terms of the secure sums of the training: one a round."""
        assert self.training is not None
        plan = Plan(
            run=self.run,
            label="training",
            parties=self.parties,
            rounds=self.training.generator.rounds,
            encoding=FixedPoint.fitting(UPDATE_BOUND, n_parties=len(self.parties), bits=32),
            colluding=self.training.colluding,
        )
        check_kind(self.training.secure_sum, plan)
        return plan

    def openings(self, a: str, b: str) -> tuple[OpenPlan, ...]:
        return tuple(OpenPlan(query=p.query, coins=p.coins) for p in self.crossing(a, b).values())


def row_weights(rows: Mapping[str, int]) -> dict[str, float]:
    """Each party's weight in an average: its rows over the mean. Sizes are public."""
    mean = sum(rows.values()) / len(rows)
    return {party: n / mean for party, n in rows.items()}
