"""Whether the synthetic tables tell the lift that was measured."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from twinweave.analysis.lift.agreement import SyntheticEffect, SyntheticOutcome
from twinweave.report.page.charts.intervals import Bar, Forest, Row, bounds, forest
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section
from twinweave.report.terminal.text import unit_for


def section(m: Material) -> Section | None:
    if m.synthetic is None or m.synthetic.lift is None or not m.synthetic.lift.outcomes:
        return None
    outcomes = m.synthetic.lift.outcomes
    names = dict.fromkeys(o.name for o in outcomes)
    drawn = Markup("").join(_figure(n, [o for o in outcomes if o.name == n]) for n in names)
    title = "The lift that the synthetic tables tell"
    return Section(name="agreement", title=title, short="Synthetic lift", body=drawn)


def _figure(name: str, found: Sequence[SyntheticOutcome]) -> Markup:
    conversion = found[0].kind == "conversion"
    every = (r for one in found for r in (_row(one), *_levels(one)))
    rows = [r for r in every if r is not None]
    if not rows:
        return Markup()
    return forest(
        Forest(
            caption=f"Lift of {name}: the dot is what the synthetic rows tell, the bar the "
            "measured interval. Levels have joint intervals.",
            rows=rows,
            heads=("", "Synthetic", "Measured interval", "Dot is"),
            scale=bounds(rows, 0.0),
            factor=100.0 if conversion else 1.0,
            signed=True,
        )
    )


def _row(one: SyntheticOutcome) -> Row | None:
    return _drawn(f"{one.arm} against {one.against}", one.overall, one.kind == "conversion")


def _levels(one: SyntheticOutcome) -> list[Row | None]:
    """Those that lie outside alone: the others are as they should be."""
    return [
        _drawn(f"{level.column} = {level.level}, {one.arm}", level.effect, True)
        for level in one.levels
        if level.effect.inside is False
    ]


def _drawn(name: str, found: SyntheticEffect, conversion: bool) -> Row | None:
    if found.lift is None or found.interval is None:
        return None
    low, high = found.interval
    scale, suffix = (100.0, " pp") if conversion else (1.0, "")
    unit = unit_for((high - low) / 4, scale=scale, suffix=suffix)
    return Row(
        name=name,
        bar=Bar(value=found.lift, low=low, high=high),
        estimate=unit.signed(found.lift) + suffix,
        interval=unit.between(found.interval),
        says="inside" if found.inside else "outside",
        tone="open" if found.inside else "bad",
    )
