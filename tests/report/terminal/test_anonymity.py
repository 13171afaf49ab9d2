"""The summary's lines on the anonymity of the synthetic tables."""

from __future__ import annotations

from tests.analysis.synthetic_world import rows, schema
from twinweave.analysis.anonymity import of_tables
from twinweave.analysis.audit.report import AuditReport
from twinweave.analysis.audit.results import Gate
from twinweave.report.terminal.audit import audit_section
from twinweave.report.terminal.text import WIDTH


def test_every_table_is_described_over_what_it_has() -> None:
    joint = schema()
    found = of_tables(joint, rows(joint, 300), ("region", "since"), 10)
    lines = audit_section(
        AuditReport(
            mode="quick",
            holdout=0.1,
            threshold=0.1,
            gate=Gate(state="open"),
            attacks={},
            looked=joint.parties,
            silent=(),
            words={},
            anonymity=found,
        )
    )
    text = "\n".join(lines)
    assert max(map(len, lines)) <= WIDTH
    for name, one in found.items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert f"{one.below} of {one.rows} below 10" in line
    assert "Over region, since." in text
    assert "guarantees nothing" in text
