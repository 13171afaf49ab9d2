"""A specification that a party cannot compute with is refused by name, before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from clients.site import load_site
from tests.campaigns import TRAINING, csv_mapping
from tests.security.without import without
from tests.whole_run import Deployment, spec_of
from twinweave.config import RunConf
from twinweave.errors import AppError, BudgetError, ConfigError, ProtocolError
from twinweave.privacy.guard import GuardConf
from twinweave.protocols.channel.messages import SetupRequest
from twinweave.protocols.channel.party import setup
from twinweave.site import Site

Tree = dict[str, Any]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, Site]:
    """A sound specification with every kind of noise and a training; the publisher's site."""
    folder = tmp_path_factory.mktemp("asked")
    data = csv_mapping(folder, "workload.pairs=false", "protocol.alignment=prf", users=60)
    data["generator"] = TRAINING
    deployment = Deployment(data, folder)
    path = folder / "publisher.yaml"
    path.write_text(json.dumps(deployment.sites["publisher"]))
    return json.loads(spec_of(RunConf.parse(deployment.data)).dumps()), load_site(path)


def changed(tree: Tree, change: Callable[[Tree], Any]) -> SetupRequest:
    copied = json.loads(json.dumps(tree))
    change(copied)
    return SetupRequest(run=copied["run"], spec=json.dumps(copied), sites="")


def noise(tree: Tree, field: str) -> Tree:
    """The first noise of a table that has the field."""
    found: Tree = next(p["noise"] for p in tree["plan"] if field in p["noise"])
    return found


def local_side(tree: Tree) -> Tree:
    """The side of the first table that the publisher measures alone."""
    sides = (p["query"]["sides"] for p in tree["plan"])
    found: Tree = next(s[0] for s in sides if len(s) == 1 and s[0]["party"] == "publisher")
    return found


CHANGES: dict[str, tuple[Callable[[Tree], Any], type[AppError]]] = {
    "no number": (lambda t: t.update(epsilon=float("nan")), ProtocolError),
    "an infinite one": (lambda t: t.update(epsilon=float("inf")), ProtocolError),
    "noise without end": (
        lambda t: noise(t, "noise_multiplier").update(noise_multiplier=1e300),
        ConfigError,
    ),
    "coins without end": (lambda t: noise(t, "coins").update(coins=10**15), ConfigError),
    "many dealt coins": (lambda t: noise(t, "coins").update(coins=10**8), ProtocolError),
    "a whole number beyond floats": (
        lambda t: noise(t, "coins").update(coins=10**400),
        ConfigError,
    ),
    "rounds without end": (lambda t: t["training"]["generator"].update(rounds=10**8), ConfigError),
    "steps without end": (
        lambda t: t["training"]["generator"].update(local_steps=10**8),
        ConfigError,
    ),
    "layers without end": (lambda t: t["training"]["generator"].update(layers=10**8), ConfigError),
    "layers without bounds": (
        lambda t: t["training"]["generator"].update(width=10**8),
        ConfigError,
    ),
    "more colluders than parties": (lambda t: t["training"].update(colluding=2), ConfigError),
    "layers too large together": (
        lambda t: t["training"]["generator"].update(layers=100, width=30_000),
        ConfigError,
    ),
    "a table without end": (
        lambda t: local_side(t).update(columns=["age"] * 30),
        ProtocolError,
    ),
    "a table too large to measure": (
        lambda t: local_side(t).update(columns=["age"] * 8),
        ProtocolError,
    ),
    "more coins than are dealt": (lambda t: noise(t, "coins").update(coins=2**31), ProtocolError),
    "a run's id that fills a message": (lambda t: t.update(run="x" * 70_000), ProtocolError),
    "a run's id that no text can hold": (lambda t: t.update(run="\ud800"), ProtocolError),
    "a value without a name": (
        lambda t: t["plan"][0]["query"]["sides"][0].update(weight=""),
        ConfigError,
    ),
}


def test_the_sound_one_is_accepted(asked: tuple[Tree, Site]) -> None:
    tree, site = asked
    assert setup(changed(tree, lambda _: None), site)[0].hello


@pytest.mark.attack("numbers")
@pytest.mark.parametrize("name", CHANGES)
def test_what_cannot_be_computed_is_refused(asked: tuple[Tree, Site], name: str) -> None:
    tree, site = asked
    change, error = CHANGES[name]
    with pytest.raises(error):
        setup(changed(tree, change), site)


@pytest.mark.attack("unsafe")
@pytest.mark.broken("unsafe")
def test_training_without_noise_is_the_partys_own_choice(
    asked: tuple[Tree, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its guard is on and its site file says nothing: either is enough."""
    tree, site = asked
    wanted = changed(tree, lambda t: t["training"].update(unsafe=True))
    off, agrees = replace(site, guard=GuardConf(mode="off")), replace(site, unsafe=True)
    with pytest.raises(ConfigError, match=r"site\.unsafe"):
        setup(wanted, off)
    with pytest.raises(BudgetError, match="no limit"):
        setup(wanted, agrees)
    for check, one in (("not self.unsafe", off), ("self.guard.mode", agrees)):
        with monkeypatch.context() as patch:
            without(patch, Site.check_unsafe, check)
            assert setup(wanted, one)[0].hello
