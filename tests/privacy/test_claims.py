"""The figures of docs/privacy.md about the default run, computed: the page cannot go stale."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.privacy_accountant import NeighboringRelation as NeighborRel

from twinweave.config import RunConf, compose
from twinweave.planning import plan, plan_training
from twinweave.privacy import accountant
from twinweave.privacy.events import DiscreteGaussian, Event, Mechanism, PoissonSgd
from twinweave.privacy.losses import loss_of

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "privacy.md").read_text()
README = (REPOSITORY / "README.md").read_text()
ROWS = {"publisher": 14_390, "advertiser": 12_539}
INTERVAL = 2.0**-12


@pytest.fixture(scope="module")
def default() -> tuple[RunConf, list[Event], list[Event]]:
    """The default run: its configuration, what its tables release, those of its audit among them
    and what stands for the ones that are chosen later, and what its training releases."""
    conf = RunConf.parse(compose(["output=."]))
    spec = plan(conf, "r")
    training = plan_training(conf, spec, ROWS)
    rounds = spec.trained.generator.rounds
    tables = [*spec.tables.events(), *spec.later, *spec.evaluation()]
    return conf, tables, training.events(spec.schema.units, rounds)


def replaced(mechanism: Mechanism) -> Any:
    """Distribution of what a release shows where one user stands in another's place.

    In a table two cells move, one up and one down: as much as two users would show, one who
    leaves and one who comes.
    """
    if not isinstance(mechanism, PoissonSgd):
        return loss_of(mechanism).pld(INTERVAL).self_compose(2)
    return pld.from_gaussian_mechanism(
        mechanism.noise_multiplier,
        value_discretization_interval=INTERVAL,
        sampling_prob=mechanism.sampling_rate,
        neighboring_relation=NeighborRel.REPLACE_ONE,
    ).self_compose(mechanism.steps)


def test_what_replacing_one_user_by_another_shows(
    default: tuple[RunConf, list[Event], list[Event]],
) -> None:
    conf, tables, training = default
    counts = Counter(e.mechanism for e in (*tables, *training))
    parts = [replaced(m).self_compose(n) for m, n in counts.items()]
    total: Any = reduce(lambda a, b: a.compose(b), parts)
    shown = total.get_epsilon_for_delta(conf.privacy.delta)
    assert f"about {shown:.2f}" in PAGE
    assert f"about {shown:.2f}" in README


def test_what_an_outside_reader_is_shown(
    default: tuple[RunConf, list[Event], list[Event]],
) -> None:
    """Who is no party knows neither party's noise on a table between them: their sum, two sigma
    squared, is as good as one Gaussian. Of tables that are chosen later each may be of one party
    alone, so that this is the most."""
    conf, tables, training = default
    later = plan(conf, "r").later[0].mechanism

    def seen(event: Event) -> Mechanism:
        m = event.mechanism
        if not isinstance(m, DiscreteGaussian) or len(event.parties) == 1 or m == later:
            return m
        return replace(m, noise_multiplier=m.noise_multiplier * math.sqrt(len(event.parties)))

    mechanisms = [*map(seen, tables), *(e.mechanism for e in training)]
    shown = accountant.epsilon_of_mechanisms(mechanisms, conf.privacy.delta)
    assert shown < accountant.epsilon([*tables, *training], conf.privacy.delta) <= 1
    assert f"about {shown:.3f}" in PAGE
