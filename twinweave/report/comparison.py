"""Runs side by side: what each reached, and which of them no other beats in everything."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from twinweave import folder
from twinweave.analysis.audit.results import gate_of
from twinweave.errors import ConfigError, SourceError
from twinweave.report.sweep import RUNS, Row, read_rows, settings, varied
from twinweave.rundir import REPORT, STATUS, Run


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

OBJECTIVES = {"utility": "distance", "noise_ratio": "noise_ratio", "fairness": "parity"}
"""What a sweep may be told to make small, by name, and the measure that it is."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One run. values: by `Measure.key`; None where the run has no such figure.

    asked: of a sweep's run, the settings that its runs differ in. status: "finished", or how it
    ended otherwise; such a run is not compared, and why: says what was wrong. front: whether no
    other finished run is at least as good in every measure that all of them have, and better in
    one.
    """

    name: str
    path: str
    data: str
    generator: str
    status: str
    values: dict[str, float | None]
    asked: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    front: bool = False


def runs_in(paths: Iterable[Path]) -> list[Path]:
    """The run directories among the paths, and those of a sweep's folder: also of its runs that
    were refused before they had one.

    Raises SourceError for a path that is neither.
    """
    found: list[Path] = []
    for path in paths:
        if _is_run(path):
            found.append(path)
            continue
        noted = [path / row.folder for row in _noted(path)]
        inside = [*noted, *(p for p in path.glob("*") if _is_run(p))]
        if not inside:
            raise SourceError(f"{path}: neither a run nor a sweep. Name the folder of one.")
        found += sorted(dict.fromkeys(inside), key=_by_number)
    return list(dict.fromkeys(found))


def compared(paths: Sequence[Path]) -> tuple[list[Compared], tuple[Measure, ...]]:
    """Every run, and the measures that the front is over: those that all finished runs have."""
    rows = [_told_by_sweep(_read(path), path) for path in paths]
    finished = [row for row in rows if row.status == "finished"]
    known = tuple(m for m in MEASURES if all(row.values[m.key] is not None for row in finished))
    points = [[m.shown(row) for m in known] for row in finished]
    best = {id(row) for row, on in zip(finished, front(points), strict=True) if on}
    return [replace(row, front=id(row) in best and bool(known)) for row in rows], known


def checked_objectives(asked: object) -> tuple[str, ...]:
    """What `objective` asks for. Raises ConfigError where a word names no number; where a path
    leads, only a report tells.
    """
    if isinstance(asked, Sequence) and not isinstance(asked, str):
        names = tuple(map(str, asked))
    else:
        names = () if asked is None else (str(asked),)
    words = [n for n in names if "." not in n and n not in (*OBJECTIVES, "seconds")]
    if words or not names:
        raise ConfigError(
            "objective",
            f"{words[0]!r} is no number of a run" if words else "names nothing",
            f"Give {', '.join(OBJECTIVES)}, seconds, or the path of a number in report.json.",
        )
    return names


def objective_of(report: Mapping[str, Any], name: str) -> float | None:
    """A number of a report, less being better: one of `OBJECTIVES`, or a path in report.json such
    as lift.conversions.0.overall.p_value. None where the report has no such number.
    """
    if name in OBJECTIVES:
        return _values(report)[OBJECTIVES[name]]
    here: Any = report
    for part in name.split("."):
        try:
            here = here[int(part)] if isinstance(here, list) else here[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    number = isinstance(here, (int, float)) and not isinstance(here, bool)
    return float(here) if number else None


def first_outcome(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The comparison of the first outcome that has one."""
    lift = report.get("lift") or {}
    outcomes = (*lift.get("conversions", ()), *lift.get("values", ()))
    return next((o["overall"] for o in outcomes if o.get("overall")), None)


def front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points are on the Pareto front, less being better in every coordinate."""
    return [not any(_beats(other, one) for other in points) for one in points]


def as_csv(rows: Sequence[Compared]) -> str:
    """One line a run; an unknown figure is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [m.key for m in MEASURES]
    told = ["run", "path", "asked", "data", "generator", "status"]
    writer.writerow([*told, *keys, "on_front", "why"])
    for row in rows:
        values = ["" if row.values[k] is None else row.values[k] for k in keys]
        asked = "; ".join(f"{name}={value}" for name, value in row.asked.items())
        first = [row.name, row.path, asked, row.data, row.generator, row.status]
        writer.writerow([*first, *values, int(row.front), row.why])
    return text.getvalue()


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _is_run(path: Path) -> bool:
    return (path / STATUS).exists() or (path / REPORT).exists()


def _by_number(path: Path) -> tuple[int, str]:
    """Jobs of a sweep are numbered."""
    return int(path.name) if path.name.isdigit() else 0, path.name


def _noted(sweep: Path) -> list[Row]:
    """Raises SourceError for a sweep whose file is damaged."""
    try:
        return read_rows(sweep)
    except (OSError, ValueError, LookupError, TypeError):
        raise SourceError(
            f"{sweep / RUNS}: is damaged, or of an earlier release. Name the runs' own folders."
        ) from None


def _told_by_sweep(run: Compared, path: Path) -> Compared:
    """With what the sweep that it is of, if any, noted of it."""
    rows = [] if not path.name else _noted(path.parent)
    row = next((row for row in rows if row.folder == path.name), None)
    if row is None:
        return run
    names, said = varied(row.overrides for row in rows), settings(row)
    asked = {name: said[name] for name in names if name in said}
    if not row.error or run.status == "withheld":
        return replace(run, asked=asked)
    return replace(run, asked=asked, why=row.error, status="failed")


def _read(path: Path) -> Compared:
    run = Run(path)
    status = run.status if path.exists() else "without a folder"
    report: dict[str, Any] = run.report if (path / REPORT).exists() else {}
    synthetic = report.get("synthetic") or {}
    if status == "finished":
        status = _finished(report)
    return Compared(
        name=path.name,
        path=str(path),
        data=str(report.get("data", "")),
        generator=str(synthetic.get("generator", "none")) if report else "",
        status=status,
        why=_why(path, report),
        values=_values(report),
    )


def _finished(report: Mapping[str, Any]) -> str:
    """How a run stands that came to its end."""
    if not report:
        return "without a report"
    return "withheld" if gate_of(report).withheld else "finished"


def _why(path: Path, report: Mapping[str, Any]) -> str:
    """What was wrong: of withheld tables, or of the run."""
    if (gate := gate_of(report)).withheld:
        return gate.why
    return str(folder.status(path).get("error", "")) if (path / STATUS).exists() else ""


def _values(report: Mapping[str, Any]) -> dict[str, float | None]:
    synthetic = report.get("synthetic") or {}
    return {
        "epsilon": _epsilon(report),
        "distance": _distance(synthetic),
        "noise_ratio": _noise_ratio(report),
        "parity": _parity(synthetic),
        "seconds": report.get("seconds"),
    }


def _epsilon(report: Mapping[str, Any]) -> float | None:
    """Infinite where the report says null: worse than any other, and not unknown."""
    if "privacy" not in report:
        return None
    spent: float | None = report["privacy"]["spent"]
    return inf if spent is None else spent


def _distance(synthetic: Mapping[str, Any]) -> float | None:
    ways = (synthetic.get("fidelity") or {}).get("by_ways", ())
    return next((float(w["tvd"]) for w in ways if w["ways"] == 2), None)


def _noise_ratio(report: Mapping[str, Any]) -> float | None:
    found = first_outcome(report)
    if found is None or not found["sampling_error"]:
        return None
    return float(found["noise_sd"] / found["sampling_error"])


def _parity(synthetic: Mapping[str, Any]) -> float | None:
    audits = (synthetic.get("fairness") or {}).get("audits", ())
    told = [one["label_parity"]["value"] for one in audits if one["label_parity"] is not None]
    return max(told, default=None)
