"""Site files of a simulation: readable whatever the names are, and nothing beside their folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.site import load_site
from server.simulation import write_sites
from tests.campaigns import mapping
from twinweave.config import RunConf

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
