"""A simulation's stand-in for what each organisation would set up: site files and identities."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from server.lifecycle import PRIVATE
from twinweave import durable, progress
from twinweave.checkpoint import Checkpoint
from twinweave.config import RunConf
from twinweave.names import slugs
from twinweave.parsing import parse, to_plain
from twinweave.protocols.channel.identity import Identity
from twinweave.report.page.own import write_own_page
from twinweave.site import PARTY_LOG, Site
from twinweave.tables.holdout import simulated_key

log = logging.getLogger("twinweave.run")


def write_sites(conf: RunConf, folder: Path, *, simulated: bool = True) -> Path:
    """Write one site file a party, with a fresh identity each, all pinned at each other.

    Returns the folder of site files; they sort in party order. Files are as private as those
    of a deployment. simulated: whether the run's own configuration is what has effect.
    """
    sites, aside = folder / "sites", folder / "sites.new"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    keys = {party.name: Identity.generate() for party in conf.data.parties}
    pins = {name: key.public_hex for name, key in keys.items()}
    called = slugs(keys, taken=(sites.name, aside.name))
    for number, party in enumerate(conf.data.parties):
        work = folder / called[party.name]
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        identity = work / "identity.pem"
        identity.unlink(missing_ok=True)
        keys[party.name].save(identity)
        site = {
            "party": party.name,
            "dataset": conf.data.name,
            "columns": to_plain(party.columns),
            "source": to_plain(party.source),
            "identity": str(identity),
            "pins": {name: pin for name, pin in pins.items() if name != party.name},
            "guard": to_plain(conf.privacy.guard),
            "pools": [list(pool) for pool in conf.data.pools],
            "holdout_key": simulated_key(conf.data.name),
            "verdicts": conf.audit.gate == "parties",
            "unsafe": conf.privacy.unsafe,
            "work": str(work),
            "simulated": simulated,
        }
        # JSON is YAML; numbered so that the partition number finds its file.
        (aside / f"{number:03d}-{called[party.name]}.yaml").write_text(json.dumps(site, indent=1))
    shutil.rmtree(sites, ignore_errors=True)
    durable.rename(aside, sites)  # last: whoever finds the folder finds all of it
    return sites


def show_cleaning(sites: str) -> None:
    """Print what every simulated party's own log says of the cleaning of its table; the run's log,
    which may be handed on, does not get it."""
    for party, loud, text in _own_lines(sites, "cleaning"):
        log.info("%s%s: %s", "warning: " if loud else "", party, text, extra={PRIVATE: True})


def show_broken_audits(sites: str) -> None:
    """Print which simulated party's audit broke down. What audits find is printed nowhere."""
    for party, loud, text in _own_lines(sites, "audit"):
        if loud:
            log.info("warning: %s: %s", party, text, extra={PRIVATE: True})


def _own_lines(sites: str, what: str) -> Iterator[tuple[str, bool, str]]:
    """(party, whether it is a warning, text) of what the parties' own logs say of it. In a
    deployment (sites "") there is nothing to read."""
    for file in sorted(Path(sites).glob("*.yaml")) if sites else []:
        site = json.loads(file.read_text())
        own = Path(site["work"]) / PARTY_LOG
        if not own.exists():  # of a run that goes on without what the party wrote before
            continue
        for line in own.read_text(encoding="utf-8").splitlines():
            stamp, _, text = line.partition(f"{what}: ")
            if text:
                yield site["party"], "WARNING" in stamp, text


def write_own_pages(sites: str) -> None:
    """Draw every simulated party's own page into its own folder. A deployed party draws its own:
    `scripts.report` on its site file."""
    for file in sorted(Path(sites).glob("*.yaml")) if sites else []:
        write_own_page(parse(Site, json.loads(file.read_text()), where="site"))


def sites_of(conf: RunConf) -> str:
    """Folder of the site files of a simulation; "" in a deployment.

    They are written once a run: one that goes on finds the parties as they were.
    """
    if conf.federation.mode == "deployment":
        return ""
    folder = _parties(conf)
    sites = folder / "sites"
    if conf.resume is not None and sites.is_dir():
        return str(sites)
    return str(write_sites(conf, folder))


def forget(conf: RunConf) -> None:
    """Delete what a finished run kept to go on with: the server's secret, and what the parties of
    a simulation hold of it: answers, states."""
    Checkpoint.at(Path(conf.output).resolve()).clear()
    if conf.federation.mode == "deployment":
        return
    for runs in _parties(conf).glob("*/runs"):
        shutil.rmtree(runs, ignore_errors=True)
        (runs.parent / progress.FILE).unlink(missing_ok=True)


def _parties(conf: RunConf) -> Path:
    return Path(conf.output).resolve() / "parties"
