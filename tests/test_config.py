"""Every dataset and every option of conf/ makes a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from tests.source import REPOSITORY
from twinweave.config import RunConf, compose, plain
from twinweave.errors import ConfigError, SchemaError
from twinweave.privacy.events import Stage

DATA = sorted(path.stem for path in (REPOSITORY / "conf" / "data").glob("*.yaml"))


def parsed(*overrides: str) -> RunConf:
    return RunConf.parse(compose(["output=x", "data.root=x", *overrides]))


@pytest.mark.parametrize("data", DATA)
def test_every_dataset_parses(data: str) -> None:
    conf = parsed(f"data={data}", "privacy=public", "privacy.epsilon=1")
    assert conf.data.name == data
    assert conf.data.lift or conf.data.fairness


@pytest.mark.parametrize(
    "option",
    [
        f"{path.parent.name}={path.stem}"
        for path in sorted((REPOSITORY / "conf").glob("*/*.yaml"))
        if path.parent.name != "data"
    ],
)
def test_every_option_parses(option: str) -> None:
    extra = ["privacy.epsilon=1", "privacy.delta=1e-5"] if option.startswith("privacy") else []
    extra += ["generator=none"] if option == "workload=lift" else []
    extra += ["generator.checkpoint=x"] if option == "generator=llm_pretrained" else []
    conf = parsed(option, *extra)
    group_name, _, choice = option.partition("=")
    if group_name == "generator":
        assert (conf.generator.kind if conf.generator else "none") == choice


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("audit.quasi_identifiers=[height]", "'height'"),
        ("audit.quasi_identifiers=[age,age]", "repeat"),
        ("audit.suppress=true", "audit.suppress"),
        ("audit.k=0", "audit.k"),
    ],
)
def test_quasi_identifiers_are_columns_and_needed_to_suppress(override: str, said: str) -> None:
    assert parsed("audit.quasi_identifiers=[age]", "audit.suppress=true").audit.k == 5
    with pytest.raises(ConfigError, match=said):
        parsed(override)


def test_every_fault_is_told_at_once_and_no_input() -> None:
    data = compose(["data.parties.0.columns.3.bounds=[9,1]", "privacy.epsilon=-1"])
    data["data"]["parties"][1]["columns"][4] |= {"levels": ["tell-tale"]}
    data["protocol"]["noise"] = "tell-tale"
    with pytest.raises(SchemaError) as caught:
        RunConf.parse(data)
    for part in (
        "'age': bounds and their distance must",
        "'loyalty': needs its",
        "epsilon must be",
        "protocol.noise",
    ):
        assert part in str(caught.value)
    assert "tell-tale" not in f"{caught.value} {caught.value.__context__}"


def test_paths_travel_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table's starts at data.root, others where the command was given: Flower runs elsewhere."""
    monkeypatch.chdir(tmp_path)
    sources = [{"path": "mine/a.csv"}, {"parts": ["b.csv", "/srv/c.csv"]}, {"url": "sqlite://"}]
    given = {
        "data": {"root": "tables", "parties": [{"source": s} for s in sources], "holdout": None},
        "privacy": {"guard": {"path": "book.sqlite"}},
        "output": "x",
    }
    found = plain(OmegaConf.create(given))
    assert [party["source"] for party in found["data"]["parties"]] == [
        {"path": f"{tmp_path}/tables/mine/a.csv"},
        {"parts": [f"{tmp_path}/tables/b.csv", "/srv/c.csv"]},
        {"url": "sqlite://"},
    ]
    assert found["privacy"]["guard"]["path"] == f"{tmp_path}/book.sqlite"
    assert found["output"] == f"{tmp_path}/x"


def test_every_yaml_is_plain() -> None:
    for path in sorted((REPOSITORY / "conf").rglob("*.yaml")):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path


@pytest.mark.parametrize("more", [[], ["privacy.epsilon=2", "privacy.guard.mode=on"]])
def test_other_data_than_the_campaign_must_choose_its_privacy(more: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"add privacy=default privacy\.epsilon=1") as refused:
        parsed("data=hillstrom", *more)
    assert "privacy=public" in str(refused.value)
    assert parsed("data=campaign", *more).privacy.demo
    assert not parsed("data=hillstrom", "privacy=public", "privacy.epsilon=1").privacy.demo


def test_collusion_is_refused_where_the_server_deals_the_masks() -> None:
    with pytest.raises(ConfigError, match=r"colluding.*protocol\.cross_tables=homomorphic"):
        parsed("protocol.colluding=1")
    parsed("protocol.colluding=1", "protocol.cross_tables=homomorphic")
    one_pool = ["data=adult5", "privacy=public", "privacy.epsilon=1", "protocol.colluding=1"]
    assert len(parsed(*one_pool).data.schema.units) == 1  # no tables between parties


@pytest.mark.parametrize("delta", ["1e-13", "9e-11", "0.5"])
def test_a_delta_that_cannot_be_accounted_for_is_refused(delta: str) -> None:
    with pytest.raises(ConfigError, match="delta"):
        parsed(f"privacy.delta={delta}")
    # A guard's delta is the run's where it is not set, and the run's is what the user gave.
    private = ["privacy=default", "privacy.epsilon=1"]
    with pytest.raises(ConfigError, match=r"'privacy'|'privacy\.delta'"):
        parsed(*private, f"privacy.delta={delta}")
    with pytest.raises(ConfigError, match=r"'privacy\.guard\.delta'"):
        parsed(*private, "privacy.delta=1e-5", "privacy.guard.delta=1e-13")


def test_the_share_of_the_training_is_decided_by_rule_or_by_the_user() -> None:
    public = ["privacy=public", "privacy.epsilon=1"]
    by_rule = parsed(*public)
    assert by_rule.training is not None
    assert by_rule.training.share == by_rule.shares[Stage.TRAINING] == 0
    assert "auto" in by_rule.training.why
    asked = parsed(*public, "privacy.shares.training=.2")
    assert asked.trains
    assert asked.shares[Stage.TRAINING] == 0.2
    assert parsed(*public, "privacy.shares.training=.2", "generator=none").training is None
    assert not parsed(*public, "privacy.shares.training=.2", "generator.rounds=0").trains
    assert parsed().trains  # the demo shows a training
    for wrong in ("measurement=auto", "training=-1", "training=much"):
        with pytest.raises(ConfigError, match=r"privacy\.shares"):
            parsed(*public, f"privacy.shares.{wrong}")


def test_a_wrong_value_of_one_generator_is_told_of_that_one() -> None:
    """And by the name under which it can be set."""
    with pytest.raises(ConfigError) as refused:
        parsed("generator=tvae", "generator.learning_rate=-1", "generator.rounds=many")
    told = str(refused.value)
    assert "'generator.learning_rate': must be" in told or "'generator.rounds': Input" in told
    for other in ("Ctgan", "Llm", "Field required", "tvae"):
        assert other not in told
