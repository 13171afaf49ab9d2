"""A party's own configuration: read strictly, and stronger than anything the server says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clients.site import load_site, site_path
from tests.campaigns import csv_mapping
from tests.whole_run import Deployment
from twinweave.errors import ConfigError

PARTITION = {"partition-id": 1, "num-partitions": 3}


def test_the_nodes_own_site_wins_over_the_servers(tmp_path: Path) -> None:
    assert site_path({"site": "/mine.yaml"}, str(tmp_path)).name == "mine.yaml"
    assert site_path({"site": "/mine.yaml", **PARTITION}, str(tmp_path)).name == "mine.yaml"


def test_a_simulated_node_finds_its_file_and_a_spare_one_none(tmp_path: Path) -> None:
    for name in ("000-a.yaml", "001-b.yaml"):
        (tmp_path / name).write_text("{}")
    assert site_path(PARTITION, str(tmp_path)).name == "001-b.yaml"
    assert site_path({**PARTITION, "partition-id": 2}, str(tmp_path)) is None


@pytest.mark.parametrize(
    "node", [{}, {"partition-id": 0}, {**PARTITION, "name": "x"}, {"sites": "x"}]
)
def test_a_deployed_node_never_takes_the_servers_folder(node: Any, tmp_path: Path) -> None:
    """A SuperNode whose operator forgot the site file must not be steered by the server."""
    with pytest.raises(ConfigError, match="names no site file"):
        site_path(node, str(tmp_path))


def test_a_simulated_node_needs_a_folder() -> None:
    with pytest.raises(ConfigError, match="names no site file"):
        site_path(PARTITION, "")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("- 1", "not a mapping"),
        ("a: [", "not YAML"),
        ("party: x", "Field required"),
        (None, "cannot be read"),
    ],
)
def test_bad_site_files(tmp_path: Path, text: str | None, rule: str) -> None:
    path = tmp_path / "site.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=rule):
        load_site(path)


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    site = Deployment(csv_mapping(tmp_path), tmp_path).sites["publisher"]
    path = tmp_path / "site.yaml"
    path.write_text(json.dumps(site))
    assert load_site(path).party == "publisher"
    path.write_text(json.dumps({**site, "gard": "off"}))
    with pytest.raises(ConfigError, match="gard"):
        load_site(path)


def test_the_server_cannot_switch_a_guard_off(tmp_path: Path) -> None:
    """The run's configuration says off; the party's file says on."""
    data = csv_mapping(tmp_path, users=60)
    deployment = Deployment(data, tmp_path)
    data["privacy"]["guard"] = {"mode": "off", "path": None, "epsilon": None, "delta": None}
    ran = deployment.start()
    assert ran.conf.privacy.guard.mode == "off"
    for name in ("publisher", "advertiser"):
        party = ran.party(name).party
        assert party.guard.limit is not None
        assert party.guard.history()
