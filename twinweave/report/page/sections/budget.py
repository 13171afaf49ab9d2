"""What the run cost in privacy: by stage, by party, release by release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from twinweave.report.display import shown_epsilon
from twinweave.report.page.charts.bars import Length, Lengths, lengths
from twinweave.report.page.charts.tables import NUMBER, TEXT, table
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section

_TEMPLATE = """
<p>One person, added or removed at every party, changes what is likely to be seen by a factor of
e<sup>ε</sup> at most, but for a probability of δ. Composed by {{ accountant }}.</p>
{{ figure }}
{% if training %}<p>Training: {{ training }}.</p>{% endif %}
<h3>Every release</h3>
{{ groups }}
<details class="long"><summary>One by one</summary>
{{ events }}
{% if more %}<p class="small">{{ more }} more are in ledger.json.</p>{% endif %}
</details>
<ul class="plain small">{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
"""

MOST_EVENTS = 400
"""Listed one by one; ledger.json has all."""

_NOISE = "Noise ÷ sensitivity", NUMBER
RELEASES = (
    ("Stage", TEXT),
    ("About users of", TEXT),
    ("Mechanism", TEXT),
    ("Releases", NUMBER),
    _NOISE,
)
_EVENTS = (("Release", TEXT), ("Stage", TEXT), ("Mechanism", TEXT), _NOISE)

_STAGES = {
    "preprocessing": "preprocessing: users in common",
    "selection": "selection: a first, coarse pass",
    "measurement": "measurement: the tables",
    "training": "training: the generator's updates",
    "evaluation": "evaluation: the audit",
}

_MECHANISMS = {
    "DiscreteGaussian": "discrete Gaussian",
    "SharedBinomial": "shared coins (binomial)",
    "PoissonSgd": "DP-SGD, Poisson sampled",
    "NonPrivate": "none: no guarantee",
}


def section(m: Material) -> Section | None:
    events = m.ledger["events"]
    body = render(
        _TEMPLATE,
        figure=_figure(m),
        accountant=m.ledger["accountant"],
        groups=table(RELEASES, grouped(events)),
        events=table(_EVENTS, [_event(e) for e in events[:MOST_EVENTS]]),
        more=max(len(events) - MOST_EVENTS, 0),
        notes=m.report["privacy"]["notes"],
        training=(m.report["privacy"].get("training") or {}).get("why"),
    )
    return Section(
        name="budget", title="What it cost in privacy", short="Privacy budget", body=body
    )


def _figure(m: Material) -> str:
    privacy = m.report["privacy"]
    budget = privacy["budget"]["epsilon"]
    rows = [_row("In all", privacy["spent"])]
    for group, found in (
        ("By stage, each composed alone", _in_words(privacy["spent_by_stage"])),
        ("By party, for users known to it alone", privacy["spent_by_party"]),
    ):
        heading = group
        for name, epsilon in found.items():
            rows.append(_row(name, epsilon, heading, "muted"))
            heading = ""
    return lengths(
        Lengths(
            caption=f"Epsilon at δ = {privacy['budget']['delta']:g}. Epsilons of stages and "
            "parties do not add up: composition is less than the sum.",
            rows=rows,
            limit=(budget, "budget"),
            key=[("limit", f"budget: {budget:g}")],
        )
    )


def _in_words(by_stage: Mapping[str, float | None]) -> dict[str, float | None]:
    return {_STAGES.get(stage, stage): epsilon for stage, epsilon in by_stage.items()}


def _row(name: str, epsilon: float | None, group: str = "", tone: str = "") -> Length:
    value, text = inf if epsilon is None else epsilon, shown_epsilon(epsilon)
    return Length(name=name, value=value, text=text, group=group, tone=tone)


def grouped(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """Releases that differ in their table alone, as one line with the range of their noise."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for event in events:
        key = event["stage"], ", ".join(sorted(event["parties"])), _name(event["mechanism"])
        groups.setdefault(key, []).append(event["mechanism"])
    found = []
    for (stage, parties, mechanism), own in groups.items():
        noise = sorted({_noise(one) for one in own if _noise(one)})
        says = "" if not noise else f"{noise[0]:.4g}"
        if len(noise) > 1 and f"{noise[-1]:.4g}" != says:
            says += f" to {noise[-1]:.4g}"
        found.append((stage, parties, mechanism, f"{len(own):,}", says))
    return found


def _event(event: Mapping[str, Any]) -> tuple[str, str, str, str]:
    noise = _noise(event["mechanism"])
    says = "" if noise == 0 else f"{noise:.4g}"
    return event["label"], event["stage"], _name(event["mechanism"]), says


def _name(mechanism: Mapping[str, Any]) -> str:
    name = _MECHANISMS.get(mechanism["kind"], str(mechanism["kind"]))
    if mechanism["kind"] == "PoissonSgd":
        name += f": {mechanism['steps']:,} steps at rate {mechanism['sampling_rate']:.4g}"
    return name


def _noise(mechanism: Mapping[str, Any]) -> float:
    """Standard deviation over sensitivity; 0 where there is none."""
    if mechanism["kind"] == "SharedBinomial":
        return float(mechanism["coins"] ** 0.5 / 2 / mechanism["sensitivity"])
    return float(mechanism.get("noise_multiplier", 0.0))
