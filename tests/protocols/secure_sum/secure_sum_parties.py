"""All parties of a secure sum in one process, keyed without hellos: for the tests."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.protocols.channel.keys import PairKeys
from twinweave.protocols.secure_sum.fixed_point import FixedPoint
from twinweave.protocols.secure_sum.masking import MaskingParty, MaskingServer
from twinweave.protocols.secure_sum.plan import SumPlan


def make_plan(
    n: int,
    *,
    bits: Any = 32,
    fractional_bits: int = 16,
    rounds: int = 3,
    colluding: int = 0,
    run: str = "run-1",
    **terms: int,
) -> SumPlan:
    encoding = FixedPoint(bits=bits, fractional_bits=fractional_bits, n_parties=n)
    names = tuple(f"p{i:03d}" for i in range(n))
    return SumPlan(
        run=run,
        label="test",
        parties=names,
        rounds=rounds,
        encoding=encoding,
        colluding=colluding,
        **terms,
    )


def secret(*words: str) -> bytes:
    return hashlib.sha256("|".join(words).encode()).digest()


def keys_of(plan: SumPlan, own: str) -> dict[str, PairKeys]:
    return {
        peer: PairKeys(
            own=own, peer=peer, run_id=plan.run, root=secret(plan.run, *sorted((own, peer)))
        )
        for peer in plan.neighbours[own]
    }


def make_parties(plan: SumPlan) -> dict[str, MaskingParty]:
    """name -> party that has dealt and accepted."""
    fresh = {
        name: MaskingParty(plan=plan, own=name, secret=secret(name), keys=keys_of(plan, name))
        for name in plan.parties
    }
    dealt = {name: party.deal() for name, party in fresh.items()}
    return {
        name: party.accept({peer: dealt[peer][name] for peer in party.neighbours})
        for name, party in fresh.items()
    }


def run_round(
    parties: dict[str, MaskingParty],
    values: dict[str, NDArray[np.float64]],
    *,
    round_: int = 0,
    dropped: Any = (),
    vanished: list[Any] | tuple[Any, ...] = (),
) -> NDArray[np.float64]:
    """The sum of one round; `dropped` never upload, `vanished` do and then do not answer."""
    plan = next(iter(parties.values())).plan
    server = MaskingServer(plan, round_=round_, length=len(next(iter(values.values()))))
    at = {}
    for name in parties:
        if name not in dropped:
            at[name], upload = parties[name].protect(values[name], round_)
            server.add(name, upload)
    requests = server.requests()
    return server.finish(
        {name: at[name].reveal(req)[1] for name, req in requests.items() if name not in vanished}
    )
