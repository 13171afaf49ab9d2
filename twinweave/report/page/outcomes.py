"""The outcomes of an experiment as a page speaks of them: names, units, which comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from twinweave.analysis.lift.results import (
    Comparison,
    ConversionLift,
    LiftReport,
    ValueLift,
    Verdict,
)
from twinweave.report.display import shown_comparison
from twinweave.report.page.charts.intervals import Bar
from twinweave.report.page.material import Material
from twinweave.report.terminal.text import Unit, unit_for
from twinweave.workload.analyses import CONTROL

Lift = ConversionLift | ValueLift

TONES = {Verdict.LIFT: "good", Verdict.HARM: "bad"}
"""Of a verdict; of the others "open"."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One conversion or value. every: its comparisons, those with the control first.

    rates, points: how a rate or mean, and a difference of two, is written; None where no
    comparison is shown. truth: the true absolute lift where it is known.
    """

    name: str
    conversion: bool
    every: tuple[Lift, ...]
    rates: Unit | None
    points: Unit | None
    truth: float | None

    @property
    def shown(self) -> tuple[tuple[Lift, Comparison], ...]:
        return tuple((one, one.overall) for one in self.every if one.overall is not None)

    @property
    def subject(self) -> str:
        """What a treatment raises or lowers, in a sentence."""
        return f"the {self.name} rate" if self.conversion else f"mean {self.name}"

    @property
    def factor(self) -> float:
        """What numbers are multiplied with to be read: rates are per cent."""
        return 100.0 if self.conversion else 1.0

    @property
    def what(self) -> str:
        if self.conversion:
            return "share of users who converted"
        assert isinstance(self.every[0], ValueLift)
        low, high = self.every[0].clipped_to
        return f"mean per user, amounts clipped to {low:,g} to {high:,g}, 0 without one"

    def pair(self, one: Lift) -> str:
        """The comparison's name."""
        return f"{one.arm} against {one.against}"


def outcomes(m: Material) -> tuple[Outcome, ...]:
    """In the report's order: conversions, then values."""
    if m.lift is None:
        return ()
    truth = m.report["truth"]["absolute_lift"]
    found = []
    for name, every in _by_name(m.lift).items():
        conversion = isinstance(every[0], ConversionLift)
        errors = [one.overall.standard_error for one in every if one.overall is not None]
        rates = points = None
        if errors:
            scale, rate, point = (100.0, "%", " pp") if conversion else (1.0, "", "")
            rates = unit_for(max(errors), scale=scale, suffix=rate)
            points = unit_for(max(errors), scale=scale, suffix=point)
        found.append(
            Outcome(
                name=name,
                conversion=conversion,
                every=tuple(every),
                rates=rates,
                points=points,
                truth=truth.get(name),
            )
        )
    return tuple(found)


def _by_name(lift: LiftReport) -> dict[str, list[Lift]]:
    found: dict[str, list[Lift]] = {}
    every: Sequence[Lift] = (*lift.conversions, *lift.values)
    for one in every:
        name = one.conversion if isinstance(one, ConversionLift) else one.column
        found.setdefault(name, []).append(one)
    return {n: sorted(e, key=lambda one: one.against != CONTROL) for n, e in found.items()}


def lift_bar(found: Comparison, truth: float | None = None) -> Bar:
    """A comparison's absolute lift, its interval told apart in sampling and noise."""
    absolute, error = shown_comparison(found).absolute, found.standard_error
    low, high = absolute.interval
    return Bar(
        value=absolute.value,
        low=low,
        high=high,
        sampling=found.sampling_error / error if error else 1.0,
        mark=truth,
    )


def end(x: float | None) -> float:
    """An upper end of None is infinity."""
    return inf if x is None else x
