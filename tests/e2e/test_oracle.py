"""A run's tables against exact ones from the joined plaintext: right cells, right noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.campaigns import configure
from tests.e2e.clear import Clear, assert_exact, assert_noise, deviations
from tests.e2e.plans import silent, table
from tests.statistics import assert_scale, p_mean, p_variance, plausible
from tests.whole_run import run, run_of, spec_of
from twinweave.privacy.noise import DealtCoins, OwnGaussian
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Side

P, A = "publisher", "advertiser"
SUMS = OwnGaussian(noise_multiplier=0.05, sensitivity=VALUE_UNITS)
WIDE = ("age", "device", "region", "arm")  # 600 cells: enough for a sharp chi-square test


def many_cells() -> tuple[PlannedQuery, ...]:
    """A plan with hundreds of cells under each mechanism; both orders of sides."""
    counts = OwnGaussian(noise_multiplier=3.0)
    wide = Side(party=P, columns=WIDE)
    left, right = (
        Side(party=P, columns=("age", "device")),
        Side(party=A, columns=("region", "loyalty")),
    )
    spend, clipped = (Side(party=A, weight="spend", clip=clip) for clip in (None, 60.0))
    by_channel = Side(party=A, columns=("channel", "loyalty"), weight="spend")
    local = ("region", "loyalty", "channel", "gender", "loyal", "converted")
    return (
        table(wide, noise=counts),
        table(left, right, noise=counts),
        table(right, wide, noise=DealtCoins(coins=60)),
        table(Side(party=P, columns=("arm",)), right, noise=DealtCoins(coins=41)),
        table(wide, spend, noise=SUMS),
        table(wide, spend, noise=DealtCoins(coins=5000, sensitivity=VALUE_UNITS)),
        table(clipped, wide, noise=SUMS),
        table(Side(party=P, columns=("arm",)), by_channel, noise=SUMS),
        table(by_channel, wide, noise=SUMS),
        table(Side(party=A, columns=local, weight="spend"), noise=SUMS),
        table(Side(party=A, columns=local, weight="spend", clip=60.0), noise=SUMS),
    )


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory, clear: Clear) -> dict[str, NDArray[np.float64]]:
    conf = configure(tmp_path_factory.mktemp("oracle"), "protocol.alignment=prf")
    return deviations(run_of(conf, many_cells()), clear)


KINDS = [
    "coins",
    "local gaussian",
    "cross gaussian",
    "cross sums",
    "cross sums, clipped",
    "cross sums with coins",
    "local sums",
    "local sums, clipped",
]


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_the_published_variance(noise: dict[str, NDArray[np.float64]], kind: str) -> None:
    z = noise[kind]
    assert z.size > 500
    assert plausible(p_mean(z))
    # One party's noise in place of two, or the reverse, would be a factor of 2.
    assert_scale(z, p_variance, np.sqrt(0.5), np.sqrt(2.0))


def test_every_kind_is_tested(noise: dict[str, NDArray[np.float64]]) -> None:
    assert sorted(noise) == sorted(KINDS)


@pytest.mark.parametrize("alignment", ["ristretto", "prf"])
def test_without_noise_every_table_is_exact(tmp_path: Path, clear: Clear, alignment: str) -> None:
    """The planned workload with next to no noise: equal to the plaintext cell by cell."""
    conf = configure(tmp_path, f"protocol.alignment={alignment}")
    sums = tuple(
        table(Side(party=A, columns=(c,), weight="spend"), noise=SUMS) for c in ("region", "loyal")
    )
    ran = run_of(conf, silent((*spec_of(conf).plan, *sums)))
    assert_exact(ran, clear)
    one, two = (m.values.sum() for m in ran.findings.measurements[-2:])
    assert one == two  # an amount is rounded once, whatever table it is in
    rows = {name: len(frame) for name, frame in clear.labels.items()}
    assert ran.findings.rows == rows


def test_planned_noise_is_what_the_spec_says(tmp_path: Path, clear: Clear) -> None:
    """The default workload and calibration: all cells of a run as it is, coins and Gaussians."""
    ran = run(configure(tmp_path, "protocol.coin_limit=2500"))
    assert_noise(ran, clear)
    inner = [
        (m.values[:-1, :-1].sum(), m.variance * m.values[:-1, :-1].size)
        for m in ran.findings.measurements
        if m.query.is_cross and m.query.weight is None
    ]
    overlap = len(clear.labels[P].index.intersection(clear.labels[A].index))
    for total, variance in inner:
        assert abs(total - overlap) < 6.5 * np.sqrt(variance)
