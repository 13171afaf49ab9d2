"""A registry entry says what the ledger says, and a signature holds for that and nothing else."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import registry as command
from tests.report.page.runs import contents, measured, written
from twinweave import rundir
from twinweave.config import RunConf, compose
from twinweave.errors import BudgetError, ChannelError, SourceError
from twinweave.parsing import parse
from twinweave.planning import plan
from twinweave.privacy.events import DiscreteGaussian, Event, Stage
from twinweave.privacy.guard import Guard, Limit
from twinweave.privacy.ledger import Ledger
from twinweave.protocols.channel.identity import Identity
from twinweave.report import registry
from twinweave.rundir import Run
from twinweave.site import Site

EVENTS = tuple(
    Event(
        label=f"t{i}",
        stage=Stage.MEASUREMENT,
        parties=("a",),
        mechanism=DiscreteGaussian(noise_multiplier=20.0 + i),
    )
    for i in range(3)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    tables = measured()
    written(folder, replace(contents(tables), synthetic=None, audit=None), tables)
    rundir.write_json(folder / rundir.LEDGER, Ledger(events=EVENTS).report(1e-5))
    conf = {"protocol": {"cross_tables": "secret_sharing"}}
    rundir.write_json(folder / rundir.CONFIGURATION, conf)
    asked = RunConf.parse(compose(["generator=none", "audit=off", f"output={folder}"]))
    rundir.write_json(folder / rundir.SPEC, plan(asked, run="f" * 32))
    return Run(folder)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    Identity.generate().save(tmp_path / "identity.pem")
    found = {
        "party": "a",
        "dataset": "customers",
        "columns": [{"name": "user", "kind": "categorical", "role": "key"}],
        "source": {"kind": "csv", "path": "nowhere.csv"},
        "identity": str(tmp_path / "identity.pem"),
        "pins": {},
        "guard": {"mode": "off"},
        "work": str(tmp_path),
    }
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(found))
    return parse(Site, found)


def charge(site: Site, events: tuple[Event, ...]) -> None:
    guard = Guard.open(site.guard, party="a", dataset=site.dataset, folder=site.work)
    guard.spend(
        fingerprint="f",
        run="f" * 32,
        phase="query.share",
        request_hash="h",
        events=events,
        run_limit=Limit(epsilon=9.0, delta=1e-5),
    )


def test_the_entry_says_what_the_ledger_says(run: Run) -> None:
    found = registry.entry(run)
    loss, ledger = found["privacy_loss"], run.ledger
    assert (loss["epsilon"], loss["delta"]) == (ledger["epsilon"], 1e-5)
    assert loss["epsilon_by_party"] == ledger["epsilon_by_party"]
    (line,) = found["mechanisms"]
    assert (line["releases"], line["noise_over_sensitivity"]) == ("3", "20 to 22")
    assert found["accounting"]["accountant"] == ledger["accountant"]
    assert "does not" not in found["model"]["trust"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_signature_holds_for_the_entry_alone(run: Run, site: Site) -> None:
    charge(site, EVENTS)
    found = registry.signed(registry.entry(run), site)
    key = found["signatures"]["a"]["key"]
    assert registry.verify(found, {"a": key.upper()}) == ("a",)
    with pytest.raises(ChannelError, match="not the pinned one"):
        registry.verify(found, {"a": "0" * 64})
    changed = copy.deepcopy(found)
    changed["privacy_loss"]["epsilon"] = 0.01
    with pytest.raises(ChannelError, match="does not hold"):
        registry.verify(changed, {})


def test_a_party_signs_no_less_than_it_released(run: Run, site: Site) -> None:
    another = replace(EVENTS[0], mechanism=DiscreteGaussian(noise_multiplier=25.0))
    charge(site, (*EVENTS, another))
    with pytest.raises(BudgetError, match="leaves something out"):
        registry.signed(registry.entry(run), site)


def test_a_party_of_no_such_run_does_not_sign(run: Run, site: Site) -> None:
    with pytest.raises(SourceError, match="no charge of run"):
        registry.signed(registry.entry(run), site)


def test_the_command(
    run: Run, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charge(site, EVENTS)
    folder, file = str(run.path), str(tmp_path / "site.yaml")

    def told(*arguments: str, code: int = 0) -> str:
        assert command.main([folder, *arguments]) == code
        said = capsys.readouterr()
        return said.out + said.err

    assert "Draw it" in told("--verify", code=14)
    assert "registry.json" in told()
    assert "nobody" in told("--verify")
    assert "signed by a" in told("--sign", file)
    assert "signed by: a" in told("--verify", file)
    entry: dict[str, Any] = json.loads((run.path / "registry.json").read_text())
    (run.path / "registry.json").write_text(json.dumps({**entry, "data": "other"}))
    assert "does not hold" in told("--verify", code=17)
