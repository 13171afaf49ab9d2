from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from twinweave.errors import AppError, ConfigError, ProtocolError
from twinweave.privacy import accountant
from twinweave.privacy.events import (
    DiscreteGaussian,
    Event,
    NonPrivate,
    PoissonSgd,
    SharedBinomial,
    Stage,
)
from twinweave.privacy.ledger import Ledger

DELTA = 1e-5
TABLE = Event(
    label="segment x visit",
    stage=Stage.MEASUREMENT,
    parties=("a", "b"),
    mechanism=SharedBinomial(coins=500),
)
LOCAL = Event(
    label="sum spend",
    stage=Stage.SELECTION,
    parties=("b",),
    mechanism=DiscreteGaussian(noise_multiplier=9.0, sensitivity=1024),
)
TRAINING = Event(
    label="training at a",
    stage=Stage.TRAINING,
    parties=("a",),
    mechanism=PoissonSgd(noise_multiplier=1.5, sampling_rate=0.02, steps=50),
)
OPEN = Event(label="x", stage=Stage.TRAINING, parties=("a",), mechanism=NonPrivate(reason="unsafe"))


def test_charge_returns_a_longer_ledger() -> None:
    empty = Ledger()
    full = empty.charge(TABLE).charge(LOCAL, TRAINING)
    assert empty.events == ()
    assert full.events == (TABLE, LOCAL, TRAINING)
    assert 0 == empty.epsilon(DELTA) < full.epsilon(DELTA)


def test_parts_are_composed_alone() -> None:
    ledger = Ledger(events=(TABLE, LOCAL, TRAINING))
    party, stage = ledger.by_party(DELTA), ledger.by_stage(DELTA)
    assert party["a"] == accountant.epsilon([TABLE, TRAINING], DELTA)
    assert party["b"] == accountant.epsilon([TABLE, LOCAL], DELTA)
    assert set(stage) == {"measurement", "selection", "training"}
    assert stage["selection"] == accountant.epsilon([LOCAL], DELTA)
    assert max(stage.values()) < ledger.epsilon(DELTA) < sum(stage.values())


def test_report_is_json_and_restores() -> None:
    ledger = Ledger(events=(TABLE, LOCAL, TRAINING))
    report = json.loads(json.dumps(ledger.report(DELTA), allow_nan=False))
    assert Ledger.restore(report) == ledger == Ledger.restore(ledger.to_record())
    assert report["epsilon"] == ledger.epsilon(DELTA)
    assert report["accountant"] == accountant.NAME
    assert any("floating point" in note for note in report["notes"])
    without = Ledger(events=(TABLE,)).report(DELTA)
    assert not any("floating point" in note for note in without["notes"])


@pytest.mark.remains("torn")
def test_a_torn_match_costs_tables_across_twice_and_nothing_else() -> None:
    alone = replace(TABLE, parties=("a",))
    assert Ledger(events=(alone, TRAINING)).torn(DELTA) == Ledger(events=(alone, TRAINING)).epsilon(
        DELTA
    )
    twice = Ledger(events=(TABLE, alone, TRAINING)).torn(DELTA)
    assert twice == Ledger(events=(TABLE, TABLE, alone, TRAINING)).epsilon(DELTA)
    assert Ledger(events=(TABLE,)).report(DELTA)["epsilon_if_matches_are_torn"] > 1.4 * Ledger(
        events=(TABLE,)
    ).epsilon(DELTA)


def test_a_release_without_guarantee_is_infinite() -> None:
    ledger = Ledger(events=(TABLE, OPEN))
    assert ledger.epsilon(DELTA) == math.inf
    report = json.loads(json.dumps(ledger.report(DELTA), allow_nan=False))
    assert report["epsilon"] is None
    assert report["epsilon_by_party"]["b"] == ledger.by_party(DELTA)["b"] < math.inf
    assert any("infinite" in note for note in report["notes"])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": 2}, ProtocolError),
        ({"version": None}, ProtocolError),
        ({"events": None}, ProtocolError),
        ({"events": [7]}, ProtocolError),
        ({"events": [{"mechanism": {"kind": "Laplace"}}]}, ProtocolError),
        ({"events": [{"mechanism": {"kind": "SharedBinomial", "coins": -1}}]}, ConfigError),
        ({"events": [{"mechanism": {"kind": "SharedBinomial", "coins": 9}}]}, ConfigError),
    ],
)
def test_malformed_records_are_refused(change: dict[str, object], error: type[AppError]) -> None:
    with pytest.raises(error):
        Ledger.restore(Ledger(events=(TABLE,)).to_record() | change)
