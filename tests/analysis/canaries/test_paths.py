"""The program as it is: no path gives more than is claimed, and canaries show most of it.

Each bound is wrong with a chance of 1e-4; noise is fresh in every test.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.canaries.settings import EPSILON, GENERATORS, ROWS, conf_of, rng
from twinweave.analysis.audit.results import LowerBound
from twinweave.analysis.canaries import kinds
from twinweave.analysis.canaries.counts import counts_trial
from twinweave.analysis.canaries.levels import levels_bound
from twinweave.analysis.canaries.run import EFFORTS, Effort, lower_bounds
from twinweave.analysis.canaries.sums import opened_trial
from twinweave.analysis.canaries.tables import table_trial
from twinweave.analysis.canaries.training import train_canaries
from twinweave.analysis.canaries.trial import Trial, joined
from twinweave.planning import plan
from twinweave.privacy.events import DiscreteGaussian, Event, Stage

SIDE = 50
KINDS = {
    kind.name: kind
    for kind in (
        kinds.own_tables(),
        replace(kinds.shared_coins(), runs=1),
        kinds.noise_of_each(),
        kinds.sums(),
        kinds.two_passes(SIDE),
        kinds.pools(),
    )
}


def holds(found: LowerBound, least: float = 0.6) -> bool:
    """Under the claim, and not by far: four standard deviations of a bound are .3 of it here."""
    assert found.claimed == pytest.approx(EPSILON, rel=0.05)
    assert least * found.claimed < found.ceiling < found.claimed
    return (least - 0.3) * found.claimed < found.bound <= found.claimed


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_table_shows_what_is_claimed_and_no_more(kind: kinds.TableKind) -> None:
    assert holds(table_trial(kind, conf_of(), side=SIDE, rng=rng()).bound())


def test_counts_of_users_in_common_show_no_more() -> None:
    assert holds(counts_trial(conf_of(), canaries=SIDE**2, rng=rng()).bound())


def test_levels_that_nobody_holds_look_like_others() -> None:
    found = levels_bound(conf_of(), side=SIDE, rng=rng())
    assert found.bound == 0 < found.ceiling < found.claimed


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_training_shows_what_is_claimed_and_no_more(generator: str) -> None:
    conf = conf_of(generator)
    trained = train_canaries(conf, ROWS, canaries=4_000, rng=rng())
    assert holds(trained.trial(conf.privacy.delta).bound(), least=0.4)
    if not trained.updates:
        return
    opened = opened_trial(trained, "masking", delta=conf.privacy.delta, rng=rng()).bound()
    assert 0.02 * opened.claimed < opened.bound <= opened.claimed


@pytest.mark.parametrize("mode", ["ghost", "hooks"])
def test_every_gradient_mode_meets_canaries(mode: str) -> None:
    conf = conf_of("tvae", f"generator.gradients={mode}")
    trained = train_canaries(conf, ROWS, canaries=2_000, rng=rng())
    found = trained.trial(conf.privacy.delta).bound()
    assert 0.2 * found.claimed < found.bound <= found.claimed


def test_sums_under_every_protocol_open_to_the_same() -> None:
    conf = conf_of()
    trained = train_canaries(conf, ROWS, canaries=200, rng=rng())
    scores = [
        opened_trial(trained, kind, delta=conf.privacy.delta, rng=rng()).scores
        for kind in ("masking", "secret_sharing")
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def test_the_audit_covers_what_a_run_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    little = Effort(side=12, canaries=50, levels=12, rounds=1)
    monkeypatch.setitem(EFFORTS, "quick", little)
    conf = conf_of("tvae", "privacy.shares.training=0.1")
    spec = plan(conf, "run")
    found = lower_bounds(conf, spec, ROWS, "quick")
    tables = [kind.name for kind in kinds.kinds_of(spec, little.side)]
    assert "tables: of one party" in tables
    assert [b.path for b in found] == [
        *tables,
        "counts of users in common",
        "levels of a column",
        "training: tvae, every noisy gradient",
        "training: tvae, the opened sums (masking)",
    ]
    assert not any(b.exceeds for b in found)
    assert lower_bounds(conf, spec, ROWS, "off") == ()


def test_trials_of_one_path_add_up() -> None:
    noise = DiscreteGaussian(noise_multiplier=2.0)
    event = Event(label="t", stage=Stage.MEASUREMENT, parties=("a",), mechanism=noise)
    included = np.array([True, False, True])
    one = Trial(
        path="t",
        events=(event,),
        delta=1e-5,
        included=included,
        scores=np.array([1.0, 1.0, -1.0]),
    )
    both = joined([one, one])
    assert (both.canaries, both.correct) == (6, 2)
    assert both.ideal == round(6 * 0.5987)  # Phi(1 / 4)
