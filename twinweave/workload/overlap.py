"""Noisy counts of users in common: a run that hardly matches anyone stops before it measures.

Ids that are spelled in two ways match nobody; what is measured then is noise, at full price. So
every party adds noise of its own to the exact counts that the server has from the match anyway,
and the run goes on or stops by the sum alone. One bit follows from it, and the counts are paid
for like any other release.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinweave.parsing import Parsed, check_positive
from twinweave.privacy.events import MOST_NOISE, DiscreteGaussian, Event, Stage
from twinweave.tables.schema import JointSchema

SHARE = 0.01
"""Of a run's budget, in 1 / sigma**2: noise on the tables is half a per cent more for it."""

CLEARLY = 3.0
"""Standard deviations of noise below which a count is none: 0 passes with a chance of .0013."""

USABLE, SELDOM = 0.1, 4.0
"""A run in which this part of the smaller side matches is stopped with a chance below 4e-5."""


@dataclass(frozen=True, kw_only=True)
class OverlapCheck(Parsed):
    """noise_multiplier: of each party's discrete Gaussian on each count.

    One party's noise alone is charged for: a party knows its own.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        check_positive("overlap", self, "noise_multiplier", most=MOST_NOISE)

    def events(self, schema: JointSchema) -> tuple[Event, ...]:
        """One a count: one user changes each by 1 at most."""
        return tuple(
            Event(
                label=f"users of {unit[0]} whom others hold too",
                stage=Stage.PREPROCESSING,
                parties=schema.parties,
                mechanism=DiscreteGaussian(noise_multiplier=self.noise_multiplier),
            )
            for unit in counted(schema)
        )


def counted(schema: JointSchema) -> tuple[tuple[str, ...], ...]:
    """Units whose users in common with others are counted; of two, their one overlap."""
    units = schema.units
    return {1: (), 2: units[:1]}.get(len(units), units)


def least(sd: float, smaller: int) -> float:
    """Noisy count at or below which a run stops.

    sd: of the noise in all. smaller: rows of the unit, or of all others where these are fewer.
    Small tables pass whatever they share: the noise would stop those that share enough.
    """
    return min(CLEARLY * sd, USABLE * smaller - SELDOM * sd)
