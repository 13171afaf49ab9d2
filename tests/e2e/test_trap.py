"""The trap, kept visible: averaging models of disjoint columns sees no lift.

Membership is at one party, conversion at the other. Averaged generators, trained here without
noise (their best case), give synthetic tables whose lift is near zero; rows that meet the same
run's cross tables keep it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.campaigns import TRAINING, configure
from tests.generators.paid import paid
from tests.whole_run import run
from twinweave.generators import registry
from twinweave.generators.conf import TvaeConf
from twinweave.generators.plan import SgdPlan
from twinweave.generators.rounds import train_round
from twinweave.generators.union import Rows, UnionLayout
from twinweave.parsing import parse
from twinweave.protocols.party import Party
from twinweave.protocols.training.party import union_codes
from twinweave.synthesis.conf import FitConf, SynthesisConf
from twinweave.synthesis.synthesise import Task, synthesise
from twinweave.tables.campaign import CampaignConf, true_lift

EFFECT = 2.5  # log-odds: a lift no honest method can miss


def lift_of(rows: Rows, layout: UnionLayout, arms: tuple[int, int]) -> float:
    """Synthetic lift; a user whom the advertiser does not hold has not converted."""
    arm = rows.codes[:, layout.names.index("arm")]
    converted = rows.codes[:, layout.names.index("converted")] == 1
    return float(converted[arm == arms[0]].mean() - converted[arm == arms[1]].mean())


def averaged_rows(parties: list[Party], layout: UnionLayout, presence: NDArray[Any]) -> Rows:
    """Federated averaging alone: each party trains on its own columns, without noise."""
    import torch

    conf = parse(TvaeConf, TRAINING | {"width": 32, "latent": 8, "local_steps": 60})
    weights = registry.build(conf, layout, seed=1).weights
    covered = registry.coverage(conf, layout)
    divisor = np.maximum(sum(c.astype(int) for c in covered.values()), 1)
    states: dict[str, bytes | None] = {}
    for _ in range(4):
        total = np.zeros_like(weights, dtype=np.float64)
        for party in parties:
            codes = union_codes(party)
            plan = SgdPlan.of(conf, rows=len(codes), noise_multiplier=0.0, unsafe=True)
            network = registry.load(conf, layout, weights)
            found = train_round(
                network, party.name, codes, plan, *paid(plan), state=states.get(party.name)
            )
            states[party.name] = found.state
            total += found.update
        weights = (weights + total / divisor).astype(np.float32)
    return registry.load(conf, layout, weights).sample(presence, torch.Generator().manual_seed(2))


@pytest.mark.filterwarnings("ignore")
def test_averaging_alone_loses_the_lift_that_cross_tables_keep(tmp_path: Path) -> None:
    ran = run(
        configure(
            tmp_path,
            "data.parties.0.source.campaign.users=4000",
            f"data.parties.0.source.campaign.effect={EFFECT}",
            "protocol.alignment=prf",
        )
    )
    layout = UnionLayout.of(ran.spec.schema)
    levels = ran.spec.schema.column("arm").labels
    arms = levels.index("test"), levels.index("control")
    quick = SynthesisConf(fit=FitConf(latents=256, network_steps=0, free_steps=150))
    task = Task(
        layout=layout,
        measurements=ran.findings.measurements,
        sizes=ran.findings.rows,
        conf=quick,
        seed=0,
    )
    measured = synthesise(None, task).rows
    naive = averaged_rows(
        [ran.party(name).party for name in layout.parties], layout, measured.presence
    )
    truth = true_lift(CampaignConf(users=4000, effect=EFFECT, seed=11)).absolute
    assert lift_of(measured, layout, arms) > 0.75 * truth
    assert abs(lift_of(naive, layout, arms)) < 0.25 * truth
