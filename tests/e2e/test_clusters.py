"""Households in a whole run: counted by random group, told in the report, nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import twinweave
from tests.campaigns import GENERATORS, mapping
from tests.e2e.clear import Clear, assert_exact
from tests.e2e.plans import silent
from tests.whole_run import run_of, serve, spec_of
from twinweave.config import RunConf
from twinweave.tables.encoding import cluster_groups
from twinweave.tables.loading import load_cleaned

P, A = "publisher", "advertiser"


def configured(folder: Path) -> dict[str, Any]:
    data = mapping(
        folder / "out",
        "protocol.alignment=prf",
        "+data.parties.0.source.campaign.household=1.5",
        "+data.lift.cluster=household",
    )
    publisher = data["data"]["parties"][0]
    publisher["columns"].append({"name": "household", "kind": "categorical", "role": "cluster"})
    return data


def test_groups_are_counted_exactly(tmp_path: Path) -> None:
    """Next to no noise: the planned tables, those by random group too, equal the plaintext."""
    conf = RunConf.parse(configured(tmp_path))
    clear = Clear(conf)
    own = conf.data.parties[0]
    assert own.source is not None
    frame = load_cleaned(own.source, own.schema, P).frame
    ids = frame["user"].to_numpy(dtype=object)
    groups = cluster_groups(frame["household"], ids)
    clear.labels[P]["household"] = pd.Series([f"group {g + 1}" for g in groups], index=ids)
    ran = run_of(conf, silent(spec_of(conf).plan))
    assert_exact(ran, clear)
    named = [m.query.name for m in ran.findings.measurements if "household" in m.query.name]
    assert named == ["publisher.arm x publisher.household x advertiser.converted"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = configured(tmp_path_factory.mktemp("households"))
    data["generator"] = GENERATORS["tvae"] | {"rounds": 0}
    data["synthesis"]["fit"] |= {"latents": 64, "network_steps": 5, "free_steps": 30}
    return serve(data)


def test_the_report_tells_the_design_effect(folder: Path) -> None:
    told = twinweave.load(folder).report["lift"]["clusters"]
    assert told["column"] == "household"
    assert told["size"]["used"] >= 1
    outcomes = [e["outcome"] for e in told["effects"]]
    assert outcomes == ["converted", "spend", "held by advertiser"]
    assert all(e["used"] >= 1 for e in told["effects"])


def test_no_synthetic_table_has_households_and_no_file_an_id_of_one(folder: Path) -> None:
    run = twinweave.load(folder)
    for name in ("joint", P, A):
        assert "household" not in run.synthetic(name).columns
    files = [f for f in folder.rglob("*") if f.is_file()]
    assert len(files) > 5
    for file in files:
        assert b"house 1" not in file.read_bytes(), file
    cells = run.cells()
    assert not cells[cells["name"].str.contains("household")].empty
    assert np.isfinite(cells["value"]).all()
