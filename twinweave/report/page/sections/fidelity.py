"""Synthetic against measured: one-way tables with error bars, pairs as a map, largest misfits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from twinweave.analysis.examine import SyntheticFindings
from twinweave.analysis.fidelity.margins import Margin
from twinweave.analysis.fidelity.tables import FidelityReport, TableFidelity, WaysFidelity
from twinweave.report.page.charts.bars import Length, Lengths, lengths
from twinweave.report.page.charts.heatmap import STEPS, Heatmap, heatmap
from twinweave.report.page.charts.tables import NUMBER, STRONG, TEXT, table
from twinweave.report.page.html import element, render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section
from twinweave.report.terminal.synthetic import NO_INFERENCE
from twinweave.report.terminal.text import told_apart, whole

_TEMPLATE = """
<p>{{ says }}</p>
<p class="small">{{ no_inference }}</p>
{{ by_ways }}
<p class="small">Distance: total variation between synthetic and noisy counts. Misfit: mean squared
difference over the noise's variance, about 1 at the truth.</p>
{% if cards %}
<h3>Column by column, largest misfit first</h3>
<div class="cards">{% for card in cards %}{{ card }}{% endfor %}</div>
<p class="key"><span><i class="k-length"></i>synthetic rows</span>
<span><i class="k-dot"></i>measured, with the 95% interval of its noise</span></p>
{% if more %}<p class="small">Not drawn, with smaller misfits: {{ more }}.</p>{% endif %}
{% endif %}
{% if map %}
<h3>Pairs of columns</h3>
<figure class="chart"><figcaption>Misfit of every measured table of two columns.</figcaption>
<div class="scroll">{{ map }}</div>
<p class="key">{% for text in shades %}<span><i class="h b{{ loop.index0 }}"></i>{{ text }}</span>
{% endfor %}</p></figure>
{% endif %}
<h3>Largest misfits</h3>
{{ worst }}
{% for line in unmeasured %}<p class="small">{{ line }}</p>{% endfor %}
"""

_DISTANCES = ("Distance", NUMBER), ("Of noise alone", NUMBER), ("Misfit", STRONG)
_WAYS = (("Tables measured", TEXT), ("Tables", NUMBER), *_DISTANCES)
_TABLES = (("Table", TEXT), ("Cells", NUMBER), *_DISTANCES)

_Z95 = 1.96
_CARDS, _LEVELS, _NAMES, _WORST, _CHARACTERS = 12, 12, 40, 10, 18
_BOUNDS = (1.0, 1.5, 2.0, 3.0, 5.0)
"""Of misfits: upper ends of the shades but the last."""

SHADES = ("to 1", "to 1.5", "to 2", "to 3", "to 5", "more")


def section(m: Material) -> Section | None:
    if m.synthetic is None:
        return None
    found = m.synthetic
    margins = sorted(found.margins, key=misfit, reverse=True)
    tables = sorted(found.fidelity.tables, key=lambda t: -t.chi2)
    body = render(
        _TEMPLATE,
        says=_says(found),
        no_inference=NO_INFERENCE,
        by_ways=table(_WAYS, [_ways(w) for w in found.fidelity.by_ways]),
        cards=[_card(one, margins) for one in margins[:_CARDS]],
        more=", ".join(one.column for one in margins[_CARDS:]),
        map=_map(found.fidelity, m.pairs),
        shades=SHADES,
        worst=table(_TABLES, [_table(t) for t in tables[:_WORST]]),
        unmeasured=[_unmeasured(u.outcome, u.columns) for u in found.unmeasured],
    )
    return Section(
        name="fidelity", title="Synthetic against measured", short="Synthetic data", body=body
    )


def _ways(found: WaysFidelity) -> tuple[str, ...]:
    name = f"of {found.ways} column{'' if found.ways == 1 else 's'}"
    return name, f"{found.tables:,}", *_distances(found)


def _table(found: TableFidelity) -> tuple[str | Markup, ...]:
    name = element("small", "priority") if found.priority else Markup()
    return escape(found.name) + " " + name, f"{found.cells:,}", *_distances(found)


def _distances(found: WaysFidelity | TableFidelity) -> tuple[str, str, str]:
    return f"{found.tvd:.4f}", f"{found.noise_tvd:.4f}", f"{found.chi2:.2f}"


def misfit(found: Margin) -> float:
    """Mean squared difference over the noise's variance."""
    pairs = zip(found.synthetic, found.measured, strict=True)
    variance = max(found.noise_sd**2, 1e-9)
    return sum((s - n) ** 2 for s, n in pairs) / len(found.levels) / variance


def _says(found: SyntheticFindings) -> str:
    held = ", ".join(f"{n:,} at {party}" for party, n in found.present.items())
    agrees = (
        "agree with the measured tables as far as the noise lets see"
        if found.fidelity.agrees
        else "differ from the measured tables by more than the noise explains"
    )
    return (
        f"{found.rows:,} synthetic rows by {found.generator} ({held}) {agrees}: misfit "
        f"{found.fidelity.chi2:.2f} over all cells."
    )


def _card(found: Margin, every: Sequence[Margin]) -> Markup:
    several = sum(one.column == found.column for one in every) > 1
    name = f"{found.column} · {found.party}" if several else found.column
    order = sorted(range(len(found.levels)), key=lambda i: -abs(found.measured[i]))
    shown, rest = sorted(order[:_LEVELS]), sorted(order[_LEVELS:])
    told = told_apart([_level_text(found.levels[i]) for i in shown], _CHARACTERS)
    names = [told[_level_text(found.levels[i])] for i in shown]
    rows = [_level(found, i, name) for i, name in zip(shown, names, strict=True)]
    if rest:
        total = sum(found.synthetic[i] for i in rest)
        others = f"{len(rest)} others"
        rows.append(Length(name=others, value=total, text=whole(total), drawn=False))
    return lengths(Lengths(caption=f"{name}: misfit {misfit(found):.2f}", rows=rows))


def _level_text(level: str) -> str:
    """In little room: of a long range its lower end alone. Other names are cut later, apart."""
    if len(level) > _CHARACTERS and level.startswith("[") and "," in level:
        return f"from {level[1:].partition(',')[0]}"
    return level


def _level(found: Margin, level: int, name: str) -> Length:
    synthetic = found.synthetic[level]
    return Length(
        name=name,
        value=synthetic,
        text=whole(synthetic),
        tone="muted",
        measured=max(found.measured[level], 0.0),
        error=_Z95 * found.noise_sd,
    )


def _map(found: FidelityReport, pairs: Mapping[str, tuple[str, str]]) -> Markup | str:
    by_pair: dict[frozenset[str], float] = {}
    for one in found.tables:
        if (pair := pairs.get(one.name)) is not None and pair[0] != pair[1]:
            key = frozenset(pair)
            by_pair[key] = max(by_pair.get(key, 0.0), one.chi2)
    names = list(dict.fromkeys(name for pair in by_pair for name in sorted(pair)))[:_NAMES]
    if len(names) < 3:
        return ""
    shades = {}
    for row, name in enumerate(names):
        for column, other in enumerate(names[:row]):
            if (value := by_pair.get(frozenset((name, other)))) is not None:
                shade = next((i for i, b in enumerate(_BOUNDS) if value <= b), STEPS - 1)
                shades[row, column] = shade, f"misfit {value:.2f}"
    off = sum(shade > 1 for shade, _ in shades.values())
    label = (
        f"Map of {len(shades)} pairs of {len(names)} columns: {off} have a misfit above "
        f"{_BOUNDS[1]:g}. The largest are listed below."
    )
    return heatmap(Heatmap(names=names, shades=shades, label=label))


def _unmeasured(outcome: str, columns: Sequence[str]) -> str:
    some = ", ".join(columns[:8]) + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")
    return (
        f"How the lift of {outcome} differs by {some} was not measured, or in a few groups "
        "at most: what the rows show of it comes from the generator and is no evidence."
    )
