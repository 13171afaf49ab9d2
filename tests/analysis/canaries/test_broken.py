"""Mistakes that the audit must see, each put into the program by hand, and caught by name.

Noise is fresh: a mistake is missed with a chance below 1e-4, and none is found where there is
none with one of 1e-4 (`test_paths`). The table of all of them is written to a file.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch

from tests.analysis.canaries.settings import ROWS, conf_of, rng
from twinweave.analysis.audit.gate import decide
from twinweave.analysis.audit.results import LowerBound
from twinweave.analysis.canaries import kinds
from twinweave.analysis.canaries.counts import counts_trial
from twinweave.analysis.canaries.levels import levels_bound
from twinweave.analysis.canaries.sums import opened_trial
from twinweave.analysis.canaries.tables import table_trial
from twinweave.analysis.canaries.training import train_canaries
from twinweave.generators.engine import loader
from twinweave.generators.engine.accountant import LedgerAccountant
from twinweave.generators.engine.clipping import Clipping
from twinweave.generators.engine.optimizer import CryptographicOptimizer
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.privacy import mechanisms
from twinweave.privacy.events import Stage
from twinweave.privacy.noise import DealtCoins
from twinweave.protocols.products import blocks, coins, opening
from twinweave.protocols.products import party as products
from twinweave.tables import encoding
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.plan import TablePlan

Patch = pytest.MonkeyPatch
FOUND: list[dict[str, Any]] = []


@pytest.fixture(scope="module", autouse=True)
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """broken.csv: every mistake of this module, what was claimed and what was proven."""
    yield
    path = tmp_path_factory.mktemp("canaries") / "broken.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["mistake", "path", "claimed", "proven", "caught"])
        writer.writeheader()
        writer.writerows(FOUND)


def caught(mistake: str, found: LowerBound) -> bool:
    """Whether the gate withholds the tables for it."""
    FOUND.append(
        {
            "mistake": mistake,
            "path": found.path,
            "claimed": f"{found.claimed:.2f}",
            "proven": f"{found.bound:.2f}",
            "caught": found.exceeds,
        }
    )
    return found.exceeds and decide({}, [found]).withheld


# --- tables -----------------------------------------------------------------------------------


def no_noise(patch: Patch) -> None:
    patch.setattr(mechanisms, "_gaussian", lambda cells, _: np.zeros(cells, np.int64))
    patch.setattr(mechanisms, "_coins", lambda cells, *_: np.zeros(cells, np.int64))
    patch.setattr(coins, "first_heads", lambda own, *_: np.full(own.cells, own.rounds // 2, "u4"))
    patch.setattr(coins, "second_heads", lambda own, *_: np.zeros(own.cells, np.uint32))


def half_the_noise(patch: Patch) -> None:
    scale, each = mechanisms.noise_scale, mechanisms.coins_each
    patch.setattr(mechanisms, "noise_scale", lambda event: scale(event) / 2)
    patch.setattr(mechanisms, "coins_each", lambda n, sharers: each(n // 4, sharers))
    patch.setattr(DealtCoins, "dealt", property(lambda own: own.coins // 4))


def noise_of_one_party_alone(patch: Patch) -> None:
    draw, adds = mechanisms.draw, cycle((0, 1))
    patch.setattr(opening, "draw", lambda *args: draw(*args) * next(adds))


def one_release_charged_for_two(patch: Patch) -> None:
    events = TablePlan.events
    patch.setattr(TablePlan, "events", lambda own, party=None: events(own, party)[:1])


def a_first_pass_that_is_not_counted(patch: Patch) -> None:
    events = TablePlan.events

    def counted(own: TablePlan, party: str | None = None) -> list[Any]:
        asked = events(own, party)
        return asked if party else [e for e in asked if e.stage is not Stage.SELECTION]

    patch.setattr(TablePlan, "events", counted)


def amounts_not_clipped(patch: Patch) -> None:
    """Twice what a user may add, and nobody looks."""
    units = encoding.value_units
    patch.setattr(encoding, "value_units", lambda *args: 2 * units(*args))
    patch.setattr(blocks, "VALUE_UNITS", 2 * VALUE_UNITS)


@dataclass(frozen=True)
class Wrong:
    mistake: str
    patch: Callable[[Patch], None]
    kind: kinds.TableKind
    side: int = 50
    conf: tuple[str, ...] = ()


SIDE = 50
FIRST = ("privacy.shares.selection=0.9", "privacy.shares.measurement=0.1")
COINS = replace(kinds.shared_coins(), runs=1)
TABLES = [
    *(
        Wrong("noise left out", no_noise, kind)
        for kind in (kinds.own_tables(), COINS, kinds.pools())
    ),
    *(
        Wrong("half the noise", half_the_noise, kind)
        for kind in (
            kinds.own_tables(),
            COINS,
            kinds.noise_of_each(),
            kinds.sums(),
            kinds.two_passes(SIDE),
            kinds.pools(),
        )
    ),
    Wrong("noise of one party alone", noise_of_one_party_alone, kinds.noise_of_each()),
    Wrong("one release charged for two", one_release_charged_for_two, kinds.own_tables(), 110),
    Wrong(
        "a first pass that is not counted",
        a_first_pass_that_is_not_counted,
        kinds.two_passes(SIDE),
        conf=FIRST,
    ),
    Wrong("amounts not clipped", amounts_not_clipped, kinds.sums()),
]


@pytest.mark.parametrize("wrong", TABLES, ids=lambda w: f"{w.mistake}, {w.kind.name}")
def test_a_mistake_in_tables_is_caught(wrong: Wrong, monkeypatch: Patch) -> None:
    wrong.patch(monkeypatch)
    trial = table_trial(wrong.kind, conf_of("tvae", *wrong.conf), side=wrong.side, rng=rng())
    assert caught(wrong.mistake, trial.bound())


@pytest.mark.parametrize(
    ("mistake", "patch"), [("noise left out", no_noise), ("half the noise", half_the_noise)]
)
def test_a_mistake_in_counts_is_caught(mistake: str, patch: Any, monkeypatch: Patch) -> None:
    patch(monkeypatch)
    assert caught(mistake, counts_trial(conf_of(), canaries=SIDE**2, rng=rng()).bound())


def test_a_discovery_of_categories_without_threshold_is_caught(monkeypatch: Patch) -> None:
    """Noise on cells with somebody in them alone: who is released is who was found."""
    release = mechanisms.release_table

    def found_alone(counts: Any, *paid: Any) -> Any:
        return release(counts, *paid) * (counts > 0)

    monkeypatch.setattr(products, "release_table", found_alone)
    found = levels_bound(conf_of("tvae", "privacy.epsilon=1"), side=120, rng=rng())
    assert caught("discovery of categories without threshold", found)


# --- training ---------------------------------------------------------------------------------


def no_gradient_noise(patch: Patch) -> None:
    patch.setattr(CryptographicOptimizer, "_noise", lambda own: torch.zeros_like(own._sum))


def half_the_gradient_noise(patch: Patch) -> None:
    normal = RandomSource.normal
    patch.setattr(RandomSource, "normal", lambda own, n: normal(own, n) / 2)


def clip_left_out(patch: Patch) -> None:
    clipped = Clipping.to

    def to(clip: float, norms: torch.Tensor, *, scale: int = 1) -> Clipping:
        found = clipped(clip, norms, scale=scale)
        return replace(found, factor=torch.full_like(found.factor, scale))

    patch.setattr(Clipping, "to", to)


def uncounted_steps(patch: Patch) -> None:
    """Twice as many as are counted."""
    sampler, step, counts = loader.PoissonSampler.__init__, LedgerAccountant.step, cycle((0, 1))

    def twice(own: Any, n: int, *, steps: int, **others: Any) -> None:
        sampler(own, n, steps=2 * steps, **others)

    def every_other(own: Any, **taken: Any) -> None:
        if next(counts):
            step(own, **taken)

    patch.setattr(loader.PoissonSampler, "__init__", twice)
    patch.setattr(LedgerAccountant, "step", every_other)


def one_round_charged_for_two(patch: Patch) -> None:
    mechanism = SgdPlan.mechanism
    patch.setattr(SgdPlan, "mechanism", lambda own, rounds=1: mechanism(own))


def rows_drawn_twice_as_often(patch: Patch) -> None:
    sample = RandomSource.poisson_sample
    patch.setattr(RandomSource, "poisson_sample", lambda own, n, rate: sample(own, n, 2 * rate))


MISTAKES: dict[str, tuple[Callable[[Patch], None], int]] = {
    "noise left out": (no_gradient_noise, 3_000),
    "half the noise": (half_the_gradient_noise, 3_000),
    "clip left out": (clip_left_out, 3_000),
    "uncounted steps": (uncounted_steps, 6_000),
    "one round charged for two": (one_round_charged_for_two, 6_000),
    "rows drawn twice as often": (rows_drawn_twice_as_often, 3_000),
}
TRAININGS = [("tvae", mistake) for mistake in MISTAKES] + [
    (generator, mistake)
    for generator in ("ctgan", "llm")
    for mistake in ("half the noise", "uncounted steps")
]


@pytest.mark.parametrize(("generator", "mistake"), TRAININGS)
def test_a_mistake_in_a_training_is_caught(
    generator: str, mistake: str, monkeypatch: Patch
) -> None:
    patch, canaries = MISTAKES[mistake]
    patch(monkeypatch)
    conf = conf_of(generator)
    trained = train_canaries(conf, ROWS, canaries=canaries, rng=rng())
    assert caught(mistake, trained.trial(conf.privacy.delta).bound())


@pytest.mark.parametrize("mistake", ["noise left out", "clip left out"])
def test_a_mistake_is_caught_in_the_opened_sums_too(mistake: str, monkeypatch: Patch) -> None:
    patch, canaries = MISTAKES[mistake]
    patch(monkeypatch)
    conf = conf_of()
    trained = train_canaries(conf, ROWS, canaries=canaries, rng=rng())
    opened = opened_trial(trained, "masking", delta=conf.privacy.delta, rng=rng())
    assert caught(mistake, opened.bound())
