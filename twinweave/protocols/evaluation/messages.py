"""The messages of the evaluation: synthetic rows out, counts with noise back, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """The synthetic union: one row a person, in every table of the run.

    codes: whole numbers (n, columns), of `JointSchema.columns`, ABSENT where no holder is
    present. presence: bool (n, parties). seed: of what an audit samples.
    """

    run: str
    codes: NDArray[np.integer[Any]] = field(repr=False)
    presence: NDArray[np.bool_] = field(repr=False)
    seed: int


@dataclass(frozen=True, kw_only=True)
class EvaluateReply:
    """hits: by attack, its table with noise: int64 (HIT_CELLS,); {} where nothing was granted.

    verdict: "pass" or "withheld" where the specification asked for the party's exact word, or "".
    """

    hits: dict[str, NDArray[np.int64]] = field(repr=False)
    verdict: str
