"""What a party that deviates reads of another's rows: nothing proves that its matrix counts once.

The noise on a table across covers a row that counts once in both matrices. Who lets one of its
own rows count thousands of times reads whoever shares its slot.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.campaigns import csv_mapping
from tests.e2e.clear import Clear
from tests.security.test_without import FEW, A, P, two
from twinweave.config import RunConf
from twinweave.protocols.products.blocks import BlockSet
from twinweave.protocols.products.pair import Pair
from twinweave.protocols.products.state import Pass

HEAVY = 3000


def heavy(honest: BlockSet, slot: np.int64) -> BlockSet:
    """The matrix in which whoever is at the slot counts HEAVY times in every table."""
    entries = honest.entries(slice(None), np.uint32)[:, : len(honest.layout.sides)]
    entries[slot] = HEAVY
    return replace(honest, weights={**honest.weights, **dict(enumerate(entries.T))})


def only(clear: Clear, user: str) -> Clear:
    """The tables of one user alone."""
    clear.labels = {p: rows.loc[rows.index == user] for p, rows in clear.labels.items()}
    return clear


@pytest.mark.remains("weights")
def test_a_party_whose_row_counts_many_times_reads_who_shares_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The advertiser does and is charged what was agreed; a row of its own opens all the same."""
    run, honest = two(tmp_path), Pass.blocks
    clear = Clear(RunConf.parse(csv_mapping(tmp_path, *FEW, users=80)))
    known = clear.labels[P].index
    row = int(np.argmax(known.isin(clear.labels[A].index)))

    def blocks(self: Pass, pair: Pair) -> BlockSet:
        matrix = honest(self, pair)
        return heavy(matrix, self.state.slots[row]) if self.party.name == P else matrix

    monkeypatch.setattr(Pass, "blocks", blocks)
    found, alone = run.measured().measurements, only(clear, known[row])
    across = {i: p for i, p in enumerate(run.spec.plan) if p.query.is_cross and not p.query.weight}
    assert across
    for i, planned in across.items():
        assert planned.variance**0.5 < HEAVY / 100
        assert np.argmax(found[i].values) == np.argmax(alone.table(planned.query))
