"""Runs side by side: what each reached, and which of them no other beats in everything."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from twinweave.errors import SourceError
from twinweave.rundir import REPORT, Run


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Something that is better when it is less. digits: that tell two runs apart: what is shown
    alike counts as alike."""

    key: str
    title: str
    digits: int

    def shown(self, row: Compared) -> float:
        """The run's figure, which it has, as it is shown."""
        value = row.values[self.key]
        assert value is not None
        return round(value, self.digits)


MEASURES = (
    Measure(key="epsilon", title="epsilon spent", digits=3),
    Measure(key="distance", title="distance of pairs", digits=4),
    Measure(key="noise_ratio", title="noise over sampling", digits=3),
    Measure(key="parity", title="parity difference", digits=3),
    Measure(key="seconds", title="seconds", digits=1),
)
"""distance: mean total variation of synthetic and measured tables of two columns. noise_ratio:
of the first outcome's lift. parity: largest difference of label rates between groups, in the
synthetic rows."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One run. values: by `Measure.key`; None where the run has no such figure.

    status: "finished", or why it is not compared. front: whether no other finished run is at
    least as good in every measure that all of them have, and better in one.
    """

    name: str
    path: str
    data: str
    generator: str
    status: str
    values: dict[str, float | None]
    front: bool = False


def runs_in(paths: Iterable[Path]) -> list[Path]:
    """The run directories among the paths, and those directly inside a sweep's folder.

    Raises SourceError for a path that is neither.
    """
    found: list[Path] = []
    for path in paths:
        if _is_run(path):
            found.append(path)
            continue
        inside = [p for p in sorted(path.glob("*"), key=_by_number) if _is_run(p)]
        if not inside:
            raise SourceError(f"{path}: neither a run nor a sweep. Name the folder of one.")
        found += inside
    return list(dict.fromkeys(found))


def compared(paths: Sequence[Path]) -> tuple[list[Compared], tuple[Measure, ...]]:
    """Every run, and the measures that the front is over: those that all finished runs have."""
    rows = [_read(path) for path in paths]
    finished = [row for row in rows if row.status == "finished"]
    known = tuple(m for m in MEASURES if all(row.values[m.key] is not None for row in finished))
    points = [[m.shown(row) for m in known] for row in finished]
    best = {id(row) for row, on in zip(finished, front(points), strict=True) if on}
    told = [Compared(**{**vars(row), "front": id(row) in best and bool(known)}) for row in rows]
    return told, known


def front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points are on the Pareto front, less being better in every coordinate."""
    return [not any(_beats(other, one) for other in points) for one in points]


def as_csv(rows: Sequence[Compared]) -> str:
    """One line a run; an unknown figure is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [m.key for m in MEASURES]
    writer.writerow(["run", "path", "data", "generator", "status", *keys, "on_front"])
    for row in rows:
        values = ["" if row.values[k] is None else row.values[k] for k in keys]
        told = [row.name, row.path, row.data, row.generator, row.status]
        writer.writerow([*told, *values, int(row.front)])
    return text.getvalue()


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _is_run(path: Path) -> bool:
    return (path / "status.json").exists() or (path / REPORT).exists()


def _by_number(path: Path) -> tuple[int, str]:
    """Jobs of a sweep are numbered."""
    return int(path.name) if path.name.isdigit() else 0, path.name


def _read(path: Path) -> Compared:
    run = Run(path)
    status = run.status
    report: dict[str, Any] = run.report if (path / REPORT).exists() else {}
    synthetic = report.get("synthetic") or {}
    return Compared(
        name=path.name,
        path=str(path),
        data=str(report.get("data", "")),
        generator=str(synthetic.get("generator", "none")),
        status=status if report or status != "finished" else "without a report",
        values={
            "epsilon": _epsilon(report),
            "distance": _distance(synthetic),
            "noise_ratio": _noise_ratio(report.get("lift") or {}),
            "parity": _parity(synthetic),
            "seconds": report.get("seconds"),
        },
    )


def _epsilon(report: dict[str, Any]) -> float | None:
    """Infinite where the report says null: worse than any other, and not unknown."""
    if "privacy" not in report:
        return None
    spent: float | None = report["privacy"]["spent"]
    return inf if spent is None else spent


def _distance(synthetic: dict[str, Any]) -> float | None:
    ways = (synthetic.get("fidelity") or {}).get("by_ways", ())
    return next((float(w["tvd"]) for w in ways if w["ways"] == 2), None)


def _noise_ratio(lift: dict[str, Any]) -> float | None:
    outcomes = [*lift.get("conversions", ()), *lift.get("values", ())]
    found = next((o["overall"] for o in outcomes if o["overall"] is not None), None)
    if found is None or not found["sampling_error"]:
        return None
    return float(found["noise_sd"] / found["sampling_error"])


def _parity(synthetic: dict[str, Any]) -> float | None:
    audits = (synthetic.get("fairness") or {}).get("audits", ())
    told = [one["label_parity"]["value"] for one in audits if one["label_parity"] is not None]
    return max(told, default=None)
