"""tvae: the loss of a row is its own, on held columns alone, and is clipped exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.generators.oracle import ClippedSums, brute_force, worst_change
from tests.generators.toys import TOY, conf, table
from twinweave.generators.registry import coverage
from twinweave.generators.tvae import Tvae, latent_shares
from twinweave.tables.contingency import ABSENT


def setup(party: str | None = "a", n: int = 12) -> tuple[Tvae, Tensor, Tensor]:
    network = Tvae(conf("tvae"), TOY, seed=3)
    codes = torch.from_numpy(table(party, n).astype(np.int64))
    return (
        network,
        codes,
        torch.randn(n, network.latent, generator=torch.Generator().manual_seed(0)),
    )


def test_the_clipped_sum_is_the_brute_force_sum() -> None:
    for party, clip in (("a", 0.05), (None, 1.0), ("b", 1e6)):
        network, codes, noise = setup(party)
        got = ClippedSums(network, clip)(lambda: network.bound(codes, noise))  # noqa: B023
        alone = [
            lambda i=i: network.bound(codes[i : i + 1], noise[i : i + 1])  # noqa: B023
            for i in range(len(codes))
        ]
        torch.testing.assert_close(
            got, brute_force(network, alone, clip), rtol=1e-4, atol=1e-6 * min(clip, 1)
        )


def test_one_row_moves_the_sum_by_at_most_the_clip() -> None:
    network, codes, noise = setup(None)
    sums = ClippedSums(network, 0.01)
    worst = worst_change(
        lambda kept: sums(lambda: network.bound(codes[kept], noise[kept])),
        len(codes),
    )
    assert 0.0099 < worst <= 0.01 * (1 + 1e-5)


def test_rows_do_not_interact_and_the_loss_is_one_number_a_row() -> None:
    network, codes, noise = setup(None)
    codes = codes.clone()
    codes[::3, 3:] = ABSENT  # rows that hold different columns, side by side
    together = network.bound(codes, noise)
    alone = torch.cat([network.bound(c[None], z[None]) for c, z in zip(codes, noise, strict=True)])
    assert together.shape == (12,)
    torch.testing.assert_close(together, alone)
    assert network.row_loss(codes, torch.Generator().manual_seed(0)).shape == (12,)


def test_the_loss_is_a_mean_over_held_columns() -> None:
    """With all logits equal it is mean log size, however many columns are held."""
    network, codes, noise = setup("a")
    network.beta = 0.0
    with torch.no_grad():
        network.decoder.last.weight.zero_()
        network.decoder.last.bias.zero_()
    expected = np.mean([np.log(s) for s, h in zip(TOY.sizes, TOY.held_by("a"), strict=True) if h])
    torch.testing.assert_close(
        network.bound(codes, noise), torch.full((12,), float(expected)), rtol=1e-5, atol=0
    )


def test_absent_columns_move_neither_loss_nor_gradient() -> None:
    network, codes, noise = setup("a")
    loss = network.bound(codes, noise)
    grads = torch.autograd.grad(loss.sum(), list(network.parameters()))
    flat = torch.cat([g.flatten() for g in grads]).numpy()
    covered = coverage(conf("tvae"), TOY)["a"]
    alien = ~(covered | _latent_inputs(network))
    assert (flat[alien] == 0).all()
    assert (flat[covered] != 0).mean() > 0.4
    with torch.no_grad():
        for p, m in zip(network.parameters(), _split(network, alien), strict=True):
            p[m] += 5.0
    torch.testing.assert_close(network.bound(codes, noise), loss)


def _latent_inputs(network: Tvae) -> NDArray[Any]:
    """The decoder's weights on z, (parameters,): each party trains those of its coordinates."""
    mask = {n: np.zeros(tuple(p.shape), dtype=bool) for n, p in network.named_parameters()}
    mask["decoder.net.0.weight"][:, : network.latent] = True
    return np.concatenate([m.ravel() for m in mask.values()])


def test_parties_encode_their_rows_in_coordinates_of_their_own() -> None:
    """Else the same coordinate would tie columns of two parties that never met."""
    network, codes, noise = setup("a")
    mine, theirs = latent_shares(TOY, network.latent)
    assert (mine ^ theirs).all()
    moved = noise.clone()
    moved[:, torch.from_numpy(theirs)] = 0
    with torch.no_grad():
        network.decoder.net[0].weight[:, : network.latent][:, torch.from_numpy(theirs)] = 0
    torch.testing.assert_close(network.bound(codes, moved), network.bound(codes, noise))
    horizontal = replace(TOY, holders=((0, 1),) * len(TOY.names))
    assert latent_shares(horizontal, 4).all()


def _split(network: Tvae, flat: NDArray[Any]) -> list[Tensor]:
    sizes = [p.numel() for p in network.parameters()]
    parts = torch.split(torch.from_numpy(flat), sizes)
    return [part.view_as(p) for part, p in zip(parts, network.parameters(), strict=True)]


def test_a_row_without_any_column_costs_only_its_latent() -> None:
    network, codes, noise = setup("a")
    network.beta = 0.0
    assert network.bound(torch.full_like(codes, ABSENT), noise).abs().max() == 0
