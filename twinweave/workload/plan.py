"""The tables that a run measures, each with its noise, and who takes part in which."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

from twinweave.errors import ProtocolError
from twinweave.parsing import Parsed
from twinweave.privacy.events import Event, Stage
from twinweave.privacy.noise import DEALT_COINS, OWN_COINS, DealtCoins, Noise, OwnCoins, OwnGaussian
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload.queries import Query, cells_of, check

MOST_CELLS = 1 << 24
"""Of all tables of a plan together: what a party takes on."""


@dataclass(frozen=True, kw_only=True)
class PlannedQuery(Parsed):
    """A table and the noise it gets. Raises ProtocolError where they do not fit."""

    query: Query
    stage: Stage
    noise: Noise

    def __post_init__(self) -> None:
        if not _fits(self.noise, self.query):
            raise ProtocolError(
                f"table {self.query.name!r}: its noise does not bound what one user changes. "
                "Coins are for tables across two parties, and for counts of a pool, drawn by its "
                "members, fewer than all of them unknown. A sum's sensitivity is VALUE_UNITS."
            )

    @property
    def coins(self) -> int | None:
        """Coins that the server deals to two parties, a cell; None for any other noise."""
        return self.noise.dealt

    @property
    def variance(self) -> float:
        """Of the noise in a cell of the opened table: known, public."""
        return self.noise.variance(len(self.query.parties))

    @cached_property
    def event(self) -> Event:
        """What the table costs: one for all its parties."""
        return Event(
            label=self.query.name,
            stage=self.stage,
            parties=self.query.parties,
            mechanism=self.noise.mechanism,
        )


def _fits(noise: Noise, query: Query) -> bool:
    """Whether the noise bounds what one user changes in the table, at every party asked."""
    most = VALUE_UNITS if query.weight else 1
    match noise:
        case OwnGaussian():
            return noise.sensitivity == most
        case DealtCoins():
            return noise.sensitivity == most and query.is_cross and not query.is_pooled
        case OwnCoins():
            return query.is_pooled and query.weight is None and noise.unknown < len(query.parties)


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    """The tables of one pass through the protocols, in the order in which they are measured.

    counting: what the counts of users in common cost, before the first pass.
    """

    schema: JointSchema
    tables: tuple[PlannedQuery, ...]
    counting: tuple[Event, ...] = ()

    def check(self) -> None:
        """Raise ConfigError unless every table is one of the schema; ProtocolError where a party
        would measure more cells, or draw, or look through, more coins than it takes on."""
        cells = dealt = 0
        for planned in self.tables:
            check(self.schema, planned.query)
            noise, found = planned.noise, cells_of(self.schema, planned.query)
            cells += found.size
            dealt += noise.words(found.n_opened) if isinstance(noise, DealtCoins) else 0
            if isinstance(noise, OwnCoins) and noise.each * found.size > OWN_COINS:
                raise ProtocolError(
                    f"table {planned.query.name!r} takes more coins than a party draws. "
                    "Use Gaussian noise."
                )
        if cells > MOST_CELLS:
            raise ProtocolError(
                f"the tables have more than {MOST_CELLS:,} cells together, more than a party "
                "measures in one run. Ask for fewer or coarser ones."
            )
        if dealt > DEALT_COINS:
            raise ProtocolError(
                f"the tables take {dealt} dealt coins, more than {DEALT_COINS}. "
                "Lower protocol.coin_limit."
            )

    def events(self, party: str | None = None) -> list[Event]:
        """What the pass costs; that in which the party takes part, where one is named."""
        events = (*self.counting, *(p.event for p in self.tables))
        return [e for e in events if party is None or party in e.parties]

    def local(self, party: str) -> dict[int, PlannedQuery]:
        """The party's own tables by index in the plan."""
        return {i: p for i, p in enumerate(self.tables) if p.query.parties == (party,)}

    def pooled(self, party: str) -> dict[int, PlannedQuery]:
        """Tables of the party's pool alone, sums of the members', by index in the plan."""
        return {
            i: p
            for i, p in enumerate(self.tables)
            if p.query.is_pooled and not p.query.is_cross and party in p.query.parties
        }

    def crossing(self, first: str, second: str) -> dict[int, PlannedQuery]:
        """Tables between two parties, pooled ones included, by index in the plan."""
        return {i: p for i, p in enumerate(self.tables) if p.query.crosses(first, second)}

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Pairs of parties with a table between them, in run order."""
        asked = {
            frozenset(pair)
            for p in self.tables
            if p.query.is_cross
            for pair in product(*(side.members for side in p.query.sides))
        }
        return tuple(p for p in combinations(self.schema.parties, 2) if frozenset(p) in asked)

    def peers(self, party: str) -> tuple[str, ...]:
        """Parties with which this one computes a product, in run order."""
        return tuple(a if b == party else b for a, b in self.pairs() if party in (a, b))
