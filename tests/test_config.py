"""Every dataset and every option of conf/ makes a configuration."""

from __future__ import annotations

import pytest
import yaml

from tests.source import REPOSITORY
from twinweave.config import RunConf, compose

DATA = sorted(path.stem for path in (REPOSITORY / "conf" / "data").glob("*.yaml"))


def parsed(*overrides: str) -> RunConf:
    return RunConf.parse(
        compose(["output=x", "data.root=x", "privacy.epsilon=1", "privacy.delta=1e-5", *overrides])
    )


@pytest.mark.parametrize("data", DATA)
def test_every_dataset_parses(data: str) -> None:
    conf = parsed(f"data={data}")
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
    extra = ["privacy.guard.mode=off"] if option.startswith("privacy") else []
    conf = parsed(option, *extra)
    group_name, _, choice = option.partition("=")
    if group_name == "generator":
        assert (conf.generator.name if conf.generator else "none") == choice


def test_every_yaml_is_plain() -> None:
    for path in sorted((REPOSITORY / "conf").rglob("*.yaml")):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
