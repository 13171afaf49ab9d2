"""Every command and program that a page shows is taken, or runs; the example files are valid.

Commands that are long are held to their own parser and configuration; the tutorial's are run
(test_tutorial.py).
"""

from __future__ import annotations

import importlib
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from clients.site import load_site
from scripts import plan
from scripts.pages.parsers import taken
from tests.docs.shown import DOCS, WRITTEN, Shown, commands, programs
from tests.docs.test_tutorial import PLAYED
from twinweave.config import DataConf, RunConf, compose, conf_folder
from twinweave.errors import ConfigError
from twinweave.parsing import parse

SWEPT = re.compile(r"=(?:tag\(log,)?(?:interval|choice|range)\(([^,)]+)[,)].*|=([^,\[{]+),.*")
"""The first value of a setting that a sweep varies."""
COMPOSED = ("scripts.run", "scripts.benchmarks.coins")
"""Commands whose words are settings of a run."""
COMMANDS = commands(*WRITTEN)


def configured(words: tuple[str, ...]) -> RunConf:
    """The run that these words ask for; of a sweep, its first one. The campaign stands in for a
    dataset of one's own."""
    ours = [w for w in words if w != "-m" and not w.startswith(("hydra", "--config-dir"))]
    first = [SWEPT.sub(lambda found: f"={found[1] or found[2]}", w) for w in ours]
    own = ["output=x", *(w.replace("data=mine", "data=campaign") for w in first)]
    return RunConf.parse(compose(own))


@pytest.mark.parametrize("shown", COMMANDS, ids=str)
def test_every_command_that_a_page_shows_is_taken(shown: Shown) -> None:
    words = [w.strip("[]") for w in shown.words]  # what may be left out, is not
    if shown.module in COMPOSED:
        configured(shown.words)
    elif shown.module == "scripts.plan":
        overrides, asked, _ = plan.asked_for(shown.words)
        conf = configured(tuple(overrides))
        asked.check(conf.data.schema, conf.data.lift)
    elif shown.module == "scripts.supernode":
        assert words[0].endswith(".yaml")  # the rest is Flower's
    elif taken(shown.module, words) is None:
        _takes_no_words(shown.module, words)


SEARCHES = [list(one.words) for one in COMMANDS if "hydra/sweeper=optuna" in one.words]


@pytest.mark.parametrize("words", SEARCHES, ids=" ".join)
def test_every_search_that_a_page_shows_has_a_space(words: list[str]) -> None:
    pytest.importorskip("optuna", reason="the extra `sweeps` is not installed")
    with initialize_config_dir(config_dir=str(conf_folder()), version_base=None):
        hydra = [w for w in words if w.startswith("hydra")]
        conf = hydra_compose("run", overrides=hydra, return_hydra_config=True).hydra
    search = instantiate(conf.sweeper)
    search.hydra_context = SimpleNamespace(config_loader=None)
    asked = [w for w in words if w != "-m" and not w.startswith("hydra")]
    _, space = search._space(asked)
    assert space
    assert search.n_jobs == conf.launcher.get("n_jobs", 1)


def _takes_no_words(module: str, words: list[str]) -> None:
    """A command without a parser says by its docstring which single words it takes."""
    doc = importlib.import_module(module).__doc__ or ""
    assert all(re.search(rf"[ |]{re.escape(w)}[`|]", doc) for w in words), words


def test_a_command_that_would_be_refused_is_seen() -> None:
    with pytest.raises(SystemExit):
        taken("scripts.check", ["table.csv", "site.yaml", "--partly", "x"])
    with pytest.raises(ConfigError):
        configured(("privacy.epsilon=-1",))
    with pytest.raises(AssertionError):
        _takes_no_words("scripts.trials.installed", ["newish"])
    _takes_no_words("scripts.trials.installed", ["newest"])


def test_the_pages_show_commands() -> None:
    assert {"scripts.run", "scripts.plan", "scripts.describe", "scripts.check"} <= {
        shown.module for shown in COMMANDS
    }


PROGRAMS = [one for one in programs(*WRITTEN) if one.page not in PLAYED]


@pytest.mark.parametrize("shown", PROGRAMS, ids=str)
def test_every_program_that_a_page_shows_runs(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(shown.text, shown.page.name, "exec"), {})
    assert capsys.readouterr().out


@pytest.fixture(scope="module")
def data() -> DataConf:
    raw = OmegaConf.create({"data": OmegaConf.load(DOCS / "data.example.yaml")})
    raw.privacy = {"k": 10}
    plain: Any = OmegaConf.to_container(raw, resolve=True)
    return parse(DataConf, plain["data"])


def test_the_data_example_is_valid(data: DataConf) -> None:
    assert [p.name for p in data.parties] == ["publisher", "advertiser"]
    assert data.lift is not None


def test_the_site_example_fits_the_data_example(data: DataConf) -> None:
    site = load_site(DOCS / "site.example.yaml")
    assert site.schema == data.schema.schema(site.party)
    assert set(site.pins) == {"advertiser"}
    assert site.guard.mode == "on"
