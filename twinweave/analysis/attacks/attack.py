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

    people: whose membership is asked, at most, of rows used and of rows set aside each.
    synthetic: rows that attackers are given, at most. guesses: of singling out; linked: people to
    link and to infer of, at most. Both 0: without the package anonymeter.
    """

    people: int
    synthetic: int
    guesses: int = 0
    linked: int = 0


EFFORTS: Mapping[Literal["quick", "full"], Effort] = {
    "quick": Effort(people=1000, synthetic=20_000),
    "full": Effort(people=5000, synthetic=100_000, guesses=1000, linked=500),
}

CERTAIN = 0.2
"""Of the threshold, what an attack may reach that is wrong about one row in a hundred: at a
threshold of .1 it may be right about three used rows in a hundred. A table with a fifth of its rows
copied lets it be right about nine."""

LEAST = 100
"""Rows set aside, at least, for membership inference: half of them are the attacker's."""


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """What attacks found. left_out: attacks that were not played, and why, in sentences.

    closest: information, no guarantee; None where too few rows were set aside.
    """

    findings: tuple[AttackFinding, ...]
    closest: Closest | None
    left_out: tuple[str, ...]


def attack(exposed: Exposed, effort: Effort, *, threshold: float, seed: int) -> Attacks:
    """Play every attack. threshold: what success - control may be. Deterministic under the seed."""
    rng = np.random.default_rng([seed, 7])
    player = _Player(exposed=exposed, threshold=threshold)
    nearest = None
    if len(exposed.control) < LEAST or len(exposed.members) < LEAST:
        player.says(
            f"membership inference was not played: it takes {LEAST} rows used and as many set "
            f"aside, and there are {len(exposed.members)} and {len(exposed.control)}. Set more "
            "rows aside (audit.holdout)."
        )
    else:
        population, aside = (drawn(h, effort.people, rng) for h in halves(exposed.control, rng))
        suspects = Suspects(
            used=drawn(exposed.members, effort.people, rng),
            aside=aside,
            population=population,
            synthetic=drawn(exposed.synthetic, effort.synthetic, rng),
        )
        metric = Metric(columns=exposed.columns)
        sizes = {"used": len(suspects.used), "aside": len(aside)}
        ranked, certain = membership(metric, suspects, LEVEL, rng)
        player.finds(ranked, **sizes)
        player.finds(certain, **sizes, share=CERTAIN)
        nearest = closest(metric, suspects)
    contrast, having = rare_values(exposed, LEVEL)
    if contrast is None:
        player.says(
            f"rare values were not looked at: fewer than {FEWEST} rows, used or set aside, have "
            "a value or a pair of values that nobody else has."
        )
    else:
        player.finds({"rare values": contrast}, **having)
    if effort.guesses:
        _by_package(player, effort, int(rng.integers(2**31)))
    return Attacks(
        findings=tuple(player.findings), closest=nearest, left_out=tuple(player.left_out)
    )


def _by_package(player: _Player, effort: Effort, seed: int) -> None:
    """Anonymeter's three attacks. They see as many synthetic rows as every attacker."""
    if not anonymeter.installed():
        player.says(anonymeter.MISSING_PACKAGE)
        return
    rng = np.random.default_rng(seed)
    whole = player.exposed
    exposed = Exposed(
        columns=whole.columns,
        members=whole.members,
        control=whole.control,
        synthetic=drawn(whole.synthetic, effort.synthetic, rng),
    )
    found, said = anonymeter.singling_out(exposed, effort.guesses, LEVEL, seed)
    player.finds(found, used=len(exposed.members), aside=len(exposed.control))
    player.says(*said)
    each = min(effort.linked, len(exposed.members), len(exposed.control), len(exposed.synthetic))
    if len(exposed.columns) > 1:
        linked = anonymeter.linkability(exposed, each, LEVEL, seed)
        inferred = anonymeter.inference(exposed, each, LEVEL, seed)
        player.finds({**linked, **inferred}, used=each, aside=each)
    else:
        player.says("linkability and inference were not played: they take two columns.")


class _Player:
    """Gathers findings against one threshold."""

    def __init__(self, *, exposed: Exposed, threshold: float) -> None:
        self.exposed = exposed
        self.threshold = threshold
        self.findings: list[AttackFinding] = []
        self.left_out: list[str] = []

    def finds(
        self, contrasts: Mapping[str, Contrast], *, used: int, aside: int, share: float = 1.0
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

    def says(self, *sentences: str) -> None:
        self.left_out += sentences
