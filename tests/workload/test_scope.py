"""A run asks for the tables that it has a use for."""

from __future__ import annotations

import pytest

from twinweave.config import RunConf, compose
from twinweave.errors import ConfigError
from twinweave.planning import plan
from twinweave.workload.plan import PlannedQuery


def configured(*overrides: str) -> RunConf:
    return RunConf.parse(compose(["output=x", *overrides]))


def tables(conf: RunConf) -> dict[str, PlannedQuery]:
    return {p.query.name: p for p in plan(conf, "r").plan}


MEASURE = "generator=none"
TWO_PARTIES = "data.lift=null", "data.fairness=null"


@pytest.mark.parametrize(
    ("overrides", "scope"),
    [
        ((), "all"),
        ((MEASURE,), "priority"),
        ((MEASURE, "workload=all"), "all"),
        ((MEASURE, "workload=lift"), "priority"),
        ((MEASURE, "data.lift=null"), "priority"),
        ((MEASURE, *TWO_PARTIES), "all"),
        ((MEASURE, "selection.when=always"), "all"),
    ],
)
def test_all_tables_are_for_a_generator_a_selection_or_want_of_others(
    overrides: tuple[str, ...], scope: str
) -> None:
    assert configured(*overrides).settled_workload.scope == scope


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        ((), "rows are learnt from all"),
        ((MEASURE, "selection.when=always"), "for others"),
        ((MEASURE, *TWO_PARTIES), "declare no analysis"),
    ],
)
def test_too_few_tables_are_refused(overrides: tuple[str, ...], rule: str) -> None:
    with pytest.raises(ConfigError, match=rf"workload\.scope.*{rule}"):
        configured("workload=lift", *overrides)


def test_what_is_asked_alone_has_the_whole_budget_and_selects_nothing() -> None:
    many = "workload.max_pair_columns=5"
    alone = tables(configured(MEASURE, many))
    beside = tables(configured(MEASURE, "workload=all"))
    assert all(p.query.priority for p in alone.values())
    assert set(alone) < set(beside)
    arms = "publisher.arm x advertiser.converted"
    assert alone[arms].variance < beside[arms].variance / 3
    assert plan(configured(MEASURE, many, "workload=all"), "r").two_passes
