"""The facts of a run that the reports in the tests are about."""

from __future__ import annotations

from twinweave.report.contents import RunFacts

FACTS = RunFacts(
    run="4f2a",
    data="campaign",
    sizes={"a": 2250, "b": 2300},
    epsilon=1.0,
    delta=1e-5,
    ledger={
        "epsilon": 0.9987,
        "epsilon_by_stage": {"measurement": 0.9987},
        "epsilon_by_party": {"a": 0.99, "b": 0.9},
        "notes": ["Stages do not add up."],
    },
    guards={"a": "off", "b": "on"},
    tables=5,
    cells=67,
    files={"report": "runs/4f2a/report.json"},
    synthetic={name: f"runs/4f2a/synthetic/{name}.parquet" for name in ("a", "b", "joint")},
    seconds=12.0,
    truth={"bought": 0.06},
    truth_by={"bought": {"region": {"n": 0.06, "s": 0.06}}},
)
