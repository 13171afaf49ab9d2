"""The public terms of a secure sum: everything that both ends must agree on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from twinweave.errors import ConfigError
from twinweave.parsing import Parsed, canonical_json
from twinweave.protocols.secure_sum import graph
from twinweave.protocols.secure_sum.fixed_point import FixedPoint
from twinweave.protocols.secure_sum.shamir import MAX_HOLDERS


@dataclass(frozen=True, kw_only=True)
class SumPlan(Parsed):
    """One series of secure sums among the same parties.

    run, label: the run, and the name of this series in it; parties: their order is part of the
    contract; rounds: how many sums at most (numbers 0 to rounds - 1, each used once); colluding:
    how many parties may pool what they know with the server (or, since a sum minus one's own
    part is the others', with each other: count a curious party too); degree, threshold: 0 for the
    derived ones.

    threshold: a party's self-mask is shared among its neighbours, this many restore it, and a
    party answers only when this many of its neighbours are in the sum. Higher: more parties in
    any sum that can be opened; lower: more dropouts survived. Below the derived one a server
    that breaks the protocol (tells parties different things) may single a party out.
    """

    run: str
    label: str
    parties: tuple[str, ...]
    rounds: int
    encoding: FixedPoint
    colluding: int
    degree: int = 0
    threshold: int = 0

    def __post_init__(self) -> None:
        n = len(self.parties)
        check_collusion(n, self.colluding, private=True)
        rules = (
            ("run", bool(self.run), "is empty", "Name the run."),
            ("parties", len(set(self.parties)) == n, "names repeat", "Rename one."),
            ("rounds", self.rounds >= 1, "less than one", "Plan a round."),
            ("encoding", self.encoding.n_parties == n, "is for other parties", "Use their number."),
            ("degree", 0 <= self.degree < n, "not less than the parties", "Leave it out."),
            (
                "threshold",
                0 <= self.threshold <= self.neighbour_count,
                "more than the neighbours",
                "Leave it out.",
            ),
            (
                "threshold",
                self.shares_needed > self._colluding_near
                or self.shares_needed == self.neighbour_count,
                "colluding neighbours alone would restore a self-mask",
                "Raise it, or leave it out.",
            ),
            (
                "degree",
                self.neighbour_count <= MAX_HOLDERS,
                f"more than {MAX_HOLDERS} neighbours",
                "Set a smaller degree, at the price of a weaker graph.",
            ),
        )
        for name, holds, rule, remedy in rules:
            if not holds:
                raise ConfigError(f"secure_sum.{name}", rule, remedy)
        assert self.neighbours  # refuses a degree that no ring has

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the terms, hex; enters every key, so that other terms give other masks."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()

    @cached_property
    def neighbour_count(self) -> int:
        return self.degree or graph.derived_degree(len(self.parties), self.colluding)

    @cached_property
    def neighbours(self) -> dict[str, tuple[str, ...]]:
        return graph.neighbours(self.parties, self.neighbour_count, self.run)

    @cached_property
    def shares_needed(self) -> int:
        """Neighbours that restore a self-mask, and that must be in the sum for an answer."""
        n, k = len(self.parties), self.neighbour_count
        return self.threshold or graph.isolation_threshold(n, self.colluding, k)

    @cached_property
    def min_alive(self) -> int:
        """Parties that a sum must contain: a majority, and two more than collude."""
        n, c = len(self.parties), self.colluding
        least = max(self.shares_needed + 1, c + 2, (n + c) // 2 + 1)
        if self.neighbour_count < n - 1:
            least = max(least, n - graph.max_dropouts(n))
        return min(n, least)

    @property
    def needs_everyone(self) -> bool:
        """No dropout can be recovered, so a round takes one message and no request."""
        return self.min_alive == len(self.parties)

    @property
    def honest_in_any_sum(self) -> int:
        """At least so many honest parties are in whatever sum the server can open, lie or not.

        A party that relies on the others' noise must add sigma**2 over this number.
        """
        near = 2 * self.shares_needed - self.neighbour_count - self._colluding_near
        return max(1, 1 + near)

    @cached_property
    def _colluding_near(self) -> int:
        """The most colluders among anyone's neighbours."""
        return graph.colluding_neighbours(len(self.parties), self.colluding, self.neighbour_count)


def check_collusion(n_parties: int, colluding: int, *, private: bool) -> None:
    """Refuse a secure sum that protects nobody. private: each update has DP noise of its own.

    Raises ConfigError: fewer than two parties, colluders not fewer than parties, or, without
    DP, fewer than two honest parties (a sum minus the colluders' parts is then one party's).
    """
    if n_parties < 2:
        raise ConfigError("parties", "a secure sum needs two or more", "Add a party.")
    if not 0 <= colluding < n_parties:
        raise ConfigError(
            "colluding", "not between zero and the parties but one", "Leave one honest party."
        )
    if not private and n_parties - colluding < 2:
        raise ConfigError(
            "colluding",
            f"of {n_parties} parties {colluding} collude, so the sum shows the last one's update "
            "and no noise covers it",
            "Turn on differential privacy for the updates, or add parties.",
        )
