"""ctgan: only counted discriminator steps meet real rows, each clipped exactly."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.generators.oracle import brute_force, worst_change
from tests.generators.toys import KEY, ONE_WAY, TOY, conf, table
from twinweave.generators.base import LocalRound
from twinweave.generators.conf import GradientMode
from twinweave.generators.ctgan import Adversary, Conditions, Ctgan
from twinweave.generators.engine import PrivacyEngine
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.generators.training import PrivateTraining, Tally
from twinweave.generators.union import OneWay


def adversary(
    *, table_rows: int = 120, sigma: float = 1.0, one_way: OneWay | None = None, **over: Any
) -> Adversary:
    c = conf("ctgan", **{"local_steps": 6, **over})
    plan = SgdPlan.of(c, rows=table_rows, noise_multiplier=sigma, unsafe=not sigma)
    network = Ctgan(c, TOY, seed=3)
    return network.adversary(local(plan, ONE_WAY if one_way is None else one_way))


def local(plan: SgdPlan, one_way: OneWay) -> LocalRound:
    return LocalRound(
        codes=table("a"),
        held=TOY.held_by("a"),
        plan=plan,
        engine=PrivacyEngine.of(plan, RandomSource(KEY)),
        one_way=one_way,
        state={},
    )


def step_of(a: Adversary, codes: Tensor, columns: Tensor, *fake: Tensor) -> Tensor:
    """The clipped sum of one private step without noise; weights stay as they are."""
    weights = a.private.adam.flat.clone()
    both = (fake[0], fake[1]) if fake else None
    a.private.step([lambda: a.minus_score(codes, columns, both)])
    a.private.adam.flat.copy_(weights)
    released: Tensor = a.private.optimizer.released * a.plan.expected_batch
    return released


def rows(n: int = 12) -> tuple[Tensor, Tensor]:
    codes = torch.from_numpy(table("a", n).astype(np.int64))
    columns = torch.nn.functional.one_hot(torch.arange(n) % 3, 5).float()
    columns[::4] = 0
    return codes, columns


@pytest.mark.parametrize("mode", get_args(GradientMode))
@pytest.mark.parametrize("clip", [0.01, 1e6])
@pytest.mark.filterwarnings("ignore:Full backward hook", "ignore:In CPU autocast")
def test_the_clipped_sum_is_the_brute_force_sum(clip: float, mode: GradientMode) -> None:
    """Over real and generated rows together, as a private step has them."""
    a, (codes, columns) = adversary(sigma=0.0, clip=clip, gradients=mode), rows()
    d = a.discriminator
    fake, _, hot, _ = a.fake(5)
    fake = fake.detach()
    alone = [lambda i=i: a.minus_score(codes[i : i + 1], columns[i : i + 1]) for i in range(12)] + [
        lambda i=i: d(fake[i : i + 1], hot[i : i + 1]) for i in range(5)
    ]
    with a.private.unhooked():
        expected = brute_force(d, alone, clip)
    got = step_of(a, codes, columns, fake, hot)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-7)


def test_one_real_row_moves_the_sum_by_at_most_the_clip() -> None:
    a, (codes, columns) = adversary(sigma=0.0, clip=0.01, local_steps=20), rows()
    fake, _, hot, _ = a.fake(5)
    fake = fake.detach()
    worst = worst_change(lambda kept: step_of(a, codes[kept], columns[kept], fake, hot), 12)
    assert 0.0099 < worst <= 0.01 * (1 + 1e-5)


def test_scores_are_each_rows_own() -> None:
    a, (codes, columns) = adversary(), rows()
    together = a.minus_score(codes, columns)
    alone = torch.cat(
        [a.minus_score(c[None], k[None]) for c, k in zip(codes, columns, strict=True)]
    )
    torch.testing.assert_close(together, alone)


def test_the_discriminator_sees_held_columns_alone() -> None:
    a = adversary()
    own = np.repeat(TOY.held_by("a"), TOY.sizes)
    row = torch.rand(4, TOY.width, requires_grad=True)
    condition = torch.rand(4, TOY.width, requires_grad=True)
    a.discriminator(row, condition).sum().backward()
    for seen in (row.grad, condition.grad):
        assert seen is not None
        assert (seen[:, ~own] == 0).all()
        assert (seen[:, own] != 0).any()


def test_every_step_on_real_rows_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real rows are read inside charged steps alone, and as many as the plan says."""
    steps, inside, reads, generator_steps = [], [False], [], []
    step, read, generate = PrivateTraining.step, Adversary.row_loss, Adversary.generator_step

    def counted(self: PrivateTraining, chunks: Any) -> None:
        inside[0] = True
        steps.append(1)
        try:
            step(self, chunks)
        finally:
            inside[0] = False

    def seen(self: Adversary, codes: Tensor, generator: torch.Generator, fake: Any) -> Tensor:
        assert inside[0]
        reads.append(len(codes))
        return read(self, codes, generator, fake)

    monkeypatch.setattr(PrivateTraining, "step", counted)
    monkeypatch.setattr(Adversary, "row_loss", seen)

    def generated(self: Adversary) -> None:
        generator_steps.append(1)
        generate(self)

    monkeypatch.setattr(Adversary, "generator_step", generated)
    c = conf("ctgan", local_steps=12, discriminator_steps=5)
    plan = SgdPlan.of(c, rows=120, noise_multiplier=1.0)
    given = local(plan, ONE_WAY)
    trace, state = Ctgan(c, TOY).train_privately(given)
    assert len(given.engine.accountant) == plan.steps
    assert len(steps) == plan.steps == plan.mechanism().steps == 12
    assert tuple(reads) == trace.batches
    assert len(generator_steps) == 2
    assert "discriminator" in state


def test_the_generators_step_reads_no_row() -> None:
    """It comes out the same when the party's rows are gone by then."""
    found = []
    for gone in (False, True):
        a, codes = adversary(), torch.from_numpy(table("a").astype(np.int64))
        for _ in range(3):
            a.private_step(codes, Tally())
        if gone:
            codes.fill_(0)
        a.generator_step()
        found.append(a.network.weights)
    assert (found[0] == found[1]).all()


def test_a_private_step_is_the_gradient_of_the_scores_and_of_nothing_else() -> None:
    """Without noise and clipping: no gradient penalty, no score of rows packed together."""
    a = adversary(table_rows=1, sigma=0.0, clip=1e9)  # so every row is in the batch, and 1 fake
    codes, _ = rows()
    drawn = a.generator.get_state()
    fake, _, hot, _ = a.fake(1)
    with a.private.unhooked():
        scores = a.minus_score(codes, a.conditions.columns(12, a.generator), (fake.detach(), hot))
        grads = torch.autograd.grad(scores.sum(), list(a.discriminator.parameters()))
    a.generator.set_state(drawn)
    a.private_step(codes, Tally())
    flat = torch.cat([g.flatten() for g in grads])
    torch.testing.assert_close(a.private.optimizer.released, flat, rtol=1e-4, atol=1e-6)


def test_an_empty_batch_is_a_step_on_noise_and_fakes() -> None:
    a = adversary()
    before = [p.detach().clone() for p in a.discriminator.parameters()]
    a.private_step(torch.empty((0, 5), dtype=torch.int64), Tally())
    after = list(a.discriminator.parameters())
    assert all((b != p).any() for b, p in zip(before, after, strict=True))


def test_layers_stay_within_their_spectral_norm() -> None:
    a = adversary(local_steps=30)
    codes = torch.from_numpy(table("a").astype(np.int64))
    for _ in range(30):
        a.private_step(codes, Tally())
    for layer in a.discriminator.net:
        if isinstance(layer, torch.nn.Linear):
            assert torch.linalg.matrix_norm(layer.weight, 2) < 1.1 * a.conf.lipschitz


def test_conditions_come_from_the_noisy_tables() -> None:
    network = Ctgan(conf("ctgan"), TOY)
    held = TOY.held_by("a")
    g = torch.Generator().manual_seed(0)
    table_of_left = {"left": np.array([900.0, 100.0]), "right": np.ones(4)}  # right is not held
    hot, columns = Conditions.of(TOY, network.blocks, held, table_of_left).generated(4000, g)
    assert (columns.sum(dim=0)[[0, 2, 3, 4]] == 0).all()
    assert 0.45 < columns[:, 1].mean() < 0.55
    assert 0.86 < hot[:, 3].sum() / hot.sum() < 0.94
    none, _ = Conditions.of(TOY, network.blocks, held, {}).generated(10, g)
    assert none.sum() == 0


def test_generated_rows_are_one_hot_and_pass_gradients() -> None:
    a = adversary()
    fake, logits, _, _ = a.fake(8)
    assert set(np.unique(fake.detach().numpy().round(5))) == {0.0, 1.0}
    assert torch.autograd.grad(fake[:, 0].sum(), logits)[0].abs().sum() > 0
