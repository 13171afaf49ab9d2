"""Small worlds of more than two parties, as configurations: vertical, horizontal, mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.whole_run import COLUMNS, TRAINING, mapping
from twinweave.config import RunConf
from twinweave.tables.campaign import CampaignConf, campaign_frames

GUARD_OFF = "privacy.guard.mode=off"
Frames = Mapping[str, pd.DataFrame]


def campaign(users: int = 240) -> Frames:
    frames = campaign_frames(CampaignConf(users=users, dirty=0.0))
    return {name: frame[list(COLUMNS[name])] for name, frame in frames.items()}


def shards(frame: pd.DataFrame, names: Sequence[str], seed: int = 5) -> Frames:
    """The rows dealt out among parties of these names, of unequal sizes."""
    share = np.arange(1, len(names) + 1) / sum(range(1, len(names) + 1))
    at = np.random.default_rng(seed).choice(len(names), len(frame), p=share)
    return {name: frame[at == i] for i, name in enumerate(names)}


def world(
    folder: Path,
    frames: Frames,
    like: Mapping[str, str],
    pools: Sequence[Sequence[str]] = (),
    overrides: Sequence[str] = (),
    **changes: Any,
) -> dict[str, Any]:
    """A run's configuration over these tables, guards on, as plain mappings.

    like: which of the campaign's parties each party's columns are declared as at. changes: of
    the data's own fields, such as lift.
    """
    data = mapping(
        folder / "out",
        "privacy.guard.mode=on",
        "privacy.guard.epsilon=50",
        "protocol.alignment=prf",
        *overrides,
    )
    declared = {p["name"]: p["columns"] for p in data["data"]["parties"]}
    holders = pd.Series([c for f in frames.values() for c in f.columns]).value_counts()
    parties = []
    for name, frame in frames.items():
        path = folder / f"{name}.csv"
        frame.to_csv(path, index=False)
        columns = [c for c in declared[like[name]] if c["name"] in frame.columns]
        columns = [
            c if c.get("role") == "key" else c | {"shared": bool(holders[c["name"]] > 1)}
            for c in columns
        ]
        source = {"kind": "csv", "path": str(path)}
        parties.append({"name": name, "columns": columns, "source": source})
    data["data"] |= {"parties": parties, "pools": [list(p) for p in pools], **changes}
    return data


def vertical(folder: Path, *overrides: str) -> RunConf:
    """Three parties of different columns; the third knows some of the publisher's users."""
    frames = campaign()
    publisher = frames["publisher"]
    panel = publisher.sample(frac=0.6, random_state=3)[["user", "region", "device"]]
    parted = {
        "publisher": publisher.drop(columns="device"),
        "panel": panel,
        "advertiser": frames["advertiser"],
    }
    like = {"publisher": "publisher", "panel": "publisher", "advertiser": "advertiser"}
    return RunConf.parse(world(folder, parted, like, (), (*overrides, GUARD_OFF)))


OFFICES = tuple(f"office{i}" for i in range(5))


def horizontal(folder: Path, *overrides: str, users: int = 240, **more: Any) -> dict[str, Any]:
    """Five parties with the advertiser's columns, of different people."""
    frames = shards(campaign(users)["advertiser"], OFFICES)
    like = dict.fromkeys(OFFICES, "advertiser")
    return world(folder, frames, like, (OFFICES,), overrides, lift=None) | more


def mixed(folder: Path, *overrides: str, advertisers: int = 1, users: int = 240) -> RunConf:
    """Two publishers of one pool, and an advertiser or a pool of them."""
    frames = campaign(users)
    publishers = ("north", "south")
    shops = tuple(f"shop{i}" for i in range(advertisers))
    parted = {**shards(frames["publisher"], publishers), **shards(frames["advertiser"], shops)}
    like = dict.fromkeys(publishers, "publisher") | dict.fromkeys(shops, "advertiser")
    pools = [publishers, *([shops] if advertisers > 1 else [])]
    return RunConf.parse(world(folder, parted, like, pools, (*overrides, GUARD_OFF)))


def training(folder: Path, **changes: Any) -> dict[str, Any]:
    """Five pooled parties that train a small generator; changes: of its fields."""
    data = horizontal(folder, "privacy.epsilon=8", users=200, generator=TRAINING | changes)
    data["privacy"]["shares"] |= {"measurement": 0.7, "training": 0.3}
    return data
