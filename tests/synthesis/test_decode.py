"""The synthetic tables: a person is the same in each, types are the originals', SDV takes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.analysis.synthetic_world import rows, schema
from twinweave import rundir
from twinweave.errors import SourceError
from twinweave.names import slug
from twinweave.synthesis.decode import decode_rows
from twinweave.tables.encoding import column_codes

SCHEMA = schema()
ROWS = rows(SCHEMA, 400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "synthetic"
    rundir.write_synthetic(path, decode_rows(SCHEMA, ROWS, 7), csv=True)
    return path


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{name}.parquet")


def test_each_party_has_its_people_and_columns_key_first(folder: Path) -> None:
    shop, bank = read(folder, "shop"), read(folder, "bank")
    assert list(shop) == ["id", "age", "region", "arm"]
    assert list(bank) == ["id", "region", "bought", "since", "spend"]
    assert [len(shop), len(bank)] == ROWS.presence.sum(axis=0).tolist()
    assert shop["id"].str.fullmatch(r"synthetic-\d{7}").all()
    assert shop["id"].is_unique


def test_a_person_is_the_same_in_every_table(folder: Path) -> None:
    joint = read(folder, "joint").set_index("id")
    for party in SCHEMA.parties:
        own = read(folder, party).set_index("id")
        flagged = joint.index[joint[f"present_{party}"]]
        assert set(own.index) == set(flagged)
        # Types differ where only the joint table has gaps.
        theirs = joint.loc[own.index, own.columns]
        pd.testing.assert_frame_equal(own, theirs, check_dtype=False)
    both = read(folder, "shop").merge(read(folder, "bank"), on="id", suffixes=("", "_bank"))
    assert len(both) == ROWS.presence.all(axis=1).sum()
    assert (both["region"] == both["region_bank"]).all()


def test_the_joint_table_codes_back_to_the_rows(folder: Path) -> None:
    joint = read(folder, "joint")
    for i, column in enumerate(SCHEMA.columns):
        seen = ROWS.codes[:, i] >= 0
        assert joint.loc[~seen, column.name].isna().all()
        found = column_codes(column, joint.loc[seen, column.name])
        np.testing.assert_array_equal(found, ROWS.codes[seen, i])
    assert joint["age"].dtype == "Int64"
    assert joint["since"].dtype.kind == "M"
    np.testing.assert_array_equal(joint[["present_shop", "present_bank"]], ROWS.presence)


@pytest.mark.parametrize("name", ["shop", "bank", "joint"])
def test_sdv_takes_the_tables(folder: Path, name: str) -> None:
    from sdv.metadata import Metadata

    told = json.loads((folder / f"{name}.metadata.json").read_text())
    metadata = Metadata.load_from_dict(told)
    metadata.validate()
    metadata.validate_data({"table": read(folder, name)})


def test_csv_says_the_same(folder: Path) -> None:
    joint = read(folder, "joint")
    csv = pd.read_csv(folder / "joint.csv", parse_dates=["since"], float_precision="round_trip")
    assert csv["spend"].equals(joint["spend"])
    assert csv["id"].equals(joint["id"])
    assert (csv["since"].isna() == joint["since"].isna()).all()
    assert (csv["since"].dropna() == joint["since"].dropna()).all()


def test_the_seed_decides() -> None:
    one, same, other = (decode_rows(SCHEMA, ROWS, seed).joint for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert not one["spend"].equals(other["spend"])


def test_no_name_of_a_party_or_a_column_gets_in_the_way(tmp_path: Path) -> None:
    odd = schema(parties=("joint", "../b"), keys=("synthetic_id", "bought_by"))
    written = rundir.write_synthetic(tmp_path / "synthetic", decode_rows(odd, ROWS, 1))
    assert len(set(written.values())) == 3
    assert all(p.parent == tmp_path / "synthetic" and p.exists() for p in written.values())
    assert next(iter(pd.read_parquet(written["joint_"]))) == "synthetic_id"
    assert next(iter(pd.read_parquet(written[slug("../b")]))) == "bought_by"
    assert decode_rows(odd, ROWS, 1).key == "synthetic_id"


def test_a_run_hands_out_its_tables(folder: Path) -> None:
    run = rundir.Run(folder.parent)
    rundir.write_json(folder.parent / rundir.SPEC, {"schema": SCHEMA})
    assert run.synthetic().equals(read(folder, "joint"))
    assert run.synthetic("shop").equals(read(folder, "shop"))
    with pytest.raises(SourceError, match=r"Tables: shop, bank, joint"):
        run.synthetic("nobody")


def test_a_run_without_a_generator_says_so(tmp_path: Path) -> None:
    rundir.write_json(tmp_path / rundir.SPEC, {"schema": SCHEMA})
    with pytest.raises(SourceError, match="generator"):
        rundir.Run(tmp_path).synthetic("shop")


def test_an_empty_party_has_an_empty_table(tmp_path: Path) -> None:
    alone = ROWS.take(np.flatnonzero(~ROWS.presence[:, 1]))
    written = rundir.write_synthetic(tmp_path, decode_rows(SCHEMA, alone, 1))
    assert pd.read_parquet(written["bank"]).empty
