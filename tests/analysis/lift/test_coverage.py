"""95 % intervals hold the truth 95 % of the time, and the test notices when they do not.

Planned as runs are; `scripts/studies/coverage.py` does the same at length. Accepted: a number of
hits that a true coverage between 93 and 97.5 % makes at least 1e-6 likely in each tail, so a right
build fails below 1e-6 a cell, 1e-5 in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.lift.experiments import SCENARIOS, Cell, World, hits, study
from tests.statistics import p_between, plausible
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.results import ConversionLift, ValueLift

REPLICATES = 200
LEVEL = 1e-6
BY_NAME = {s.name: s for s in SCENARIOS}


def missed(cells: Sequence[Cell], most: float = 0.975) -> list[str]:
    """Cells whose hits no coverage that is accepted explains."""
    return [c.name for c in cells if not plausible(p_between(c.hits, c.n, 0.93, most), LEVEL)]


def test_intervals_cover_the_truth_over_all_users_and_at_every_level() -> None:
    world = World.of(replace(BY_NAME["campaign"], users=10_000), 1.0)
    covered, _ = study(world, REPLICATES, np.random.default_rng(17))
    assert {c.name for c in covered} >= {
        "bought against control",
        "bought by region",
        "bought by channel",
        "spend against control",
        "spend by region",
        "spend by channel",
    }
    assert missed(covered) == []


def test_several_arms_without_an_effect_seldom_have_a_verdict() -> None:
    scenario = replace(BY_NAME["no effect"], users=6000, spend=False)
    covered, wrong = study(World.of(scenario, 1.0), REPLICATES, np.random.default_rng(19))
    assert missed(covered) == []
    for cell in wrong:  # 5 % or less: Bonferroni over outcomes is not exact
        assert plausible(p_between(cell.hits, cell.n, 0.02, 0.055), LEVEL), cell.name


@pytest.mark.parametrize("claimed", [1e-6, 25.0], ids=["noise ignored", "noise five times"])
def test_a_wrong_noise_variance_is_caught(claimed: float) -> None:
    scenario = replace(BY_NAME["small"], broken_down=False)
    world, rng, held = World.of(scenario, 0.3), np.random.default_rng(23), []
    for _ in range(2 * REPLICATES):
        tables = [replace(m, variance=m.variance * claimed) for m in world.measured(rng)]
        held.append(dict(hits(world, analyse(world.schema, tables, world.conf))))
    name = "bought against control"
    assert missed([Cell(name=name, hits=sum(h[name] for h in held), n=len(held))], 0.965) == [name]


def test_the_noise_of_a_mailing_is_as_small_as_is_said() -> None:
    """Of 64,000 users at epsilon 1, over sampling error: visits .15, purchases .5, amounts 1.5."""
    report = World.of(BY_NAME["mailing"], 1.0).report(np.random.default_rng(1))
    every: list[ConversionLift | ValueLift] = [*report.conversions, *report.values]
    found = [one.overall for one in every if one.against == "control"]
    ratios = [c.noise_ratio for c in found if c is not None]
    assert max(ratios[:2]) < 0.15
    assert max(ratios[2:4]) < 0.5
    assert max(ratios[4:]) < 1.5
