"""Small runs, one for each choice of protocol, in which a server or a party may deviate.

A world is planned once; a run of it takes a fifth of a second, in a folder of its own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests import campaigns
from tests.campaigns import TRAINING, csv_mapping
from tests.e2e.clear import Clear
from tests.whole_run import Deployment, spec_of
from twinweave.config import RunConf
from twinweave.spec import RunSpec

USERS = 60
SMALL = ("workload.pairs=false", "workload.three_way=false", "protocol.alignment=prf")
TRAINED = TRAINING | {"width": 4, "latent": 2, "rounds": 2, "local_steps": 1, "expected_batch": 16}


def _two(folder: Path, *overrides: str) -> dict[str, Any]:
    return csv_mapping(folder, *SMALL, *overrides, users=USERS)


def _training(data: dict[str, Any]) -> dict[str, Any]:
    data["generator"] = TRAINED
    data["privacy"]["shares"] |= {"measurement": 0.7, "training": 0.3}
    return data


def _vertical(folder: Path, *overrides: str) -> dict[str, Any]:
    frames = campaigns.campaign(USERS)
    publisher = frames["publisher"]
    parted = {
        "publisher": publisher.drop(columns="device"),
        "panel": publisher.sample(frac=0.6, random_state=3)[["user", "region", "device"]],
        "advertiser": frames["advertiser"],
    }
    like = {"publisher": "publisher", "panel": "publisher", "advertiser": "advertiser"}
    return campaigns.world(folder, parted, like, (), (*SMALL, *overrides))


def _pooled(folder: Path, *overrides: str) -> dict[str, Any]:
    """Two publishers of one pool and an advertiser."""
    frames = campaigns.campaign(USERS)
    parted = {
        **campaigns.shards(frames["publisher"], ("north", "south")),
        "shop": frames["advertiser"],
    }
    like = {"north": "publisher", "south": "publisher", "shop": "advertiser"}
    return campaigns.world(folder, parted, like, (("north", "south"),), (*SMALL, *overrides))


def _offices(folder: Path, *overrides: str) -> dict[str, Any]:
    """Five pooled parties: so many that a sum survives who drops out."""
    return _training(campaigns.horizontal(folder, *SMALL, *overrides, users=USERS))


WORLDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "two": lambda f: _two(f),
    "two, ristretto": lambda f: _two(f, "protocol.alignment=ristretto"),
    "two, gaussian noise": lambda f: _two(f, "protocol.noise=gaussian"),
    "two, encrypted tables": lambda f: _two(f, "protocol.cross_tables=homomorphic"),
    "two passes": lambda f: _two(f, "selection.when=always"),
    "three": lambda f: _vertical(f),
    "three, ristretto": lambda f: _vertical(f, "protocol.alignment=ristretto"),
    "pool": lambda f: _pooled(f),
    "two, masked sums": lambda f: _training(_two(f)),
    "three, shared sums": lambda f: _training(_vertical(f, "protocol.secure_sum=secret_sharing")),
    "three, encrypted sums": lambda f: _training(_vertical(f, "protocol.secure_sum=homomorphic")),
    "five, masked sums": lambda f: _offices(f),
}
ENCRYPTED = {name for name in WORLDS if "encrypted" in name}
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name in ENCRYPTED and find_spec("tenseal") is None, reason="TenSEAL is missing"
        ),
    )
    for name in WORLDS
]


@dataclass(frozen=True, eq=False)
class World:
    """Parties of one choice of protocols, their tables, and a planned specification."""

    name: str
    folder: Path
    deployment: Deployment = field(repr=False)

    @cached_property
    def conf(self) -> RunConf:
        return RunConf.parse(self.deployment.data | {"federation": {"mode": "deployment"}})

    @cached_property
    def clear(self) -> Clear:
        return Clear(self.conf)

    @cached_property
    def _planned(self) -> RunSpec:
        return spec_of(self.conf)

    def spec(self) -> RunSpec:
        """That of a new run."""
        return replace(self._planned, run=secrets.token_hex(16))

    @property
    def parties(self) -> tuple[str, ...]:
        return tuple(self.deployment.sites)

    @contextmanager
    def sites(self) -> Iterator[Sites]:
        """The parties with nothing remembered yet, in a folder that goes again."""
        with TemporaryDirectory(dir=self.folder) as name:
            found = {}
            for party, site in self.deployment.sites.items():
                work = Path(name) / party
                path = Path(name) / f"{party}.yaml"
                path.write_text(json.dumps(site | {"work": str(work)}))
                found[party] = path, work
            yield Sites(found)


@dataclass(frozen=True)
class Sites:
    """party -> (its site file, its private folder)."""

    of: dict[str, tuple[Path, Path]]

    @property
    def node_configs(self) -> list[dict[str, str]]:
        return [{"site": str(path)} for path, _ in self.of.values()]

    def logged(self, party: str) -> str:
        """The party's own log of what it did not expect."""
        path = self.of[party][1] / "party.log"
        return path.read_text() if path.exists() else ""


def make(name: str, folder: Path) -> World:
    folder.mkdir(parents=True, exist_ok=True)
    return World(name, folder, Deployment(WORLDS[name](folder), folder))
