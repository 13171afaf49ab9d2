"""Intervals for any statistic of the joint table, from the noisy tables alone.

m times a population is drawn from what the tables leave open (`posterior.py`), and of it n
people at random, as the union's n people are a sample of those whom the statistic is to speak
of. The statistic q_i of each such sample is a draw from the posterior of the quantity.

Why not T = (1 + 1/m) b - v (Raghunathan, Reiter, Rubin 2003, "Multiple imputation for
statistical disclosure limitation", section 4.1): there, as in NAPSU-MQ, a synthetic sample is
drawn from each posterior draw and adds its own variance v, which is taken off again. Here the n
people are the draw of the population itself (a Bayesian bootstrap, as a multinomial: Rubin
1981), and nothing is sampled from it. So v is 0, T = (1 + 1/m) b with m - 1 degrees of freedom,
and T cannot be negative. Post-processing: no privacy cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.synthesis.posterior import Posterior, posterior
from twinweave.tables.column import Column, Kind
from twinweave.tables.encoding import by_code, decode
from twinweave.tables.schema import JointSchema
from twinweave.workload.measurement import Measurement

if TYPE_CHECKING:
    import pandas as pd

Statistic = Callable[["pd.DataFrame"], float | Mapping[str, float]]
"""Of a table with a row a person: a number, or numbers by name."""

ALONE = "statistic"
"""Name of a statistic that gives one number."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One number, for the people of whom the union is a sample.

    error: standard error, of sampling and of privacy noise. df: degrees of freedom of the
    interval's t distribution. noise: share of the variance that is privacy noise, 0 to 1;
    rough where m is small.
    """

    name: str
    value: float
    error: float
    interval: tuple[float, float]
    level: float
    df: int
    noise: float


@dataclass(frozen=True, kw_only=True)
class Inference:
    """estimates: in the statistic's order. m: populations drawn. n: people of the union.

    warnings: what the statistic must not rest on, for nobody measured it, and what its intervals do
    not count.
    """

    estimates: tuple[Estimate, ...]
    columns: tuple[str, ...]
    m: int
    n: int
    warnings: tuple[str, ...]

    def __getitem__(self, name: str) -> Estimate:
        """An estimate by its name. Raises KeyError."""
        return {estimate.name: estimate for estimate in self.estimates}[name]


def infer(
    schema: JointSchema,
    measurements: Sequence[Measurement],
    party_sizes: Mapping[str, int],
    statistic: Statistic,
    *,
    columns: Sequence[str],
    order: int | None,
    m: int,
    level: float,
    seed: int,
    clustered: bool = False,
) -> Inference:
    """See `twinweave.rundir.Run.infer`, which calls it.

    clustered: whether clusters of people were assigned to arms as wholes.
    """
    warnings = (
        *check_columns(schema, measurements, columns, order),
        *_unsaid(schema, columns, clustered),
    )
    if not isinstance(m, int) or m < 3:
        raise ConfigError("m", "no whole number of 3 or more", "Draw 20 populations, say.")
    if not isinstance(seed, int) or seed < 0:
        raise ConfigError("seed", "no whole number of 0 or more", "Give a seed such as 0.")
    if not 0.5 <= level < 1:
        raise ConfigError("level", "not in [0.5, 1)", "Give a confidence level, 0.95 say.")
    rng = np.random.default_rng([seed, 7])
    known = posterior(schema, measurements, party_sizes, columns)
    draws = [_draw(schema, known, columns, statistic, rng) for _ in range(m)]
    names = list(draws[0][0])
    if any(list(told) != names for pair in draws for told in pair):
        raise ConfigError("statistic", "gives other names each time", "Give the same names.")
    whole, noise = np.array([[list(told.values()) for told in pair] for pair in draws]).swapaxes(
        0, 1
    )
    if not np.isfinite([whole, noise]).all():
        raise ConfigError(
            "statistic",
            "is no finite number on some draw",
            "Have it do with absent people (their columns are NaN or None) and rare levels.",
        )
    return Inference(
        estimates=tuple(
            combined(name, whole[:, i], noise[:, i], level) for i, name in enumerate(names)
        ),
        columns=tuple(columns),
        m=m,
        n=known.n,
        warnings=warnings,
    )


def combined(
    name: str, draws: NDArray[np.float64], noise: NDArray[np.float64], level: float
) -> Estimate:
    """draws: of the posterior, (m,). noise: the same without the sampling of people, (m,)."""
    from scipy.stats import t

    m = len(draws)
    between = float(draws.var(ddof=1))
    error = float(np.sqrt((1 + 1 / m) * between))
    value, reach = float(draws.mean()), float(t.ppf((1 + level) / 2, m - 1)) * error
    share = float(noise.var(ddof=1)) / between if between > 0 else 0.0
    return Estimate(
        name=name,
        value=value,
        error=error,
        interval=(value - reach, value + reach),
        level=level,
        df=m - 1,
        noise=min(share, 1.0),
    )


def _draw(
    schema: JointSchema,
    known: Posterior,
    columns: Sequence[str],
    statistic: Statistic,
    rng: np.random.Generator,
) -> tuple[dict[str, float], dict[str, float]]:
    """The statistic of people drawn at random from one draw of the population, and of it whole."""
    own = [schema.column(name) for name in columns]
    shares = known.shares(rng)

    def of(counts: NDArray[np.int64]) -> dict[str, float]:
        codes = known.people(counts).codes
        told = statistic(decode(own, codes, rng, by_code(codes, own)))
        named = told if isinstance(told, Mapping) else {ALONE: told}
        try:
            return {str(name): float(number) for name, number in named.items()}
        except (TypeError, ValueError):
            raise ConfigError(
                "statistic", "gives no number", "Return a number, or a dict of numbers by name."
            ) from None

    return of(rng.multinomial(known.n, shares)), of(_whole(shares, known.n, rng))


def _whole(shares: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Whole numbers of people in these shares, up to rounding: systematic resampling."""
    edges = np.floor(np.cumsum(shares) / shares.sum() * n + rng.random()).astype(np.int64)
    return np.diff(edges, prepend=0)


def check_columns(
    schema: JointSchema,
    measurements: Sequence[Measurement],
    columns: Sequence[str],
    order: int | None,
) -> tuple[str, ...]:
    """What a statistic of the columns must not rest on; refuse what nobody measured.

    Every `order` of the columns (None: all of them) must be in one measured table. What more
    columns than that have together is filled in as evenly as the tables allow.
    Raises ConfigError for no or unknown columns, and naming columns that no table has together.
    """
    if isinstance(columns, str) or not columns or len(set(columns)) != len(columns):
        raise ConfigError("columns", "are no list of names, each once", 'Give ["arm"], say.')
    if unknown := [name for name in columns if name not in schema.names]:
        raise ConfigError(
            "columns", f"no such column: {unknown}", f"Columns: {', '.join(schema.names)}."
        )
    most = len(columns)
    size = most if order is None else order
    if not 1 <= size <= most:
        raise ConfigError(
            "order", f"not from 1 to the {most} columns named", "Give how many it relates at once."
        )
    if missing := list(_unmeasured(measurements, columns, size)):
        raise ConfigError("columns", *_refusal(missing, order))
    if not list(_unmeasured(measurements, columns, most)):
        return ()
    return (
        f"No table has {', '.join(columns)} together. The intervals hold for a statistic that "
        f"follows from tables of {size} of them; what more have in common is filled in evenly.",
    )


def _unsaid(schema: JointSchema, columns: Sequence[str], clustered: bool) -> Iterator[str]:
    """What the intervals do not count."""
    if binned := [name for name in columns if _is_coarse(schema.column(name))]:
        yield (
            f"{', '.join(binned)}: known to the bin and drawn within it, which the intervals "
            "take for the truth. They hold for what follows from bins, shares at a bin's edge say, "
            "and not for a mean where bins are wide."
        )
    if clustered:
        yield (
            "People are drawn one by one, and clusters of them were assigned to arms as wholes: a "
            "difference between arms varies more than its interval says. Those of the lift report "
            "count it."
        )


def _is_coarse(column: Column) -> bool:
    """Whether a bin has several numbers or moments."""
    low, high = column.span if column.is_numeric else (0.0, 0.0)
    return column.is_numeric and (
        column.kind is not Kind.INTEGER or len(column.edges) < round(high - low)
    )


def _unmeasured(
    measurements: Sequence[Measurement], columns: Sequence[str], size: int
) -> Iterator[tuple[str, ...]]:
    tables = [
        set(m.query.columns)
        for m in measurements
        if m.query.weight is None and not any(side.groups for side in m.query.sides)
    ]
    for chosen in combinations(columns, size):
        if not any(table.issuperset(chosen) for table in tables):
            yield chosen


def _refusal(missing: Sequence[tuple[str, ...]], order: int | None) -> tuple[str, str]:
    """Rule and remedy."""
    shown = "; ".join(" x ".join(names) for names in missing[:3])
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    remedy = "Leave columns out, or start a run that measures them together."
    if order is None and len(missing[0]) > 2:
        remedy += " For a statistic that follows from pairs (no interactions): order=2."
    return f"were not measured together: {shown}{more}", remedy
