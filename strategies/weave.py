"""The Flower Strategy of a run: measure, then train, then hand over for synthesis and report."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from strategies import measure
from strategies.exchange import Exchange
from strategies.planning import plan
from strategies.sites import write_sites
from twinweave.config import RunConf
from twinweave.privacy.ledger import Ledger
from twinweave.privacy.measurement import Measurement
from twinweave.spec import RunSpec

log = logging.getLogger("twinweave.run")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the server holds once the parties have answered: public by differential privacy."""

    spec: RunSpec
    rows: dict[str, int]
    measurements: tuple[Measurement, ...] = field(repr=False)
    ledger: Ledger


class Weave(Strategy):
    """Drives one run. finish: called with the findings; synthesis, analysis and report."""

    def __init__(self, conf: RunConf, finish: Callable[[Findings], None]) -> None:
        self.conf = conf
        self.finish = finish
        self.spec = plan(conf, run=secrets.token_hex(16))

    def summary(self) -> None:
        """Log what the run will do, before anything is sent."""
        privacy = self.conf.privacy
        log.info(
            "run %s on %s: epsilon %g, delta %g, %d tables",
            self.spec.run[:8],
            self.conf.data.name,
            privacy.epsilon,
            privacy.delta,
            len(self.spec.plan),
        )
        for line in measure.sections(self.spec):
            log.info("  %s", line)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int = 0,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run every phase. Raises an AppError that names what went wrong and what to do."""
        self.summary()
        exchange = Exchange(grid=grid, timeout=self.conf.protocol.timeout)
        roster = measure.setup(
            exchange, self.spec, sites=self._sites(), timeout=self.conf.protocol.first_timeout
        )
        measured = measure.Measuring(exchange=exchange, spec=self.spec, roster=roster).run()
        self.finish(
            Findings(
                spec=self.spec,
                rows=roster.rows,
                measurements=tuple(measured),
                ledger=Ledger().charge(*(p.event for p in self.spec.plan)),
            )
        )
        return Result()

    def _sites(self) -> str:
        if self.conf.federation.mode == "deployment":
            return ""
        return str(write_sites(self.conf, Path(self.conf.output).resolve() / "parties"))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """No training yet: a run measures."""
        return []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        return None
