"""What every generator owes the rest: rows, presence, weights, rounds, configuration."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from tests.generators.toys import CLASSES, KEY, ONE_WAY, TOY, conf, table
from twinweave.errors import ConfigError
from twinweave.generators.local import coverage, initial_weights, load, shared, train_round
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.generators.union import ABSENT, UnionLayout

FALSE_ALARM = 1e-9

pytestmark = pytest.mark.parametrize("name", list(CLASSES))


def test_rows_obey_the_layout_and_the_presence(name: str) -> None:
    network = load(conf(name), TOY, initial_weights(conf(name), TOY, seed=1))
    presence = np.array([[True, True], [True, False], [False, True]] * 20)
    rows = network.sample(presence, torch.Generator().manual_seed(1))
    assert rows.codes.dtype == np.int32
    assert rows.codes.shape == (60, 5)
    absent = rows.codes == ABSENT
    assert (absent == ~TOY.visible(presence)).all()
    assert (rows.codes < np.array(TOY.sizes)).all()
    assert (rows.codes[~absent] >= 0).all()
    assert (rows.presence == presence).all()
    again = network.sample(presence, torch.Generator().manual_seed(1))
    assert (again.codes == rows.codes).all()
    assert len(network.sample(presence[:0], torch.Generator())) == 0


def test_levels_are_drawn_from_the_softmax(name: str) -> None:
    """Frequencies follow the logits' softmax; the maximum would give one level alone."""
    c = conf(name)
    network = load(c, TOY, initial_weights(c, TOY, seed=1))
    share = np.array([0.6, 0.25, 0.15])
    with torch.no_grad():
        network.decoder.last.weight.zero_()
        network.decoder.start_at(TOY, {"common": share})
    rows = network.sample(np.ones((20_000, 2), bool), torch.Generator().manual_seed(1))
    counts = np.bincount(rows.codes[:, 0], minlength=3)
    assert stats.chisquare(counts, 20_000 * share / share.sum()).pvalue > FALSE_ALARM
    assert stats.chisquare(counts, 20_000 * np.array([0.65, 0.2, 0.15])).pvalue < FALSE_ALARM


def test_logits_are_differentiable_in_every_column(name: str) -> None:
    c = conf(name)
    network = load(c, TOY, initial_weights(c, TOY, seed=1))
    logits = network.logits(torch.randn(7, network.latent), torch.full((7, 2), 0.5))
    assert logits.shape == (7, TOY.width)
    logits.square().sum().backward()
    used = [p for n, p in network.shared_parameters() if n.startswith("decoder")]
    assert all(p.grad is not None for p in used)


def test_initial_weights_follow_from_the_seed_and_the_marginals(name: str) -> None:
    c = conf(name)
    one = initial_weights(c, TOY, seed=1)
    assert one.dtype == np.float32
    assert (one == initial_weights(c, TOY, seed=1)).all()
    assert (one != initial_weights(c, TOY, seed=2)).any()
    share = np.array([-3.0, 70.0, 30.0])  # noisy counts may be negative
    network = load(c, TOY, initial_weights(c, TOY, seed=1, one_way={"common": share}))
    rows = network.sample(np.ones((4000, 2), bool), torch.Generator().manual_seed(1))
    assert np.bincount(rows.codes[:, 0])[1] > np.bincount(rows.codes[:, 0])[2] > 0
    with pytest.raises(ConfigError, match="do not fit"):
        load(c, TOY, one[:-1])


def test_a_round_moves_what_the_party_covers_and_nothing_else(name: str) -> None:
    c = conf(name, local_steps=10, **({"discriminator_steps": 1} if name == "ctgan" else {}))
    weights = initial_weights(c, TOY, seed=1)
    plan = SgdPlan.of(c, rows=120, noise_multiplier=1.0)
    source = RandomSource(KEY)
    first = train_round(c, TOY, "a", weights, table("a"), plan, None, ONE_WAY, source=source)
    covered = coverage(c, TOY, "a")
    assert first.update.dtype == np.float32
    assert first.update.shape == weights.shape == covered.shape
    assert (first.update[~covered] == 0).all()
    assert (first.update[covered] != 0).mean() > 0.5
    both = covered | coverage(c, TOY, "b")
    presence_weights_only = (~both).mean()
    assert presence_weights_only == 0
    second = train_round(
        c, TOY, "a", weights + first.update, table("a"), plan, first.state, ONE_WAY, source=source
    )
    assert np.isfinite(second.update).all()
    assert second.state != first.state
    assert "update" not in repr(first) or "array" not in repr(first)


def test_no_coverage_claim_is_wrong(name: str) -> None:
    """Outside its coverage, a party's own rows leave the output it is judged on unchanged."""
    c = conf(name)
    weights = initial_weights(c, TOY, seed=1)
    network = load(c, TOY, weights)
    covered = coverage(c, TOY, "a")
    moved = load(c, TOY, np.where(covered, weights, weights + 1).astype(np.float32))
    z = torch.randn(7, network.latent)
    if name == "tvae":  # coordinates that the other party encodes in
        z[:, network.uses[0] == 0] = 0
    presence = torch.tensor([[1.0, 0.5]]).expand(7, -1)
    own = np.repeat(TOY.held_by("a"), TOY.sizes)
    torch.testing.assert_close(
        moved.logits(z, presence)[:, own], network.logits(z, presence)[:, own]
    )


def test_no_batch_statistics(name: str) -> None:
    network = load(conf(name), TOY, initial_weights(conf(name), TOY, seed=1))
    kinds = {type(m).__name__ for m in network.modules()}
    assert not any("Norm" in kind or "Dropout" in kind for kind in kinds)
    assert len(shared(network)) == len(list(network.parameters()))


def test_training_finds_the_dependence(name: str) -> None:
    """Without noise, on both parties' columns at once: `left` decides `label` and `wide`."""
    quick = {"width": 32, "local_steps": 400, "expected_batch": 64, "learning_rate": 5e-3}
    if name == "ctgan":
        quick |= {
            "learning_rate": 1e-2,
            "generator_learning_rate": 5e-3,
            "generator_batch": 128,
            "discriminator_steps": 2,
            "discriminator_width": 32,
            "lipschitz": 1.5,
        }
    c = conf(name, **quick)
    whole = UnionLayout(
        parties=("a",), names=TOY.names, sizes=TOY.sizes, holders=((0,),) * len(TOY.names)
    )
    weights = initial_weights(c, whole, seed=1, one_way=ONE_WAY)
    plan = SgdPlan.of(c, rows=1000, noise_multiplier=0.0, unsafe=True)
    done = train_round(
        c, whole, "a", weights, table(n=1000), plan, None, ONE_WAY, source=RandomSource(KEY)
    )

    def agreement(w: NDArray[np.float32]) -> float:
        rows = load(c, whole, w).sample(np.ones((2000, 1), bool), torch.Generator().manual_seed(1))
        return float((rows.codes[:, 1] == rows.codes[:, 4]).mean())

    assert agreement(weights) < 0.6
    assert agreement(weights + done.update) > 0.7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_a_round_on_an_accelerator(name: str) -> None:
    c = conf(name)
    weights = initial_weights(c, TOY, seed=1)
    plan = SgdPlan.of(c, rows=120, noise_multiplier=1.0)
    done = train_round(c, TOY, "a", weights, table("a"), plan, None, ONE_WAY, device="cuda")
    assert np.isfinite(done.update).all()


def test_configuration_is_checked(name: str) -> None:
    for wrong in ({"width": 0}, {"clip": -1.0}, {"activation": "step"}, {"unknown": 1}):
        with pytest.raises(ConfigError):
            conf(name, **wrong)


def test_reading_a_configuration_loads_no_torch(name: str) -> None:
    code = (
        "import sys, twinweave.generators.union, twinweave.generators.local;"
        "sys.exit('torch' in sys.modules or 'opacus' in sys.modules)"
    )
    if name == "tvae":
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
