"""Every data configuration: parses, agrees between its parties, and reads the real tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from twinweave.parsing import parse
from twinweave.tables.column import Role
from twinweave.tables.loading import load_cleaned, load_party
from twinweave.tables.schema import JointSchema, Schema
from twinweave.tables.sources import Source

REPOSITORY = Path(__file__).parents[2]
DATA_ROOT = Path(os.environ.get("TWINWEAVE_DATA_ROOT", REPOSITORY.parent / "shared" / "data"))

ROWS = {
    "campaign": None,
    "hillstrom": 64_000,
    "adult": 32_561,
    "adult5": 32_561,
    "diabetes130": 71_515,
    "german_credit": 1_000,
    "student": 649,
}


def load(name: str) -> DictConfig:
    """The configuration as a run sees it, its root at DATA_ROOT."""
    conf = OmegaConf.create({"data": OmegaConf.load(REPOSITORY / "conf/data" / f"{name}.yaml")})
    if name != "campaign":
        conf.data.root = str(DATA_ROOT)
    return conf


def plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)


def parties(conf: DictConfig) -> dict[str, tuple[Source, Schema]]:
    return {
        p["name"]: (
            parse(Source, p["source"]),
            parse(Schema, {"party": p["name"], "columns": p["columns"]}),
        )
        for p in plain(conf.data.parties)
    }


def test_every_file_is_listed_here() -> None:
    assert {p.stem for p in (REPOSITORY / "conf/data").glob("*.yaml")} == set(ROWS)


POOLED = ("adult5",)


@pytest.mark.parametrize("name", [n for n in ROWS if n not in POOLED])
def test_the_parties_agree_and_the_roles_are_where_they_belong(name: str) -> None:
    conf = load(name)
    held = parties(conf)
    joint = JointSchema(schemas=tuple(schema for _, schema in held.values()))
    first, second = joint.parties
    lift, fairness = conf.data.lift, conf.data.fairness
    if lift is not None:
        arms = joint.column(lift.membership)
        assert joint.holders(arms.name) == (first,)
        treated = list(lift.get("arms", {"test": lift.get("test")}).values())
        named = [level for levels in (*treated, lift.control) for level in levels]
        assert set(named) <= set(arms.levels)
        assert len(named) == len(set(named))
        assert all(joint.holders(c) == (second,) for c in (*lift.conversions, *lift["values"]))
        assert all(joint.column(c).role is Role.VALUE for c in lift["values"])
        sides = [joint.holders(c) for c in lift.breakdowns]
        assert {(first, second), (second,)} == set(sides)  # of everyone, and of matched users
    if fairness is not None:
        assert joint.holders(fairness.label) == (second,)
        assert fairness.positive in joint.column(fairness.label).labels
        assert all(joint.column(c).shared for c in fairness.sensitive)
        assert {c.name for c in joint.with_role(Role.SENSITIVE)} == set(fairness.sensitive)
    assert lift is not None or fairness is not None


@pytest.mark.parametrize("name", [n for n in ROWS if n not in POOLED])
def test_the_real_tables_fit(name: str) -> None:
    rows = ROWS[name]
    if rows is not None and not (DATA_ROOT / name).is_dir():
        pytest.skip(f"no {name} data under {DATA_ROOT}: set TWINWEAVE_DATA_ROOT")
    conf = load(name)
    tables = {p: load_party(source, schema, p) for p, (source, schema) in parties(conf).items()}
    for table in tables.values():
        assert rows is None or len(table) == rows
        sizes = [c.size for c in table.schema.data_columns]
        assert (table.codes >= 0).all()
        assert (table.codes < sizes).all()
        # A domain that is mostly empty, or a column that says one thing, is a slip in the file.
        used = [len(np.unique(c)) for c in table.codes.T]
        assert all(u >= 2 and u >= 0.6 * s for u, s in zip(used, sizes, strict=True))


def test_adult5_is_adult_in_five_parts() -> None:
    if not (DATA_ROOT / "adult").is_dir():
        pytest.skip(f"no adult data under {DATA_ROOT}: set TWINWEAVE_DATA_ROOT")
    held, whole = parties(load("adult5")), parties(load("adult"))
    joint = JointSchema(
        schemas=tuple(schema for _, schema in held.values()),
        pools=plain(load("adult5").data.pools),
    )
    assert joint.units == (tuple(held),)
    assert set(joint.names) == set(JointSchema(schemas=tuple(s for _, s in whole.values())).names)
    frames = {p: load_cleaned(source, schema, p).frame for p, (source, schema) in held.items()}
    people = np.concatenate([f["person"] for f in frames.values()])
    assert len(np.unique(people)) == len(people) == ROWS["adult5"]
    assert all(0.19 < len(f) / len(people) < 0.21 for f in frames.values())


def test_hillstrom_has_the_published_lift() -> None:
    if not (DATA_ROOT / "hillstrom").is_dir():
        pytest.skip(f"no hillstrom data under {DATA_ROOT}: set TWINWEAVE_DATA_ROOT")
    held = parties(load("hillstrom"))
    a, b = (load_cleaned(source, schema, p).frame for p, (source, schema) in held.items())
    visit = b["visit"].eq("1").groupby(a["segment"]).mean()
    assert visit["Mens E-Mail"] - visit["No E-Mail"] == pytest.approx(0.0766, abs=5e-5)


def test_adult_holdout_fits_both_parties() -> None:
    if not (DATA_ROOT / "adult").is_dir():
        pytest.skip(f"no adult data under {DATA_ROOT}: set TWINWEAVE_DATA_ROOT")
    conf = load("adult")
    source = parse(Source, plain(conf.data.holdout)["source"])
    for party, (_, schema) in parties(conf).items():
        assert len(load_party(source, schema, party)) == 16_281
