"""A receipt for private steps, as a guard that has just been charged for them would give it."""

from __future__ import annotations

from twinweave.generators.plan import SgdPlan
from twinweave.privacy.events import Event, Stage
from twinweave.privacy.guard import Receipt


def paid(plan: SgdPlan) -> tuple[Event, Receipt]:
    """What a round of the plan costs, and the receipt that paid for it."""
    event = Event(
        label="training at a", stage=Stage.TRAINING, parties=("a",), mechanism=plan.mechanism()
    )
    receipt = Receipt(
        run="r",
        phase="train.generator/0",
        request_hash="h",
        events=(event,),
        epsilon=0.0,
        fresh=True,
        guarded=False,
    )
    return event, receipt
