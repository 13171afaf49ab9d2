"""The summary's part on fairness: what was enforced, what it cost, and what the audit finds."""

from __future__ import annotations

from collections.abc import Iterator

from twinweave.analysis.examine import SyntheticFindings
from twinweave.analysis.fairness.audit import FairnessReport, GroupFairness
from twinweave.analysis.fairness.look_alikes import LookAlike
from twinweave.analysis.fairness.trade import Judged, Trade
from twinweave.analysis.finding import Finding
from twinweave.report.terminal.text import level_text, paragraph, shortened, table
from twinweave.synthesis.fairness.enforce import Enforced, GroupDifference

_SHOWN_GROUPS = 6
_SAID = {
    "demographic_parity": "demographic parity",
    "equalized_odds": "equalised odds",
    "conditional_parity": "conditional parity",
}


def fairness_section(found: SyntheticFindings) -> list[str]:
    """Lines of at most WIDTH characters; none where nothing was audited."""
    if found.fairness is None:
        return []
    lines = []
    if found.enforced is not None:
        lines += [*enforced_lines(found.enforced, found.trade), ""]
    return lines + fairness_lines(found.fairness)


def enforced_lines(found: Enforced, cost: Trade | None) -> list[str]:
    """What was made fair, what a model trained on it loses, and what was not brought about."""
    given = f" given {', '.join(map(shortened, found.admissible))}" if found.admissible else ""
    lines = paragraph(
        f"Made fair: {_SAID[found.constraint]} of {found.label} = {found.positive}{given}, "
        f"strength {found.strength:g}, by {found.way}; {100 * found.changed:.1f}% of labels are "
        "others than measured, and their tables are not those measured."
    )
    rows = [["largest difference", "as measured", "aimed at", "reached"]]
    for one in found.differences:
        name = shortened(" x ".join(one.columns), 30)
        rows.append([name, f"{one.before:.3f}", f"{one.aimed:.3f}", f"{one.reached:.3f}"])
    lines += table(rows)
    if not found.met:
        lines += paragraph(
            f"NOT MET: strength {found.strength:g} cannot be reached to within "
            f"{found.tolerance:g}; above is what was. {_why(found)}"
        )
    for one in found.differences:
        lines += _apart(one)
    return lines + _trade(cost)


def _why(found: Enforced) -> str:
    if found.constraint == "equalized_odds":
        return (
            "One threshold a group cannot make both kinds of error alike where groups differ in "
            "their scores."
        )
    return "There are too few groups, or too few candidate rows of some, to bring about its rate."


def _apart(one: GroupDifference) -> Iterator[str]:
    for names, what in (
        (one.pooled, "Put together as one group, being small"),
        (one.left_out, "Nothing is enforced for these, being too small"),
    ):
        if names:
            more = f" and {len(names) - _SHOWN_GROUPS} more" if names[_SHOWN_GROUPS:] else ""
            shown = "; ".join(shortened(name) for name in names[:_SHOWN_GROUPS])
            yield from paragraph(f"{what}: {shown}{more}.")


def _trade(found: Trade | None) -> list[str]:
    if found is None:
        return []
    rows = [["a model trained on rows", "as measured", "fair"]]
    before, after = 100 * found.accuracy_before, 100 * found.accuracy_after
    rows.append(["accuracy", f"{before:.1f}%", f"{after:.1f}%"])
    for was, now in zip(found.before, found.after, strict=True):
        name = shortened(" x ".join(was.columns), 30)
        for said, of in (("parity", _parity), ("odds", _odds)):
            rows.append([f"{said} by {name}", _number(of(was)), _number(of(now))])
    return [
        *table(rows),
        *paragraph(f"Both judged on {found.rows:,} rows with their labels as measured."),
    ]


def _parity(one: Judged) -> Finding | None:
    return one.parity


def _odds(one: Judged) -> Finding | None:
    return one.odds


def _number(found: Finding | None) -> str:
    return "not shown" if found is None else f"{found.value:.3f}"


def fairness_lines(found: FairnessReport) -> list[str]:
    """What the audit of labels and models finds."""
    lines = paragraph(
        f"Fairness of {found.label} = {found.positive}, {found.rows:,} people who "
        "have it: largest difference between two groups."
    )
    for one in found.audits:
        lines += ["", *_groups(one, found)]
    lines += paragraph(
        "Parity: of the positive rates. Odds: of true or false positive rates. "
        "The real data's interval is that of the privacy noise. "
        f"Model: {found.model}."
    )
    for note in found.notes:
        lines += paragraph(note)
    if found.look_alikes:
        told = ", ".join(map(_looks, found.look_alikes[:_SHOWN_GROUPS]))
        more = len(found.look_alikes) - _SHOWN_GROUPS
        lines += paragraph(
            f"Also look sensitive, or stand in for what is; confirm: {told}"
            + (f" and {more} more." if more > 0 else ".")
        )
    return lines


def _looks(one: LookAlike) -> str:
    why = [one.trait] if one.trait else []
    if one.of is not None and one.strength is not None:
        why.append(f"V {one.strength:.2f} with {shortened(one.of)}")
    return f"{shortened(one.column)} ({', '.join(why)})"


def _groups(one: GroupFairness, found: FairnessReport) -> list[str]:
    interval = f"{level_text(found.level)} interval"
    rows = [[shortened(" x ".join(one.columns), 30), "parity", interval, "odds", interval]]
    rows.append(["real data, noisy tables", *_difference(one.measured_parity)])
    rows.append(["synthetic labels", *_difference(one.label_parity)])
    for model in one.models:
        name = "model" if model.with_sensitive else "model without sensitive"
        rows.append([name, *_difference(model.parity), *_difference(model.odds)])
    lines = table(rows)
    if one.measured_left_out:
        names = ", ".join(shortened(name) for name in one.measured_left_out)
        lines += paragraph(f"Of the real data left out (too few beside the noise): {names}.")
    if one.suppressed:
        names = ", ".join(shortened(name) for name in one.suppressed)
        lines += paragraph(f"Left out (fewer than {found.k} people): {names}.")
    left = sorted({name for model in one.models for name in model.left_out})
    if left:
        lines += paragraph(
            f"Of the odds left out (fewer than {found.k} judged rows with that label): "
            f"{', '.join(left)}."
        )
    return lines


def _difference(found: Finding | None) -> list[str]:
    if found is None:
        return ["not shown", ""]
    low, high = found.interval
    return [f"{found.value:.3f}", f"{low:.3f} to {high:.3f}"]
