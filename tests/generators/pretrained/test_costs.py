"""Costs from public numbers: adapters counted to one, work in proportion to rows and steps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns import mapping
from tests.generators.pretrained.tiny import ARCHITECTURES, LAYOUT, conf, edit
from twinweave.config import RunConf
from twinweave.errors import ConfigError
from twinweave.generators import registry
from twinweave.generators.pretrained.checkpoint import checked
from twinweave.generators.pretrained.costs import estimate, shape_of
from twinweave.parsing import to_plain
from twinweave.planning import generator_cost


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_update_is_as_long_as_it_is_said(folders: dict[str, Path], kind: str) -> None:
    c = conf(folders[kind], rank=3)
    made: Any = registry.build(c, LAYOUT)
    assert c.cost(LAYOUT, drawn=1).update == 4 * len(made.weights)
    decoder = [
        p.numel()
        for name, p in made.network.model.get_decoder().named_parameters()
        if p.ndim == 2
        and not any(part in name for part in ("lora", "embed", "wte", "wpe", "relative"))
    ]
    assert shape_of(checked(c.checkpoint)).weights == sum(decoder)


def test_a_width_that_is_not_said_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    edit(folder, hidden_size=None)
    with pytest.raises(ConfigError, match="width"):
        conf(folder).cost(LAYOUT, drawn=1)


def test_what_is_done_twice_costs_twice(folders: dict[str, Path]) -> None:
    """Steps of the training at all parties, format steps, rows drawn: each in proportion."""

    def seconds(drawn: float, **over: int) -> float:
        return estimate(
            conf(folders["gpt2"], **over), LAYOUT, LAYOUT.parties, drawn=drawn
        ).cpu_seconds

    nothing = {"rounds": 0, "format_steps": 0}
    assert seconds(0, **nothing) == 0
    for one, two in (
        (seconds(100, **nothing), seconds(200, **nothing)),
        (seconds(0, rounds=1, format_steps=0), seconds(0, rounds=2, format_steps=0)),
        (seconds(0, rounds=0, format_steps=5), seconds(0, rounds=0, format_steps=10)),
    ):
        assert one > 0
        assert two == pytest.approx(2 * one)


def test_a_long_run_is_said_to_be_one(folders: dict[str, Path]) -> None:
    c = conf(folders["gpt2"])
    assert not c.cost(LAYOUT, drawn=10).is_long
    assert c.cost(LAYOUT, drawn=1e12).is_long
    assert c.cost(LAYOUT, drawn=1e12).sentence.startswith("a long run")


def test_more_people_cost_no_more_where_the_model_writes_no_more(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    data = mapping(tmp_path)
    data["generator"] = to_plain(conf(folders["gpt2"], candidates=500))

    def seconds(users: int) -> float:
        cost = generator_cost(RunConf.parse(data), {"publisher": users, "advertiser": users})
        assert cost is not None
        return cost.cpu_seconds

    assert seconds(20) < seconds(1000) == seconds(1_000_000)
