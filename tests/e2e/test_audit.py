"""A whole run with an audit: what is set aside, asked, paid and told, and what is withheld."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import twinweave
from scripts import audit as command
from scripts.run import _check_gate
from server import generator, outputs
from tests.campaigns import GENERATORS, mapping
from tests.whole_run import guard_rows, serve
from twinweave import rundir
from twinweave.analysis.audit import party as party_audit
from twinweave.analysis.canaries.run import EFFORTS, Effort
from twinweave.errors import WithheldError
from twinweave.generators.union import Rows
from twinweave.parsing import parse
from twinweave.privacy import accountant
from twinweave.privacy.events import Stage
from twinweave.privacy.ledger import Ledger
from twinweave.spec import RunSpec
from twinweave.tables.contingency import ABSENT
from twinweave.tables.holdout import divide, simulated_key
from twinweave.tables.loading import load_party
from twinweave.workload.audit import COUNTED

EPSILON = 4.0


def configured(folder: Path, *overrides: str) -> dict[str, Any]:
    data = mapping(
        folder / "out",
        "audit=quick",
        "protocol.alignment=prf",
        f"privacy.epsilon={EPSILON}",
        "privacy.shares.evaluation=0.1",
        *overrides,
    )
    data["generator"] = GENERATORS["tvae"] | {"expected_batch": 300}
    data["synthesis"]["fit"] |= {"latents": 64, "network_steps": 5, "free_steps": 30}
    return data


@pytest.fixture(scope="module", autouse=True)
def few_canaries() -> Iterator[None]:
    """So few that they prove nothing: `tests/analysis/canaries` has enough."""
    few = Effort(side=12, canaries=50, levels=12, rounds=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EFFORTS, "quick", few)
        yield


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(configured(tmp_path_factory.mktemp("audited")))


def test_every_party_has_its_own_report_and_the_run_has_what_was_paid_for(ended: Path) -> None:
    run = twinweave.load(ended)
    told = run.report["audit"]
    assert told["gate"]["state"] == "open"
    assert told["looked"] == ["publisher", "advertiser"]
    assert len({b["path"] for b in told["bounds"]}) == len(told["bounds"]) > 5
    assert not any(b["exceeds"] for b in told["bounds"])
    assert run.report["set_aside"] == 0.1
    assert not any("exact word" in note for note in run.ledger["notes"])
    events = Ledger.restore(run.ledger).events
    counted = [e for e in events if e.stage is Stage.EVALUATION]
    assert len(counted) == 2 * len(COUNTED)
    assert EPSILON * 0.99 < accountant.epsilon(events, 1e-5) <= EPSILON
    for party in told["looked"]:
        own = json.loads((ended / "parties" / party / "audit.json").read_text())
        assert own["rows"]["used"] == run.report["sizes"][party]
        assert own["rows"]["set_aside"] > 0
        assert own["lines"]
        assert own["lines"][0] not in (ended / rundir.LOG).read_text()  # which may be handed on
    _check_gate(ended)


def test_a_finished_run_is_audited_again_and_finds_the_same(
    ended: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    assert command.main([str(ended), "--canaries", "--json", str(file)]) == 0
    shown, again = capsys.readouterr().out, json.loads(file.read_text())
    for party in ("publisher", "advertiser"):
        first = json.loads((ended / "parties" / party / "audit.json").read_text())
        for part in ("rows", "attacks", "utility", "gate"):
            assert again[party][part] == first[part], part
        assert all(line in shown for line in first["lines"])
    assert "training: tvae, every noisy gradient: epsilon" in shown


def leaking(real: Any) -> Any:
    """A synthesis that hands out the publisher's rows as they are."""

    def rows_of(conf: Any, findings: Any) -> Any:
        spec: RunSpec = findings.spec
        result, party = real(conf, findings), "publisher"
        source = next(p.source for p in conf.data.parties if p.name == party)
        key = bytes.fromhex(simulated_key(conf.data.name))
        used, _ = divide(load_party(source, spec.schema.schema(party), party), key, spec.holdout)
        names = spec.schema.names
        codes = np.full((len(used), len(names)), ABSENT, dtype=np.int32)
        for at, name in enumerate(spec.schema.schema(party).names):
            codes[:, names.index(name)] = used.codes[:, at]
        presence = np.zeros((len(used), 2), dtype=bool)
        presence[:, spec.schema.parties.index(party)] = True
        return replace(result, rows=Rows(codes=codes, presence=presence))

    return rows_of


def test_tables_that_copy_people_are_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the parties' exact word too: of few people, counts with noise say little."""
    monkeypatch.setattr(generator, "synthetic_rows", leaking(generator.synthetic_rows))
    data = configured(tmp_path, "audit.gate=parties", "data.parties.0.source.campaign.users=700")
    columns = data["data"]["parties"][0]["columns"]
    finer = [c for c in columns if c["name"] == "age"]
    finer[0]["bins"] = 60
    out = serve(data)
    gate = twinweave.load(out).report["audit"]["gate"]
    assert gate["state"] == "withheld"
    assert {reason["source"] for reason in gate["reasons"]} == {"publisher"}
    assert "WITHHELD" in capsys.readouterr().out
    for name in (rundir.SYNTHETIC, rundir.MIXTURE, rundir.WEIGHTS):
        assert not (out / name).exists(), name
    spec = parse(RunSpec, json.loads((out / rundir.SPEC).read_text()))
    assert spec.audit is not None
    assert spec.audit.verdict
    assert any("exact word" in note for note in twinweave.load(out).ledger["notes"])
    assert "outside epsilon and delta" in (out / rundir.PAGE).read_text()
    with pytest.raises(WithheldError, match="publisher"):
        _check_gate(out)


@pytest.mark.parametrize("without", [False, True])
def test_a_run_cut_short_after_the_parties_looked_goes_on_and_pays_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: bool
) -> None:
    """without: it ends with audit=off, and what was released stays in its ledger."""
    data = configured(tmp_path, "privacy.guard.mode=on", "privacy.guard.epsilon=50")
    out, counts = Path(data["output"]), []
    real = outputs.write_report

    def write(conf: Any, findings: Any, *args: Any, synthesis: bool, **more: Any) -> str:
        if synthesis:
            counts.append({p: dict(r.hits) for p, r in findings.evaluated.items()})
            if len(counts) == 1:
                raise KeyboardInterrupt
        return real(conf, findings, *args, synthesis=synthesis, **more)

    monkeypatch.setattr(outputs, "write_report", write)
    with pytest.raises(KeyboardInterrupt):
        serve(data)
    assert not (out / rundir.SYNTHETIC).exists()
    serve(data | {"resume": str(out)} | ({"audit": {"mode": "off"}} if without else {}))
    run = twinweave.load(out)
    events = Ledger.restore(run.ledger).events
    assert sum(e.stage is Stage.EVALUATION for e in events) == 2 * len(COUNTED)
    sites = [json.loads(path.read_text()) for path in (out / "parties" / "sites").glob("*.yaml")]
    for party, spends in guard_rows({site["party"]: site for site in sites}).items():
        assert [phase for _, phase in spends].count("evaluate.synthetic") == 1, party
    first, again = counts
    if without:
        assert again == {}
        assert run.report["audit"] is None
    else:
        assert all((first[p][n] == again[p][n]).all() for p in first for n in COUNTED)
        assert run.report["audit"]["gate"]["state"] == "open"


def test_an_audit_that_breaks_down_ends_no_run_and_tells_the_party_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That there was an error would be a bit of the party's rows, outside (epsilon, delta)."""

    def fails(*_: Any) -> Any:
        raise ValueError("could not convert 61-secret")

    monkeypatch.setattr(party_audit, "measured", fails)
    out = serve(configured(tmp_path))
    run, shown = twinweave.load(out), capsys.readouterr().out
    assert run.report["audit"]["looked"] == ["publisher", "advertiser"]
    assert "publisher: it could not be finished (ValueError)" in shown
    for text in (shown, (out / rundir.REPORT).read_text(), (out / "run.log").read_text()):
        assert "secret" not in text
    assert "could not be finished" not in (out / "run.log").read_text()
    own = json.loads((out / "parties" / "publisher" / "audit.json").read_text())
    assert own["gate"]["state"] == "withheld"
    assert command.main([str(out)]) == WithheldError.exit_code
