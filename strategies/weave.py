"""The Flower Strategy of a run: measure, then train, then hand over for synthesis and report."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from strategies import align, measure
from strategies.align import Roster
from strategies.exchange import Exchange
from strategies.measure import Measuring
from strategies.planning import Selected, plan, plan_training, select
from strategies.sites import write_sites
from strategies.train import Training, Weights, one_way_tables
from twinweave.config import RunConf
from twinweave.errors import RunError
from twinweave.privacy.ledger import Ledger
from twinweave.protocols.messages import RevealSumReply, TrainReply, TrainRequest
from twinweave.spec import RunSpec
from twinweave.workload.measurement import Measurement

log = logging.getLogger("twinweave.run")
TRAIN, REVEAL = "train.generator", "train.reveal"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the server holds once the parties have answered: public by differential privacy.

    spec: with the tables that were measured. selected: what chose them, where a selection did.
    weights: of the trained generator, float32 (parameters,); None without training.
    """

    spec: RunSpec
    rows: dict[str, int]
    guards: dict[str, str]
    measurements: tuple[Measurement, ...] = field(repr=False)
    ledger: Ledger
    selected: Selected | None = field(default=None, repr=False)
    weights: Weights | None = field(default=None, repr=False)


Dealt = dict[str, dict[str, bytes]]
Begin = Callable[[Findings], Weights]
Finish = Callable[[Findings], None]


class Weave(Strategy):
    """Drives one run.

    begin: the generator's first weights, from the measurements. finish: final synthesis,
    audit and report, from everything.
    """

    def __init__(self, conf: RunConf, begin: Begin, finish: Finish) -> None:
        self.conf = conf
        self.begin = begin
        self.finish = finish
        self.spec = plan(conf, run=secrets.token_hex(16))
        self._exchange: Exchange | None = None
        self._training: Training | None = None
        self._asked: dict[int, TrainRequest] = {}
        self._gone: set[str] = set()
        self._weights = np.zeros(0, np.float32)

    def summary(self) -> None:
        """Log what Flower's training loop is about to do."""
        assert self.spec.training is not None
        generator = self.spec.training.generator
        log.info(
            "training %s at %d parties: %d rounds of %d private steps",
            generator.name,
            len(self.spec.parties),
            generator.rounds,
            generator.local_steps,
        )

    def _announce(self) -> None:
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
        """Run every phase. Raises an AppError that names what went wrong and what to do.

        Rounds, timeouts and first weights follow from the configuration and the measurements;
        Flower's own arguments for them are not used.
        """
        self._announce()
        protocol = self.conf.protocol
        self._exchange = Exchange(grid=grid, timeout=protocol.timeout)
        roster = align.setup(
            self._exchange, self.spec, sites=self._sites(), timeout=protocol.first_timeout
        )
        findings, dealt = self._measure(roster)
        result = Result()
        if self.spec.training is not None:
            findings, result = self._train(grid, findings, roster, dealt)
        self.finish(findings)
        return result

    def _measure(self, roster: Roster) -> tuple[Findings, Dealt]:
        """Align, then measure: once, or coarsely first and then what a selection chose."""
        assert self._exchange is not None
        exchange, spec = self._exchange, self.spec
        slots = align.Aligning(exchange=exchange, roster=roster, spec=spec).run()
        terms = Measuring(exchange=exchange, roster=roster, spec=spec, slots=slots)
        measured = terms.run()
        events = [planned.event for planned in spec.plan]
        selected = None
        if spec.selects:
            selected, tables = select(self.conf, spec, measured.measurements)
            log.info("selected %d columns; %d tables", len(selected.choice.kept), len(tables))
            spec = replace(spec, plan=tables)
            measured = replace(terms, spec=spec, step=1).run()
            events += [planned.event for planned in tables]
        findings = Findings(
            spec=spec,
            rows=roster.rows,
            guards=roster.guards,
            measurements=measured.measurements,
            ledger=Ledger().charge(*events),
            selected=selected,
        )
        return findings, measured.dealt

    def _train(
        self, grid: Grid, findings: Findings, roster: Roster, dealt: Dealt
    ) -> tuple[Findings, Result]:
        assert self.spec.training is not None
        rounds = self.spec.training.generator.rounds
        steps = plan_training(self.conf, self.spec, roster.rows, findings.ledger.events)
        self._training = Training(
            spec=self.spec,
            roster=roster,
            plan=steps,
            one_way=one_way_tables(findings.measurements),
            dealt=dealt,
        )
        first = ArrayRecord({"weights": Array(self.begin(findings))})
        with _quiet():
            result = super().start(grid, first, rounds, timeout=self.conf.protocol.timeout)
        events = steps.events(self.spec.schema.units, rounds)
        trained = replace(findings, ledger=findings.ledger.charge(*events), weights=self._weights)
        return trained, result

    def _sites(self) -> str:
        if self.conf.federation.mode == "deployment":
            return ""
        return str(write_sites(self.conf, Path(self.conf.output).resolve() / "parties"))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Global weights to every party that still answers (Flower counts rounds from 1)."""
        assert self._training is not None
        assert self._exchange is not None
        self._weights = arrays["weights"].numpy()
        nodes = self._training.roster.nodes
        requests = self._training.requests(server_round - 1, self._weights)
        self._asked = {nodes[p]: r for p, r in requests.items() if p not in self._gone}
        return self._exchange.messages(TRAIN, self._asked)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Masked secure aggregation: the sum of the updates is all that is ever seen.

        A party that vanishes is left out of this round and all later ones, as long as the secure
        sum can be opened without it. Raises RunError, naming who is missing, where it cannot.
        """
        assert self._training is not None
        assert self._exchange is not None
        names = self._training.roster.names
        settled = self._exchange.settle(
            TRAIN, self._asked, TrainReply, replies, names=names, least=self.spec.sums.min_alive
        )
        came = {names[node]: reply for node, reply in settled.items()}
        self._without({names[node] for node in self._asked} - set(came))
        try:
            self._weights = self._opened(server_round - 1, came)
        except RunError as error:
            if not self._gone:
                raise
            raise RunError(f"without {', '.join(sorted(self._gone))}: {error}") from None
        assert self.spec.training is not None
        total = self.spec.training.generator.rounds
        log.info("round %d of %d: %d updates in one sum", server_round, total, len(came))
        return ArrayRecord({"weights": Array(self._weights)}), None

    def _opened(self, number: int, came: dict[str, TrainReply]) -> Weights:
        """The weights after a round, its sum opened with the help of those who answer."""
        assert self._training is not None
        assert self._exchange is not None
        names, nodes = self._training.roster.names, self._training.roster.nodes
        server, asked = self._training.close(number, len(self._weights), came)
        by_node = {nodes[party]: request for party, request in asked.items()}
        answers: dict[int, RevealSumReply] = {}
        if by_node:
            answers = self._exchange.ask(REVEAL, by_node, RevealSumReply, names=names, least=1)
        revealed = {names[node]: reply for node, reply in answers.items()}
        self._without(set(asked) - set(revealed))
        return self._training.step(self._weights, server, revealed, came)

    def _without(self, parties: set[str]) -> None:
        """Go on without these."""
        if parties:
            log.warning("training goes on without %s", ", ".join(sorted(parties)))
        self._gone |= parties

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: what a party could say of a round's model would depend on its rows."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Flower's loop prints tables that are empty here; this module logs each round itself."""
    flower = logging.getLogger("flwr")
    level = flower.level
    flower.setLevel(logging.WARNING)
    try:
        yield
    finally:
        flower.setLevel(level)
