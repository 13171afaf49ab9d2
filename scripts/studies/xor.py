"""A label that no pair of columns knows anything of: the exclusive or of two features.

    python -m scripts.studies.xor data --at across
    python -m scripts.studies.quality data=xor data.root=data --generators tvae

The first command writes the tables that conf/data/xor.yaml reads: what a run learns of the label
comes from three-way tables, or from the training, or not at all. One label in twenty is flipped,
so that real rows reach an AUC of .95.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

At = Literal["across", "right"]
"""Where the two features are: one at each party, or both where the label is."""

FLIPPED = 0.05


def people(n: int, at: At, rng: np.random.Generator) -> pd.DataFrame:
    """n people with every column of both parties.

    Features are alike at either party: a number from 0 to 99, a level that goes with it, a rank
    and a free category that do not. The label is whether the right number is high, or else the
    left number (across) or the right rank (right), and never both.
    """
    out = pd.DataFrame({"person": np.arange(n), "group": rng.choice(["f", "m"], n)})
    for party in ("left", "right"):
        number = rng.integers(0, 100, n)
        stray = rng.random(n) < 0.3
        out[f"{party}_number"] = number
        out[f"{party}_level"] = np.where(stray, rng.integers(0, 100, n), number) // 20
        out[f"{party}_rank"] = rng.integers(0, 8, n)
        out[f"{party}_free"] = rng.choice(6, n, p=np.array([6, 5, 4, 3, 2, 1]) / 21)
    other = out["left_number"] >= 50 if at == "across" else out["right_rank"] >= 4
    label = (out["right_number"] >= 50) ^ other ^ (rng.random(n) < FLIPPED)
    out["label"] = np.where(label, "yes", "no")
    return out


def write(folder: Path, *, rows: int, at: At, seed: int) -> None:
    """people.csv.gz and holdout.csv.gz under folder/xor, with all columns of both parties."""
    rng = np.random.default_rng(seed)
    (folder / "xor").mkdir(parents=True, exist_ok=True)
    for name, n in (("people", rows), ("holdout", rows // 2)):
        text = people(n, at, rng).to_csv(index=False)
        with gzip.open(folder / "xor" / f"{name}.csv.gz", "wt") as file:
            file.write(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the `data.root` of a run")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--at", choices=("across", "right"), default="across")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    write(asked.folder, rows=asked.rows, at=asked.at, seed=asked.seed)


if __name__ == "__main__":
    main()
