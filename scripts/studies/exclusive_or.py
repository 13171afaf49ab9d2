"""A table that no pair of columns tells anything about: its label is the exclusive or of two.

20,000 users, nine columns at two parties. `left` and `right` are fair coins, the label is their
exclusive or and turned over for `NOISE` of the users; so no two of the three depend on each
other, and a model that knew all would reach an AUC of 1 - NOISE. The other columns depend on
each other, and on nothing of these. The label is always at the lender.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

USERS = 20_000
NOISE = 0.055

CASES: Mapping[str, tuple[str, str]] = {
    "xor_across": ("bank", "lender"),
    "xor_together": ("bank", "bank"),
    "xor_at_one": ("lender", "lender"),
}
"""Who holds `left` and `right`: one feature each, both features at the party without the label,
or all three columns at one."""

_OTHERS = {
    "bank": {"region": 5, "age": None, "owner": 2},
    "lender": {"product": 4, "amount": None, "term": 6},
}
"""Columns beside them: their levels, or None for numbers 0..99."""


def exclusive_or(
    name: str, holders: tuple[str, str]
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """The configuration `data` of such a table, and its parts by party."""
    import pandas as pd

    whole = _rows()
    held = {party: list(others) for party, others in _OTHERS.items()}
    for column, party in zip(("left", "right"), holders, strict=True):
        held[party].append(column)
    held["lender"].append("label")
    parties = []
    for party, columns in held.items():
        told = [{"name": "id", "kind": "categorical", "role": "key"}]
        told += [_column(column) for column in columns]
        source = {"kind": "parquet", "path": f"{party}.parquet"}
        parties.append({"name": party, "source": source, "columns": told})
    frames = {p: pd.DataFrame({"id": whole["id"], **{c: whole[c] for c in held[p]}}) for p in held}
    fairness = {"sensitive": ["owner"], "label": "label", "positive": "1"}
    return {"name": name, "parties": parties, "lift": None, "fairness": fairness}, frames


def _column(name: str) -> dict[str, Any]:
    sizes = {n: size for others in _OTHERS.values() for n, size in others.items()}
    size = sizes.get(name, 2)
    if size is None:
        return {"name": name, "kind": "integer", "bounds": [0, 99], "bins": 10}
    roles = {"owner": "sensitive", "label": "label"}
    levels = [str(i) for i in range(size)]
    column = {"name": name, "kind": "categorical", "levels": levels}
    return {**column, "role": roles[name]} if name in roles else column


def _rows() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    left, right = rng.integers(2, size=(2, USERS))
    label = left ^ right ^ (rng.random(USERS) < NOISE)
    wealth = rng.normal(size=USERS)

    def graded(size: int) -> Any:
        score = wealth + rng.normal(size=USERS)
        return np.clip(np.floor((score + 3) / 6 * size), 0, size - 1).astype(int)

    numbers = {"age": graded(100), "amount": graded(100)}
    levels = {"region": graded(5), "owner": graded(2), "product": graded(4), "term": graded(6)}
    coins = {"left": left, "right": right, "label": label}
    ids = [f"u{i}" for i in range(USERS)]
    return {"id": ids, **numbers} | {n: v.astype(str) for n, v in {**levels, **coins}.items()}
