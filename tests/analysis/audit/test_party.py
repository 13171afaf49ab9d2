"""A party's audit as a whole: its own word follows from what attacks reach on its own rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.analysis.attacks.leaking import COLUMNS, Generator, copies, overfitted, people, safe
from twinweave.analysis.audit.party import audit
from twinweave.protocols.evaluation.interface import Audited, Evidence
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.audit import AuditPlan

KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
SCHEMA = JointSchema(
    schemas=(
        Schema(party="shop", columns=(KEY, *COLUMNS)),
        Schema(party="bank", columns=(KEY, Column(name="rich", kind=Kind.BOOLEAN))),
    )
)


def audited(
    generator: Generator, aside: int = 400, *, unsafe: bool = False, **plan: Any
) -> Audited:
    rng = np.random.default_rng(3)
    used = people(1200, rng)
    made = generator(used, rng)
    return audit(
        Evidence(
            party="shop",
            schema=SCHEMA,
            used=used,
            aside=people(aside, rng),
            synthetic=made,
            plan=AuditPlan(mode="quick", holdout=0.1, threshold=0.1, **plan),
            seed=1,
            unsafe=unsafe,
        )
    )


@pytest.mark.parametrize(("generator", "withheld"), [(overfitted, True), (safe, False)])
def test_a_partys_word_follows_from_attacks(generator: Generator, withheld: bool) -> None:
    found = audited(generator)
    assert found.withheld is withheld
    names = [attack["name"] for attack in found.report["attacks"]]
    assert {"copies", "rare values"} < set(names)
    assert sum("DOMIAS" in name for name in names) == sum("Gen-LRA" in name for name in names) == 2


def test_rows_trained_without_noise_are_withheld_whatever_attacks_reach() -> None:
    found = audited(safe, unsafe=True)
    assert found.withheld
    assert [r["source"] for r in found.report["gate"]["reasons"]] == ["unsafe"]
    assert any("without noise" in line for line in found.report["lines"])


def test_the_closest_record_decides_nothing() -> None:
    """It is told as information, of a table of copies too."""
    found = audited(copies)
    assert found.report["closest_record"]["used"] == 0
    assert any("as information" in line for line in found.report["lines"])
    assert not [r for r in found.report["gate"]["reasons"] if "closest" in r["what"]]


def test_both_tables_are_described_over_the_quasi_identifiers_that_are_held() -> None:
    found = audited(safe, quasi_identifiers=("town", "gender", "rich"), k=3)
    described = found.report["anonymity"]
    assert set(described) == {"synthetic", "own rows"}
    assert list(described["own rows"]["quasi_identifiers"]) == ["town", "gender"]
    assert [d["column"] for d in described["own rows"]["diversity"]] == ["loyal"]


def test_what_was_not_attacked_is_said() -> None:
    found = audited(copies, aside=50)
    assert not [a for a in found.report["attacks"] if "DOMIAS" in a["name"]]
    assert "audit.holdout" in " ".join(found.report["lines"])
