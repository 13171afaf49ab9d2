"""Runs side by side: one page with the front of utility, privacy, fairness and cost, and a CSV.

    python -m scripts.compare DIR... [--out FOLDER]

DIR is a run's folder, or a sweep's, whose runs are meant. Writes comparison.html and
comparison.csv into FOLDER (default: here), and says what the runs spent together. Reads what
they wrote, and their guard's file where it is here; spends nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.ending import command
from twinweave import rundir
from twinweave.errors import SourceError
from twinweave.report.comparison import as_csv, compared, runs_in
from twinweave.report.page.comparison import comparison_page
from twinweave.report.spending import spending
from twinweave.report.sweep import counted


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or the error's own code."""
    options = _arguments(argv)
    paths = runs_in(options.runs)
    (rows, known), spent = compared(paths), spending(paths)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        rundir.write_text(options.out / "comparison.html", comparison_page(rows, known, spent))
        rundir.write_text(options.out / "comparison.csv", as_csv(rows))
    except OSError:
        raise SourceError(
            f"{options.out} cannot be written. Give --out a folder that can be."
        ) from None
    best = [row.name for row in rows if row.front]
    print(f"{counted(len(rows))}; beaten by no other: {', '.join(best) or 'none'}")
    for line in spent:
        print(line)
    print(options.out / "comparison.html")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
