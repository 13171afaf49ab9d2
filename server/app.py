"""The Flower ServerApp: configure, run the strategy, leave a run directory behind."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinweave.environment import prepare

prepare()  # before Flower is imported

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.lifecycle import pinned, run_directory
from server.opening import opened, resumed
from server.traffic import MeteredGrid
from twinweave.checkpoint import Checkpoint
from twinweave.config import RunConf, compose

if TYPE_CHECKING:
    from strategies.measuring import Findings
    from strategies.weave import Stages
    from twinweave.report.contents import PhaseTraffic

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    grid = MeteredGrid(grid)
    conf = from_run_config(context.run_config)
    kept = Checkpoint.at(Path(conf.output).resolve())
    with run_directory(conf) as say:
        say(f"folder of this run: {conf.output}")  # where the SuperLink runs
        conf = pinned(conf)
        from server.simulation import forget, sites_of, write_own_pages
        from strategies.weave import conduct

        sites = sites_of(conf)
        conduct(grid, conf, _stages(conf, say, sites, lambda: grid.traffic), sites=sites, kept=kept)
        write_own_pages(sites)
    # It is finished, and says so: what only its going on needs may go.
    forget(conf)


def _stages(
    conf: RunConf,
    say: Callable[[str], None],
    sites: str,
    traffic: Callable[[], tuple[PhaseTraffic, ...]],
) -> Stages:
    """What becomes of a run's findings: files, and lines on the terminal."""
    from server import outputs
    from server.generator import first_weights, synthetic_rows
    from server.simulation import show_broken_audits, show_cleaning
    from strategies.weave import Stages

    started = time.perf_counter()
    cleaned = cache(lambda: show_cleaning(sites))  # once, with the first report

    told = False  # of what was measured, by this process: its lines are not printed twice

    def report(findings: Findings, *, synthesis: bool) -> None:
        nonlocal told
        cleaned()
        seconds = lambda: time.perf_counter() - started  # noqa: E731
        say(outputs.write_report(conf, findings, seconds, traffic, synthesis=synthesis, told=told))
        told = True

    def finish(findings: Findings) -> None:
        outputs.write_ledger(conf, findings.ledger)
        show_broken_audits(sites)
        if sites and findings.evaluated:
            say(f"what each party found, for itself alone: {conf.output}/parties/*/report.html")
        report(findings, synthesis=conf.generator is not None)

    return Stages(
        measured=lambda findings: outputs.write_measured(conf, findings),
        report=lambda findings: report(findings, synthesis=False),
        begin=lambda findings: first_weights(conf, findings),
        spent=lambda ledger: outputs.write_ledger(conf, ledger),
        synthesise=lambda findings: synthetic_rows(conf, findings),
        finish=finish,
    )


def from_run_config(run_config: Mapping[str, Any]) -> RunConf:
    """`config` (JSON, from scripts.run) or `overrides` (from `flwr run`) -> RunConf."""
    text = str(run_config.get("config", ""))
    if text:
        conf = RunConf.parse(json.loads(text))
        return conf if conf.resume is None else resumed(conf)
    overrides = shlex.split(str(run_config.get("overrides", "")))
    return opened(compose(overrides), overrides)
