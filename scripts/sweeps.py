"""Sweeps: numbers of each run for a sweeper to work with, and a table of all runs at the end.

A run that fails does not end the sweep: it counts as the worst there is, and its line in the
table says why.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from scripts.ending import AS_IT_IS, UNEXPECTED, tell, unexpected
from twinweave import rundir
from twinweave.config import RunConf
from twinweave.errors import AppError, ConfigError
from twinweave.report.comparison import (
    MEASURES,
    OBJECTIVES,
    checked_objectives,
    first_outcome,
    objective_of,
    runs_in,
)
from twinweave.report.spending import LASTING, spending
from twinweave.report.sweep import (
    RUNS,
    Row,
    counted,
    note,
    read_rows,
    settings,
    shown_setting,
    varied,
)

Told = float | list[float]


def outcome(run: Callable[[], RunConf]) -> Told | None:
    """Play a run to its end: its objective in a sweep, a list where the sweep has several. Alone,
    an error is the exit status."""
    hydra = HydraConfig.get()
    try:
        conf = run()
    except AppError as error:
        tell(error)
        if hydra.mode is not RunMode.MULTIRUN:
            sys.exit(error.exit_code)
        return failed(hydra, str(error), error.exit_code)
    except KeyboardInterrupt as error:
        sys.exit(tell(error))
    except Exception as error:
        if hydra.mode is not RunMode.MULTIRUN:
            raise
        if AS_IT_IS:
            traceback.print_exc()
        else:
            tell(error)
        return failed(hydra, unexpected(error), UNEXPECTED)
    if hydra.mode is not RunMode.MULTIRUN:
        return None
    report = _report(Path(conf.output))
    values = tuple(objective_of(report, name) for name in conf.objectives)
    note(Path(hydra.sweep.dir), Row(**_asked(hydra), values=values))
    return _told(hydra, values, several=not isinstance(conf.objective, str))


def failed(hydra: Any, error: str, code: int) -> Told:
    """Note a run that failed; what its sweeper is told. hydra: its configuration."""
    note(Path(hydra.sweep.dir), Row(**_asked(hydra), error=error, code=code))
    return -inf if _upwards(hydra, 0) else inf


def _told(hydra: Any, values: Sequence[float | None], *, several: bool) -> Told:
    """What has no number is the worst there is."""
    worst = [-inf if _upwards(hydra, at) else inf for at in range(len(values))]
    told = [w if v is None else v for v, w in zip(values, worst, strict=True)]
    return told if several else told[0]


def _upwards(hydra: Any, at: int) -> bool:
    """Whether the sweeper wants the most of this objective, and not the least."""
    directions = hydra.sweeper.get("direction", "")
    listed = OmegaConf.is_list(directions)
    return "maximize" in str(directions[at] if listed and at < len(directions) else directions)


def table(rows: Sequence[Row], folder: Path, objectives: Sequence[str]) -> str:
    """The runs of a sweep, a line each, by their number."""
    names = varied(row.overrides for row in rows)
    head = [*names, "epsilon", "verdict", "lift", "95% interval"]
    lines = [[*head, *map(_title, objectives), "folder"]]
    for row in rows:
        asked = settings(row)
        cells = [shown_setting(asked.get(name, "")) for name in names]
        report = _report(folder / row.folder)
        if row.error:
            cells += [_spent(report), "failed", "", "", *[""] * len(objectives)]
        else:
            cells += [*_found(report), *("unknown" if v is None else _shown(v) for v in row.values)]
        lines.append([*cells, row.folder])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    why = [f"{row.folder}: {row.error}" for row in rows if row.error]
    return "\n".join(line.rstrip() for line in (*shown, *why, *_unknown(rows, objectives)))


def _objectives(asked: object) -> tuple[str, ...]:
    """Of a sweep; none where each of its runs refused them."""
    try:
        return checked_objectives(asked)
    except ConfigError:
        return ()


def _title(objective: str) -> str:
    named = {m.key: m.title for m in MEASURES}
    return named[OBJECTIVES[objective]] if objective in OBJECTIVES else objective


def _unknown(rows: Sequence[Row], objectives: Sequence[str]) -> list[str]:
    """Which objectives no run has."""
    ended = [row for row in rows if not row.error]
    none = [name for at, name in enumerate(objectives) if all(r.values[at] is None for r in ended)]
    known = ", ".join(OBJECTIVES)
    return [
        f"objective {name}: no run has it, and it counted as the worst. Known are {known} and "
        "paths of numbers in report.json; utility and fairness are those of a generator's rows."
        for name in none
        if ended
    ]


class Table(Callback):
    """Hydra's callback: prints the table, and makes the first failure the exit status."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        (Path(config.hydra.sweep.dir) / RUNS).unlink(missing_ok=True)  # of an earlier sweep there
        guard = {n: OmegaConf.select(config, f"privacy.guard.{n}") for n in ("mode", "path")}
        if guard["mode"] == "on" and guard["path"] is None:
            print(
                "warning: every run of this sweep spends, and each has a guard of its own: no "
                f"limit holds them together. {LASTING}",
                file=sys.stderr,
            )

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        folder = Path(config.hydra.sweep.dir)
        rows = read_rows(folder)
        if not rows:
            return
        try:
            print(f"\n{counted(len(rows))} in {folder.absolute()}\n")
            print(table(rows, folder, _objectives(config.objective)))
            print(*spending(runs_in([folder])), sep="\n")
        except Exception:  # Hydra would make a warning of it, and 0 the exit status
            traceback.print_exc()
            sys.exit(1)
        if code := next((row.code for row in rows if row.code), 0):
            sys.exit(code)


def _asked(hydra: Any) -> dict[str, Any]:
    return {"overrides": tuple(hydra.overrides.task), "folder": str(hydra.sweep.subdir)}


def _report(out: Path) -> dict[str, Any]:
    path = out / rundir.REPORT
    held: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return held


def _found(report: Mapping[str, Any]) -> list[str]:
    """epsilon, verdict, lift, interval."""
    overall = first_outcome(report)
    if overall is None:
        return [_spent(report), "", "", ""]
    low, high = overall["absolute"]["interval"]
    lift = [_shown(overall["absolute"]["value"]), f"{_shown(low)} to {_shown(high)}"]
    return [_spent(report), overall["verdict"], *lift]


def _spent(report: Mapping[str, Any]) -> str:
    """Epsilon; null in a report is infinity. Nothing of a run that has no report."""
    if "privacy" not in report:
        return ""
    return _shown(objective_of(report, "privacy.spent")) or "∞"


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"
