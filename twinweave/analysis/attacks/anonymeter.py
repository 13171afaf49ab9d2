"""Singling out, linkability and inference: the attacks of the package anonymeter.

Giomi, Boenisch, Wehmeyer & Tasnadi, "A unified framework for quantifying privacy risk in synthetic
data" (PoPETs 2023), after the three risks of the Article 29 Working Party (WP216). The package
plays the attacks; who was hit is counted here, used rows and rows set aside on an equal footing.

Differs in singling out: the package compares hits among many used rows with hits among few set
aside by a curve of hits over sizes. Of a table drawn without ever seeing the used rows that gave a
risk of .25 with an interval from .20 to .30 (12,600 rows of Adult, 1,400 set aside). Here a guess
counts where it singles out one person among both, and what is asked is who that is.

The package takes numpy below 2, so it is an extra (`audit`), for Python 3.11 and 3.12.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.attacks.intervals import Contrast, rates, wilson
from twinweave.analysis.attacks.rows import Codes, Exposed, drawn
from twinweave.tables.column import Column, Role
from twinweave.tables.contingency import ABSENT

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = 4
"""That a guess of the multivariate singling out names."""

ATTEMPTS = 20
"""Guesses of several columns that are tried for each one wanted."""

NEIGHBOURS = 5
"""Synthetic rows that either half of a person's columns is matched with, to be linked."""

SECRETS = frozenset({Role.SENSITIVE, Role.LABEL, Role.CONVERSION})
"""Columns that are inferred from all others; every column where there is none of these."""

MISSING_PACKAGE = (
    "singling out, linkability and inference were not played: the package anonymeter is not "
    "installed, or not for this Python. `pip install 'twinweave[audit]'` on Python 3.11 or 3.12."
)

NOBODY = "found nobody to single out: no guess was true of one person alone"


def installed() -> bool:
    """Whether the package can be imported, without importing it."""
    return find_spec("anonymeter") is not None


def singling_out(
    exposed: Exposed, guesses: int, level: float, seed: int
) -> tuple[Mapping[str, Contrast], Sequence[str]]:
    """Guesses that are true of one synthetic row, by one column and by COLUMNS: of whom else?

    A guess that is true of exactly one person, used or set aside, has singled that person out.
    success: share of used rows among those singled out, both sides weighing alike; control 1/2,
    as of guesses that know nobody. And in sentences, what was not played.
    """
    from anonymeter.evaluators import SinglingOutEvaluator

    n, m = len(exposed.members), len(exposed.control)
    people = np.concatenate([exposed.members, exposed.control])
    everyone, synthetic = _frames(exposed.columns, people, exposed.synthetic)
    found, said = {}, []
    for mode in ("univariate", "multivariate"):
        name = f"singling out, {mode}"
        with _quiet():
            attack = SinglingOutEvaluator(
                ori=everyone,
                syn=synthetic,
                n_attacks=guesses,
                n_cols=min(COLUMNS, len(exposed.columns)),
                max_attempts=ATTEMPTS * guesses,
                seed=seed,
            ).evaluate(mode)
        hit = _singled_out(attack.queries(), everyone)
        used = int((hit < n).sum())
        if not len(hit):
            said.append(f"{name}: {NOBODY}.")
            continue
        low, high = (_equal_footing(share, n, m) for share in wilson(used, len(hit), level))
        success = _equal_footing(used / len(hit), n, m)
        found[name] = Contrast(success=success, control=0.5, interval=(low - 0.5, high - 0.5))
    return found, said


def _singled_out(queries: Sequence[object], everyone: pd.DataFrame) -> NDArray[np.int64]:
    """Places of people of whom alone some query is true, each once."""
    import polars as pl

    table = pl.DataFrame(everyone)
    named = [query.alias(str(i)) for i, query in enumerate(queries)]  # type: ignore[attr-defined]
    if not named:
        return np.zeros(0, dtype=np.int64)
    true = table.select(named).fill_null(False).to_numpy()
    alone = true.sum(axis=0) == 1
    places: NDArray[np.int64] = np.unique(true[:, alone].argmax(axis=0))
    return places


def _equal_footing(share: float, n: int, m: int) -> float:
    """A share of used rows among n used and m others, were both as many."""
    used, others = share / n, (1 - share) / m
    return used / (used + others)


def linkability(exposed: Exposed, people: int, level: float, seed: int) -> Mapping[str, Contrast]:
    """Are the two halves of a person's columns like the same synthetic row?

    people: to attack on either side.
    """
    from anonymeter.evaluators import LinkabilityEvaluator

    used, aside, synthetic = _targets(exposed, people, seed)
    names, cut = list(synthetic.columns), len(exposed.columns) // 2
    with _quiet():
        attack = LinkabilityEvaluator(
            ori=used,
            syn=synthetic,
            control=aside,
            aux_cols=(names[:cut], names[cut:]),
            n_attacks=len(used),
            n_neighbors=min(NEIGHBOURS, len(synthetic)),
        )
        found = attack.evaluate(n_jobs=1).results()
    hits = int(found.n_success), int(found.n_control)
    return {"linkability": rates(hits[0], len(used), hits[1], len(aside), level)}


def inference(exposed: Exposed, people: int, level: float, seed: int) -> Mapping[str, Contrast]:
    """Is a secret column guessed from all others, by the most similar synthetic row?

    people: to attack on either side. By column: SECRETS, or each where there is none.
    """
    from anonymeter.evaluators import InferenceEvaluator

    used, aside, synthetic = _targets(exposed, people, seed)
    secret = [c.role in SECRETS for c in exposed.columns]
    names, found = list(synthetic.columns), {}
    for column, name, asked in zip(exposed.columns, names, secret, strict=True):
        if not asked and any(secret):
            continue
        with _quiet():
            attack = InferenceEvaluator(
                ori=used,
                syn=synthetic,
                control=aside,
                aux_cols=[other for other in names if other != name],
                secret=name,
                n_attacks=len(used),
            )
            told = attack.evaluate(n_jobs=1).results()
        hits = int(told.n_success), int(told.n_control)
        found[f"inference of {column.name}"] = rates(hits[0], len(used), hits[1], len(aside), level)
    return found


def _targets(
    exposed: Exposed, people: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """As many people of either side, drawn under the seed, and the synthetic rows."""
    rng = np.random.default_rng(seed)
    used, aside = drawn(exposed.members, people, rng), drawn(exposed.control, people, rng)
    a, b, c = _frames(exposed.columns, used, aside, exposed.synthetic)
    return a, b, c


def _frames(columns: Sequence[Column], *tables: Codes) -> Iterator[pd.DataFrame]:
    """Tables as the package takes them: bins as numbers, all else as text.

    A column with codes that no order has (missing, absent, special numbers) is text. Columns are
    called c0, c1, ..., and cells by their codes: the package writes them into queries.
    """
    import pandas as pd

    ordered = [
        c.is_numeric and c.bin_count == c.size and all((t[:, i] != ABSENT).all() for t in tables)
        for i, c in enumerate(columns)
    ]
    for table in tables:
        cells = {
            f"c{i}": codes.astype(np.float64) if ordered[i] else codes.astype(str).astype(object)
            for i, codes in enumerate(table.T)
        }
        yield pd.DataFrame(cells)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the package's warnings: that an attack found less than it was asked for, or is no
    better than guessing, is in the figures."""
    logger = logging.getLogger("anonymeter")
    before = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)
