"""Sweeps: a number of each run for a sweeper to work with, and a table of all runs at the end.

A run that fails does not end the sweep: it counts as the worst there is, and its line in the
table says why.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from twinweave import rundir
from twinweave.config import RunConf
from twinweave.errors import AppError

RUNS = "runs.jsonl"
INTERRUPTED = 130
NOISE_RATIO = "noise_ratio"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run of a sweep: what was asked, and what came of it.

    value: of the objective, None where the run has none; error and code: of a run that failed,
        else "" and 0.
    """

    overrides: tuple[str, ...]
    folder: str
    value: float | None
    error: str = ""
    code: int = 0


def outcome(run: Callable[[], RunConf]) -> float | None:
    """Play a run to its end: its objective in a sweep. Alone, an error is the exit status."""
    hydra = HydraConfig.get()
    try:
        conf = run()
    except AppError as error:
        print(f"error: {error}", file=sys.stderr)
        if hydra.mode is not RunMode.MULTIRUN:
            sys.exit(error.exit_code)
        return _failed(str(error), error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if hydra.mode is not RunMode.MULTIRUN:
            raise
        traceback.print_exc()
        return _failed(f"unexpected {type(error).__name__}", 1)
    if hydra.mode is not RunMode.MULTIRUN:
        return None
    found = objective_of(_report(Path(conf.output)), conf.objective)
    _note(Row(**_asked(), value=found))
    return _worst() if found is None else found


def _failed(error: str, code: int) -> float:
    """Note a run that failed; what its sweeper is told."""
    _note(Row(**_asked(), value=None, error=error, code=code))
    return _worst()


def _worst() -> float:
    """What a sweeper is told of a run that has no number to tell."""
    return -inf if "maximize" in str(HydraConfig.get().sweeper.get("direction", "")) else inf


def objective_of(report: Mapping[str, Any], name: str) -> float | None:
    """A number of a report: `noise_ratio`, or a path in report.json such as
    lift.conversions.0.overall.p_value. None where the report has no such number.
    """
    if name == NOISE_RATIO:
        overall = _first_outcome(report)
        return overall["noise_sd"] / overall["sampling_error"] if overall else None
    here: Any = report
    for part in name.split("."):
        try:
            here = here[int(part)] if isinstance(here, list) else here[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    number = isinstance(here, (int, float)) and not isinstance(here, bool)
    return float(here) if number else None


def table(rows: Sequence[Row], folder: Path, objective: str) -> str:
    """The runs of a sweep, a line each, by their number."""
    varied = _varied(row.overrides for row in rows)
    head = [*varied, "epsilon", "verdict", "lift", "95% interval", "noise ratio"]
    head += [objective] if objective != NOISE_RATIO else []
    lines = [[*head, "folder"]]
    for row in rows:
        asked = dict(o.lstrip("+").partition("=")[::2] for o in row.overrides)
        cells = [asked.get(name, "") for name in varied]
        if row.error:
            blank = [""] * (len(head) - len(varied) - 2)
            cells += [_spent(_report(folder / row.folder)), "failed", *blank]
        else:
            cells += _found(_report(folder / row.folder))
            cells += [_shown(row.value)] if objective != NOISE_RATIO else []
        lines.append([*cells, row.folder])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    failed = [f"{row.folder}: {row.error}" for row in rows if row.error]
    return "\n".join(line.rstrip() for line in (*shown, *failed))


class Table(Callback):
    """Hydra's callback: prints the table, and makes the first failure the exit status."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        (Path(config.hydra.sweep.dir) / RUNS).unlink(missing_ok=True)  # of an earlier sweep there

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        folder = Path(config.hydra.sweep.dir)
        rows = read_rows(folder)
        if not rows:
            return
        print(f"\n{len(rows)} runs in {folder.absolute()}\n")
        print(table(rows, folder, config.objective))
        if code := next((row.code for row in rows if row.code), 0):
            sys.exit(code)


def read_rows(folder: Path) -> list[Row]:
    """The runs that a sweep noted in its folder, by their number."""
    noted = folder / RUNS
    lines = noted.read_text().splitlines() if noted.exists() else []
    held = [json.loads(line) for line in lines]
    rows = [Row(**{**each, "overrides": tuple(each["overrides"])}) for each in held]
    return sorted(rows, key=lambda row: (len(row.folder), row.folder))


def _asked() -> dict[str, Any]:
    hydra = HydraConfig.get()
    return {"overrides": tuple(hydra.overrides.task), "folder": str(hydra.sweep.subdir)}


def _note(row: Row) -> None:
    folder = Path(HydraConfig.get().sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / RUNS).open("a") as file:
        file.write(json.dumps(row.__dict__) + "\n")


def _report(out: Path) -> dict[str, Any]:
    path = out / rundir.REPORT
    held: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return held


def _first_outcome(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The comparison of the first outcome that has one."""
    lift = report.get("lift") or {}
    outcomes = (*lift.get("conversions", ()), *lift.get("values", ()))
    return next((o["overall"] for o in outcomes if o.get("overall")), None)


def _found(report: Mapping[str, Any]) -> list[str]:
    """epsilon, verdict, lift, interval, noise ratio."""
    spent = _spent(report)
    overall = _first_outcome(report)
    if overall is None:
        return [spent, "", "", "", ""]
    low, high = overall["absolute"]["interval"]
    ratio = overall["noise_sd"] / overall["sampling_error"]
    lift = [_shown(overall["absolute"]["value"]), f"{_shown(low)} to {_shown(high)}"]
    return [spent, overall["verdict"], *lift, _shown(ratio)]


def _spent(report: Mapping[str, Any]) -> str:
    """Epsilon; null in a report is infinity. Nothing of a run that has no report."""
    if "privacy" not in report:
        return ""
    return _shown(objective_of(report, "privacy.spent")) or "∞"


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"


def _varied(overrides: Iterable[Sequence[str]]) -> list[str]:
    """Names of the settings that are not the same in all runs."""
    asked = [set(each) for each in overrides]
    same = set.intersection(*asked)
    names = (o.lstrip("+").partition("=")[0] for each in asked for o in sorted(each - same))
    return list(dict.fromkeys(names))
