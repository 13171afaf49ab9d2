"""Small campaigns as configurations: two parties, or more of them: vertical, horizontal, mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinweave.config import RunConf, compose
from twinweave.tables.campaign import CampaignConf, campaign_frames

COLUMNS = {
    "publisher": ("user", "gender", "region", "age", "device", "arm"),
    "advertiser": ("user", "gender", "region", "loyalty", "channel", "converted", "spend", "loyal"),
}


def mapping(output: Path, *overrides: str) -> dict[str, Any]:
    """The composed configuration of a small campaign with few columns, as plain mappings.

    All tables are asked for, though no generator learns from them."""
    data = compose(
        [
            "engine=inprocess",
            f"output={output}",
            "data.parties.0.source.campaign.users=300",
            "privacy=default",
            "privacy.epsilon=4",
            "privacy.delta=1e-5",
            "privacy.guard.mode=off",
            "privacy.shares.training=0.1",  # of those that have a generator
            "workload=all",
            "audit=off",
            *overrides,
        ]
    )
    data["generator"] = None
    data["data"]["lift"]["breakdowns"] = ["region", "channel"]  # of everyone, and of matched users
    for party in data["data"]["parties"]:
        kept = COLUMNS[party["name"]]
        party["columns"] = [c for c in party["columns"] if c["name"] in kept]
    return data


TRAINING = {
    "name": "tvae",
    "layers": 1,
    "width": 16,
    "activation": "relu",
    "latent": 4,
    "beta": 1.0,
    "learning_rate": 1e-3,
    "clip": 1.0,
    "expected_batch": 64,
    "rounds": 2,
    "local_steps": 3,
}
"""A generator small enough to train in a second."""

SHORT = {"clip": 1.0, "learning_rate": 1e-3, "expected_batch": 64, "rounds": 2, "local_steps": 3}
GENERATORS: dict[str, dict[str, Any]] = {
    "tvae": TRAINING,
    "ctgan": SHORT
    | {
        "name": "ctgan",
        "layers": 1,
        "width": 16,
        "activation": "relu",
        "latent": 4,
        "generator_learning_rate": 1e-3,
        "generator_batch": 32,
        "discriminator_layers": 1,
        "discriminator_width": 16,
        "discriminator_steps": 2,
        "lipschitz": 1.5,
        "condition": 0.2,
        "anchor": 1.0,
        "temperature": 0.5,
    },
    "llm": SHORT
    | {
        "name": "llm",
        "backend": "schema",
        "layers": 1,
        "width": 16,
        "heads": 2,
        "hidden": 16,
        "activation": "gelu",
        "format_steps": 5,
        "format_learning_rate": 3e-3,
        "format_batch": 32,
        "one_party": 0.5,
    },
}
"""One of every kind, as small as that."""


def configure(output: Path, *overrides: str) -> RunConf:
    return RunConf.parse(mapping(output, *overrides))


# --- tables of their own, in files ---------------------------------------------------------

GUARD_OFF, PRF = "privacy.guard.mode=off", "protocol.alignment=prf"
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
    return RunConf.parse(world(folder, parted, like, (), (PRF, *overrides, GUARD_OFF)))


def csv_mapping(folder: Path, *overrides: str, users: int = 150) -> dict[str, Any]:
    """As `mapping`, each party's table a clean CSV file in `folder`; guards on."""
    return world(folder, campaign(users), {name: name for name in COLUMNS}, (), overrides)


OFFICES = tuple(f"office{i}" for i in range(5))


def horizontal(folder: Path, *overrides: str, users: int = 240, **more: Any) -> dict[str, Any]:
    """Five parties with the advertiser's columns, of different people."""
    frames = shards(campaign(users)["advertiser"], OFFICES)
    like = dict.fromkeys(OFFICES, "advertiser")
    return world(folder, frames, like, (OFFICES,), (PRF, *overrides), lift=None) | more


def mixed(folder: Path, *overrides: str, advertisers: int = 1, users: int = 240) -> RunConf:
    """Two publishers of one pool, and an advertiser or a pool of them."""
    frames = campaign(users)
    publishers = ("north", "south")
    shops = tuple(f"shop{i}" for i in range(advertisers))
    parted = {**shards(frames["publisher"], publishers), **shards(frames["advertiser"], shops)}
    like = dict.fromkeys(publishers, "publisher") | dict.fromkeys(shops, "advertiser")
    pools = [publishers, *([shops] if advertisers > 1 else [])]
    return RunConf.parse(world(folder, parted, like, pools, (PRF, *overrides, GUARD_OFF)))


def training(folder: Path, **changes: Any) -> dict[str, Any]:
    """Five pooled parties that train a small generator; changes: of its fields."""
    data = horizontal(folder, "privacy.epsilon=8", users=200, generator=TRAINING | changes)
    data["privacy"]["shares"] |= {"measurement": 0.7, "training": 0.3}
    return data
