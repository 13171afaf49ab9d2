"""A population with every kind of column, and generators that leak, or cannot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from twinweave.analysis.attacks.rows import Codes, Exposed
from twinweave.tables.column import Column, Kind, Role, Rule

COLUMNS = (
    Column(name="age", kind=Kind.INTEGER, bounds=(18.0, 90.0), bins=9),
    Column(name="town", kind=Kind.CATEGORICAL, levels=tuple(f"t{i}" for i in range(40))),
    Column(name="job", kind=Kind.CATEGORICAL, levels=tuple("abcdefgh")),
    Column(name="gender", kind=Kind.CATEGORICAL, role=Role.SENSITIVE, levels=("f", "m")),
    Column(name="income", kind=Kind.CONTINUOUS, bounds=(0.0, 9.0), bins=8, missing=Rule.LEVEL),
    Column(name="plan", kind=Kind.CATEGORICAL, levels=tuple("uvwxyz")),
    Column(name="visits", kind=Kind.INTEGER, bounds=(0.0, 60.0), bins=6, special=(0.0,)),
    Column(name="loyal", kind=Kind.BOOLEAN, role=Role.LABEL),
)


def people(n: int, rng: np.random.Generator) -> Codes:
    """Three kinds of people, whose columns are skewed each in its own way."""
    kind = rng.integers(0, 3, n)
    found = []
    for place, column in enumerate(COLUMNS):
        shares = np.random.default_rng(place).dirichlet(np.full(column.size, 0.5), 3)
        below = rng.random(n)[:, None] > shares.cumsum(axis=1)[kind]
        found.append(np.minimum(below.sum(axis=1), column.size - 1))
    return np.stack(found, axis=1).astype(np.int32)


Generator = Callable[[Codes, np.random.Generator], Codes]


def copies(members: Codes, rng: np.random.Generator) -> Codes:
    return rng.permutation(members)


def overfitted(members: Codes, rng: np.random.Generator) -> Codes:
    """Each cell is another member's with chance 1/10: columns fit, rows are remembered."""
    shuffled = np.stack([rng.permutation(own) for own in members.T], axis=1)
    return np.where(rng.random(members.shape) < 0.1, shuffled, rng.permutation(members))


def fifth(members: Codes, rng: np.random.Generator) -> Codes:
    """A fifth of the rows are copies, the others know nobody."""
    cut = len(members) // 5
    return np.concatenate([rng.permutation(members)[:cut], people(len(members) - cut, rng)])


def safe(members: Codes, rng: np.random.Generator) -> Codes:
    """Drawn without a look at the members: no attack can do better than chance."""
    return people(len(members), rng)


def exposed(generator: Generator, seed: int, n: int = 1500, control: int = 500) -> Exposed:
    rng = np.random.default_rng(seed)
    members = people(n, rng)
    return Exposed(
        columns=COLUMNS,
        members=members,
        control=people(control, rng),
        synthetic=generator(members, rng),
    )
