"""Draft what a run must know of a party's CSV or Parquet file, for a person to review.

    python -m scripts.describe FILE [--party NAME] [--key COLUMN] [--out schema.yaml]
    python -m scripts.describe FILE FILE ... --out conf/data/mine.yaml [options]

One file: that party's columns. Several: the data configuration of a run of all of them, with the
id they have in common, shared columns, roles and `lift` proposed, that runs as it is. Options
may be given once for all files, or once for each in the files' order.

A draft holds facts read from private rows (levels, bounds): it stays with the party until
each line marked CONFIRM has been checked against what is public anyway, or replaced.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from scripts.ending import command
from twinweave.errors import SourceError
from twinweave.tables.drafts.party import draft_schema, read_table_file
from twinweave.tables.drafts.run import RunDraft, draft_run, party_names

T = TypeVar("T")


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, the error's own code for an AppError."""
    options = _arguments(argv)
    if len(options.file) == 1:
        _describe_party(options)
    else:
        _describe_run(options)
    return 0


def _describe_party(options: argparse.Namespace) -> None:
    (file,) = options.file
    key, separator = options.key or [None], options.separator or [None]
    text = draft_schema(
        file,
        party=(options.party or ["party"])[0],
        key=key[0],
        sep=separator[0],
        encoding=(options.encoding or [None])[0],
        escape=(options.escape or [None])[0],
    )
    _put(text, options.out)


def _describe_run(options: argparse.Namespace) -> None:
    files: list[Path] = options.file
    parties = party_names(files, options.party or [])
    separators = _each(options.separator or [None], files, "--separator")
    encodings = _each(options.encoding or [None], files, "--encoding")
    escapes = _each(options.escape or [None], files, "--escape")
    tables = [
        read_table_file(file, sep=separator, encoding=encoding, escape=escape)
        for file, separator, encoding, escape in zip(
            files, separators, encodings, escapes, strict=True
        )
    ]
    keys = _each(options.key or [None], files, "--key")
    name = options.out.stem if options.out else "mine"
    draft = draft_run(tables, parties, keys, name)
    _put(draft.text, options.out)
    if options.out is not None:
        print("\n".join(_next_steps(draft, files, parties, options.out)))
    else:
        print("\n".join(draft.notes), file=sys.stderr)


def _next_steps(
    draft: RunDraft, files: Sequence[Path], parties: Sequence[str], out: Path
) -> list[str]:
    """What the draft leaves to a person, and the commands that go on from here."""
    confirm = sum("CONFIRM" in line for line in draft.text.splitlines()[1:])
    lines = [*draft.notes, f"{confirm} lines to confirm; then:"]
    for file, party in zip(files, parties, strict=True):
        lines.append(f"  python -m scripts.check {_quoted(file, out)} --party {shlex.quote(party)}")
    if out.parent.name != "data":
        return [*lines, "a run finds it in a folder called data: put it into conf/data/"]
    conf = shlex.quote(str(out.parent.parent))
    group = "" if out.parent.resolve() == _data_folder() else f"--config-dir {conf} "
    lines.append(
        f"  python -m scripts.run {group}data={out.stem} privacy=default privacy.epsilon=1 "
        "privacy.delta=1e-5"
    )
    return lines


def _data_folder() -> Path:
    from twinweave.config import conf_folder

    return conf_folder() / "data"


def _quoted(*paths: Path) -> str:
    return " ".join(shlex.quote(str(path)) for path in paths)


def _each(given: Sequence[T], files: Sequence[Path], option: str) -> list[T]:
    """One for each file, of one for all or one for each. Raises SourceError."""
    if len(given) not in (1, len(files)):
        raise SourceError(f"{option} is given {len(given)} times. Give it once, or for each file.")
    return list(given) * len(files) if len(given) == 1 else list(given)


def _put(text: str, out: Path | None) -> None:
    if out is None:
        print(text, end="")
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError:
        raise SourceError(f"{out} cannot be written. Give --out another place.") from None
    print(f"wrote {out}: confirm the marked lines before it leaves your house")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="+", help="CSV (also compressed) or Parquet")
    parser.add_argument("--party", action="append", help="its name in the run; the file's name")
    parser.add_argument("--key", action="append", help="the id column; guessed when not given")
    parser.add_argument(
        "--separator", action="append", help="of a CSV; found in its header when not given"
    )
    parser.add_argument(
        "--encoding", action="append", help="of a CSV; guessed from its bytes when not given"
    )
    parser.add_argument(
        "--escape",
        action="append",
        help=r"of a CSV with a backslash before a quote: '\' makes the quote part of the cell, '' "
        "is a sign like any other",
    )
    parser.add_argument("--out", type=Path, help="file to write; standard output without")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
