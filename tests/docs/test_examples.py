"""The example files of the documentation are valid, and fit each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from clients.site import load_site
from twinweave.config import DataConf
from twinweave.parsing import parse

DOCS = Path(__file__).resolve().parents[2] / "docs"


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
