"""A party's step of the evaluation: look at the synthetic rows beside its own, keep what it finds.

The full report goes into the party's private folder. What leaves are counts with noise that the
guard was charged for, or nothing but that it is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinweave import durable
from twinweave.errors import ProtocolError
from twinweave.generators.union import Rows, UnionLayout
from twinweave.privacy.mechanisms import release_table
from twinweave.protocols.evaluation.interface import Audit, Audited, Evidence
from twinweave.protocols.evaluation.messages import EvaluateReply, EvaluateRequest
from twinweave.protocols.party import Finished, Party, Released
from twinweave.site import Site
from twinweave.tables.contingency import ABSENT
from twinweave.workload.audit import HIT_CELLS, AuditPlan

EVALUATE = "evaluate.synthetic"
PASS, WITHHELD = "pass", "withheld"

Step = Callable[[EvaluateRequest, Released, Site], tuple[EvaluateReply, Finished]]


def evaluating(audit: Audit) -> Step:
    """The step that audits by a function of the party's own evidence."""

    def evaluate(
        request: EvaluateRequest, state: Released, site: Site
    ) -> tuple[EvaluateReply, Finished]:
        party = Party(site, state.introduced)
        plan = party.spec.audit
        if plan is None:
            raise ProtocolError("the run specification has no audit. Start a new run.")
        found = audit(evidence(request, party, plan))
        write_audit(found, site, party.run)
        events = plan.events(party.name)
        receipt = party.charge(EVALUATE, events)
        hits = {
            name: release_table(hits_of(found, name), event, receipt)
            for name, event in zip(plan.counted, events, strict=True)
        }
        verdict = (WITHHELD if found.withheld else PASS) if plan.verdict else ""
        return EvaluateReply(hits=hits, verdict=verdict), Finished(run=party.run)

    return evaluate


def evidence(request: EvaluateRequest, party: Party, plan: AuditPlan) -> Evidence:
    """What the party may look at. Raises ProtocolError where the rows are none of the run's, or
    lack cells of the party at which they are."""
    schema = party.spec.schema
    joint = checked_rows(request, UnionLayout.of(schema))
    rows = (party.table, party.aside)
    unsafe = party.spec.unsafe
    found = Evidence.of(party.name, schema, rows, joint, plan, request.seed, unsafe=unsafe)
    if (found.synthetic == ABSENT).any():
        raise ProtocolError("synthetic rows lack cells of a party they are at. Start a new run.")
    return found


def checked_rows(request: EvaluateRequest, layout: UnionLayout) -> Rows:
    """The synthetic rows of a request. Raises ProtocolError where they do not fit the schema."""
    codes, presence = request.codes, request.presence
    n = len(codes)
    fits = (
        codes.dtype.kind == "i"
        and codes.shape == (n, len(layout.names))
        and presence.dtype.kind == "b"
        and presence.shape == (n, len(layout.parties))
        and n > 0
        and bool((codes >= ABSENT).all() and (codes < np.array(layout.sizes)).all())
        and request.seed >= 0
    )
    if not fits:
        raise ProtocolError("the synthetic rows do not fit the schema. Start a new run.")
    return Rows(codes=codes.astype(np.int32), presence=presence)


def hits_of(found: Audited, name: str) -> NDArray[np.int64]:
    """An attack's exact table. Raises ProtocolError where the audit made none."""
    table = found.hits.get(name)
    if table is None or table.shape != (HIT_CELLS,) or table.dtype != np.int64:
        raise ProtocolError(f"the audit has no count of hits of {name!r}. Start a new run.")
    return table


def write_audit(found: Audited, site: Site, run: str) -> None:
    """The party's own report, in its private folder: `audit.json`, one a run in a deployment."""
    path = audit_path(site, run)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps({"run": run, "party": site.party, **found.report}, indent=2)
    durable.write_whole(path, f"{text}\n".encode())


def audit_path(site: Site, run: str) -> Path:
    """Where a party keeps its own report."""
    # A run's id comes from outside: nothing but letters and digits of it enters a name.
    called = "".join(c for c in run if c.isalnum() and c.isascii())[:16]
    return Path(site.work) / ("audit.json" if site.simulated else f"audit-{called}.json")
