"""Fair labels in synthetic rows of a world whose label follows a group, also by a proxy."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.generators.toys import conf as generator
from tests.synthesis.fairness.biased_world import AT, LAYOUT, YES, rates, task, wanted, whole
from twinweave.errors import ConfigError
from twinweave.generators import registry
from twinweave.generators.union import Rows
from twinweave.synthesis.fairness import enforce
from twinweave.synthesis.fairness.conf import EnforceConf, Rule, Way
from twinweave.synthesis.population import row_counts
from twinweave.synthesis.synthesise import (
    SynthesisResult,
    first_weights,
    made_fair,
    more_rows,
    synthesise,
)

PARITY = EnforceConf(constraint="demographic_parity", sensitive=("sex",))


@cache
def as_measured() -> SynthesisResult:
    return synthesise(None, task(None))


@cache
def made(conf: EnforceConf) -> SynthesisResult:
    """Of one fit, which no constraint changes."""
    return made_fair(as_measured(), task(conf))


def model(rows: Rows, judged: Rows) -> NDArray[Any]:
    """Decisions of gradient boosting that sees every column but the label."""
    rows = whole(rows)
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, y = np.delete(rows.codes, AT["credit"], axis=1), rows.codes[:, AT["credit"]] == YES
    learner = HistGradientBoostingClassifier(random_state=0, max_iter=40).fit(x, y)
    return np.asarray(learner.predict(np.delete(judged.codes, AT["credit"], axis=1)))


def by_sex(value: NDArray[Any], rows: Rows) -> float:
    sex = rows.codes[:, AT["sex"]]
    return abs(float(value[sex == 1].mean() - value[sex == 0].mean()))


@pytest.mark.parametrize("way", ["rake", "fit"])
def test_labels_and_a_model_are_at_parity_and_other_tables_stay(way: Way) -> None:
    found = made(EnforceConf(**{**PARITY.__dict__, "enforce": way}))
    assert found.original is not None
    assert found.enforced is not None
    assert np.ptp(rates(found.original, "sex")) > 0.2
    assert np.ptp(rates(found.rows, "sex")) < 0.01
    assert found.enforced.met
    judged = whole(found.original)
    assert by_sex(model(found.original, judged), judged) > 0.2
    assert by_sex(model(found.rows, judged), judged) < 0.08
    for m in task(None).tables:  # tables without the label: five standard deviations of the noise
        if "credit" not in m.query.columns:
            counts = row_counts(m.query, LAYOUT, found.rows)
            assert np.abs(counts - m.values).max() < 5 * m.variance**0.5 + 15, m.query.name


def test_tables_as_measured_beside_the_constraint_keep_labels_unfair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broken variant: rows that are also to meet the label's tables as they were measured."""
    monkeypatch.setattr(enforce, "fair_tables", lambda measured, *_: list(measured))
    found = made_fair(as_measured(), task(PARITY))
    assert found.enforced is not None
    assert np.ptp(rates(found.rows, "sex")) > 0.01
    assert not found.enforced.met


def test_a_run_makes_the_rows_it_would_make_and_fair_ones_beside_them() -> None:
    """From the beginning, under the same seed, row by row; the original as without a constraint."""
    found = synthesise(None, task(PARITY))
    assert found.original is not None
    np.testing.assert_array_equal(found.original.codes, as_measured().rows.codes)
    np.testing.assert_array_equal(found.rows.codes, made(PARITY).rows.codes)
    assert as_measured().enforced is None


def test_half_the_strength_takes_half_the_difference() -> None:
    half = made(EnforceConf(constraint="demographic_parity", sensitive=("sex",), strength=0.5))
    assert half.enforced is not None
    (one,) = half.enforced.differences
    assert one.reached == pytest.approx(one.before / 2, abs=0.005)


def test_intersections_with_a_smallest_cell() -> None:
    conf = EnforceConf(constraint="demographic_parity", sensitive=("sex", "town"))
    found = made(conf).enforced
    assert found is not None
    (one,) = found.differences
    assert len(one.left_out) == 2  # both sexes of town c, and too few together
    assert one.reached < 0.01
    large = whole(made(conf).rows)
    assert np.ptp(rates(large, "sex", "town", among=large.codes[:, AT["town"]] < 2)) < 0.02


def test_columns_by_themselves() -> None:
    found = made(EnforceConf(constraint="demographic_parity", intersections=False))
    assert found.enforced is not None
    assert [d.columns for d in found.enforced.differences] == [("sex",), ("town",)]
    assert max(d.reached for d in found.enforced.differences) < 0.01


def test_given_what_may_explain_it() -> None:
    found = made(
        EnforceConf(constraint="conditional_parity", sensitive=("sex",), admissible=("work",))
    ).rows
    by_work = rates(found, "work", "sex").reshape(3, 2)
    assert np.ptp(by_work, axis=1).max() < 0.02
    assert np.ptp(rates(found, "sex")) > 0.05  # work explains the rest


def test_odds_of_a_model_by_the_labels_as_measured() -> None:
    found = made(EnforceConf(constraint="equalized_odds", sensitive=("sex",)))
    original = found.original
    assert original is not None
    original = whole(original)
    actual = original.codes[:, AT["credit"]] == YES

    def odds(rows: Rows) -> float:
        decided = model(rows, original)
        sex = original.codes[:, AT["sex"]]
        kinds = [[decided[(sex == g) & (actual == a)].mean() for g in (0, 1)] for a in (0, 1)]
        return float(np.ptp(kinds, axis=1).max())

    assert odds(found.rows) < odds(original) / 2


def test_more_rows_are_as_fair() -> None:
    found = made(PARITY)
    drawn = more_rows(found.source, task(PARITY), 4000, {})
    assert np.ptp(rates(drawn.rows, "sex")) < 0.02


def test_an_llm_writes_its_labels_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own logits, moved by group: labels drawn with the moved chance (5 standard errors in each
    part), other columns as they were, and rates alike once the candidates are weighed."""
    drawn: list[tuple[enforce._Aim, Rows]] = []
    redrawn = enforce._redrawn

    def kept(aim: enforce._Aim, rng: np.random.Generator) -> Rows:
        drawn.append((aim, redrawn(aim, rng)))
        return drawn[-1][1]

    monkeypatch.setattr(enforce, "_redrawn", kept)
    conf = EnforceConf(constraint="demographic_parity", sensitive=("sex",), enforce="decode")
    asked = task(conf)
    asked = replace(asked, conf=replace(asked.conf, mixture=0.0))
    kind = generator("llm", format_steps=100, format_batch=128)
    network = registry.load(kind, LAYOUT, first_weights(kind, asked))
    found = synthesise(network, asked)
    assert found.enforced is not None
    assert found.original is not None
    (one,) = found.enforced.differences
    assert one.before > 0.1
    assert one.reached < 0.01
    assert found.enforced.met
    assert np.ptp(rates(found.rows, "sex")) < 0.01
    assert 0.02 < found.enforced.changed < 0.3
    ((aim, rows),) = drawn
    others = [i for name, i in AT.items() if name != "credit"]
    np.testing.assert_array_equal(rows.codes[:, others], aim.was.rows.codes[:, others])
    positive = rows.codes[:, AT["credit"]] == YES
    (parts,) = aim.parts
    for part in range(parts.max() + 1):
        chances = aim.wanted[parts == part]
        error = np.sqrt((chances * (1 - chances)).sum())
        assert abs(positive[parts == part].sum() - chances.sum()) < 5 * error
    assert set(np.unique(whole(found.rows).codes[:, AT["credit"]])) == {0, 1, YES}


def test_one_group_alone_leaves_labels_as_they_are() -> None:
    """All groups too small, or but one of them: said, and nothing turned."""
    found = made(EnforceConf(**{**PARITY.__dict__, "smallest": 10**6}))
    assert found.enforced is not None
    assert not found.enforced.met
    assert found.enforced.changed == 0
    assert found.enforced.differences[0].left_out == ("f", "m")
    assert found.enforced.curve == ()


def test_no_strength_turns_no_label() -> None:
    rules: tuple[Rule, ...] = ("demographic_parity", "equalized_odds")
    for rule in rules:
        conf = EnforceConf(constraint=rule, sensitive=("sex",), strength=0.0)
        found = made(conf).enforced
        assert found is not None
        assert found.changed < 1e-6


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"constraint": "demographic_parity", "strength": 1.5}, "fairness.strength"),
        ({"constraint": "conditional_parity"}, "fairness.admissible"),
        ({"constraint": "demographic_parity", "admissible": ("work",)}, "fairness.admissible"),
        ({"constraint": "demographic_parity", "label": "credit"}, "fairness.positive"),
        ({"constraint": "demographic_parity", "sensitive": ("nobody",)}, "no party has"),
        ({"constraint": "conditional_parity", "admissible": ("sex",)}, "fairness.admissible"),
        ({"constraint": "conditional_parity", "admissible": ("credit",)}, "fairness.admissible"),
        ({"constraint": "conditional_parity", "admissible": ("work", "work")}, "repeats"),
        ({"constraint": "demographic_parity", "sensitive": ("sex", "sex")}, "repeats"),
    ],
)
def test_what_cannot_be_enforced_is_refused(fields: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        wanted(EnforceConf(**fields))  # type: ignore[arg-type]
