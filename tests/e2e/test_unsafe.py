"""Training without noise (`privacy.unsafe`): said everywhere, handed out nowhere, agreed to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

import twinweave
from scripts import guard as guard_command
from scripts.engines.inprocess import InProcessGrid
from scripts.run import _check_gate
from scripts.sweeps import table
from tests.campaigns import TRAINING, csv_mapping, mapping
from tests.e2e.test_pretrained import configured
from tests.whole_run import Deployment, guard_rows, run, serve
from twinweave import rundir
from twinweave.config import RunConf
from twinweave.errors import BudgetError, ConfigError, SourceError, WithheldError
from twinweave.foresight.assumptions import PlanConf
from twinweave.foresight.foresight import foresight
from twinweave.generators.pretrained.checkpoint import checked
from twinweave.generators.pretrained.lineage import read
from twinweave.parsing import to_plain
from twinweave.planning import plan
from twinweave.privacy import accountant
from twinweave.privacy.events import NonPrivate
from twinweave.privacy.ledger import Ledger
from twinweave.protocols.training.party import TRAIN
from twinweave.report.comparison import compared
from twinweave.report.registry import entry
from twinweave.report.sweep import Row
from twinweave.report.terminal.foresight import foresight_text

PARTIES = ("advertiser", "publisher")


def unsafe(data: dict[str, Any]) -> dict[str, Any]:
    data["privacy"] |= {"unsafe": True, "guard": {"mode": "off"}}
    return data


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of an unsafe run of a pretrained model, without an audit; what it printed."""
    lines: list[str] = []
    out = tmp_path_factory.mktemp("unsafe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout.write", lines.append)
        folder = serve(unsafe(configured(out, "gpt2")))
    return folder, "".join(lines)


def strict(path: Path) -> Any:
    """JSON as the standard has it: Python's own NaN and Infinity are refused."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{path}: {word}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_epsilon_is_infinite_in_every_file(told: tuple[Path, str]) -> None:
    folder, _ = told
    report, ledger = (strict(folder / name) for name in (rundir.REPORT, rundir.LEDGER))
    privacy = report["privacy"]
    assert privacy["spent"] is ledger["epsilon"] is ledger["epsilon_if_matches_are_torn"] is None
    for found in (privacy["spent_by_party"], ledger["epsilon_by_party"]):
        assert found == dict.fromkeys(PARTIES)
    assert privacy["spent_by_stage"]["training"] is None
    assert any("without any guarantee" in note for note in privacy["notes"])
    assert any("without noise" in line for line in report["who_sees_what"])
    for page in (folder / rundir.PAGE, *folder.glob("parties/*/report.html")):
        assert "∞" in page.read_text()
    text = (folder / rundir.PAGE).read_text()
    assert text.index("ε = ∞: no guarantee at all") < text.index("What it cost in privacy")
    assert "Nobody was asked to look" in text
    assert "no release is about them" not in text


def test_the_terminal_says_so_before_anything_is_asked_and_at_the_end(
    told: tuple[Path, str],
) -> None:
    _, printed = told
    assert printed.index("WITHOUT NOISE") < printed.index("aligning ")
    last = printed[printed.rindex("TWINWEAVE") :]
    for part in ("epsilon ∞ of 8", "NO GUARANTEE AT ALL", "WITHOUT NOISE", "TABLES WITHHELD"):
        assert part in last


def test_the_tables_keep_their_own_budget(told: tuple[Path, str]) -> None:
    """All of it, for the training takes none; and they are held to it as in any run."""
    ledger = Ledger.restore(twinweave.load(told[0]).ledger)
    private = [e for e in ledger.events if not isinstance(e.mechanism, NonPrivate)]
    assert len(ledger.events) - len(private) == len(PARTIES)
    assert 0.99 * 8 < accountant.epsilon(private, 1e-5) <= 8 * (1 + 1e-6)


def test_every_reader_copes(told: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = told
    assert guard_command.main([str(folder / "parties/publisher/guard.sqlite")]) == 0
    assert "∞" in capsys.readouterr().out
    found = entry(twinweave.load(folder))
    assert found["privacy_loss"]["epsilon"] is None
    assert "no guarantee" in found["privacy_loss"]["flavour"]
    (row,), _ = compared([folder])
    assert row.values["epsilon"] == float("inf")
    assert (row.status, row.front) == ("withheld", False)
    failed = Row(overrides=("a=1",), folder=folder.name, error="withheld", code=22)
    assert "∞" in table([failed, replace(failed, overrides=("a=2",))], folder.parent, ())


def test_the_gate_is_closed_without_an_audit_too(told: tuple[Path, str]) -> None:
    folder, _ = told
    ended = twinweave.load(folder)
    assert ended.status == "finished"
    with pytest.raises(WithheldError, match="without noise"):
        _check_gate(folder)
    with pytest.raises(SourceError, match=r"withheld.*without noise"):
        ended.synthetic()
    with pytest.raises(SourceError, match=r"withheld.*without noise"):
        ended.sample(3)
    assert ended.report["synthetic"]["tables"] == {}
    for name in (rundir.SYNTHETIC, rundir.WEIGHTS, rundir.MIXTURE):
        assert not (folder / name).exists()


def test_its_checkpoint_starts_no_private_run_under_any_name(
    told: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = told
    made = folder / rundir.FINE_TUNED
    assert twinweave.load(folder).report["files"]["checkpoint"] == str(made)
    lineage = read(made)
    assert lineage is not None
    assert [t.dataset for t in lineage.trained] == ["campaign"]
    moved = made.rename(tmp_path / "gpt2")
    data = configured(tmp_path, "gpt2")
    data["generator"]["checkpoint"] = str(moved)
    try:
        with pytest.raises(ConfigError, match="without noise"):
            serve(data)
        data["generator"]["unsafe_checkpoint"] = True
        with pytest.raises(ConfigError, match="unsafe_checkpoint"):
            RunConf.parse(data)
        again = plan(RunConf.parse(unsafe(data)), "0" * 32)
        assert again.trained.generator.digest == checked(str(moved), unsafe=True).digest
    finally:
        moved.rename(made)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(unsafe(csv_mapping(tmp_path) | {"generator": TRAINING}), tmp_path)


def test_parties_that_agreed_train_without_noise(deployment: Deployment) -> None:
    assert all(site["unsafe"] for site in deployment.sites.values())
    ran = deployment.start()
    assert ran.findings.ledger.epsilon(1e-5) == float("inf")
    assert ran.findings.weights is not None


def test_a_party_that_did_not_agree_refuses_before_any_charge(deployment: Deployment) -> None:
    deployment.sites["publisher"]["unsafe"] = False
    with pytest.raises(ConfigError, match=r"publisher.*site\.unsafe.*privacy\.unsafe"):
        deployment.start()
    assert guard_rows(deployment.sites) == {"publisher": [], "advertiser": []}


def test_a_party_with_its_guard_on_refuses_before_any_charge(deployment: Deployment) -> None:
    deployment.sites["publisher"]["guard"] |= {"mode": "on", "epsilon": 50, "delta": 1e-5}
    with pytest.raises(BudgetError, match=r"publisher.*no limit allows"):
        deployment.start()
    assert guard_rows(deployment.sites) == {"publisher": [], "advertiser": []}


def test_a_party_that_agrees_no_more_trains_no_further(deployment: Deployment) -> None:
    """It had accepted the run, whose tables stand."""

    class Withdraws(InProcessGrid):
        def _deliver(self, message: Message) -> str:
            if message.metadata.message_type == TRAIN:
                file = deployment.folder / "publisher.site.yaml"
                file.write_text(json.dumps(deployment.sites["publisher"] | {"unsafe": False}))
            return super()._deliver(message)

    with pytest.raises(ConfigError, match=r"publisher.*site\.unsafe"):
        deployment.start(Withdraws)
    spends = guard_rows(deployment.sites)["publisher"]
    assert spends
    assert not [spend for spend in spends if TRAIN in spend[1]]


def test_a_simulation_names_the_guard_that_is_on(tmp_path: Path) -> None:
    data = mapping(tmp_path / "out", "privacy.guard.mode=on")
    data |= {"generator": TRAINING}
    data["privacy"]["unsafe"] = True
    with pytest.raises(BudgetError, match=r"privacy\.guard"):
        run(RunConf.parse(data))


@pytest.mark.parametrize("generator", [None, TRAINING | {"rounds": 0}])
def test_it_is_for_a_generator_that_trains(tmp_path: Path, generator: Any) -> None:
    data = unsafe(mapping(tmp_path / "out")) | {"generator": generator}
    with pytest.raises(ConfigError, match=r"privacy\.unsafe"):
        RunConf.parse(data)


def test_a_run_that_ends_without_its_generator_may_still_say_it(tmp_path: Path) -> None:
    data = unsafe(mapping(tmp_path / "out")) | {"generator": None, "resume": str(tmp_path)}
    assert not RunConf.parse(data).trains


def test_a_plan_says_so_too(tmp_path: Path) -> None:
    data = unsafe(mapping(tmp_path / "out")) | {"generator": TRAINING}
    data["data"]["lift"] = None
    found = foresight(RunConf.parse(data), PlanConf())
    assert found.spent is found.spent_by_stage["training"] is None
    assert json.dumps(to_plain(found), allow_nan=False)
    assert "epsilon in all ∞" in foresight_text(found)
