"""The example files of the documentation are valid, and fit each other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from clients.site import load_site
from scripts import check, describe, plan
from twinweave.config import DataConf, RunConf, compose, conf_folder
from twinweave.errors import ConfigError
from twinweave.parsing import parse

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
SWEPT = re.compile(r"=(?:tag\(log,)?(?:interval|choice|range)\(([^,)]+)[,)].*|=([^,\[{]+),.*")
"""The first value of a setting that a sweep varies."""


def commands(page: Path, module: str) -> list[list[str]]:
    """The words behind `python -m MODULE` in a page's blocks of commands, as a shell has them."""
    text = page.read_text().replace("\\\n", " ")
    found = re.findall(rf"^ {{4,}}python -m {re.escape(module)}\b(.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


PAGES = [REPOSITORY / "README.md", DOCS / "deployment.md", DOCS / "sweeps.md"]
RUNS = [words for page in PAGES for words in commands(page, "scripts.run")]


@pytest.mark.parametrize("words", RUNS, ids=" ".join)
def test_every_run_that_a_page_shows_is_a_valid_configuration(words: list[str]) -> None:
    """Of a sweep, its first run. The example stands in for a dataset of one's own."""
    ours = [w for w in words if w != "-m" and not w.startswith("hydra")]
    first = [SWEPT.sub(lambda found: f"={found[1] or found[2]}", w) for w in ours]
    RunConf.parse(compose(["output=x", *(w.replace("data=mine", "data=campaign") for w in first)]))


SEARCHES = [words for words in RUNS if "hydra/sweeper=optuna" in words]


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


PLANS = [
    words for page in (*PAGES, DOCS / "planning.md") for words in commands(page, "scripts.plan")
]


@pytest.mark.parametrize("words", PLANS, ids=" ".join)
def test_every_plan_that_a_page_shows_can_be_made(words: list[str]) -> None:
    overrides, asked, _ = plan.asked_for(words)
    conf = RunConf.parse(compose(["output=x", *overrides]))
    asked.check(conf.data.schema, conf.data.lift)


@pytest.mark.parametrize(
    ("module", "parsed"),
    [("scripts.describe", describe._arguments), ("scripts.check", check._arguments)],
)
def test_what_pages_show_of_other_commands_is_taken(
    module: str, parsed: Callable[[list[str]], object]
) -> None:
    shown = [words for page in PAGES for words in commands(page, module)]
    assert shown
    for words in shown:
        parsed(words)


PROGRAMS = [
    (page, text)
    for page in sorted(DOCS.glob("*.md"))
    for text in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize(("page", "text"), PROGRAMS, ids=[page.name for page, _ in PROGRAMS])
def test_every_program_that_a_page_shows_runs(
    page: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(text, page.name, "exec"), {})
    assert capsys.readouterr().out


def test_the_pages_show_runs() -> None:
    assert len(RUNS) > 5
    assert len(PLANS) > 1
    with pytest.raises(ConfigError):
        RunConf.parse(compose(["output=x", "privacy.epsilon=-1"]))


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
