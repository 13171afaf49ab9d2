"""What to beware of, before anything is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from twinweave.analysis.lift.results import ConversionLift, MatchState, ValueLift
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section

_DOUBTED = (MatchState.UNBALANCED, MatchState.HARDLY_ANY, MatchState.UNDECLARED)

_FIGURES = "counts, what is incremental and what it cost"
"""Of an experiment, what there is less of by the users set aside."""

_TEMPLATE = """
<ul class="notices">
{% for n in notices %}
<li class="{{ n.tone }}"><b>{{ n.title }}</b> {{ n.text }}</li>
{% endfor %}
</ul>
"""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """tone: bad, something is wrong; warn, something is weaker than it looks; "", to know."""

    tone: Literal["bad", "warn", ""]
    title: str
    text: str


def notices(m: Material) -> list[Notice]:
    """What is wrong first, then what is weaker than it looks, then what to know."""
    order = ("bad", "warn", "")
    return sorted(
        [
            *_privacy(m),
            *_parties(m),
            *_experiment(m),
            *_unfinished(m),
            *_synthetic(m),
            *_audit(m),
            *_scope(m),
        ],
        key=lambda n: order.index(n.tone),
    )


def section(m: Material) -> Section | None:
    return drawn(notices(m))


def drawn(found: Sequence[Notice]) -> Section | None:
    """The section of these; None without any."""
    if not found:
        return None
    body = render(_TEMPLATE, notices=found)
    return Section(
        name="notices", title="Before you read on", short="Before you read on", body=body
    )


def _privacy(m: Material) -> Iterator[Notice]:
    privacy = m.report["privacy"]
    if privacy["spent"] is None:
        text = "A release of this run carries none: its generator was trained without noise."
        yield Notice(tone="bad", title="ε = ∞: no guarantee at all.", text=text)
    elif (privacy["training"] or {}).get("unsafe"):
        text = "From its first round on ε = ∞: no guarantee at all."
        yield Notice(tone="bad", title="The run trains without noise (privacy.unsafe).", text=text)
    guards = privacy["guards"]
    if off := [party for party, state in guards.items() if state == "off"]:
        yield Notice(
            tone="warn",
            title="The budget guard is off",
            text=f"at {', '.join(off)}: nothing stops the next run on the same data from spending "
            "again. Right for public or simulated data only.",
        )
    if single := [party for party, state in guards.items() if state == "this run"]:
        yield Notice(
            tone="warn",
            title="The budget guard forgets with this run",
            text=f"at {', '.join(single)}: runs do not add up. Name a file that lasts: "
            "privacy.guard.path.",
        )


def _parties(m: Material) -> Iterator[Notice]:
    for one in m.overlaps:
        if one.hardly_any:
            names = " and ".join("+".join(members) for members in (one.first, one.second))
            yield Notice(
                tone="bad",
                title=f"Hardly any users in common: {names}.",
                text="Check that both spell the ids alike: leading zeros, case, blanks, dashes, "
                "prefixes, hashes.",
            )


def _experiment(m: Material) -> Iterator[Notice]:
    if m.lift is None:
        return
    every: tuple[ConversionLift | ValueLift, ...] = (*m.lift.conversions, *m.lift.values)
    doubts = dict.fromkeys(d for one in every for d in one.doubts)
    for doubt in doubts:
        yield Notice(tone="bad", title="No verdict:", text=f"{doubt}.")
    for rate in m.lift.match_rates:
        if rate.state in _DOUBTED and not doubts:
            text = f"matched at {rate.party}: {rate.state}."
            yield Notice(tone="bad", title="The arms' matches are in doubt:", text=text)
    if m.lift.sample_ratio is not None and m.lift.sample_ratio.suspicious:
        yield Notice(
            tone="bad",
            title="The arms' sizes contradict the declared ratio.",
            text="Do not trust the lift before the assignment is explained.",
        )
    if m.lift.hidden:
        yield Notice(
            tone="warn",
            title=f"Not shown: {', '.join(m.lift.hidden)}.",
            text=f"Fewer than {m.lift.k} users, or lost in the noise.",
        )
    for note in m.lift.notes:
        yield Notice(tone="", title="Note:", text=note)


def _synthetic(m: Material) -> Iterator[Notice]:
    if m.synthetic is None:
        return
    if m.synthetic.suppressed:
        yield Notice(
            tone="warn",
            title=f"{m.synthetic.suppressed:,} synthetic rows are left out,",
            text="since too few others had their quasi-identifiers: rare people are missing, and "
            "shares of the others are larger (audit.suppress).",
        )
    if m.synthetic.enforced is not None and not m.synthetic.enforced.met:
        yield Notice(
            tone="warn",
            title="The labels could not be made as fair as was asked.",
            text="What was reached stands beside what was aimed at.",
        )
    found = m.synthetic.fidelity
    if found.unmet:
        one = len(found.unmet) == 1
        yield Notice(
            tone="warn",
            title="The synthetic rows do not meet "
            + ("a priority table:" if one else f"{len(found.unmet)} priority tables:"),
            text=f"{'; '.join(found.unmet)}. Read what {'it says' if one else 'they say'} in the "
            "measured tables, not from the rows.",
        )
    if not found.agrees and not found.unmet:
        yield Notice(
            tone="warn",
            title="Synthetic and measured tables differ",
            text=f"by more than the noise explains: misfit {found.chi2:.2f}, about 1 at the truth.",
        )
    outside = [
        o.name
        for o in (m.synthetic.lift.outcomes if m.synthetic.lift else ())
        if o.overall.inside is False
    ]
    if outside:
        yield Notice(
            tone="warn",
            title="The synthetic tables tell another lift",
            text=f"of {', '.join(dict.fromkeys(outside))}: outside the measured interval.",
        )


def _unfinished(m: Material) -> Iterator[Notice]:
    """The page is drawn once the tables are measured, and again at the end."""
    if m.synthetic is None and m.configuration.get("generator") is not None:
        yield Notice(
            tone="warn",
            title="There are no synthetic rows:",
            text="this page is of what was measured, which stands. The generator had not come to "
            "its end when it was drawn, or was left out when the run went on.",
        )


def _audit(m: Material) -> Iterator[Notice]:
    if m.audit is not None and m.audit.words:
        yield Notice(
            tone="warn",
            title=f"Exact words of {', '.join(m.audit.words)}:",
            text="a bit each on the synthetic tables, outside epsilon and delta "
            "(audit.gate=parties).",
        )
    for reason in m.audit.gate.reasons if m.audit is not None else ():
        yield Notice(
            tone="bad",
            title="The synthetic tables are withheld.",
            text=f"{reason.source}: {reason.what}. {reason.remedy}".replace("`", ""),
        )
    for bound in m.audit.bounds if m.audit is not None else ():
        if bound.exceeds:
            yield Notice(
                tone="bad",
                title=f"The claimed epsilon does not hold: {bound.path}.",
                text=f"Canaries prove {bound.bound:.3g}, {bound.claimed:.3g} is claimed.",
            )


def _scope(m: Material) -> Iterator[Notice]:
    measured = m.report["measured"]
    if aside := m.report["set_aside"]:
        figures = _FIGURES if m.lift is not None else "counts"
        yield Notice(
            tone="",
            title=f"{aside:.0%} of the users are set aside for the audit:",
            text=f"{figures} are of the other {1 - aside:.0%}.",
        )
    if left := measured["left_out"]["tables"]:
        some = ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
        yield Notice(
            tone="",
            title=f"{len(left)} tables were left out",
            text=f"for more than {measured['left_out']['max_cells']:,} cells "
            f"(workload.max_cells): {some}.",
        )
    if measured["scope"] == "priority":
        yield Notice(
            tone="",
            title="Only the analyses' own tables were measured,",
            text="at the least noise. workload=all adds others.",
        )
