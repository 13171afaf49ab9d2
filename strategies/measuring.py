"""A run's phases up to its noisy tables: setup, alignment, one pass of products or two."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flwr.serverapp import Grid

from strategies.exchange import Exchange
from twinweave import rundir
from twinweave.checkpoint import Paid
from twinweave.config import RunConf
from twinweave.errors import RunError
from twinweave.parsing import canonical_json
from twinweave.planning import FirstPass, generator_cost, plan_second, plan_training, too_large
from twinweave.privacy.ledger import Ledger
from twinweave.protocols.alignment.server import align
from twinweave.protocols.channel.messages import SetupReply, SetupRequest
from twinweave.protocols.channel.server import Roster, roster, unheard
from twinweave.protocols.evaluation.messages import EvaluateReply
from twinweave.protocols.products.kinds import check_sizes
from twinweave.protocols.products.server import measure, sections
from twinweave.protocols.steps import Question
from twinweave.protocols.training.plan import TrainingPlan
from twinweave.protocols.training.server import Weights
from twinweave.spec import RunSpec
from twinweave.synthesis.synthesise import SynthesisResult
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery

log = logging.getLogger("twinweave.run")
SETUP = "query.setup"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the server holds once the parties have answered: public by differential privacy.

    spec: with the tables that were measured last; those of a first pass that stay measurements of
    the run come after them. first: what chose them, where a first pass did.
    dealt: for the secure sums to come. training: as it was planned; weights: of the trained
    generator, float32 (parameters,); both None without training.
    synthetic: the rows that the parties were asked to look at, None where they were not.
    evaluated: what each party that answered said of them.
    """

    spec: RunSpec
    roster: Roster
    measurements: tuple[Measurement, ...] = field(repr=False)
    ledger: Ledger
    dealt: dict[str, dict[str, bytes]] = field(repr=False)
    training: TrainingPlan | None = None
    first: FirstPass | None = field(default=None, repr=False)
    weights: Weights | None = field(default=None, repr=False)
    synthetic: SynthesisResult | None = field(default=None, repr=False)
    evaluated: Mapping[str, EvaluateReply] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> dict[str, int]:
        """Every party's table size."""
        return self.roster.rows


def measure_tables(
    grid: Grid, conf: RunConf, spec: RunSpec, sites: str, secret: bytes
) -> tuple[Findings, Exchange]:
    """Align, then measure: once, or first some tables and then what was chosen in view of them.

    sites: folder of site files (simulation), or "". secret: the server's in this run, 32 bytes:
    with the same one the same requests are sent, and what parties answered before they repeat.
    Raises an AppError that names what went wrong and what to do.
    """
    _announce(conf, spec)
    parties, members = setup(grid, conf, spec, sites)
    check_sizes(spec, members.n_slots)
    sizes = " and ".join(f"{n:,} ids of {p}" for p, n in members.rows.items())
    log.info("aligning %s by %s", sizes, spec.alignment)
    training = plan_training(conf, spec, members.rows) if spec.training else None
    if cost := generator_cost(conf, members.rows):
        log.log(logging.WARNING if cost.is_long else logging.INFO, "%s", cost.sentence)
    planned = canonical_json(training) if training else ""
    slots = parties.drive(align(spec, members, planned, secret=secret))
    log.info("measuring %d tables", len(spec.plan))
    found = parties.drive(measure(spec, members, slots, secret=secret))
    events = spec.tables.events()
    first = None
    if spec.two_passes:
        first, tables = _second(conf, spec, found.measurements, training)
        _announce_second(first, tables)
        spec = replace(spec, plan=tables, overlap=None)
        found = parties.drive(measure(spec, members, slots, step=1, secret=secret))
        events += [planned.event for planned in tables]
    if large := too_large(conf, first):
        log.warning(
            "left out for having more than workload.max_cells=%d cells: %s",
            conf.workload.max_cells,
            ", ".join(large),
        )
    findings = Findings(
        spec=spec,
        roster=members,
        measurements=(*found.measurements, *(first.kept if first else ())),
        ledger=Ledger().charge(*events),
        dealt=found.dealt,
        training=training,
        first=first,
    )
    return findings, parties


def measured_before(conf: RunConf, begun: RunSpec, paid: Paid) -> Findings:
    """What `measure_tables` found before the run was cut short, from the run's own files.

    begun: the specification that the run began with.
    """
    folder, spec = Path(conf.output), RunSpec.loads(paid.spec)
    training = TrainingPlan.loads(paid.training) if paid.training else None
    events, first = begun.tables.events(), None
    if begun.two_passes:
        found = rundir.read_measurements(folder / rundir.FIRST_PASS, spec.schema)
        first, _ = _second(_as_begun(conf), begun, found, training)
        events += [planned.event for planned in spec.plan]
    return Findings(
        spec=spec,
        roster=paid.roster,
        measurements=rundir.read_measurements(folder / rundir.MEASUREMENTS, spec.schema),
        ledger=Ledger().charge(*events),
        dealt=paid.unpacked(),
        training=training,
        first=first,
    )


def _as_begun(conf: RunConf) -> RunConf:
    """The configuration that the run began with: one that goes on may have no generator any more,
    and with a generator its tables were planned."""
    if conf.resume is None:
        return conf
    return RunConf.parse(json.loads((Path(conf.output) / rundir.CONFIGURATION).read_text()))


def _second(
    conf: RunConf,
    spec: RunSpec,
    found: tuple[Measurement, ...],
    training: TrainingPlan | None,
) -> tuple[FirstPass, tuple[PlannedQuery, ...]]:
    """What the first pass chose, and the tables that follow from it."""
    rounds = spec.training.generator.rounds if spec.training else 0
    later = training.events(spec.schema.units, rounds) if training else ()
    return plan_second(conf, spec, found, later)


def setup(grid: Grid, conf: RunConf, spec: RunSpec, sites: str) -> tuple[Exchange, Roster]:
    """Wait for the nodes, send the specification, see who answered and what they accepted."""
    replies = _introduced(grid, conf, spec, sites, len(spec.parties))
    members = roster(spec, replies.values())
    return _exchange(grid, conf, members, replies), members


def rejoin(
    grid: Grid,
    conf: RunConf,
    spec: RunSpec,
    sites: str,
    members: Roster,
    *,
    wanted: int,
    least: int,
) -> Exchange:
    """Find the parties of a run that goes on, wherever they are now: `wanted`, or `least` of them.

    spec: the one that the run began with. Each answers as it did at the beginning.
    """
    replies = _introduced(grid, conf, spec, sites, wanted, least)
    known = {
        node: reply for node, reply in replies.items() if reply.hello in members.hellos.values()
    }
    return _exchange(grid, conf, members, known)


def _introduced(
    grid: Grid, conf: RunConf, spec: RunSpec, sites: str, wanted: int, least: int | None = None
) -> dict[int, SetupReply]:
    """The answer to the specification of every node that plays a party, by node.

    wanted: nodes to wait for. least: so many answers are enough; None: all nodes must answer.
    """
    timeout = conf.protocol.first_timeout
    nodes = _wait_for_nodes(grid, wanted, wanted if least is None else least, timeout)
    numbered = {f"node {node}": node for node in nodes}
    first = Exchange(
        grid=grid,
        timeout=timeout,
        nodes=numbered,
        unheard=lambda answers: unheard(spec, answers),
    )
    request = SetupRequest(run=spec.run, spec=spec.dumps(), sites=sites)
    question = Question(phase=SETUP, requests=dict.fromkeys(first.nodes, request), reply=SetupReply)
    asked = first.settle(question, first.send(question), least=least)
    return {first.nodes[name]: reply for name, reply in asked.items() if reply.hello}


def _exchange(
    grid: Grid, conf: RunConf, members: Roster, replies: Mapping[int, SetupReply]
) -> Exchange:
    """The parties by name, of the nodes that gave these answers."""
    parties = {hello: party for party, hello in members.hellos.items()}
    own = {parties[reply.hello]: node for node, reply in replies.items()}
    return Exchange(grid=grid, timeout=conf.protocol.timeout, nodes=own)


def _wait_for_nodes(grid: Grid, wanted: int, least: int, timeout: float) -> list[int]:
    """The nodes once there are `wanted`, or, when the time is over, `least` of them."""
    deadline = time.monotonic() + timeout
    while len(nodes := list(grid.get_node_ids())) < wanted:
        if time.monotonic() > deadline:
            if len(nodes) >= least:
                break
            raise RunError(
                f"{len(nodes)} of {wanted} parties connected within {timeout:.0f} s. Start a "
                "SuperNode at each party (in a simulation: set num-supernodes)."
            )
        time.sleep(0.2)
    return nodes


def _announce(conf: RunConf, spec: RunSpec) -> None:
    """Log what the run will do, before anything is sent."""
    told = spec.run[:8], conf.data.name, spec.epsilon, spec.delta, len(spec.plan)
    log.info("run %s on %s: epsilon %g, delta %g, %d tables", *told)
    if spec.unsafe:
        log.warning(
            "privacy.unsafe: the generator is trained WITHOUT NOISE on the parties' rows. Epsilon "
            "is infinite: nobody in them has any guarantee. The epsilon above is the tables' alone."
        )
    for line in sections(spec):
        log.info("  %s", line)


def _announce_second(first: FirstPass, tables: Sequence[PlannedQuery]) -> None:
    """Log what the second pass asks for, and why."""
    chosen = [f"{len(first.selected.choice.kept)} columns"] if first.selected else []
    coarse = any(m.query.is_coarse for m in first.measurements)
    if coarse and first.selected is None:
        three = [p.query.name for p in tables if len(p.query.columns) > 2 and not p.query.priority]
        chosen += ["each pair for what it shows", *([f"also {', '.join(three)}"] if three else [])]
    chosen += [f"{column} clipped at {clip:g}" for column, clip in first.clips.items()]
    log.info("chosen: %s; %d tables more", ", ".join(chosen) or "no clip", len(tables))
