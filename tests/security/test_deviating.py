"""One alteration at one place of an honest run: what left a party is covered all the same.

Some of many thousand cases in every run of the suite, drawn under a stated seed; a few thousand
with `make nightly`. `covered.faults` is the one assertion.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.security import worlds
from tests.security.cases import of_a_party, of_a_server, play

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


@pytest.mark.attack("any")
@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(worlds.WORLDS))
def test_many_alterations(name: str, tmp_path: Path) -> None:
    assert not drawn(name, tmp_path, 300)
