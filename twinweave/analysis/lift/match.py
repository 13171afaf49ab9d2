"""Which share of each arm another party holds, and what follows when the arms differ in it.

A user whom the outcome's party does not hold counts as not converted. That is the effect of the
treatment on everyone assigned, as long as the assignment does not change who is matched; a party
that holds more of one arm than of the other makes a difference of its own. Of a table of
converters alone that very difference is the lift, which only its owner can say.
"""

from __future__ import annotations

from collections.abc import Sequence

from twinweave.analysis.finding import Finding
from twinweave.analysis.lift.breakdown import RATES, shown
from twinweave.analysis.lift.compare import compare, within
from twinweave.analysis.lift.estimate import Counts
from twinweave.analysis.lift.intervals import p_value, quantile
from twinweave.analysis.lift.results import Comparison, MatchRate, MatchState
from twinweave.analysis.lift.values import holder
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf

SUSPICIOUS = 0.001
"""p below which the arms contradict what they should have in common: a broken assignment."""

HARDLY_ANY = 0.01
"""A share matched that is surely below this in all arms is a matter of the ids' spelling, where
nobody has declared whom the party holds."""

NEARLY_ALL = 0.95
"""Where so many of the matched may have converted in all arms, a table looks like converters'."""

MOST = 0.9
"""Where surely fewer of the matched have converted, a table is no table of converters alone."""


def match_rates(schema: JointSchema, conf: LiftConf, counts: Counts) -> tuple[MatchRate, ...]:
    """Of every party that the tables tell of, among the arms that are shown; none where these
    are fewer than two, and nothing is compared."""
    arms = [arm for arm in conf.all_arms if shown(*counts.size(arm), conf.k)]
    if len(arms) < 2:
        return ()
    return tuple(_match_rate(schema, conf, counts, party, arms) for party in counts.holders)


def _match_rate(
    schema: JointSchema, conf: LiftConf, counts: Counts, party: str, shown_arms: Sequence[str]
) -> MatchRate:
    held = {arm: counts.held(arm, party) for arm in shown_arms}
    arms = {
        arm: Finding(value=rate.mean, interval=within(rate.limits(quantile(conf.level)), RATES))
        for arm, rate in held.items()
    }
    strict = {arm: rate.at(1 - SUSPICIOUS) for arm, rate in held.items()}
    pairs = [(one, other) for one, other in conf.pairs if {one, other} <= set(shown_arms)]
    p = min(len(pairs) * min(p_value(strict[one], strict[other]) for one, other in pairs), 1.0)
    few = max(found.interval[1] for found in arms.values()) < HARDLY_ANY
    return MatchRate(
        party=party,
        arms=arms,
        p_value=p,
        state=_state(schema, conf, counts, party, shown_arms, few=few, balanced=p >= SUSPICIOUS),
    )


def _state(
    schema: JointSchema,
    conf: LiftConf,
    counts: Counts,
    party: str,
    arms: Sequence[str],
    *,
    few: bool,
    balanced: bool,
) -> MatchState:
    here = [c for c in counts.conversions if holder(schema, conf, c) == party]
    declared = conf.holds.get(party)
    strict = quantile(1 - SUSPICIOUS)
    held = [counts.held(arm, party).at(1 - SUSPICIOUS) for arm in arms]
    if all(rate.limits(strict)[0] <= 0 for rate in held):
        return MatchState.HARDLY_ANY
    if declared == "converters" and not _others_too(counts, party, here, arms):
        return MatchState.CONVERTERS
    if declared is None and any(_converters(conf, counts, party, c, arms) for c in here):
        return MatchState.UNDECLARED
    if few and declared is None:
        return MatchState.HARDLY_ANY
    return MatchState.BALANCED if balanced else MatchState.UNBALANCED


def _converters(
    conf: LiftConf, counts: Counts, party: str, conversion: str, arms: Sequence[str]
) -> bool:
    """Whether nearly all matched users may have this conversion, in every arm."""
    for arm in arms:
        rate = counts.rate(arm, conversion, held_by=party)
        if rate.n <= 0 or rate.mean < 0.5 or rate.limits(quantile(conf.level))[1] < NEARLY_ALL:
            return False
    return True


def _others_too(
    counts: Counts, party: str, conversions: Sequence[str], arms: Sequence[str]
) -> bool:
    """Whether the party surely holds users who have none of its conversions, in some arm."""
    if not conversions:
        return False
    rates = [counts.rate(arm, *conversions, held_by=party) for arm in arms]
    return any(r.n > 0 and r.limits(quantile(1 - SUSPICIOUS))[1] < MOST for r in rates)


def match_notes(conf: LiftConf, rates: tuple[MatchRate, ...]) -> list[str]:
    """What a reader must know of them, beside the figures."""
    return [
        f"{rate.party} is declared to hold converters alone (`lift.holds`), but its table holds "
        "others too, so it is read as one of everyone. Correct the declaration."
        for rate in rates
        if conf.holds.get(rate.party) == "converters"
        and rate.state not in (MatchState.CONVERTERS, MatchState.HARDLY_ANY)
    ]


def among_matched(
    conf: LiftConf, counts: Counts, name: str, party: str | None, pair: tuple[str, str]
) -> Comparison | None:
    """A conversion's lift among users whom its party holds.

    None where no table tells it, and of a table of converters alone, where it says nothing.
    """
    if party not in counts.holders or conf.holds.get(party or "") == "converters":
        return None
    test, control = (counts.rate(arm, name, held_by=party) for arm in pair)
    if not all(shown(rate.n, rate.var_n, conf.k) for rate in (test, control)):
        return None
    return compare(test, control, level=conf.level, possible=RATES)
