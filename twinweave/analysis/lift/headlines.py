"""The comparisons over all users, and how they are corrected for each other.

Two questions, each with its own error rate of 1 - level: does an arm differ from the control
(Dunnett over the arms of an outcome, Holm over the outcomes), and do two other arms differ (Holm
over all of these). Intervals hold at once for the arms of an outcome: by Dunnett against the
control, by Bonferroni with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from twinweave.analysis.lift.breakdown import Pair
from twinweave.analysis.lift.compare import verdict
from twinweave.analysis.lift.intervals import Estimate
from twinweave.analysis.lift.multiplicity import Compared, adjusted, dunnett_level, loading
from twinweave.analysis.lift.needed import quantiles
from twinweave.analysis.lift.results import Comparison, ConversionLift, ValueLift
from twinweave.workload.analyses import CONTROL, LiftConf

Outcome = TypeVar("Outcome", ConversionLift, ValueLift)


def levels(conf: LiftConf, means: Mapping[str, Estimate | None]) -> dict[Pair, float]:
    """Level of each interval of one outcome's comparisons. means: by arm, None for a hidden one."""
    every = dict.fromkeys(conf.pairs, conf.level)
    if conf.correction == "none":
        return every
    errors = {arm: m.noise + m.sampling for arm, m in means.items() if m is not None}
    others = sum(CONTROL not in pair and set(pair) <= set(errors) for pair in conf.pairs)
    every = dict.fromkeys(conf.pairs, 1 - (1 - conf.level) / max(others, 1))
    control = errors.pop(CONTROL, None)
    loadings = [loading(own, control) for own in errors.values()] if control is not None else []
    dunnett = dunnett_level(conf.level, loadings) if loadings else conf.level
    return every | dict.fromkeys((pair for pair in conf.pairs if CONTROL in pair), dunnett)


def corrected(
    conf: LiftConf, conversions: Sequence[ConversionLift], values: Sequence[ValueLift]
) -> tuple[tuple[ConversionLift, ...], tuple[ValueLift, ...], str]:
    """All outcomes with adjusted p-values and the verdicts by them, and the rule in words."""
    every: list[ConversionLift | ValueLift] = [*conversions, *values]
    names = [c.conversion for c in conversions] + [v.column for v in values]
    compared = {i: c for i, one in enumerate(every) if (c := one.overall) is not None}
    control = {
        i: Compared(family=names[i], p=c.p_value, loading=_loading(c))
        for i, c in compared.items()
        if every[i].against == CONTROL
    }
    others = {
        i: Compared(family=str(i), p=c.p_value) for i, c in compared.items() if i not in control
    }
    if conf.correction == "none":
        p = {i: c.p_value for i, c in compared.items()}
    else:
        p = _adjusted(control) | _adjusted(others)
    n, many = len(conversions), families(conf, every)
    first = tuple(_told(one, p.get(i), conf, many) for i, one in enumerate(conversions))
    second = tuple(_told(one, p.get(n + i), conf, many) for i, one in enumerate(values))
    return first, second, _said(conf, [control[i].family for i in control], len(others))


def families(conf: LiftConf, every: Sequence[ConversionLift | ValueLift]) -> int:
    """Outcomes whose verdicts are corrected for each other: what is found must do for them all."""
    shown = {
        one.conversion if isinstance(one, ConversionLift) else one.column
        for one in every
        if one.overall is not None
    }
    return 1 if conf.correction == "none" else max(len(shown), 1)


def _adjusted(compared: Mapping[int, Compared]) -> dict[int, float]:
    return dict(zip(compared, adjusted(list(compared.values())), strict=True))


def _told(one: Outcome, p: float | None, conf: LiftConf, many: int) -> Outcome:
    found = one.overall
    if found is None or p is None:
        return one
    says = verdict(found.absolute.value, p, 1 - conf.level)
    mde = quantiles(found.level, many) * found.standard_error
    return replace(one, overall=replace(found, p_adjusted=p, verdict=says, mde=mde))


def _loading(found: Comparison) -> float:
    return loading(*(a.noise_sd**2 + a.sampling_error**2 for a in (found.test, found.control)))


def _said(conf: LiftConf, families: Sequence[str], others: int) -> str:
    """families: the outcome of each comparison with the control. others: how many more."""
    if len(families) + others < 2:
        return ""
    if conf.correction == "none":
        return (
            f"Verdicts are not corrected for the {len(families) + others} comparisons made "
            "(`lift.correction: none`): the more there are, the likelier one is wrong."
        )
    outcomes = len(set(families))
    ways = [
        *(["Dunnett over arms"] if len(families) > outcomes else []),
        *(["Holm over outcomes"] if outcomes > 1 else []),
    ]
    parts = []
    if len(families) > 1:
        parts.append(f"for all {len(families)} comparisons with the control ({', '.join(ways)})")
    if others > 1:
        parts.append(f"for the {others} between other arms among themselves (Holm)")
    level = f"{1 - conf.level:.0%}"
    return (
        (
            f"Adjusted p, and the verdicts by it, are corrected {' and '.join(parts)}: "
            f"a wrong verdict anywhere {'in each' if len(parts) > 1 else 'among them'} "
            f"has probability {level} at most."
        )
        if parts
        else ""
    )
