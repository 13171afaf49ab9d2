"""One alteration at one place of an honest run: what left a party is covered all the same.

Some of many thousand cases in every run of the suite, drawn under a stated seed; a few thousand
with `make nightly`. `covered.faults` is the one assertion.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.security import worlds
from tests.security.cases import FINISHED, conducted, of_a_party, of_a_server, play
from tests.security.covered import faults
from tests.security.grid import Recording
from tests.whole_run import remembered
from twinweave.privacy.events import Event
from twinweave.privacy.guard import Receipt
from twinweave.protocols.party import Party
from twinweave.protocols.products import party as products
from twinweave.protocols.products.opening import open_shares

SEED = 20_261_126
SAMPLED = ("two", "two passes", "pool", "two, masked sums")


def drawn(name: str, folder: Path, cases: int) -> list[str]:
    """What is wrong in so many cases of a world, drawn under SEED."""
    world = worlds.make(name, folder)
    every = [*of_a_server(world), *of_a_party(world)]
    chosen = random.Random(f"{SEED} {name}").sample(every, cases)
    return [f"{case}: {fault}" for case in chosen for fault in play(case) or ()]


@pytest.mark.attack("any")
@pytest.mark.parametrize("name", SAMPLED)
def test_a_sample_of_alterations(name: str, tmp_path: Path) -> None:
    assert not drawn(name, tmp_path, 10)


def without_charging(self: Party, phase: str, events: Sequence[Event]) -> Receipt:
    return Receipt(
        run=self.run,
        phase=phase,
        request_hash="",
        events=tuple(events),
        epsilon=0.0,
        fresh=True,
        guarded=True,
    )


def without_masks(*given: Any, **terms: Any) -> dict[int, Any]:
    return {i: 0 * share for i, share in open_shares(*given, **terms).items()}


BROKEN: dict[str, tuple[Any, str, Any]] = {
    "noise": (products, "release_table", lambda counts, *_: np.asarray(counts)),
    "book": (Party, "charge", without_charging),
    "uniform": (products, "open_shares", without_masks),
}


@pytest.mark.broken("any")
@pytest.mark.parametrize("finds", BROKEN)
def test_the_one_assertion_sees_a_broken_party(
    finds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an honest server: no noise; nothing charged; shares that are not uniform."""
    world = worlds.make("two", tmp_path)
    monkeypatch.setattr(*BROKEN[finds])
    with world.sites() as sites, remembered() as states:
        grid = Recording(sites)
        assert conducted(world, grid, world.spec()) == FINISHED
        found = faults(world, sites, grid.log, states)
    assert any(finds in fault for fault in found), found


@pytest.mark.attack("any")
@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(worlds.WORLDS))
def test_many_alterations(name: str, tmp_path: Path) -> None:
    assert not drawn(name, tmp_path, 300)
