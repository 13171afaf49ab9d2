"""A run on wide tables: `python -m scripts.benchmarks.wide --columns 100 --levels 20 --rows 20000`.

Two parties with so many columns each (so 2,000 one-hot positions a side by default), five of
which drive the conversion; from alignment to synthetic tables, in this process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from scripts.engines.inprocess import run_in_process
from twinweave.config import RunConf, compose

DRIVERS = {"publisher": (3, 41), "advertiser": (7, 23, 77)}


def tables(folder: Path, columns: int, levels: int, rows: int, seed: int) -> list[dict[str, Any]]:
    """Write both parties' CSV files; return their part of the configuration."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    codes = {p: rng.integers(levels, size=(rows, columns)) for p in DRIVERS}
    odds = sum(
        0.9 * (codes[p][:, c % columns] / levels - 0.5) for p, cs in DRIVERS.items() for c in cs
    )
    test = rng.random(rows) < 0.5
    converted = rng.random(rows) < 1 / (1 + np.exp(2.2 - odds - 0.5 * test))
    own = {
        "publisher": ("arm", np.where(test, "test", "control"), "membership"),
        "advertiser": ("converted", converted.astype(int), "conversion"),
    }
    parties = []
    for party, values in codes.items():
        name, extra, role = own[party]
        frame = pd.DataFrame(values, columns=[f"{party[0]}{i}" for i in range(columns)]).astype(str)
        frame[name] = extra
        frame["id"] = [f"user{i}" for i in range(rows)]
        path = folder / f"{party}.csv"
        frame.sample(frac=0.9, random_state=seed).to_csv(path, index=False)
        spellings = ["control", "test"] if party == "publisher" else ["0", "1"]
        kind = "categorical" if party == "publisher" else "boolean"
        listed: list[dict[str, Any]] = [
            {"name": "id", "kind": "categorical", "role": "key"},
            {"name": name, "kind": kind, "role": role, "levels": spellings},
        ]
        listed += [
            {
                "name": f"{party[0]}{i}",
                "kind": "categorical",
                "levels": [str(v) for v in range(levels)],
            }
            for i in range(columns)
        ]
        source = {"kind": "csv", "path": str(path)}
        parties.append({"name": party, "source": source, "columns": listed})
    return parties


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epsilon", type=float, default=1.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = compose(
            [
                "privacy=public",
                f"privacy.epsilon={arguments.epsilon}",
                f"output={folder}/run",
                "engine=inprocess",
            ]
        )
        raw["data"] |= {
            "name": "wide",
            "parties": tables(folder, arguments.columns, arguments.levels, arguments.rows, 0),
            "fairness": None,
            "lift": {
                "membership": "arm",
                "test": ["test"],
                "control": ["control"],
                "conversions": ["converted"],
                "k": 10,
            },
        }
        started, wall = time.process_time(), time.perf_counter()
        run_in_process(RunConf.parse(raw))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{arguments.columns} columns of {arguments.levels} levels a side, "
            f"{arguments.rows:,} people: {time.process_time() - started:.0f} CPU s, "
            f"{time.perf_counter() - wall:.0f} s, {peak:.1f} GiB at most"
        )


if __name__ == "__main__":
    main()
