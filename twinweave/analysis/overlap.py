"""How many users two parties have in common, as the noisy tables tell it: free of privacy cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import norm

from twinweave.analysis.finding import Finding
from twinweave.synthesis.population import overlaps
from twinweave.workload.measurement import Measurement

LEVEL = 0.95
HARDLY_ANY = 0.02
"""Of the smaller table: surely fewer in common are a matter of the ids' spelling."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Users whom two parties, or pools, both hold. users: an estimate and its 95 % interval.

    hardly_any: surely below a fiftieth of the smaller table, or not told from none.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    users: Finding
    hardly_any: bool


def overlaps_found(
    parties: Sequence[str], sizes: Mapping[str, int], measurements: Sequence[Measurement]
) -> tuple[Overlap, ...]:
    """Of every two parties or pools with a table between them."""
    found = []
    z = float(norm.ppf((1 + LEVEL) / 2))
    for (one, two), (users, variance) in overlaps(parties, sizes, measurements).items():
        first, second = (tuple(parties[i] for i in members) for members in (one, two))
        smaller = min(sum(sizes[p] for p in members) for members in (first, second))
        low, high = users - z * variance**0.5, users + z * variance**0.5
        found.append(
            Overlap(
                first=first,
                second=second,
                users=Finding(value=users, interval=(max(low, 0.0), min(high, float(smaller)))),
                hardly_any=low <= 0 or high < HARDLY_ANY * smaller,
            )
        )
    return tuple(found)
