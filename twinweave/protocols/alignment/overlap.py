"""Stop where hardly anyone matches: the exact counts, noise of every party on them, one bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError, RunError
from twinweave.privacy.mechanisms import draw
from twinweave.privacy.noise import OwnGaussian
from twinweave.protocols.channel.server import Roster
from twinweave.protocols.party import Party
from twinweave.spec import RunSpec
from twinweave.workload.overlap import counted, least

Counts = NDArray[np.int64]
NO_COUNTS: Counts = np.zeros(0, dtype=np.int64)


def noise_on_counts(party: Party, phase: str) -> Counts:
    """The party's own noise on each count of the specification, charged first."""
    events = party.spec.tables.counting
    if not events:
        return NO_COUNTS
    receipt = party.charge(phase, events)
    return np.concatenate([draw(1, event, receipt) for event in events])


def stop_where_hardly_anyone_matches(
    spec: RunSpec, roster: Roster, slots: Mapping[str, Counts], noise: Mapping[str, Counts]
) -> None:
    """Raise RunError, naming whose users match nobody, by the noisy counts alone."""
    events = spec.tables.counting
    if not events or spec.overlap is None:
        return
    total = np.zeros(len(events), dtype=np.int64)
    for party, drawn in noise.items():
        if drawn.shape != total.shape or drawn.dtype.kind != "i":
            raise ProtocolError(f"noise of {party!r} on the overlap does not fit. Start a new run.")
        total += drawn
    each = OwnGaussian(noise_multiplier=spec.overlap.noise_multiplier)
    sd = each.variance(len(noise)) ** 0.5
    for unit, exact, drawn in zip(counted(spec.schema), in_common(spec, slots), total, strict=True):
        own = sum(roster.rows[p] for p in unit)
        smaller = min(own, sum(roster.rows.values()) - own)
        noisy = int(exact + drawn)
        if noisy <= least(sd, smaller):
            raise RunError(_said(spec, unit, noisy, sd, own))


def in_common(spec: RunSpec, slots: Mapping[str, Counts]) -> list[int]:
    """Exact: how many users of each unit that is counted another unit holds too."""
    held = {unit: np.concatenate([slots[p] for p in unit]) for unit in spec.schema.units}
    return [
        int(np.isin(held[unit], np.concatenate([s for u, s in held.items() if u != unit])).sum())
        for unit in counted(spec.schema)
    ]


def _said(spec: RunSpec, unit: tuple[str, ...], noisy: int, sd: float, rows: int) -> str:
    from twinweave.privacy import accountant

    epsilon = accountant.epsilon(spec.tables.counting, spec.delta)
    return (
        f"hardly any user of {' and '.join(map(repr, unit))} is known to the others: about "
        f"{max(noisy, 0):,} of {rows:,}, plus or minus {2 * sd:,.0f}. Nothing was measured; this "
        f"count alone was paid for (epsilon {epsilon:.2g}). Check that all parties spell the ids "
        "alike: leading zeros, upper and lower case, blanks and invisible characters, dashes, "
        "prefixes such as +49 and 0049, or a hash of something else."
    )
