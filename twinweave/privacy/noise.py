"""The noise of a table, one class a kind: what is drawn or dealt, charged for, and published.

A table's noise is charged as one mechanism, the least noise that a reader is sure not to know,
while its variance is that of all noise there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from twinweave.parsing import STRICT, check_positive
from twinweave.privacy.events import MOST_COINS, MOST_NOISE, DiscreteGaussian, SharedBinomial
from twinweave.privacy.mechanisms import coins_each, gaussian_variance

OWN_COINS = 1 << 34
"""That a party draws for a table, at most: 2 GiB of random bytes."""
DEALT_COINS = 1 << 29
"""That are dealt for all tables of a plan, at most: some 15 s of a party's processor time."""


@dataclass(frozen=True, kw_only=True)
class OwnGaussian:
    """A discrete Gaussian from each party that is asked, each at full scale.

    Discrete Gaussians do not add up to one: one party's alone is charged for.
    """

    __pydantic_config__ = STRICT

    noise_multiplier: float
    sensitivity: int = 1
    dealt: ClassVar[int | None] = None
    sharers: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_positive("noise", self, "noise_multiplier", "sensitivity", most=MOST_NOISE)

    @property
    def mechanism(self) -> DiscreteGaussian:
        return DiscreteGaussian(
            noise_multiplier=self.noise_multiplier, sensitivity=self.sensitivity
        )

    def variance(self, parties: int) -> float:
        return parties * gaussian_variance(self.mechanism)


TESTED_COINS = 3
"""Dealt coins of a round, one for each cell, that the parties look at beside it."""
SPARE_COINS = 19
"""Dealt coins of a cell beyond those that are charged for: so many may be no coins at all."""


@dataclass(frozen=True, kw_only=True)
class DealtCoins:
    """Coins that a dealer deals to two parties in shares: nobody knows how many are heads.

    coins: charged for. The parties look at some of what is dealt and so know that a cell has no
    more than SPARE_COINS others that are none, but with probability 2**-40
    (`protocols/products/coins.py`): it gets that many more, and they are noise too.
    sensitivity: units by which one user changes a cell.
    """

    __pydantic_config__ = STRICT

    coins: int
    sensitivity: int = 1
    sharers: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_positive("noise", self, "coins", "sensitivity", most=MOST_COINS)

    @property
    def dealt(self) -> int:
        return self.coins + SPARE_COINS

    def words(self, cells: int) -> int:
        """Coins dealt for a table of so many cells, tested ones included."""
        return (cells + TESTED_COINS) * self.dealt

    @property
    def mechanism(self) -> SharedBinomial:
        return SharedBinomial(coins=self.coins, sensitivity=self.sensitivity)

    def variance(self, parties: int) -> float:  # noqa: ARG002 (the same for any number)
        return self.dealt / 4


@dataclass(frozen=True, kw_only=True)
class OwnCoins:
    """Coins that each party of a pool draws by itself, for counts: binomials with one half add
    up to one.

    unknown: parties whose coins a reader cannot know, all but those that collude, and the
        reader. Theirs alone are `coins` or more, which are charged for.
    """

    __pydantic_config__ = STRICT

    coins: int
    unknown: int
    dealt: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        check_positive("noise", self, "coins", "unknown", most=MOST_COINS)

    @property
    def sharers(self) -> int:
        return self.unknown

    @property
    def each(self) -> int:
        """Coins that a party draws, a cell."""
        return coins_each(self.coins, self.unknown)

    @property
    def mechanism(self) -> SharedBinomial:
        return SharedBinomial(coins=self.coins)

    def variance(self, parties: int) -> float:
        return parties * self.each / 4


Noise = OwnGaussian | DealtCoins | OwnCoins
"""Each says its `mechanism`, what is charged; `dealt`, coins that the server deals a cell;
`sharers`, parties that share the mechanism's coins, or 1; `variance` in a cell of a table of
which so many parties are asked, in squared units of the table."""
