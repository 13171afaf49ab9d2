"""Site files of a simulation: readable whatever the names are, and nothing beside their folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clients.site import load_site
from server.simulation import show_cleaning, write_sites
from tests.campaigns import campaign, mapping, world
from tests.whole_run import Deployment, readable, serve
from twinweave.config import RunConf
from twinweave.site import PARTY_LOG

LEVELS = ["\U00020bb7\u91ce", "a\u2028b", "plain"]


@pytest.mark.parametrize("names", [("../outside", "sites"), ("shop \U0001f6d2", "a/b")])
def test_site_files_hold_any_name_and_stay_in_their_folder(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    data = mapping(tmp_path / "run")
    for party, name in zip(data["data"]["parties"], names, strict=True):
        party["name"] = name
    data["data"]["parties"][0]["columns"][4]["levels"] = LEVELS
    conf = RunConf.parse(data)
    sites = write_sites(conf, tmp_path / "inside")
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    read = [load_site(path) for path in sorted(sites.glob("*.yaml"))]
    assert [site.schema for site in read] == [party.schema for party in conf.data.parties]
    assert len({site.work for site in read} | {str(sites)}) == 3


def cents(folder: Path) -> dict[str, Any]:
    """A run whose advertiser states cents where the schema has euros."""
    frames = dict(campaign())
    frames["advertiser"] = frames["advertiser"].assign(spend=lambda f: 100 * f["spend"])
    return world(folder, frames, {"publisher": "publisher", "advertiser": "advertiser"})


def test_a_simulation_prints_what_cleaning_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = serve(cents(tmp_path))
    said = capsys.readouterr().out
    assert "advertiser: spend: invalid: clip x " in said
    assert "warning: advertiser: spend: " in said
    assert "publisher: user: ids of " in said
    assert "spend: " not in (out / "run.log").read_text()  # which may be handed on


def test_a_party_whose_log_is_gone_does_not_stop_the_run(tmp_path: Path) -> None:
    """As where its folder was deleted before the run went on to its end, without the party."""
    out = serve(cents(tmp_path))
    for log in out.glob(f"parties/*/{PARTY_LOG}"):
        log.unlink()
    show_cleaning(str(out / "parties" / "sites"))


def test_in_a_deployment_it_is_in_the_partys_own_log_alone(tmp_path: Path) -> None:
    deployment = Deployment(cents(tmp_path), tmp_path)
    deployment.start()
    log = Path(deployment.sites["advertiser"]["work"]) / PARTY_LOG
    assert log.read_text().count("spend: invalid: clip x ") == 1
    assert log.stat().st_mode & 0o077 == 0
    seen = list(readable(deployment.messages))
    assert seen
    for mark in (b"clip x", b"ids of", b"fall under"):
        assert not [name for name, text in seen if mark in text]
