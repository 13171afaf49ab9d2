"""Canaries in the noisy counts of users in common, by which a run goes on or stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from twinweave.analysis.canaries.trial import Trial, drawn
from twinweave.config import RunConf
from twinweave.privacy.accountant import gaussian_mu
from twinweave.privacy.events import Event
from twinweave.privacy.guard import Receipt
from twinweave.protocols.alignment.overlap import noise_on_counts
from twinweave.protocols.party import Party
from twinweave.workload.overlap import OverlapCheck
from twinweave.workload.plan import TablePlan


def counts_trial(conf: RunConf, *, canaries: int, rng: np.random.Generator) -> Trial:
    """As many counts, each of one canary, for all of the run's epsilon; read by a party, which
    knows its own noise. Rather than so many runs, one party draws its noise for all of them."""
    privacy, schema = conf.privacy, conf.data.schema
    noise = 1 / gaussian_mu(privacy.epsilon, privacy.delta)
    event = OverlapCheck(noise_multiplier=noise).events(schema)[0]
    included = drawn(canaries, rng)
    counting = TablePlan(schema=schema, tables=(), counting=(event,) * canaries)
    party = cast("Party", _Counting(spec=_Spec(tables=counting)))
    seen = included + noise_on_counts(party, "query.match")
    return Trial(
        path="counts of users in common",
        events=(event,),
        delta=privacy.delta,
        included=included,
        scores=seen - 0.5,
    )


@dataclass(frozen=True, kw_only=True)
class _Spec:
    tables: TablePlan


@dataclass(frozen=True, kw_only=True)
class _Counting:
    """What `noise_on_counts` asks of a party. Of made-up users, no guard is asked."""

    spec: _Spec

    def charge(self, phase: str, events: tuple[Event, ...]) -> Receipt:
        return Receipt(
            run="canaries",
            phase=phase,
            request_hash="",
            events=tuple(dict.fromkeys(events)),
            epsilon=0.0,
            fresh=True,
            guarded=False,
        )
