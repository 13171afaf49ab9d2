"""What a study of quality compares: runs on some users, scores on others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.studies.datasets import Data, aucs, coded, load, mean_ks, mean_tvd
from scripts.studies.exclusive_or import CASES, NOISE
from twinweave.tables.encoding import decode, load_party


@pytest.fixture(scope="module")
def data() -> Data:
    return load(["data=xor_across"], hold_out=0.3)


def test_held_out_users_are_in_no_run(data: Data, tmp_path: Path) -> None:
    conf = data.configured(["output=x", "privacy=public", "privacy.epsilon=1"], tmp_path)
    whole = load(["data=xor_across"])
    assert data.holdout is not None
    assert len(data.union) + len(data.holdout) == len(whole.union)
    for party in conf.data.parties:
        assert party.source is not None
        table = load_party(party.source, party.schema, party.name)
        assert len(table) == data.sizes[party.name] == len(data.union)
        at = [data.layout.names.index(n) for n in party.schema.coded_names]
        np.testing.assert_array_equal(table.codes[np.argsort(table.ids)], data.union.codes[:, at])


def test_synthetic_rows_are_coded_as_the_parties_would(data: Data) -> None:
    columns, codes = data.schema.columns, data.union.codes[:500]
    found, numbers = coded(decode(columns, codes, np.random.default_rng(0)), data)
    order = np.argsort(np.arange(500).astype(str))
    np.testing.assert_array_equal(found, codes[order])
    assert list(numbers) == ["age", "amount"]


@pytest.mark.parametrize("case", CASES)
def test_no_pair_tells_of_the_exclusive_or_and_all_three_do(case: str) -> None:
    made = load([f"data={case}"], hold_out=0.3)
    assert made.holdout is not None
    boosting, logistic = aucs(made.union.codes, made.holdout, made.layout, made.positive)
    assert boosting == pytest.approx(1 - NOISE, abs=0.01)
    assert logistic == pytest.approx(0.5, abs=0.03)
    shuffled = made.union.codes.copy()
    label = made.layout.names.index("label")
    shuffled[:, label] = np.random.default_rng(0).permutation(shuffled[:, label])
    sizes = made.layout.sizes
    near, far = (mean_tvd(c, made.holdout, sizes, ways=3) for c in (made.union.codes, shuffled))
    assert far > near + 0.004  # one triple of 84 has the label's 0.445 in it
    assert mean_ks(made.numbers, made.numbers) == 0
