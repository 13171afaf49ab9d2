"""A small union of two parties, its rows, and configurations small enough for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml
from numpy.typing import NDArray

from twinweave.generators.conf import GeneratorConf, PretrainedConf
from twinweave.generators.union import UnionLayout
from twinweave.parsing import parse
from twinweave.tables.contingency import ABSENT

CONF = Path(__file__).parents[2] / "conf" / "generator"
CLASSES = {kind.name: kind for kind in get_args(GeneratorConf) if kind is not PretrainedConf}
NAMES = tuple(CLASSES)
"""Of the kinds that need no checkpoint; tests/generators/pretrained has the other's."""
KEY = bytes(range(32))

TOY = UnionLayout(
    parties=("a", "b"),
    names=("common", "left", "wide", "right", "label"),
    sizes=(3, 2, 6, 4, 2),
    holders=((0, 1), (0,), (0,), (1,), (1,)),
)

SMALL: dict[str, dict[str, Any]] = {
    "tvae": {"latent": 4},
    "ctgan": {"latent": 4},
    "llm": {"heads": 2, "hidden": 16},
}


def shipped(name: str, **over: Any) -> Any:
    """The configuration of conf/generator, parsed."""
    fields = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    return parse(CLASSES[name], {**fields, **over})


def conf(name: str, **over: Any) -> Any:
    """The same, but small."""
    small = {"width": 16, "local_steps": 4, "expected_batch": 16, **SMALL[name]}
    return shipped(name, **{**small, **over})


def table(party: str | None = None, n: int = 120, seed: int = 0) -> NDArray[np.int32]:
    """Rows of the toy union in which all columns follow from two; other parties' are absent."""
    rng = np.random.default_rng(seed)
    left, common = rng.integers(0, 2, n), rng.integers(0, 3, n)
    rows = np.stack([common, left, 3 * left + common, common + left, left], axis=1)
    held = np.ones(5, dtype=bool) if party is None else TOY.held_by(party)
    return np.where(held, rows, ABSENT).astype(np.int32)


ONE_WAY = {
    name: np.bincount(table()[:, i], minlength=size).astype(float)
    for i, (name, size) in enumerate(zip(TOY.names, TOY.sizes, strict=True))
}
