"""What would decide what is open: more users, or a larger epsilon."""

from __future__ import annotations

from collections.abc import Iterator

from twinweave.analysis.lift.needed import REACH
from twinweave.analysis.lift.results import Needed
from twinweave.report.page.charts.tables import NUMBER, STRONG, TEXT, table
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.outcomes import outcomes
from twinweave.report.page.section import Section
from twinweave.report.terminal.stakes import decision_figures

_TEMPLATE = """
<p>Were the effect as large as its estimate, either of the two would find it with 80% power, by
the noise of this run.</p>
{{ table }}
"""

_HEADS = (
    ("Open", TEXT),
    ("Effect to find", NUMBER),
    ("Epsilon, same users", STRONG),
    ("Users in the arms, same epsilon", STRONG),
)


def section(m: Material) -> Section | None:
    rows = list(_rows(m))
    if not rows:
        return None
    body = render(_TEMPLATE, table=table(_HEADS, rows))
    title = "What would decide it"
    return Section(name="deciding", title=title, short=title, body=body)


def _rows(m: Material) -> Iterator[tuple[str, str, str, str]]:
    for o in outcomes(m):
        for one, found in o.shown:
            if found.needed is not None and o.points is not None:
                size = o.points.plain(abs(found.needed.size)) + o.points.suffix
                yield f"{o.name}: {o.pair(one)}", size, *_ways(found.needed)
    for decision in m.lift.decisions if m.lift else ():
        if decision.needed is not None and m.lift is not None:
            name, value, _ = decision_figures(decision, m.lift)
            yield f"{name} ({decision.arm})", value, *_ways(decision.needed)


def _ways(found: Needed) -> tuple[str, str]:
    """The epsilon, and the users, in words."""
    if found.sampling_alone:
        epsilon = "none: sampling alone hides it"
    elif found.epsilon is None:
        epsilon = f"none up to {REACH:g}"
    else:
        epsilon = f"about {found.epsilon:.2g}"
    if found.users is None or found.times is None:
        return epsilon, "more than a thousand times as many"
    return epsilon, f"about {float(f'{found.users:.2g}'):,.0f} ({found.times:.1f} times)"
