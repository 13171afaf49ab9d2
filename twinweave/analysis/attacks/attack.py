"""All attacks on a party's synthetic table, from the party's own rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from twinweave.analysis.attacks import anonymeter
from twinweave.analysis.attacks.domain import FEWEST, rare_values
from twinweave.analysis.attacks.intervals import Contrast
from twinweave.analysis.attacks.kernels import Metric
from twinweave.analysis.attacks.membership import Closest, Suspects, closest, membership
from twinweave.analysis.attacks.rows import Exposed, drawn, halves
from twinweave.analysis.audit.results import LEVEL, AttackFinding


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much an audit attacks.

    rows: used, set aside and synthetic, that are looked at, at most; of larger tables so many are
    drawn. people: whose membership is asked, at most, of rows used and of rows set aside each.
    guesses: of singling out; linked: people to link and to infer of, at most. Both 0: without the
    package anonymeter.
    """

    rows: int
    people: int
    guesses: int = 0
    linked: int = 0


EFFORTS: Mapping[Literal["quick", "full"], Effort] = {
    "quick": Effort(rows=20_000, people=1000),
    "full": Effort(rows=100_000, people=5000, guesses=1000, linked=500),
}

CERTAIN = 0.2
"""Of the threshold, what an attack may reach that is wrong about one row in a hundred: at a
threshold of .1 it may be right about three used rows in a hundred. A table with a fifth of its rows
copied lets it be right about nine."""

LEAST = 100
"""Rows used, set aside and synthetic, each: with fewer nothing is attacked. Half of those set aside
are the attacker's."""


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """What attacks found. left_out: attacks that were not played, and why, in sentences.

    closest: information, no guarantee; None where nothing was attacked.
    """

    findings: tuple[AttackFinding, ...]
    closest: Closest | None
    left_out: tuple[str, ...]


def attack(exposed: Exposed, effort: Effort, *, threshold: float, seed: int) -> Attacks:
    """Play every attack. threshold: what success - control may be. Deterministic under the seed."""
    if exposed.fewest < LEAST:
        said = (
            f"nothing was attacked: it takes {LEAST} rows used, set aside and synthetic each, and "
            f"there are {len(exposed.members)}, {len(exposed.control)} and "
            f"{len(exposed.synthetic)}. Set more rows aside (audit.holdout)."
        )
        return Attacks(findings=(), closest=None, left_out=(said,))
    rng = np.random.default_rng([seed, 7])
    exposed = exposed.drawn(effort.rows, rng)
    played = _Played(threshold)
    nearest = _membership(played, exposed, effort, rng)
    _rare(played, exposed, rng)
    if effort.guesses:
        _by_package(played, exposed, effort, int(rng.integers(2**31)))
    return Attacks(
        findings=tuple(played.findings), closest=nearest, left_out=tuple(played.left_out)
    )


def _membership(
    played: _Played, exposed: Exposed, effort: Effort, rng: np.random.Generator
) -> Closest:
    population, aside = (drawn(half, effort.people, rng) for half in halves(exposed.control, rng))
    suspects = Suspects(
        used=drawn(exposed.members, effort.people, rng),
        aside=aside,
        population=population,
        synthetic=exposed.synthetic,
    )
    metric = Metric(columns=exposed.columns)
    ranked, certain = membership(metric, suspects, LEVEL, rng)
    sizes = len(suspects.used), len(aside)
    played.add(ranked, *sizes)
    played.add(certain, *sizes, share=CERTAIN)
    return closest(metric, suspects)


def _rare(played: _Played, exposed: Exposed, rng: np.random.Generator) -> None:
    contrast, sizes = rare_values(exposed, LEVEL, rng)
    if contrast is not None:
        played.add({"rare values": contrast}, *sizes)
        return
    played.left_out.append(
        f"rare values were not looked at: fewer than {FEWEST} rows, used or set aside, have "
        "values, in three columns or fewer, that nobody else has."
    )


def _by_package(played: _Played, exposed: Exposed, effort: Effort, seed: int) -> None:
    """Anonymeter's three attacks."""
    if not anonymeter.installed():
        played.left_out.append(anonymeter.MISSING_PACKAGE)
        return
    found, said = anonymeter.singling_out(exposed, effort.guesses, LEVEL, seed)
    played.add(found, len(exposed.members), len(exposed.control))
    played.left_out += said
    if len(exposed.columns) < 2:
        played.left_out.append("linkability and inference were not played: they take two columns.")
        return
    each = min(effort.linked, exposed.fewest)
    linked = anonymeter.linkability(exposed, each, LEVEL, seed)
    played.add(linked, each, each)
    played.add(anonymeter.inference(exposed, each, LEVEL, seed), each, each)


class _Played:
    """Gathers findings against one threshold, and what was left out."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.findings: list[AttackFinding] = []
        self.left_out: list[str] = []

    def add(
        self, contrasts: Mapping[str, Contrast], used: int, aside: int, *, share: float = 1.0
    ) -> None:
        """share: of the threshold, that these are held against."""
        self.findings += [
            AttackFinding(
                name=name,
                success=found.success,
                control=found.control,
                interval=found.interval,
                threshold=share * self.threshold,
                used=used,
                aside=aside,
            )
            for name, found in contrasts.items()
        ]
