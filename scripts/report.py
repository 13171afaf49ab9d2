"""Draw the page of a run again, from its own files: no row of a party is read, nothing is spent.

    python -m scripts.report RUN_DIR [--out FILE]

Every run writes RUN_DIR/report.html at its end. FILE: where else it is to go.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import twinweave
from twinweave import rundir
from twinweave.errors import AppError
from twinweave.report.page.page import run_page


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or the error's own code."""
    options = _arguments(argv)
    out = options.out or options.run / rundir.PAGE
    try:
        text = run_page(twinweave.load(options.run))
        rundir.write_text(out, text)
    except AppError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{out} ({len(text.encode()) / 1e3:,.0f} kB)")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="a run's folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: RUN_DIR/report.html")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
