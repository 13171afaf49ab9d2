"""The server's step of the evaluation: synthetic rows to every party, noisy counts back."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from twinweave.errors import ProtocolError
from twinweave.generators.union import Rows, UnionLayout
from twinweave.privacy.events import Event
from twinweave.protocols.evaluation.messages import EvaluateReply, EvaluateRequest
from twinweave.protocols.evaluation.party import EVALUATE, PASS, WITHHELD
from twinweave.protocols.steps import Question
from twinweave.spec import RunSpec
from twinweave.workload.audit import HIT_CELLS


def asked(spec: RunSpec, rows: Rows, seed: int, parties: Collection[str]) -> Question:
    """What every one of these parties is asked: the same rows, in their smallest type."""
    layout = UnionLayout.of(spec.schema)
    small = np.int16 if max(layout.sizes) < np.iinfo(np.int16).max else np.int32
    request = EvaluateRequest(
        run=spec.run, codes=rows.codes.astype(small), presence=rows.presence, seed=seed
    )
    own = {party: request for party in spec.parties if party in parties}
    return Question(phase=EVALUATE, requests=own, reply=EvaluateReply)


def released(spec: RunSpec, parties: Collection[str]) -> list[Event]:
    """What the evaluation releases at these parties."""
    plan = spec.audit
    own = [p for p in spec.parties if p in parties]
    return [] if plan is None else [event for party in own for event in plan.events(party)]


def check(spec: RunSpec, replies: Mapping[str, EvaluateReply]) -> None:
    """Raise ProtocolError where an answer is none to what was asked."""
    plan = spec.audit
    words = (PASS, WITHHELD) if plan is not None and plan.verdict else ("",)
    counted = plan.counted if plan is not None else ()
    for party, reply in replies.items():
        tables = reply.hits.values()
        if set(reply.hits) != set(counted) or reply.verdict not in words:
            raise ProtocolError(f"the evaluation of {party!r} is not what was asked. Refused.")
        if any(t.shape != (HIT_CELLS,) or t.dtype != np.int64 for t in tables):
            raise ProtocolError(f"counts of {party!r} are not whole numbers. Refused.")
