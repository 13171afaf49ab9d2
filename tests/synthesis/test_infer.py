"""Intervals from the noisy tables alone: right in distribution, and refused where nothing says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import twinweave
from tests.statistics import p_mean, p_variance, plausible
from tests.synthesis.known_world import KEY, LAYOUT, MILD, PAIRS, SCHEMA, World, inferred, rates
from twinweave import rundir
from twinweave.errors import ConfigError
from twinweave.synthesis.infer import Statistic, infer
from twinweave.synthesis.population import row_counts
from twinweave.synthesis.posterior import Posterior, posterior
from twinweave.tables.column import Column, Kind
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import query_over

if TYPE_CHECKING:
    import pandas as pd

SMALL = World(name="noise far above sampling", n=4000, intercept=-1.0, sigma=100.0)
REPLICATES, M = 30, 8


@pytest.fixture(scope="module")
def tables() -> tuple[list[Measurement], dict[str, int]]:
    rng = np.random.default_rng(40)
    rows = MILD.people(rng)
    sizes = dict(zip(LAYOUT.parties, rows.presence.sum(axis=0).tolist(), strict=True))
    return MILD.measured(rows, rng), sizes


def rate(table: pd.DataFrame) -> dict[str, float]:
    """That of `rates`, faster."""
    bought = table["bought"][(table["arm"] == "test") & table["bought"].notna()]
    return {"rate": float(bought.to_numpy(dtype=float).mean())}


def scores() -> NDArray[np.float64]:
    """Errors of the rate in test over their standard errors: normal scores of their t."""
    rng, truth = np.random.default_rng(41), SMALL.truth()["rate"]
    asked = ((rate, ("arm", "bought"), None),)
    found = [inferred(SMALL, rng, m=M, asked=asked)[0][0]["rate"] for _ in range(REPLICATES)]
    errors = np.array([(one.value - truth) / one.error for one in found])
    return np.asarray(stats.norm.ppf(stats.t.cdf(errors, M - 1)))


def test_intervals_are_those_of_their_t_distribution() -> None:
    """Two checks at 1e-9 each on a fixed seed; about 2 s, for it takes replicates."""
    z = scores()
    assert plausible(p_mean(z))
    assert plausible(p_variance(z))


def test_broken_draws_without_the_noise_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Posterior, "shares", lambda self, rng: self.tables.tilt(self.start)[0])
    assert not plausible(p_variance(scores()))


def test_without_noise_the_population_is_what_was_measured() -> None:
    """A table of exact counts over all columns asked for: every draw has its shares."""
    rows = MILD.people(np.random.default_rng(42))
    query = query_over(SCHEMA, "arm", "bought")
    assert query is not None
    counts = row_counts(query, LAYOUT, rows).astype(float)
    exact = [Measurement(query=query, values=counts, variance=1e-6)]
    sizes = dict(zip(LAYOUT.parties, rows.presence.sum(axis=0).tolist(), strict=True))
    known = posterior(SCHEMA, exact, sizes, ("arm", "bought"))
    share = known.shares(np.random.default_rng(43))
    assert len(known.kinds) == 4 + 2 + 2
    here = known.kinds.presence.all(axis=1)
    assert np.allclose(share[here] * len(rows), counts[:2, :2].ravel(), atol=0.5)


def number(table: pd.DataFrame) -> float:
    return float(len(table))


@pytest.mark.parametrize(
    ("columns", "asked", "says"),
    [
        (PAIRS, {}, "not measured together: arm x age x loyal x bought"),
        (("arm", "bought", "loyal"), {}, "order=2"),
        (("arm", "bought", "loyal"), {"order": 3}, "arm x bought x loyal"),
        (("arm", "nothing"), {}, "no such column"),
        (("arm", "arm"), {}, "each once"),
        ((), {}, "no list of names"),
        ("arm", {}, "no list of names"),
        (("arm", "bought"), {"order": 3}, "not from 1 to the 2"),
        (("arm", "bought"), {"m": 2}, "3 or more"),
        (("arm", "bought"), {"m": 2.5}, "3 or more"),
        (("arm", "bought"), {"seed": -1}, "0 or more"),
        (("arm", "bought"), {"level": 95.0}, "confidence level"),
    ],
)
def test_what_cannot_be_told_is_refused(
    tables: tuple[list[Measurement], dict[str, int]],
    columns: tuple[str, ...],
    asked: dict[str, Any],
    says: str,
) -> None:
    options = {"order": None, "m": 3, "level": 0.95, "seed": 0, **asked}
    with pytest.raises(ConfigError, match=says):
        infer(SCHEMA, *tables, number, columns=columns, **options)


@pytest.mark.parametrize(
    ("statistic", "says"),
    [
        (lambda table: float("nan"), "no finite number"),
        (lambda table: None, "gives no number"),
        (lambda table: table["age"].value_counts(), "gives no number"),
        (lambda table: {str(table["age"].value_counts().iloc[0]): 1.0}, "other names"),
        (lambda table: {"age": "old"}, "gives no number"),
    ],
)
def test_a_statistic_that_fails_is_named(
    tables: tuple[list[Measurement], dict[str, int]], statistic: Statistic, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        infer(SCHEMA, *tables, statistic, columns=["age"], order=None, m=3, level=0.95, seed=0)


def test_what_intervals_do_not_count_is_said() -> None:
    """Amounts crowd at a bin's lower end: the mean of what is spread evenly is another."""
    spend = Column(name="spend", kind=Kind.CONTINUOUS, bounds=(0, 100), bins=(10,))
    items = Column(name="items", kind=Kind.INTEGER, bounds=(0, 1), bins=(1,))
    schema = JointSchema(schemas=(Schema(party="shop", columns=(KEY, spend, items)),))
    asked = [query_over(schema, name) for name in ("spend", "items")]
    measured = [Measurement(query=q, values=np.full(2, 500.0), variance=1.0) for q in asked if q]

    def warned(column: str, clustered: bool) -> tuple[str, ...]:
        options: dict[str, Any] = {"order": None, "m": 3, "level": 0.95, "seed": 0}
        sizes = {"shop": 1000}
        return infer(
            schema, measured, sizes, number, columns=[column], clustered=clustered, **options
        ).warnings

    assert warned("items", False) == ()
    (binned,) = warned("spend", False)
    assert "spend: known to the bin" in binned
    (alike,) = warned("items", True)
    assert "clusters" in alike


def test_pairs_that_nobody_measured_are_refused_whatever_the_order(
    tables: tuple[list[Measurement], dict[str, int]],
) -> None:
    measurements, sizes = tables
    fewer = [m for m in measurements if set(m.query.columns) != {"arm", "loyal"}]
    with pytest.raises(ConfigError, match="not measured together: arm x loyal"):
        infer(SCHEMA, fewer, sizes, number, columns=PAIRS, order=2, m=3, level=0.95, seed=0)


def test_a_run_infers_from_its_folder(
    tables: tuple[list[Measurement], dict[str, int]], tmp_path: Path
) -> None:
    """A run without a generator too: it has no synthetic table."""
    measurements, sizes = tables
    rundir.write_json(tmp_path / rundir.CONFIGURATION, {})
    rundir.write_json(tmp_path / rundir.SPEC, {"schema": SCHEMA})
    rundir.write_json(tmp_path / rundir.REPORT, {"sizes": sizes})
    rundir.write_measurements(tmp_path / rundir.MEASUREMENTS, SCHEMA, measurements)
    run = twinweave.load(tmp_path)
    seen: list[list[str]] = []

    def people(table: pd.DataFrame) -> float:
        seen.append(list(table.columns))
        return float((table["arm"] == "test").mean())

    first, again = (run.infer(people, columns=["arm"], m=4, seed=5) for _ in range(2))
    assert first == again != run.infer(people, columns=["arm"], m=4, seed=6)
    assert set(map(tuple, seen)) == {("arm",)}
    told = first["statistic"]
    assert told.interval[0] < told.value < told.interval[1]
    assert (first.m, told.df, first.warnings) == (4, 3, ())
    paired = run.infer(rates, columns=["arm", "bought", "loyal"], order=2, m=4)
    assert "No table has arm, bought, loyal together" in paired.warnings[0]


def test_columns_with_too_many_levels_are_refused(
    tables: tuple[list[Measurement], dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinweave.synthesis.posterior.MOST_CELLS", 20)
    with pytest.raises(ConfigError, match="combinations of levels"):
        posterior(SCHEMA, *tables, PAIRS)


def test_coarse_tables_and_sums_are_left_aside(
    tables: tuple[list[Measurement], dict[str, int]],
) -> None:
    measurements, sizes = tables
    known = posterior(SCHEMA, measurements, sizes, ("age", "bought"))
    first = measurements[1].query
    coarse = replace(first, sides=(replace(first.sides[0], groups=((0, 0, 1),)),))
    extra = Measurement(query=coarse, values=np.zeros(2), variance=1.0)
    more = posterior(SCHEMA, [*measurements, extra], sizes, ("age", "bought"))
    assert np.array_equal(known.target, more.target)
