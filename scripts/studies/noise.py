"""What privacy costs a lift: noise over sampling error of each outcome, as runs would plan it.

    python -m scripts.studies.noise --root data

From the planned noise and the exact tables, by the code of the report: nothing is trained, and
nothing drawn (a clip that is chosen is the one of tables without noise). For public data alone: it
holds the joined table. Hillstrom is left out, aloud, where its file is not there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.e2e.clear import Clear
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.results import Comparison, LiftReport
from twinweave.config import RunConf, compose
from twinweave.errors import SourceError
from twinweave.planning import plan, plan_second
from twinweave.tables.column import Kind
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery

ASKED = (
    ("generator=none", "workload=lift"),
    ("generator=none", "workload=all"),
    ("generator=tvae", "workload=all"),
)
"""Measurement alone, as it is and with every table; and a generator's run."""


QUIET = 1e-6
"""Variance of noise that is as good as none."""


def noise_ratios(conf: RunConf, clear: Clear) -> tuple[dict[str, float], dict[str, float]]:
    """{outcome: noise over sampling error}, and {value: its clip}, of a run of this configuration.

    The sampling error is that of the exact tables: what a report takes for it can be larger where
    the spread of amounts is lost in the noise. clear: the joined tables. NaN where an arm would be
    hidden.
    """
    lift = conf.data.lift
    assert lift is not None
    spec, kept, clips = plan(conf, run="0" * 32), [], {}
    tables = spec.plan
    if spec.two_passes:
        first, tables = plan_second(conf, spec, tuple(_exact(spec.plan, clear)))
        kept, clips = list(first.kept), dict(first.clips)
    needed = [p for p in tables if p.query.priority]
    measured = [*kept, *_exact(needed, clear)]
    noisy, quiet = (
        dict(_outcomes(analyse(spec.schema, tables, lift)))
        for tables in (measured, [replace(m, variance=QUIET) for m in measured])
    )
    return {name: _ratio(noisy[name], quiet[name]) for name in noisy}, clips


def joined(conf: RunConf) -> Clear:
    """All columns in the clear but dates, which no table of a lift has."""
    parties = tuple(
        replace(party, columns=tuple(c for c in party.columns if c.kind is not Kind.DATETIME))
        for party in conf.data.parties
    )
    return Clear(replace(conf, data=replace(conf.data, parties=parties)))


def _exact(tables: Sequence[PlannedQuery], clear: Clear) -> Iterator[Measurement]:
    """Measurements as they are planned, but for the noise."""
    for planned in tables:
        values = clear.table(planned.query)
        yield Measurement(query=planned.query, values=values, variance=planned.variance)


def _outcomes(found: LiftReport) -> Iterator[tuple[str, Comparison | None]]:
    yield from ((c.conversion, c.overall) for c in found.conversions)
    yield from ((v.column, v.overall) for v in found.values)


def _ratio(noisy: Comparison | None, quiet: Comparison | None) -> float:
    if noisy is None or quiet is None:
        return float("nan")
    return noisy.noise_sd / quiet.sampling_error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--data", nargs="+", default=["hillstrom", "campaign"])
    parser.add_argument("--root", default="data", help="folder of the public datasets")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.5, 1.0, 4.0])
    parser.add_argument("--clip", nargs="+", default=["bounds", "auto"])
    options = parser.parse_args()
    print(f"{'':<11}{'generator':>15}{'workload':>15}{'clip':>8}{'eps':>5}   noise over sampling")
    for data in options.data:
        base = [f"data={data}", "privacy=public", "output=none"]
        base += [f"data.root={options.root}"] if data != "campaign" else []
        clear = None
        for asked in ASKED:
            for clip in options.clip:
                for epsilon in options.epsilon:
                    conf = _configured([*base, *asked, f"privacy.epsilon={epsilon}"], clip)
                    try:
                        clear = clear or joined(conf)
                    except SourceError as error:
                        print(f"{data}: left out. {error}")
                        break
                    ratios, clips = noise_ratios(conf, clear)
                    told = "   ".join(
                        f"{name} {ratio:.2f}" + (f" (at {clips[name]:g})" if name in clips else "")
                        for name, ratio in ratios.items()
                    )
                    named = "".join(f"{a.split('=')[1]:>15}" for a in asked)
                    print(f"{data:<11}{named}{clip:>8}{epsilon:>5g}   {told}", flush=True)


_Raw = argparse.RawDescriptionHelpFormatter


def _configured(overrides: Sequence[str], clip: str) -> RunConf:
    """The configuration, every value's amounts clipped alike."""
    data = compose([*overrides])
    lift = data["data"]["lift"]
    lift["clip"] = dict.fromkeys(lift["values"], clip)
    return RunConf.parse(data)


if __name__ == "__main__":
    main()
