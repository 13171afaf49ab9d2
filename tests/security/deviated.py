"""A run in which one request is another than the honest one, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flwr.app import RecordDict

from strategies import records
from tests.security.cases import conducted
from tests.security.covered import Releases
from tests.security.grid import Alteration, Delivery, Deviating, Place, instead
from tests.security.worlds import World


@dataclass
class Deviated:
    """end: see `cases.conducted`. faults: of what left the parties, beside their books."""

    end: str
    faults: list[str]
    log: list[Delivery] = field(repr=False)

    @property
    def errors(self) -> list[str]:
        """Classes of the errors that parties answered with."""
        return [d.error[0] for d in self.log if d.error is not None]


def deviated(world: World, phase: str, nth: int, change: Callable[[Any], Any]) -> Deviated:
    """The first party gets the changed request before the honest one (`grid.instead`).

    nth: of the phase's batches, from 0.
    """

    def altered(request: Any) -> RecordDict:
        return records.pack(change(request))

    place = Place(phase, nth, world.parties[0])
    alteration = Alteration("other", place, instead(altered, place.party))
    log: list[Delivery] = []
    with world.sites() as sites:
        grid = Deviating(world, sites, alteration, log=log)
        end = conducted(world, grid, world.spec())
        assert grid.applied
        return Deviated(end, list(Releases(world, sites, log).faults()), log)
