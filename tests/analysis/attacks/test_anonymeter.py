"""Anonymeter's three attacks, played by the package: what leaks is found, what does not is not.

The package compiles its search for neighbours, for ten seconds; here it runs as it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from tests.analysis.attacks.leaking import COLUMNS, copies, exposed, people, safe
from twinweave.analysis.attacks import anonymeter
from twinweave.analysis.attacks.intervals import Contrast
from twinweave.analysis.attacks.rows import Exposed

LEVEL = 0.95

numba = pytest.importorskip("numba", reason="the extra `audit` is not installed")
pytest.importorskip("polars", reason="the extra `audit` is not installed")


@pytest.fixture(autouse=True, scope="module")
def uncompiled() -> Iterator[None]:
    before, numba.config.DISABLE_JIT = numba.config.DISABLE_JIT, True
    try:
        import anonymeter.evaluators  # noqa: F401

        yield
    finally:
        numba.config.DISABLE_JIT = before


def played(found: Exposed) -> Mapping[str, Contrast]:
    singled, _ = anonymeter.singling_out(found, 200, LEVEL, seed=1)
    linked = anonymeter.linkability(found, 60, LEVEL, seed=1)
    return {**singled, **linked, **anonymeter.inference(found, 60, LEVEL, seed=1)}


def test_copies_are_singled_out_linked_and_inferred() -> None:
    found = played(exposed(copies, 1, n=150, control=150))
    low = {name: contrast.interval[0] for name, contrast in found.items()}
    assert low["singling out, multivariate"] > 0.3
    assert low["linkability"] > 0.1
    assert low["inference of loyal"] > 0
    assert set(low) >= {"inference of gender"}


def test_nothing_is_found_of_rows_that_never_saw_the_people() -> None:
    """One seeded world; an attack's interval lies above 0 in 2.5 % of worlds, and above .1 never
    in 60 of them."""
    found = played(exposed(safe, 1, n=150, control=150))
    assert "singling out, multivariate" in found
    assert all(contrast.interval[0] <= 0.1 for contrast in found.values())


def test_singling_out_stands_on_an_equal_footing() -> None:
    """Three times as many used rows as others: of a table that knows nobody, the share singled
    out is 1/2 and not 3/4, within its interval (four standard errors, as chance 6e-5)."""
    shares = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        found = Exposed(
            columns=COLUMNS,
            members=people(450, rng),
            control=people(150, rng),
            synthetic=people(450, rng),
        )
        contrasts, _ = anonymeter.singling_out(found, 200, LEVEL, seed=seed)
        shares.append(contrasts["singling out, multivariate"])
    error = np.sqrt(sum((c.interval[1] - c.interval[0]) ** 2 for c in shares)) / 4 / 3.92
    mean = float(np.mean([c.success for c in shares]))
    assert abs(mean - 0.5) < 4 * error < 0.2


def test_where_nobody_is_singled_out_that_is_said() -> None:
    alike = np.zeros((120, len(COLUMNS)), dtype=np.int32)
    found, said = anonymeter.singling_out(
        Exposed(columns=COLUMNS, members=alike, control=alike, synthetic=alike), 50, LEVEL, seed=1
    )
    assert not found
    assert len(said) == 2
