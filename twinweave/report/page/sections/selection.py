"""Which features were measured with others, and how sure their ranks are."""

from __future__ import annotations

from twinweave.parsing import parse
from twinweave.report.page.charts.intervals import Bar, Forest, Row, bounds, forest
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section
from twinweave.workload.selection import FeatureScore

_TEMPLATE = """
{{ figure }}
<p class="small">{{ says }}</p>
"""

_SHOWN = 40
_Z95 = 1.96


def section(m: Material) -> Section | None:
    found = m.report["selection"]
    if found is None:
        return None
    scores = [parse(FeatureScore, one) for one in found["scores"]]
    choice = found["choice"]
    kept = set(choice["kept"])
    rows = [_row(s, s.column in kept) for s in scores[:_SHOWN]]
    figure = forest(
        Forest(
            caption="Mutual information with the target that a feature tells most about, in "
            "thousandths of a nat, with 95% intervals; free of the noise's bias, so that it may "
            "come out below zero.",
            rows=rows,
            heads=("", "Information", "Rank", "Kept"),
            scale=bounds(rows, 0.0),
        )
    )
    says = (
        f"{len(kept)} of {len(scores)} features kept; measured together: {len(choice['pairs'])} "
        f"two-way and {len(choice['three_way'])} three-way tables, {choice['cells']:,} cells."
    )
    title = "Which features were measured together"
    body = render(_TEMPLATE, figure=figure, says=says)
    return Section(name="selection", title=title, short="Feature selection", body=body)


def _row(score: FeatureScore, kept: bool) -> Row:
    best, (low, high) = score.strongest, score.ranks
    bar, text = None, "lost in noise"
    if best is not None:
        value, error = 1e3 * best.information, 1e3 * _Z95 * best.standard_error
        bar = Bar(value=value, low=value - error, high=value + error)
        text = f"{value:.2f}"
    return Row(
        name=score.column,
        note=f"at {', '.join(score.parties)}" + (f", with {best.target}" if best else ""),
        bar=bar,
        estimate=text,
        interval=f"{score.rank} ({low} to {high})",
        says="kept" if kept else "dropped",
        tone="good" if kept else "open",
    )
