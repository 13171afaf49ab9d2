"""A run's phases up to its noisy tables: setup, alignment, one pass of products or two."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace

from flwr.serverapp import Grid

from strategies.exchange import Exchange
from twinweave.config import RunConf
from twinweave.errors import RunError
from twinweave.parsing import canonical_json
from twinweave.planning import Selected, plan_training, select, too_large
from twinweave.privacy.ledger import Ledger
from twinweave.protocols.alignment.server import align
from twinweave.protocols.channel.messages import SetupReply, SetupRequest
from twinweave.protocols.channel.server import Roster, roster, unheard
from twinweave.protocols.products.kinds import check_sizes
from twinweave.protocols.products.server import measure, sections
from twinweave.protocols.steps import Question
from twinweave.protocols.training.plan import TrainingPlan
from twinweave.protocols.training.server import Weights
from twinweave.spec import RunSpec
from twinweave.workload.measurement import Measurement

log = logging.getLogger("twinweave.run")
SETUP = "query.setup"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the server holds once the parties have answered: public by differential privacy.

    spec: with the tables that were measured. selected: what chose them, where a selection did.
    dealt: for the secure sums to come. training: as it was planned; weights: of the trained
    generator, float32 (parameters,); both None without training.
    """

    spec: RunSpec
    roster: Roster
    parties: Exchange
    measurements: tuple[Measurement, ...] = field(repr=False)
    ledger: Ledger
    dealt: dict[str, dict[str, bytes]] = field(repr=False)
    training: TrainingPlan | None = None
    selected: Selected | None = field(default=None, repr=False)
    weights: Weights | None = field(default=None, repr=False)

    @property
    def rows(self) -> dict[str, int]:
        """Every party's table size."""
        return self.roster.rows


def measure_tables(grid: Grid, conf: RunConf, spec: RunSpec, sites: str) -> Findings:
    """Align, then measure: once, or coarsely first and then what a selection chose.

    sites: folder of site files (simulation), or "". Raises an AppError that names what went
    wrong and what to do.
    """
    _announce(conf, spec)
    parties, members = setup(grid, conf, spec, sites)
    check_sizes(spec, members.n_slots)
    sizes = " and ".join(f"{n:,} ids of {p}" for p, n in members.rows.items())
    log.info("aligning %s by %s", sizes, spec.alignment)
    training = plan_training(conf, spec, members.rows) if spec.training else None
    planned = canonical_json(training) if training else ""
    slots = parties.drive(align(spec, members, planned))
    found = parties.drive(measure(spec, members, slots))
    events = spec.tables.events()
    selected = None
    if spec.selects:
        rounds = spec.training.generator.rounds if spec.training else 0
        later = training.events(spec.schema.units, rounds) if training else ()
        selected, tables = select(conf, spec, found.measurements, later)
        log.info("selected %d columns; %d tables", len(selected.choice.kept), len(tables))
        spec = replace(spec, plan=tables, overlap=None)
        found = parties.drive(measure(spec, members, slots, step=1))
        events += [planned.event for planned in tables]
    if large := too_large(conf, selected):
        log.warning(
            "left out for having more than workload.max_cells=%d cells: %s",
            conf.workload.max_cells,
            ", ".join(large),
        )
    return Findings(
        spec=spec,
        roster=members,
        parties=parties,
        measurements=found.measurements,
        ledger=Ledger().charge(*events),
        dealt=found.dealt,
        training=training,
        selected=selected,
    )


def setup(grid: Grid, conf: RunConf, spec: RunSpec, sites: str) -> tuple[Exchange, Roster]:
    """Wait for the nodes, send the specification, see who answered and what they accepted."""
    protocol = conf.protocol
    nodes = _wait_for_nodes(grid, len(spec.parties), protocol.first_timeout)
    numbered = {f"node {node}": node for node in nodes}
    first = Exchange(
        grid=grid,
        timeout=protocol.first_timeout,
        nodes=numbered,
        unheard=lambda answers: unheard(spec, answers),
    )
    request = SetupRequest(run=spec.run, spec=spec.dumps(), sites=sites)
    requests = dict.fromkeys(first.nodes, request)
    question = Question(phase=SETUP, requests=requests, reply=SetupReply)
    asked = first.settle(question, first.send(question))
    replies = {name: reply for name, reply in asked.items() if reply.hello}
    members = roster(spec, replies.values())
    parties = {hello: party for party, hello in members.hellos.items()}
    own = {parties[reply.hello]: first.nodes[name] for name, reply in replies.items()}
    return Exchange(grid=grid, timeout=protocol.timeout, nodes=own), members


def _wait_for_nodes(grid: Grid, wanted: int, timeout: float) -> list[int]:
    deadline = time.monotonic() + timeout
    while len(nodes := list(grid.get_node_ids())) < wanted:
        if time.monotonic() > deadline:
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
    for line in sections(spec):
        log.info("  %s", line)
