"""Draw more rows from a finished run: free, for they follow from what it released already.

    python -m scripts.sample RUN_DIR --rows N [--seed S] [--given COLUMN=LEVEL]... --out FILE

FILE ends in .csv or .parquet. --given, repeated, asks for people with these levels; twice for one
column, for either of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import twinweave
from scripts.ending import command
from twinweave.errors import ConfigError, SourceError
from twinweave.tables.sdv_metadata import TIME_FORMAT


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or the error's own code."""
    options = _arguments(argv)
    if options.out.suffix not in (".csv", ".parquet"):
        raise ConfigError("--out", "is neither CSV nor Parquet", "End it in .csv or .parquet.")
    run = twinweave.load(options.run)
    rows = run.sample(options.rows, options.seed, given=_given(options.given))
    try:
        if options.out.suffix == ".csv":
            rows.to_csv(options.out, index=False, date_format=TIME_FORMAT)
        else:
            rows.to_parquet(options.out, index=False)
    except OSError:
        raise SourceError(
            f"{options.out} cannot be written. Give --out a file in a folder that there is."
        ) from None
    print(f"{len(rows):,} rows in {options.out}")
    return 0


def _given(pairs: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in pairs:
        column, equals, level = pair.partition("=")
        if not equals:
            raise ConfigError("--given", "is not COLUMN=LEVEL", "Write --given arm=test, say.")
        found.setdefault(column, []).append(level)
    return found


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="a run's folder")
    parser.add_argument("--rows", type=int, required=True, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same rows")
    parser.add_argument("--given", action="append", default=[], metavar="COLUMN=LEVEL")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
