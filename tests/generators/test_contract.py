"""What every generator owes the rest: rows, presence, weights, rounds, configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tests.generators.paid import paid
from tests.generators.toys import KEY, NAMES, ONE_WAY, TOY, conf, table
from tests.statistics import p_counts, plausible
from twinweave.errors import ConfigError, ProtocolError
from twinweave.generators import registry
from twinweave.generators.base import Generator
from twinweave.generators.conf import GradientMode
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.generators.rounds import RoundResult, train_round
from twinweave.generators.union import UnionLayout
from twinweave.tables.contingency import ABSENT

SOFT = ("tvae", "ctgan")
"""Generators that the fit can train."""

every = pytest.mark.parametrize("name", NAMES)
soft = pytest.mark.parametrize("name", SOFT)


def built(name: str, **over: Any) -> Generator:
    return registry.build(conf(name, **over), TOY, seed=1)


def gen(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_round(
    c: Any, weights: NDArray[np.float32], state: bytes | None = None, *, seed: int = 0
) -> RoundResult:
    rows, plan = table("a", seed=seed), SgdPlan.of(c, rows=120, noise_multiplier=1.0)
    source = RandomSource(KEY)
    network = registry.load(c, TOY, weights)
    return train_round(
        network, "a", rows, plan, *paid(plan), state=state, one_way=ONE_WAY, source=source
    )


def test_private_steps_take_the_receipt_that_paid_for_them() -> None:
    """For these very steps, and just now: not for fewer, nor with more noise."""
    network, c = built("tvae"), conf("tvae")
    plan = SgdPlan.of(c, rows=120, noise_multiplier=1.0)
    cheaper = SgdPlan.of(c, rows=120, noise_multiplier=2.0)
    event, receipt = paid(plan)
    for other, given in [
        (event, paid(cheaper)[1]),
        (event, replace(receipt, fresh=False)),
        paid(cheaper),
    ]:
        with pytest.raises(ProtocolError):
            train_round(network, "a", table("a"), plan, other, given)


@every
def test_rows_obey_the_layout_and_the_presence(name: str) -> None:
    network = built(name)
    presence = np.array([[True, True], [True, False], [False, True]] * 20)
    rows = network.sample(presence, gen())
    assert rows.codes.dtype == np.int32
    assert rows.codes.shape == (60, 5)
    absent = rows.codes == ABSENT
    assert (absent == ~TOY.visible(presence)).all()
    assert (rows.codes < np.array(TOY.sizes)).all()
    assert (rows.codes[~absent] >= 0).all()
    assert (rows.presence == presence).all()
    assert (network.sample(presence, gen()).codes == rows.codes).all()
    assert (network.sample(presence, gen(2)).codes != rows.codes).any()
    assert len(network.sample(presence[:0], gen())) == 0


def set_marginal(network: Any, share: NDArray[np.float64]) -> None:
    """Make the first column independent of everything, with these shares."""
    with torch.no_grad():
        if network.soft:
            network.decoder.last.weight.zero_()
            network.decoder.start_at(TOY, {TOY.names[0]: share})
        else:
            network.outputs[0].weight.zero_()
            network.outputs[0].bias.copy_(torch.from_numpy(share).log())


@every
def test_levels_are_drawn_from_the_softmax(name: str) -> None:
    """Frequencies follow the logits' softmax; the maximum would give one level alone."""
    network, share = built(name), np.array([0.6, 0.25, 0.15])
    set_marginal(network, share)
    rows = network.sample(np.ones((20_000, 2), bool), gen())
    counts = np.bincount(rows.codes[:, 0], minlength=3)
    assert plausible(p_counts(counts, share))
    assert not plausible(p_counts(counts, [0.65, 0.2, 0.15]))


@every
def test_the_first_weights_follow_from_the_seed(name: str) -> None:
    c, one = conf(name), built(name).weights
    assert one.dtype == np.float32
    assert (one == built(name).weights).all()
    assert (one != registry.build(c, TOY, seed=2).weights).any()
    assert (registry.load(c, TOY, one + 1).weights == one + 1).all()
    with pytest.raises(ConfigError, match="do not fit"):
        registry.load(c, TOY, one[:-1])


@every
def test_a_round_moves_what_the_party_covers_and_nothing_else(name: str) -> None:
    c = conf(name, local_steps=10, **({"discriminator_steps": 1} if name == "ctgan" else {}))
    weights = built(name).weights
    first = a_round(c, weights)
    covered = registry.coverage(c, TOY)["a"]
    assert first.update.dtype == np.float32
    assert first.update.shape == weights.shape == covered.shape
    assert (first.update[~covered] == 0).all()
    assert (first.update[covered] != 0).mean() > 0.5
    second = a_round(c, weights + first.update, first.state)
    assert np.isfinite(second.update).all()
    assert second.state != first.state
    assert "array" not in repr(first)


@every
@pytest.mark.filterwarnings("ignore:Full backward hook", "ignore:In CPU autocast")
def test_every_gradient_mode_takes_the_same_round(name: str) -> None:
    weights = built(name).weights
    expected = a_round(conf(name), weights).update
    modes = [m for m in get_args(GradientMode) if (name, m) != ("llm", "ghost")]
    for mode in modes:
        found = a_round(conf(name, gradients=mode), weights).update
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-5)


@pytest.mark.attack("nonfinite")
@pytest.mark.parametrize("name", ["tvae", "llm"])
@pytest.mark.parametrize("mode", ["bookkeeping", "hooks"])
@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_weights_that_overflow_tell_nothing_of_the_rows(name: str, mode: GradientMode) -> None:
    """Whatever the server sends: where no gradient is finite, any rows give the same steps."""
    c, usual = conf(name, gradients=mode), built(name).weights
    one, other = (a_round(c, np.full_like(usual, 1e38), seed=s).state for s in (0, 1))
    assert one == other  # Adam's moments, of every step's released gradient
    assert a_round(c, usual).state != a_round(c, usual, seed=1).state


def judged(network: Any) -> torch.Tensor:
    """What the rows of party a judge a network by."""
    if network.soft is None:
        return network.row_loss(torch.from_numpy(table("a").astype(np.int64)), gen())
    z = torch.randn(7, network.latent, generator=gen())
    if hasattr(network, "uses"):  # coordinates that the other party encodes in
        z[:, network.uses[0] == 0] = 0
    presence = torch.tensor([[1.0, 0.5]]).expand(7, -1)
    return network.logits(z, presence)[:, TOY.positions(TOY.held_by("a"))]


@every
def test_no_coverage_claim_is_wrong(name: str) -> None:
    """Outside its coverage, a party's own rows leave the output it is judged on unchanged."""
    network, c = built(name), conf(name)
    covered = registry.coverage(c, TOY)["a"]
    weights = network.weights
    moved = registry.load(c, TOY, np.where(covered, weights, weights + 1).astype(np.float32))
    assert (moved.weights != weights).any()
    torch.testing.assert_close(judged(moved), judged(network))


@every
def test_no_batch_statistics(name: str) -> None:
    network = built(name)
    mixing = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    assert not any(isinstance(m, mixing) for m in network.modules())
    assert len(list(network.shared_parameters())) == len(list(network.parameters()))


QUICK: dict[str, dict[str, Any]] = {
    "tvae": {"learning_rate": 5e-3},
    "ctgan": {
        "learning_rate": 1e-2,
        "generator_learning_rate": 5e-3,
        "generator_batch": 128,
        "discriminator_steps": 2,
        "discriminator_width": 32,
        "lipschitz": 1.5,
    },
    "llm": {"learning_rate": 2e-2, "local_steps": 80, "layers": 1},
}


@every
def test_training_finds_the_dependence(name: str) -> None:
    """Without noise, on both parties' columns at once: `left` decides `label` and `wide`."""
    c = conf(name, **{"width": 32, "local_steps": 400, "expected_batch": 64, **QUICK[name]})
    whole = UnionLayout(
        parties=("a",), names=TOY.names, sizes=TOY.sizes, holders=((0,),) * len(TOY.names)
    )
    weights = registry.build(c, whole, seed=1, one_way=ONE_WAY).weights
    plan = SgdPlan.of(c, rows=1000, noise_multiplier=0.0, unsafe=True)
    network = registry.load(c, whole, weights)
    source = RandomSource(KEY)
    done = train_round(
        network, "a", table(n=1000), plan, *paid(plan), one_way=ONE_WAY, source=source
    )

    def agreement(w: NDArray[np.float32]) -> float:
        rows = registry.load(c, whole, w).sample(np.ones((2000, 1), bool), gen())
        return float((rows.codes[:, 1] == rows.codes[:, 4]).mean())

    assert agreement(weights) < 0.6
    assert agreement(weights + done.update) > 0.7


@every
def test_configuration_is_checked(name: str) -> None:
    for wrong in ({"width": 0}, {"clip": -1.0}, {"activation": "step"}, {"unknown": 1}):
        with pytest.raises(ConfigError):
            conf(name, **wrong)


@every
def test_a_generator_knows_whether_it_is_soft(name: str) -> None:
    network = built(name)
    assert network.soft is (network if name in SOFT else None)


@soft
def test_logits_are_differentiable_in_every_column(name: str) -> None:
    network = built(name).soft
    assert network is not None
    logits = network.logits(torch.randn(7, network.latent), torch.full((7, 2), 0.5))
    assert logits.shape == (7, TOY.width)
    logits.square().sum().backward()
    used = [p for n, p in network.shared_parameters() if n.startswith("decoder")]
    assert all(p.grad is not None for p in used)


@soft
def test_a_soft_generator_starts_at_the_marginals(name: str) -> None:
    share = np.array([-3.0, 70.0, 30.0])  # noisy counts may be negative
    network = registry.build(conf(name), TOY, seed=1, one_way={"common": share})
    rows = network.sample(np.ones((4000, 2), bool), gen())
    assert np.bincount(rows.codes[:, 0])[1] > np.bincount(rows.codes[:, 0])[2] > 0


@soft
def test_every_weight_is_trained_by_some_party(name: str) -> None:
    """Not so in the llm: what reads one party's column to write the other's learns no row."""
    masks = list(registry.coverage(conf(name), TOY).values())
    assert np.any(masks, axis=0).all()
