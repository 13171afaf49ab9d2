"""Membership inference: was this row among those that the table was made from?

The attacker has the synthetic table and rows of the same population, of which it knows that they
were not used: one half of the rows set aside. It scores used rows, and the other half.

- DOMIAS (van Breugel, Sun, Qian & van der Schaar, AISTATS 2023): density of the synthetic rows
  over density of the population. It looks for places where a generator gives more than people do.
  Differs: kernels for coded columns in place of flows, and two bandwidths (below).
- Gen-LRA (Ward, Lin, Wang & Cheng, 2025; an earlier form: Data Plagiarism Index, 2024): the
  likelihood of the synthetic row that is nearest to the candidate, with the candidate among the
  population over without it; of equally near rows the most telling. With one neighbour, which
  found more copies than 5, 20 or 100 of them.

Both beat the distance to the closest record, which says as much of a row that many people share
as of a copy (Ganev & De Cristofaro, "The inadequacy of similarity-based privacy metrics", 2023;
Yao et al., "The DCR delusion", 2025). `closest` has it, as information.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinweave.analysis.attacks.intervals import Contrast, Floats, area, at_few_false_alarms
from twinweave.analysis.attacks.kernels import Density, Metric
from twinweave.analysis.attacks.rows import Codes

SHARP = 0.01
"""Bandwidth for the synthetic rows: an attacker looks for copies, all but exact."""

SMOOTH = 0.1
"""And for the population, of which a few hundred rows are known."""

FALSE_ALARMS = 0.01
"""Share of rows set aside that an attacker may take for used ones by mistake."""

FEWEST = 5
"""Rows set aside, at least, that this share must be: of fewer rows the share is larger."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Suspects:
    """Rows to tell apart, and what the attacker has. All coded alike."""

    used: Codes
    aside: Codes
    population: Codes
    synthetic: Codes


@dataclass(frozen=True, kw_only=True)
class Closest:
    """Distance to the closest synthetic record, in columns that differ: information, no guarantee.

    used, aside: its mean of rows used, and of rows set aside. area: how well it tells them apart,
    beside 1/2.
    """

    used: float
    aside: float
    area: float


def membership(
    metric: Metric, suspects: Suspects, level: float, rng: np.random.Generator
) -> tuple[dict[str, Contrast], dict[str, Contrast]]:
    """Each attack by area under its curve; and by true positives at few false alarms."""
    asked = np.concatenate([suspects.used, suspects.aside])
    n, m = len(suspects.used), len(suspects.aside)
    rate = max(FALSE_ALARMS, FEWEST / m)
    certain: dict[str, Contrast] = {}
    ranked: dict[str, Contrast] = {}
    for name, attack in (("DOMIAS", _domias), ("Gen-LRA", _gen_lra)):
        scores = attack(metric, suspects, asked)
        used, aside = scores[:n], scores[n:]
        ranked[f"{name}, area under the curve"] = area(used, aside, level)
        few = at_few_false_alarms(used, aside, rate, level, rng)
        certain[f"{name}, at {rate:.1%} false alarms"] = few
    return ranked, certain


def closest(metric: Metric, suspects: Suspects) -> Closest:
    """The distance to the closest synthetic record of rows used and set aside."""
    used, aside = (
        np.concatenate([part.min(axis=1) for part in metric.between(rows, suspects.synthetic)])
        for rows in (suspects.used, suspects.aside)
    )
    return Closest(
        used=float(used.mean()),
        aside=float(aside.mean()),
        area=area(-used.astype(np.float64), -aside.astype(np.float64), 0.95).success,
    )


def _domias(metric: Metric, suspects: Suspects, asked: Codes) -> Floats:
    synthetic = Density(metric=metric, rows=suspects.synthetic, bandwidth=SHARP)
    population = Density(metric=metric, rows=suspects.population, bandwidth=SMOOTH)
    return synthetic.log(asked) - population.log(asked)


def _gen_lra(metric: Metric, suspects: Suspects, asked: Codes) -> Floats:
    """(n,) of the nearest synthetic row s: kernel(asked, s) over the population's density there.

    That grows with the likelihood ratio log((m p(s) + kernel) / ((m + 1) p(s))), p the density
    of m rows, and orders candidates as it does.
    """
    population = Density(metric=metric, rows=suspects.population, bandwidth=SMOOTH)
    common = population.log(suspects.synthetic)
    # Distances are multiples of NEXT: less than one, so that it decides between ties alone.
    tie = 0.4 * (common - common.min()) / max(float(np.ptp(common)), 1e-9)
    parts = []
    for apart in metric.between(asked, suspects.synthetic):
        nearest = (apart + tie.astype(np.float32)).argmin(axis=1)
        distance = apart[np.arange(len(apart)), nearest].astype(np.float64)
        parts.append(np.log(SMOOTH) * distance - common[nearest])
    return np.concatenate(parts)
