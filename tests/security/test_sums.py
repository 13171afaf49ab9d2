"""Sums of amounts that a server asks for: no user adds more units than the sum is charged for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.campaigns import csv_mapping
from tests.e2e.clear import Clear
from tests.protocols.parties import Parties
from tests.security.test_without import FEW, SHARE, A, aligned, two
from tests.security.without import without
from twinweave.config import RunConf
from twinweave.errors import ConfigError
from twinweave.privacy.events import Stage
from twinweave.privacy.noise import OwnGaussian
from twinweave.protocols.products.server import measure
from twinweave.tables import encoding
from twinweave.tables.column import VALUE_UNITS, Column, value_unit
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, Side, check

LEAST = 5e-324
"""The smallest number above 0: a thirty-second part of it is 0."""

NOISE = OwnGaussian(noise_multiplier=30.0, sensitivity=VALUE_UNITS)


def summed(run: Parties) -> NDArray[np.float64]:
    """The advertiser's own sums by region, of amounts up to the least clip there is."""
    sides = (Side(party=A, columns=("region",), weight="spend", clip=LEAST),)
    asked = PlannedQuery(query=Query(sides=sides), stage=Stage.MEASUREMENT, noise=NOISE)
    run.spec = replace(run.spec, plan=(asked,))
    requests = next(measure(run.spec, *aligned(run))).requests
    return np.asarray(run.tell(SHARE, A, requests[A]).tables["0"], dtype=np.float64)


def divided(
    column: Column, amounts: NDArray[np.float64], clip: float | None, draws: Any
) -> NDArray[np.int32]:
    """The broken variant: amounts over the unit, as it was."""
    with np.errstate(all="ignore"):
        exact = np.minimum(amounts, clip or column.span[1]) / value_unit(column, clip)
        return np.floor(exact).astype(np.int32)


@pytest.mark.attack("clips")
@pytest.mark.broken("clips")
def test_the_least_clip_makes_nobody_count_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused; and were it not, nobody would count for more. Without either, a unit of
    nothing made every row count for -2**31: the sums were the exact number of users by region."""
    runs = [tmp_path / name for name in ("refused", "counted", "bare")]
    for folder in runs:
        folder.mkdir()
    users = Clear(RunConf.parse(csv_mapping(tmp_path, *FEW, users=80)))
    counts = users.table(Query(sides=(Side(party=A, columns=("region",)),)))
    with pytest.raises(ConfigError, match="clipped outside its bounds"):
        summed(two(runs[0]))
    without(monkeypatch, check, "may_clip")
    most = counts * VALUE_UNITS + 8 * NOISE.noise_multiplier * VALUE_UNITS
    assert (np.abs(summed(two(runs[1]))) < most).all()
    monkeypatch.setattr(encoding, "value_units", divided)
    assert np.array_equal(np.rint(summed(two(runs[2])) / -(2.0**31)), counts)
