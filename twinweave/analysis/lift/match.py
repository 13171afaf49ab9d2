"""Which share of each arm another party holds, and what follows when the arms differ in it.

A user whom the outcome's party does not hold counts as not converted. That is the effect of the
treatment on everyone assigned, as long as the assignment does not change who is matched; a party
that holds more of one arm than of the other makes a difference of its own.
"""

from __future__ import annotations

from dataclasses import replace

from twinweave.analysis.finding import Finding
from twinweave.analysis.lift.breakdown import RATES, shown
from twinweave.analysis.lift.compare import compare
from twinweave.analysis.lift.estimate import CONTROL, TEST, Counts
from twinweave.analysis.lift.results import (
    Comparison,
    ConversionLift,
    MatchRate,
    ValueLift,
    Verdict,
)
from twinweave.workload.analyses import LiftConf

SUSPICIOUS = 0.001
"""p below which the arms contradict what they should have in common: a broken assignment."""

HARDLY_ANY = 0.01
"""A share matched that is surely below this in both arms is a matter of the ids' spelling."""


def match_rates(conf: LiftConf, counts: Counts) -> tuple[MatchRate, ...]:
    """Of every party that the tables tell of; none where an arm is suppressed."""
    if not all(shown(*counts.size(arm), conf.k) for arm in (TEST, CONTROL)):
        return ()
    return tuple(_match_rate(conf, counts, party) for party in counts.holders)


def _match_rate(conf: LiftConf, counts: Counts, party: str) -> MatchRate:
    test, control = (counts.held(arm, party) for arm in (TEST, CONTROL))
    found = compare(test, control, level=conf.level, possible=RATES)
    return MatchRate(
        party=party,
        test=Finding(value=found.test.rate, interval=found.test.interval),
        control=Finding(value=found.control.rate, interval=found.control.interval),
        difference=found.absolute,
        p_value=found.p_value,
        balanced=found.p_value >= SUSPICIOUS,
    )


def match_notes(rates: tuple[MatchRate, ...]) -> list[str]:
    """What a reader must know of them, beside the figures."""
    notes = []
    for rate in rates:
        few = max(rate.test.interval[1], rate.control.interval[1]) < HARDLY_ANY
        if few or max(rate.test.interval[0], rate.control.interval[0]) <= 0:
            notes.append(
                f"Hardly any user of the arms is matched at {rate.party}, or their share is lost "
                "in the noise: the lift says nothing. Check that both parties spell the ids alike "
                "(leading zeros, case, hashes)."
            )
    return notes


def among_matched(
    conf: LiftConf, counts: Counts, name: str, party: str | None
) -> Comparison | None:
    """A conversion's lift among users whom its party holds; None where that is not told."""
    if party not in counts.holders:
        return None
    rates = [counts.rate(arm, name, held_by=party) for arm in (TEST, CONTROL)]
    if not all(shown(rate.n, rate.var_n, conf.k) for rate in rates):
        return None
    return compare(rates[TEST], rates[CONTROL], level=conf.level, possible=RATES)


def conversion_refused(found: ConversionLift) -> ConversionLift:
    """The same figures without a verdict, those of the breakdowns included."""
    breakdowns = tuple(
        replace(
            b,
            cells=tuple(
                replace(c, comparison=_refused(c.comparison), verdict=Verdict.REFUSED)
                for c in b.cells
            ),
        )
        for b in found.breakdowns
    )
    return replace(
        found,
        overall=_refused(found.overall),
        matched=_refused(found.matched),
        breakdowns=breakdowns,
    )


def value_refused(found: ValueLift) -> ValueLift:
    """The same figures without a verdict."""
    return replace(found, overall=_refused(found.overall), matched=_refused(found.matched))


def _refused(found: Comparison | None) -> Comparison | None:
    return None if found is None else replace(found, verdict=Verdict.REFUSED)
