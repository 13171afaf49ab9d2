"""Two CSV files of an invented experiment, as dirty as people's own, with a known true lift.

Everything that spoils a first hour is in them: a byte order mark, semicolons, decimal commas and
thousands points, another encoding, ids that repeat or have blanks around them, "?" and 999 for
nothing, flags in mixed spellings, postcodes with leading zeros, one date in 9999, a column that
both have but that means two things, rows that end in a separator.

    python -m scripts.trials.dirty FOLDER [--users N]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

TOWNS = ("Köln", "Zürich", "Graz", "Łódź")
ENCODINGS = ("utf-8", "cp1250")
EFFECT = 0.1  # on a matched user's probability of buying
_YES, _NO = ("1", "TRUE", "Yes", "y"), ("0", "False", "no", "N")


@dataclass(frozen=True, kw_only=True)
class Dirty:
    """The files, and what is true of them: test minus control over all users of the experiment."""

    publisher: Path
    advertiser: Path
    lift: float
    users: int
    common: int


def write_dirty(folder: Path, *, users: int = 12_000, seed: int = 5) -> Dirty:
    """Write shown.csv and bought.csv into `folder`. The same seed writes the same bytes."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    everyone = np.array([f"C{i:07d}" for i in rng.permutation(2 * users)[: users + users // 4]])
    shown, known = everyone[:users], everyone[users // 4 :]
    town = pd.Series(rng.choice(TOWNS, len(everyone), p=[0.4, 0.3, 0.2, 0.1]), index=everyone)
    test = pd.Series(rng.random(users) < 0.5, index=shown)
    treated = pd.Series(0.08, index=known)
    treated[:] += EFFECT * np.isin(known, shown[test.to_numpy()])
    bought = pd.Series(rng.random(len(known)) < treated, index=known)

    publisher = _shown(shown, town[shown].to_numpy(), test.to_numpy(), rng)
    advertiser = _bought(known, town[known].to_numpy(), bought.to_numpy(), rng)
    paths = folder / "shown.csv", folder / "bought.csv"
    text = publisher.to_csv(index=False, sep=";", lineterminator="\r\n")
    paths[0].write_bytes(("\ufeff" + text).encode(ENCODINGS[0]))
    text = advertiser.to_csv(index=False, sep=";").replace("\n", ";\n")
    paths[1].write_bytes(text.encode(ENCODINGS[1]))
    common = len(np.intersect1d(shown, known))
    return Dirty(
        publisher=paths[0],
        advertiser=paths[1],
        lift=EFFECT * common / users,
        users=users,
        common=common,
    )


def _shown(
    ids: NDArray[np.str_],
    town: NDArray[np.object_],
    test: NDArray[np.bool_],
    rng: np.random.Generator,
) -> pd.DataFrame:
    n = len(ids)
    table = pd.DataFrame(
        {
            "customer_id": ids,
            "town": town,
            "postcode": [f"{x:05d}" for x in rng.integers(1000, 99999, n)],
            "age": rng.integers(18, 90, n).astype(str),
            "status": rng.choice(["web", "app"], n),
            "ad_load": [f"{x:.3f}".replace(".", ",") for x in rng.beta(2, 5, n)],
            "last_seen": [f"202{y}-0{m}-1{d}" for y, m, d in rng.integers(1, 5, (n, 3))],
            "arm": np.where(test, "test", "control"),
        }
    ).astype(object)
    table.loc[rng.random(n) < 0.01, "age"] = "?"
    table.loc[rng.random(n) < 0.005, "age"] = "999"
    table.loc[7, "last_seen"] = "9999-12-31"
    return _repeated(table, rng)


def _bought(
    ids: NDArray[np.str_],
    town: NDArray[np.object_],
    bought: NDArray[np.bool_],
    rng: np.random.Generator,
) -> pd.DataFrame:
    n = len(ids)
    spend = np.where(bought, np.clip(rng.gamma(2, 40, n), 1, 400), 0)
    flags = np.where(bought, rng.choice(_YES, n), rng.choice(_NO, n))
    table = pd.DataFrame(
        {
            "customer_id": np.char.add(np.where(rng.random(n) < 0.1, " ", ""), ids),
            "town": town,
            "status": rng.choice(["gold", "silver", "none"], n, p=[0.2, 0.3, 0.5]),
            "converted": flags,
            "spend": [f"{x:.2f}".replace(".", ",") for x in spend],
            "tenure": [f"{x:,}".replace(",", ".") for x in rng.integers(0, 3000, n)],
        }
    ).astype(object)
    table.loc[rng.random(n) < 0.01, "status"] = "?"
    table.loc[rng.random(n) < 0.01, "tenure"] = "n/a"
    return _repeated(table, rng)


def _repeated(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """With one row in a hundred twice."""
    again = table.sample(frac=0.01, random_state=rng)
    return pd.concat([table, again]).sample(frac=1, random_state=rng)


def main(argv: Sequence[str] | None = None) -> int:
    """Write them, and say what is true of them."""
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--users", type=int, default=12_000, metavar="N", help="of each file")
    options = parser.parse_args(argv)
    files = write_dirty(options.folder, users=options.users)
    print(f"{files.publisher} and {files.advertiser}: {files.users:,} users each, ", end="")
    print(f"{files.common:,} in both; true lift {100 * files.lift:+.1f} points")
    return 0


if __name__ == "__main__":
    sys.exit(main())
