"""Tables split into independent parts, and the fit that stops where it would fit noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.synthesis.test_fit import LAYOUT, exact, misfit, one_each, random_rows
from twinweave.synthesis import fit as fitting
from twinweave.synthesis.conf import FitConf
from twinweave.synthesis.fit import Mixture, fit
from twinweave.synthesis.thinning import thinned
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side

CELLS = 40_000
SD = 30.0


def test_parts_have_the_stated_variances_and_noise_of_their_own() -> None:
    """Bounds of 5 standard errors: a false alarm in 2e6, for each of three."""
    rng = np.random.default_rng(1)
    query = Query(sides=(Side(party="a", columns=("x",)),))
    noise = rng.normal(0, SD, CELLS)
    table = Measurement(query=query, values=700 + noise, variance=SD**2)
    (one,), (held,) = thinned([table], rng)
    error = 5 / CELLS**0.5
    for part in (one, held):
        spread = float(np.var(part.values - 700) / part.variance)
        assert abs(spread - 1) < error * 2**0.5
    assert abs(np.corrcoef(one.values, held.values)[0, 1]) < error
    assert np.allclose(0.8 * one.values + 0.2 * held.values, table.values)


def _noisy(seed: int) -> tuple[list[Measurement], list[Measurement]]:
    """Tables under noise that hides most of what they say, and the same without it."""
    rng = np.random.default_rng(seed)
    clear = [replace(m, variance=400.0) for m in exact(random_rows(2000, seed=3))]
    return [replace(m, values=m.values + rng.normal(0, 20, m.values.shape)) for m in clear], clear


def test_fit_stops_before_it_fits_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken variant judges the trial by the very tables it fits: it never turns."""
    noisy, clear = _noisy(seed=4)
    presence = random_rows(2000, seed=3).presence[::10]
    latents = replace(one_each(presence), users=np.full(len(presence), 10.0))
    conf = FitConf(free_steps=250)

    def error() -> tuple[float, Mixture]:
        found = fit(None, LAYOUT, noisy, latents, conf, seed=5)
        return misfit(clear, found.logits, latents), found

    stopped, mixture = error()
    assert mixture.steps < 60

    def same(tables: Sequence[Measurement], _: object) -> tuple[list[Measurement], ...]:
        return list(tables), list(tables)

    monkeypatch.setattr(fitting, "thinned", same)
    never, mixture = error()
    assert mixture.steps > 150
    assert stopped < 0.9 * never
