"""The secure sums of a run's training: one a round, over the parties' weighted updates."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from twinweave.parsing import canonical_json
from twinweave.protocols.keystream import hkdf
from twinweave.protocols.party import Party
from twinweave.protocols.secure_sum.fixed_point import FixedPoint
from twinweave.protocols.secure_sum.interface import Progress, SumParty
from twinweave.protocols.secure_sum.kinds import check_kind, party_end, peers
from twinweave.protocols.secure_sum.plan import SumPlan, check_collusion
from twinweave.spec import RunSpec

UPDATE_BOUND = 16.0
"""Largest magnitude of one coordinate of a weighted update: far beyond what Adam can reach."""


def sums_of(spec: RunSpec) -> SumPlan:
    """Terms of the run's sums. Raises ConfigError, or ProtocolError without a training.

    An update without noise is hidden by the sum alone, so that two parties must not collude.
    """
    check_collusion(len(spec.parties), spec.trained.colluding, private=not spec.unsafe)
    plan = SumPlan(
        run=spec.run,
        label="training",
        parties=spec.parties,
        rounds=spec.trained.generator.rounds,
        encoding=FixedPoint.fitting(UPDATE_BOUND, n_parties=len(spec.parties), bits=32),
        colluding=spec.trained.colluding,
    )
    check_kind(spec.trained.secure_sum, plan)
    return plan


def summing(party: Party, progress: Progress | None = None) -> SumParty:
    """A party's end of them, as it was when `progress` was stored."""
    kind, plan = party.spec.trained.secure_sum, _plan(party)
    return party_end(
        kind,
        plan=plan,
        own=party.name,
        secret=hkdf(party.secret, "secure sums"),
        keys={peer: party.keys(peer) for peer in peers(kind, plan, party.name)},
        progress=progress,
    )


def _plan(party: Party) -> SumPlan:
    """The sums' terms with what the party was told of the training, which the specification does
    not say: the plan of all parties' steps, and their sizes.

    It is in every key of the sums. Each party holds the whole training to the run's epsilon by
    the plan it was told; were they told different ones, sums of some under one and of others
    under another could together cost more than either.
    """
    told = canonical_json({"training": party.state.training, "rows": party.rows})
    return replace(sums_of(party.spec), label=f"training {sha256(told.encode()).hexdigest()}")
