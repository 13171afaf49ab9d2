"""Audit the synthetic tables of a finished run again, at each party of its simulation.

    python -m scripts.audit RUN_DIR [--full] [--canaries] [--json FILE]

Reads every party's rows from the source in its configuration, sets aside whom the run had set
aside, and prints what each party finds. Nothing is released: who may read all of these tables may
read the findings. Exit status 22 where a finding would withhold the tables. Of a deployment each
party has its own findings in its folder, as audit-RUN.json.

With --canaries the lower bounds of epsilon are had again too, from runs of canaries with the run's
configuration: they need no real rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import twinweave
from scripts.ending import command
from twinweave.analysis.audit.finished import PartyFindings, findings_of
from twinweave.analysis.audit.results import LowerBound
from twinweave.config import RunConf
from twinweave.errors import OutputError, WithheldError
from twinweave.parsing import to_plain
from twinweave.rundir import Run
from twinweave.workload.audit import Depth


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or the error's own code."""
    options = _arguments(argv)
    run = twinweave.load(options.run)
    conf = RunConf.parse(run.configuration)
    depth: Depth | None = "full" if options.full else None
    found = []
    for own in findings_of(conf, run.spec, run.synthetic(), depth):
        found.append(own)
        print("\n".join([own.party, *(f"  {line}" for line in own.lines)]))
    bounds = _bounds(conf, run, depth) if options.canaries else ()
    if options.json is not None:
        _write(options.json, {own.party: to_plain(own.report) for own in found})
    _check(found, bounds)
    return 0


def _bounds(conf: RunConf, run: Run, depth: Depth | None) -> tuple[LowerBound, ...]:
    """What canaries prove, as it is printed. depth: None for the run's own."""
    from twinweave.analysis.canaries.run import lower_bounds

    sizes = run.report["sizes"]
    found = lower_bounds(conf, run.spec, sizes, depth or conf.audit.mode)
    print("canaries")
    for bound in found:
        over = ", which is EXCEEDED" if bound.exceeds else ""
        figures = f"epsilon {bound.bound:.2f} or more, {bound.claimed:.2f} claimed{over}"
        print(f"  {bound.path}: {figures} ({bound.ceiling:.2f} on average, were it all spent)")
    return found


def _check(found: Sequence[PartyFindings], bounds: Sequence[LowerBound] = ()) -> None:
    if exceeded := [bound.path for bound in bounds if bound.exceeds]:
        raise WithheldError(
            f"more than the claimed epsilon is proven of {', '.join(exceeded)}: a mistake in the "
            "program. Hand nothing out, and report it with the figures."
        )
    if refused := [own.party for own in found if own.withheld]:
        raise WithheldError(
            f"findings at {', '.join(refused)} are beyond what audit.threshold allows. Do not hand "
            "the synthetic tables out."
        )


def _write(path: Path, value: Any) -> None:
    try:
        path.write_text(json.dumps(value, indent=1) + "\n")
    except OSError:
        raise OutputError(
            f"--json: {str(path)!r} cannot be written. Name a file in a folder that there is."
        ) from None


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument("--full", action="store_true", help="every attack, whatever the run did")
    parser.add_argument("--canaries", action="store_true", help="lower bounds of epsilon too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings too")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
