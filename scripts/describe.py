"""Draft a party's schema from its CSV or Parquet file, for a person to review.

    python -m scripts.describe FILE [--party NAME] [--key COLUMN] [--separator CHARACTER]
        [--encoding NAME] [--out schema.yaml]

The draft holds facts read from private rows (levels, bounds): it stays with the party until
each line marked CONFIRM has been checked against what is public anyway, or replaced.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from twinweave.errors import AppError
from twinweave.tables.draft import draft_schema


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, the error's own code for an AppError."""
    options = _arguments(argv)
    try:
        text = draft_schema(
            options.file,
            party=options.party,
            key=options.key,
            sep=options.separator,
            encoding=options.encoding,
        )
    except AppError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, encoding="utf-8")
        print(f"wrote {options.out}: confirm the marked lines before it leaves your house")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="CSV (also compressed) or Parquet")
    parser.add_argument("--party", default="party", help="the party's name in the run")
    parser.add_argument("--key", help="the id column; guessed when not given")
    parser.add_argument("--separator", help="of a CSV; found in its header when not given")
    parser.add_argument("--encoding", default="utf-8", help="of a CSV")
    parser.add_argument("--out", type=Path, help="file to write; standard output without")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
