"""The Flower Strategy of a run: masked secure aggregation, then the final synthesis and report.

`conduct` is a whole run: measure, then train, then hand over. Wherever it was cut short, it goes
on from what its checkpoint holds.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from strategies.evaluating import hand_over
from strategies.exchange import Exchange
from strategies.measuring import Findings, measure_tables, measured_before, rejoin
from twinweave import progress
from twinweave.checkpoint import Asked, Begun, Checkpoint, Closed, Paid, Round
from twinweave.config import RunConf
from twinweave.errors import RunError
from twinweave.planning import plan
from twinweave.privacy.ledger import Ledger
from twinweave.protocols.secure_sum.interface import Revealed, Upload
from twinweave.protocols.steps import Question
from twinweave.protocols.training.party import REVEAL, TRAIN
from twinweave.protocols.training.plan import TrainingPlan
from twinweave.protocols.training.server import Training, Weights
from twinweave.spec import RunSpec
from twinweave.synthesis.synthesise import SynthesisResult
from twinweave.workload.measurement import one_way_tables

log = logging.getLogger("twinweave.run")


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What is done with a run's findings on its way.

    measured: writes them as soon as they are paid for. report: on them, before the training.
    begin: the generator's first weights. spent: the ledger, whenever more is about to be
    released, or less was than was said. synthesise: the synthetic rows, for the parties to look
    at; None: they are shown nothing. finish: report, from all.
    """

    begin: Callable[[Findings], Weights]
    finish: Callable[[Findings], None]
    measured: Callable[[Findings], None] = lambda _: None
    report: Callable[[Findings], None] = lambda _: None
    spent: Callable[[Ledger], None] = lambda _: None
    synthesise: Callable[[Findings], SynthesisResult] | None = None


def conduct(
    grid: Grid,
    conf: RunConf,
    stages: Stages,
    *,
    sites: str = "",
    spec: RunSpec | None = None,
    kept: Checkpoint | None = None,
) -> None:
    """A whole run, or the rest of one. Raises an AppError that names what went wrong and what
    to do.

    sites: folder of site files (simulation). spec: planned from the configuration where it is
    not given. kept: what the run kept for itself; None: it begins, and nobody will resume it.
    """
    kept = kept or Checkpoint()
    begun = kept.last(Begun)
    if begun is None:
        spec = spec or plan(conf, run=secrets.token_hex(16))
        begun = kept.keep(Begun(spec=spec.dumps(), secret=secrets.token_bytes(32)))
    spec = spec or RunSpec.loads(begun.spec)
    paid, parties = kept.last(Paid), None
    if paid is None:
        findings, parties = measure_tables(grid, conf, spec, sites, begun.secret)
        stages.measured(findings)
        had = findings.spec, findings.roster, findings.dealt, findings.training
        kept.keep(Paid.of(*had))
    else:
        log.info("run %s goes on: its tables are measured, and not asked for again", spec.run[:8])
        findings = measured_before(conf, spec, paid)

    def join(wanted: int, least: int) -> Exchange:
        members = findings.roster
        return parties or rejoin(grid, conf, spec, sites, members, wanted=wanted, least=least)

    if findings.training is None or conf.generator is None:
        findings = replace(findings, ledger=_with_training(findings, kept))
        hand_over(conf, findings, stages, kept, join)
        return

    if (last := kept.last(Round)) is None or last.number < spec.trained.generator.rounds:
        stages.report(findings)
    Weave(conf, findings, findings.training, stages, kept, join).start(grid)


def _with_training(findings: Findings, kept: Checkpoint) -> Ledger:
    """The ledger with the rounds of training that were asked for, whether their answers came."""
    training, asked = findings.training, kept.last(Asked)
    if training is None or asked is None:
        return findings.ledger
    events = training.events(findings.spec.schema.units, asked.number + 1)
    return findings.ledger.charge(*events)


class Weave(Strategy):
    """Trains the generator of a measured run round by round, then triggers synthesis and audit.

    The sum of the updates is all that the server ever sees of them. A party that vanishes is
    left out of this round and all later ones, as long as the secure sum can be opened without.
    Every round begins with what is on disk: weights, and who is left.
    """

    def __init__(
        self,
        conf: RunConf,
        findings: Findings,
        training: TrainingPlan,
        stages: Stages,
        kept: Checkpoint,
        join: Callable[[int, int], Exchange],
    ) -> None:
        """join: finds the parties that are wanted, or at least so many."""
        self._conf = conf
        self._timeout = conf.protocol.timeout
        self._stages = stages
        self._kept = kept
        self._join = join
        self._findings = findings
        last = kept.last(Round)
        if last is None:
            last = kept.keep(Round(number=0, gone={}, weights=stages.begin(findings)))
        self._training = Training(
            spec=findings.spec,
            roster=findings.roster,
            plan=training,
            one_way=one_way_tables(findings.measurements),
            dealt=findings.dealt,
        )
        self._done = last.number
        self._weights: Weights = last.weights
        self._gone = set(last.gone)
        self._asked = Question(phase=TRAIN, requests={}, reply=Upload)

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
        """Every round that is left, then `finish`. Rounds, timeouts and first weights follow from
        the configuration and the measurements; Flower's own arguments for them are not used."""
        rounds, result = self._training.rounds, Result()
        ledger = self._ledger(rounds)
        if self._done < rounds:
            present = set(self._training.spec.parties) - self._gone
            least = min(len(present), self._training.sums.min_alive)
            self._parties = self._join(len(present), least)
            self._without(present - set(self._parties.nodes))
            self._stages.spent(ledger)  # at most: a process that dies on the way says nothing more
            first = ArrayRecord({"weights": Array(self._weights)})
            try:
                with _quiet():
                    result = super().start(grid, first, rounds - self._done, timeout=self._timeout)
            except BaseException:
                self._stages.spent(_with_training(self._findings, self._kept))
                raise
        findings = replace(self._findings, ledger=ledger, weights=self._weights)
        hand_over(self._conf, findings, self._stages, self._kept, self._join, gone=self._gone)
        return result

    def summary(self) -> None:
        """Log what Flower's training loop is about to do."""
        spec = self._training.spec
        name = spec.training.generator.name if spec.training else ""
        told = name, len(spec.parties), self._training.rounds - self._done
        log.info("training %s at %d parties: %d rounds", *told)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Global weights to every party that still answers (Flower counts rounds from 1)."""
        self._weights = arrays["weights"].numpy()
        requests = self._training.requests(self._done, self._weights)
        closed = self._closed()
        asked = {
            p: r for p, r in requests.items() if p not in self._gone and (not closed or p in closed)
        }
        self._asked = Question(phase=TRAIN, requests=asked, reply=Upload)
        self._kept.keep(Asked(number=self._done))
        progress.report("train", self._done, self._training.rounds)
        return self._parties.messages(self._asked)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Masked secure aggregation. Raises RunError, naming who is missing, where a sum cannot
        be opened without them."""
        # What was said once of who is in a sum holds: parties answer no other request for it.
        least = len(self._closed()) or self._training.sums.min_alive
        came: dict[str, Upload] = self._parties.settle(self._asked, replies, least=least)
        self._without(set(self._asked.requests) - set(came))
        try:
            self._weights = self._opened(self._done, came)
        except RunError as error:
            if not self._gone:
                raise
            raise RunError(f"without {', '.join(sorted(self._gone))}: {error}") from None
        self._done += 1
        self._keep_round()
        total = self._training.rounds
        log.debug("round %d of %d: %d updates in one sum", self._done, total, len(came))
        progress.report("train", self._done, total)
        return ArrayRecord({"weights": Array(self._weights)}), None

    def _closed(self) -> set[str]:
        """Who is in the sum of this round, if that was settled before the run was cut short."""
        closed = self._kept.last(Closed)
        return set(closed.came) if closed and closed.number == self._done else set()

    def _keep_round(self) -> None:
        gone = dict.fromkeys(sorted(self._gone), True)
        self._kept.keep(Round(number=self._done, gone=gone, weights=self._weights))

    def _ledger(self, rounds: int) -> Ledger:
        """Of the run with so many rounds of training."""
        events = self._training.plan.events(self._findings.spec.schema.units, rounds)
        return self._findings.ledger.charge(*events)

    def _opened(self, number: int, came: dict[str, Upload]) -> Weights:
        """The weights after a round, its sum opened with the help of those who answer."""
        server, asked = self._training.close(number, len(self._weights), came)
        revealed: dict[str, Revealed] = {}
        if asked:
            self._kept.keep(Closed(number=number, came=dict.fromkeys(came, True)))
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
