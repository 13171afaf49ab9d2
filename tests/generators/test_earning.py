"""The rule by which a private training gets a part of the budget."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.generators.toys import conf
from twinweave.generators.earning import training_share


@dataclass(frozen=True)
class Published:
    """What the rule asks of a generator; of one that is nothing without a training."""

    auto_share: float = 0.1
    rounds: int = 2
    local_steps: int = 3

    @property
    def steps(self) -> int:
        return self.rounds * self.local_steps


@pytest.mark.parametrize(
    ("generator", "asked", "share", "why"),
    [
        (conf("tvae"), None, 0.0, "none (auto)"),
        (conf("tvae"), 0.0, 0.0, "none, as asked"),
        (conf("tvae"), 0.3, 0.3, "0.3 of the shares, as asked"),
        (conf("tvae", rounds=0), 0.3, 0.0, "no private steps"),
        (Published(), None, 0.1, "0.1 of the shares (auto): 2 rounds of 3"),
        (Published(), 0.0, 0.0, "none, as asked"),
    ],
)
def test_a_training_gets_what_was_asked_or_what_it_earns(
    generator: object, asked: float | None, share: float, why: str
) -> None:
    found = training_share(generator, asked)  # type: ignore[arg-type]
    assert found is not None
    assert found.share == share
    assert why in found.why


def test_without_a_generator_nothing_is_said() -> None:
    assert training_share(None, 0.1) is None
