"""The runs of a sweep: noted one by one in its folder, as each of them ends."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RUNS = "runs.jsonl"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run of a sweep: what was asked, and what came of it.

    folder: inside the sweep's. values: of the objectives, None where the run has none; error and
        code: of a run that failed, else "" and 0.
    """

    overrides: tuple[str, ...]
    folder: str
    values: tuple[float | None, ...] = ()
    error: str = ""
    code: int = 0


def note(sweep: Path, row: Row) -> None:
    """Add a run to the sweep's file: a line of its own, however many processes write."""
    sweep.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(row)) + "\n"
    file = os.open(sweep / RUNS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    with os.fdopen(file, "wb", buffering=0) as raw:
        fcntl.flock(raw, fcntl.LOCK_EX)
        raw.write(line.encode())


def read_rows(sweep: Path) -> list[Row]:
    """The runs that a sweep noted in its folder, by their number."""
    noted = sweep / RUNS
    lines = noted.read_text().splitlines() if noted.exists() else []
    rows = [_row(line) for line in lines]
    return sorted(rows, key=lambda row: (len(row.folder), row.folder))


def counted(runs: int) -> str:
    """How many runs, in words."""
    return "1 run" if runs == 1 else f"{runs} runs"


def varied(overrides: Iterable[Sequence[str]]) -> list[str]:
    """Names of the settings that are not the same in all runs."""
    asked = [set(each) for each in overrides]
    same = set.intersection(*asked) if asked else set()
    names = (o.lstrip("+").partition("=")[0] for each in asked for o in sorted(each - same))
    return list(dict.fromkeys(names))


def settings(row: Row) -> dict[str, str]:
    """What was asked, by name."""
    return dict(o.lstrip("+").partition("=")[::2] for o in row.overrides)


def shown_setting(value: str) -> str:
    """As it was asked, but for a number with more digits than tell runs apart."""
    try:
        return value if len(value) < 8 else f"{float(value):.4g}"
    except ValueError:
        return value


def _row(line: str) -> Row:
    held = json.loads(line)
    held |= {name: tuple(held[name]) for name in ("overrides", "values")}
    return Row(**held)
