"""Which share of each arm another party holds, and what follows when the arms differ in it.

A user whom the outcome's party does not hold counts as not converted. That is the effect of the
treatment on everyone assigned, as long as the assignment does not change who is matched; a party
that holds more of one arm than of the other makes a difference of its own. Of a table of
converters alone that very difference is the lift, which only its owner can say.
"""

from __future__ import annotations

from twinweave.analysis.finding import Finding
from twinweave.analysis.lift.breakdown import RATES, shown
from twinweave.analysis.lift.compare import compare
from twinweave.analysis.lift.estimate import CONTROL, TEST, Counts
from twinweave.analysis.lift.intervals import quantile
from twinweave.analysis.lift.results import Comparison, MatchRate, MatchState
from twinweave.analysis.lift.values import holder
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf

SUSPICIOUS = 0.001
"""p below which the arms contradict what they should have in common: a broken assignment."""

HARDLY_ANY = 0.01
"""A share matched that is surely below this in both arms is a matter of the ids' spelling, where
nobody has declared whom the party holds."""

NEARLY_ALL = 0.95
"""Where so many of the matched may have converted in both arms, a table looks like converters'."""

MOST = 0.9
"""Where surely fewer of the matched have converted, a table is no table of converters alone."""


def match_rates(schema: JointSchema, conf: LiftConf, counts: Counts) -> tuple[MatchRate, ...]:
    """Of every party that the tables tell of; none where an arm is suppressed."""
    if not all(shown(*counts.size(arm), conf.k) for arm in (TEST, CONTROL)):
        return ()
    return tuple(_match_rate(schema, conf, counts, party) for party in counts.holders)


def _match_rate(schema: JointSchema, conf: LiftConf, counts: Counts, party: str) -> MatchRate:
    test, control = (counts.held(arm, party) for arm in (TEST, CONTROL))
    found = compare(test, control, level=conf.level, possible=RATES)
    few = max(found.test.interval[1], found.control.interval[1]) < HARDLY_ANY
    return MatchRate(
        party=party,
        test=Finding(value=found.test.rate, interval=found.test.interval),
        control=Finding(value=found.control.rate, interval=found.control.interval),
        difference=found.absolute,
        p_value=found.p_value,
        state=_state(schema, conf, counts, party, few=few, balanced=found.p_value >= SUSPICIOUS),
    )


def _state(
    schema: JointSchema, conf: LiftConf, counts: Counts, party: str, *, few: bool, balanced: bool
) -> MatchState:
    here = [c for c in counts.conversions if holder(schema, conf, c) == party]
    declared = conf.holds.get(party)
    strict = quantile(1 - SUSPICIOUS)
    if all(counts.held(arm, party).limits(strict)[0] <= 0 for arm in (TEST, CONTROL)):
        return MatchState.HARDLY_ANY
    if declared == "converters" and not _others_too(counts, party, here):
        return MatchState.CONVERTERS
    if declared is None and any(_converters(conf, counts, party, c) for c in here):
        return MatchState.UNDECLARED
    if few and declared is None:
        return MatchState.HARDLY_ANY
    return MatchState.BALANCED if balanced else MatchState.UNBALANCED


def _converters(conf: LiftConf, counts: Counts, party: str, conversion: str) -> bool:
    """Whether nearly all matched users may have this conversion, in both arms."""
    for arm in (TEST, CONTROL):
        rate = counts.rate(arm, conversion, held_by=party)
        if rate.n <= 0 or rate.mean < 0.5 or rate.limits(quantile(conf.level))[1] < NEARLY_ALL:
            return False
    return True


def _others_too(counts: Counts, party: str, conversions: list[str]) -> bool:
    """Whether the party surely holds users who have none of its conversions, in some arm."""
    if not conversions:
        return False
    rates = [counts.rate(arm, *conversions, held_by=party) for arm in (TEST, CONTROL)]
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
    conf: LiftConf, counts: Counts, name: str, party: str | None
) -> Comparison | None:
    """A conversion's lift among users whom its party holds.

    None where no table tells it, and of a table of converters alone, where it says nothing.
    """
    if party not in counts.holders or conf.holds.get(party or "") == "converters":
        return None
    rates = [counts.rate(arm, name, held_by=party) for arm in (TEST, CONTROL)]
    if not all(shown(rate.n, rate.var_n, conf.k) for rate in rates):
        return None
    return compare(rates[TEST], rates[CONTROL], level=conf.level, possible=RATES)
