"""The Flower Strategy of a run: masked secure aggregation, then the final synthesis and report.

`conduct` is a whole run: measure, then train, then hand over.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from strategies.measuring import Findings, measure_tables
from twinweave.config import RunConf
from twinweave.errors import RunError
from twinweave.planning import plan
from twinweave.protocols.secure_sum.interface import Revealed, Upload
from twinweave.protocols.steps import Question
from twinweave.protocols.training.party import REVEAL, TRAIN
from twinweave.protocols.training.plan import TrainingPlan
from twinweave.protocols.training.server import Training, Weights
from twinweave.spec import RunSpec
from twinweave.workload.measurement import one_way_tables

log = logging.getLogger("twinweave.run")


Begin = Callable[[Findings], Weights]
Finish = Callable[[Findings], None]


def conduct(
    grid: Grid,
    conf: RunConf,
    *,
    begin: Begin,
    finish: Finish,
    sites: str = "",
    spec: RunSpec | None = None,
) -> None:
    """A whole run. Raises an AppError that names what went wrong and what to do.

    begin: the generator's first weights, from the measurements. finish: final synthesis, audit
    and report, from everything. sites: folder of site files (simulation). spec: planned from
    the configuration where it is not given.
    """
    spec = spec or plan(conf, run=secrets.token_hex(16))
    findings = measure_tables(grid, conf, spec, sites)
    if findings.training is None:
        finish(findings)
    else:
        Weave(conf, findings, findings.training, begin, finish).start(grid)


class Weave(Strategy):
    """Trains the generator of a measured run round by round, then triggers synthesis and audit.

    The sum of the updates is all that the server ever sees of them. A party that vanishes is
    left out of this round and all later ones, as long as the secure sum can be opened without.
    """

    def __init__(
        self,
        conf: RunConf,
        findings: Findings,
        training: TrainingPlan,
        begin: Begin,
        finish: Finish,
    ) -> None:
        self._parties = findings.parties
        self._timeout = conf.protocol.timeout
        self._finish = finish
        self._findings = findings
        self._training = Training(
            spec=findings.spec,
            roster=findings.roster,
            plan=training,
            one_way=one_way_tables(findings.measurements),
            dealt=findings.dealt,
        )
        self._weights = begin(findings)
        self._asked = Question(phase=TRAIN, requests={}, reply=Upload)
        self._gone: set[str] = set()

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
        """Every round, then `finish`. Rounds, timeouts and first weights follow from the
        configuration and the measurements; Flower's own arguments for them are not used."""
        first, rounds = ArrayRecord({"weights": Array(self._weights)}), self._training.rounds
        with _quiet():
            result = super().start(grid, first, rounds, timeout=self._timeout)
        events = self._training.plan.events(self._findings.spec.schema.units, rounds)
        ledger = self._findings.ledger.charge(*events)
        self._finish(replace(self._findings, ledger=ledger, weights=self._weights))
        return result

    def summary(self) -> None:
        """Log what Flower's training loop is about to do."""
        spec = self._training.spec
        name = spec.training.generator.name if spec.training else ""
        log.info(
            "training %s at %d parties: %d rounds", name, len(spec.parties), self._training.rounds
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Global weights to every party that still answers (Flower counts rounds from 1)."""
        self._weights = arrays["weights"].numpy()
        requests = self._training.requests(server_round - 1, self._weights)
        asked = {p: r for p, r in requests.items() if p not in self._gone}
        self._asked = Question(phase=TRAIN, requests=asked, reply=Upload)
        return self._parties.messages(self._asked)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Masked secure aggregation. Raises RunError, naming who is missing, where a sum cannot
        be opened without them."""
        least = self._training.sums.min_alive
        came: dict[str, Upload] = self._parties.settle(self._asked, replies, least=least)
        self._without(set(self._asked.requests) - set(came))
        try:
            self._weights = self._opened(server_round - 1, came)
        except RunError as error:
            if not self._gone:
                raise
            raise RunError(f"without {', '.join(sorted(self._gone))}: {error}") from None
        total = self._training.rounds
        log.info("round %d of %d: %d updates in one sum", server_round, total, len(came))
        return ArrayRecord({"weights": Array(self._weights)}), None

    def _opened(self, number: int, came: dict[str, Upload]) -> Weights:
        """The weights after a round, its sum opened with the help of those who answer."""
        server, asked = self._training.close(number, len(self._weights), came)
        revealed: dict[str, Revealed] = {}
        if asked:
            question = Question(phase=REVEAL, requests=asked, reply=Revealed)
            revealed = self._parties.ask(question, least=1)
        self._without(set(asked) - set(revealed))
        return self._training.step(self._weights, server, revealed, set(came))

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
