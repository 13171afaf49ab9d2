"""What the treatment did: each outcome's lift, what its interval is made of, and its arms."""

from __future__ import annotations

from collections.abc import Iterator
from math import hypot, isfinite

from markupsafe import Markup

from twinweave.analysis.lift.results import ArmResult, Comparison, ValueLift
from twinweave.report.display import shown_arm, shown_comparison, shown_finding
from twinweave.report.page.charts.intervals import (
    SAMPLING_AND_NOISE,
    TRUTH,
    Bar,
    Forest,
    Row,
    bounds,
    forest,
)
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.outcomes import TONES, Lift, Outcome, lift_bar, outcomes
from twinweave.report.page.section import Section
from twinweave.report.terminal.comparisons import relative_text
from twinweave.report.terminal.text import level_text, p_text, whole

_TEMPLATE = """
{% for name, what, notes, figure, details in outcomes %}
<h3>{{ name }} <small>{{ what }}</small></h3>
{{ figure }}
{% for pair, stats in details %}
{% if details|length > 1 %}<p class="pair">{{ pair }}</p>{% endif %}
<dl class="stats">
{% for name, value, more in stats %}
<div><dt>{{ name }}</dt><dd>{{ value|figures }}<small>{{ more|figures }}</small></dd></div>
{% endfor %}
</dl>
{% endfor %}
{% for note in notes %}<p class="small">{{ note|figures }}</p>{% endfor %}
{% endfor %}
{% if correction %}<p class="small">{{ correction }}</p>{% endif %}
"""


def section(m: Material) -> Section | None:
    if m.lift is None:
        return None
    told = [
        (o.name, o.what, _notes(o, m.lift.k), _figure(o, m.lift.level), _details(o))
        for o in outcomes(m)
    ]
    body = render(_TEMPLATE, outcomes=told, correction=m.lift.correction)
    return Section(name="lift", title="What the treatment did", short="Lift", body=body)


def _figure(o: Outcome, level: float) -> Markup:
    if o.points is None:
        return Markup()
    rows = [_row(o, one, found) for one, found in o.shown]
    key = [*SAMPLING_AND_NOISE, ("dot", "estimate")]
    truth = o.truth is not None and len(o.shown) == 1
    lift = forest(
        Forest(
            caption=f"Lift of {o.name}: difference of "
            f"{'rates, in percentage points' if o.conversion else 'means'}. The bar is the "
            f"{level_text(level)} interval; the dark part is what it would be without noise.",
            rows=rows,
            heads=("", "Lift", f"{level_text(level)} interval", "Verdict"),
            scale=bounds(rows, 0.0),
            factor=o.factor,
            signed=True,
            key=[*key, TRUTH] if truth else key,
        )
    )
    return lift + _arms(o)


def _row(o: Outcome, one: Lift, found: Comparison) -> Row:
    assert o.points is not None
    told = shown_comparison(found).absolute
    truth = o.truth if len(o.shown) == 1 else None
    return Row(
        name=o.pair(one),
        bar=lift_bar(found, truth),
        estimate=o.points.signed(told.value) + o.points.suffix,
        interval=o.points.between(told.interval),
        says=found.verdict.value,
        tone=TONES.get(found.verdict, "open"),
    )


def _arms(o: Outcome) -> Markup:
    """Each arm's rate or mean, the control last."""
    assert o.rates is not None
    arms: dict[str, ArmResult] = {}
    for one, found in o.shown:
        arms = {one.arm: found.test, one.against: found.control} | arms
    names = sorted(arms, key=[one.against for one in o.every].count)
    rows = []
    for name in names:
        arm = shown_arm(arms[name])
        error = hypot(arms[name].noise_sd, arms[name].sampling_error)
        share = arms[name].sampling_error / error if error else 1.0
        (low, high), total = arm.rate.interval, "converted" if o.conversion else "in all"
        rows.append(
            Row(
                name=name,
                note=f"{whole(arm.n)} users, {whole(arm.total)} {total}",
                bar=Bar(value=arm.rate.value, low=low, high=high, sampling=share),
                estimate=o.rates.plain(arm.rate.value) + o.rates.suffix,
                interval=o.rates.between(arm.rate.interval, signed=False),
            )
        )
    return forest(
        Forest(
            caption=f"{'Rate' if o.conversion else 'Mean'} by arm.",
            rows=rows,
            heads=("", "Rate" if o.conversion else "Mean", "Interval", ""),
            scale=bounds(rows, 0.0),
            factor=o.factor,
        )
    )


def _details(o: Outcome) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """By comparison: name, figure, and what more there is to say of it."""
    return [(o.pair(one), list(_stats(o, found))) for one, found in o.shown]


def _stats(o: Outcome, found: Comparison) -> Iterator[tuple[str, str, str]]:
    assert o.points is not None
    told = shown_comparison(found)
    if told.relative is not None:
        yield "Relative lift", *relative_text(told.relative)
    low, high = told.incremental.interval
    name = f"Incremental {'conversions' if o.conversion else o.name}"
    yield name, f"{told.incremental.value:+,.0f}", f"{low:+,.0f} to {high:+,.0f}"
    adjusted = found.p_adjusted is not None and found.p_adjusted != found.p_value
    p = found.p_adjusted if adjusted and found.p_adjusted is not None else found.p_value
    alone = f"adjusted; {p_text(found.p_value)} alone" if adjusted else "two-sided"
    yield "p-value", p_text(p), alone
    wider = f"interval {found.widening:.0%} wider for it" if isfinite(found.widening) else ""
    ratio = f"{found.noise_ratio:.2f}" if isfinite(found.noise_ratio) else "∞"
    yield "Noise ÷ sampling error", ratio, wider
    yield "Found with 80% power", o.points.plain(found.mde) + o.points.suffix, "or more"


def _notes(o: Outcome, k: int) -> list[str]:
    """Sentences of this outcome alone."""
    if o.points is None:
        return [f"Not shown: an arm has fewer than {k} users, or is lost in the noise."]
    told = "; ".join(
        f"{o.pair(one)} {o.points.signed(lift.value)}{o.points.suffix} "
        f"({o.points.between(lift.interval)})"
        for one in o.every
        if one.matched is not None
        for lift in [shown_comparison(one.matched).absolute]
    )
    valid = "Valid only if the treatment does not change who is matched."
    notes = [f"Among matched users alone: {told}. {valid}"] if told else []
    first = o.every[0]
    if isinstance(first, ValueLift) and first.clipped_share is not None:
        share = shown_finding(first.clipped_share)
        notes.append(
            f"{share.value:.1%} of amounts are above the clip and count as it: what is compared "
            "is the mean of clipped amounts."
        )
    return notes
