"""The Flower ServerApp: configure, run the strategy, leave a run directory behind."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twinweave.environment import prepare

prepare()  # before Flower is imported

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.lifecycle import run_directory
from twinweave.config import RunConf, compose

if TYPE_CHECKING:
    from strategies.measuring import Findings

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    conf = from_run_config(context.run_config)
    with run_directory(conf) as say:
        say(f"folder of this run: {conf.output}")  # where the SuperLink runs
        from server.generator import first_weights
        from server.outputs import write_all
        from server.simulation import show_cleaning, sites_of
        from strategies.weave import conduct

        started, sites = time.perf_counter(), sites_of(conf)

        def finish(findings: Findings) -> None:
            show_cleaning(sites)
            say(write_all(conf, findings, lambda: time.perf_counter() - started))

        conduct(
            grid,
            conf,
            begin=lambda findings: first_weights(conf, findings),
            finish=finish,
            sites=sites,
        )


def from_run_config(run_config: Mapping[str, Any]) -> RunConf:
    """`config` (JSON, from scripts.run) or `overrides` (from `flwr run`) -> RunConf."""
    text = str(run_config.get("config", ""))
    if text:
        return RunConf.parse(json.loads(text))
    return RunConf.parse(compose(shlex.split(str(run_config.get("overrides", "")))))
