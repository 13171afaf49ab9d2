"""The schema backend of `llm`: rows are causal, masked, private to themselves, and learnable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generators.oracle import ClippedSums, brute_force
from tests.generators.toys import conf, shipped
from tests.statistics import p_counts, plausible
from twinweave.errors import ConfigError
from twinweave.generators.llm import SchemaTransformer
from twinweave.generators.order import column_order
from twinweave.generators.union import Rows, UnionLayout
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.contingency import ABSENT
from twinweave.tables.schema import JointSchema, Schema

LAYOUT = UnionLayout(
    parties=("a", "b"),
    names=("sex", "x", "y", "label"),
    sizes=(2, 3, 4, 2),
    holders=((0, 1), (0,), (1,), (1,)),
)


def model(seed: int = 0) -> SchemaTransformer:
    made = SchemaTransformer(conf("llm"), LAYOUT, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # away from zero heads, so that differences show
        for p in made.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return made


def codes_of(n: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, LAYOUT.sizes, (n, 4)))


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_order_is_sensitive_shared_party_by_party_label_last() -> None:
    def column(name: Any, role: Any = Role.FEATURE, shared: Any = False) -> Any:
        kind = Kind.CATEGORICAL
        return Column(name=name, kind=kind, role=role, shared=shared, levels=("p", "q"))

    key = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
    region = column("region", shared=True)
    race = column("race", Role.SENSITIVE, shared=True)
    a = Schema(
        party="a",
        columns=(
            key,
            column("label", Role.LABEL),
            column("u"),
            race,
            region,
            column("arm", Role.MEMBERSHIP),
        ),
    )
    b = Schema(party="b", columns=(key, column("sale", Role.CONVERSION), race, column("v"), region))
    joint = JointSchema(schemas=(a, b))
    written = [joint.names[i] for i in column_order(UnionLayout.of(joint))]
    assert written == ["race", "region", "arm", "u", "v", "sale", "label"]


def test_every_row_has_likelihood_one_in_all() -> None:
    """The exponentials of the rows' losses over all 48 rows sum to one: no row is invalid."""
    rows = np.stack(np.meshgrid(*map(range, LAYOUT.sizes), indexing="ij"), axis=-1).reshape(-1, 4)
    logp = -4 * model().row_loss(torch.from_numpy(rows), gen())
    assert logp.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_one_party_rows_have_likelihood_one_in_all() -> None:
    rows = np.array([[s, ABSENT, y, v] for s in range(2) for y in range(4) for v in range(2)])
    logp = -3 * model().row_loss(torch.from_numpy(rows), gen())
    assert logp.exp().sum().item() == pytest.approx(1, abs=1e-5)


@settings(max_examples=8)
@given(st.integers(0, 3), st.integers(0, 999))
def test_absent_columns_leave_no_trace(column: Any, seed: Any) -> None:
    """What stood in a masked column cannot matter, and it is masked in whatever company."""
    codes, other = codes_of(6, seed), codes_of(6, seed + 1)
    codes[:3, column] = ABSENT
    whole = model().row_loss(codes, gen())
    alone = torch.cat([model().row_loss(codes[i : i + 1], gen()) for i in range(6)])
    mixed = model().row_loss(torch.cat((codes, other)), gen())[:6]
    torch.testing.assert_close(whole, alone)
    torch.testing.assert_close(whole, mixed)


def test_presence_unknown_is_what_a_party_can_prove() -> None:
    seen = model().seen(
        torch.tensor(
            [[1, 0, ABSENT, ABSENT], [1, ABSENT, 2, 0], [1, 2, 3, 0], [1, ABSENT, ABSENT, ABSENT]]
        )
    )
    assert seen.tolist() == [[1, 0.5], [0.5, 1], [1, 1], [0.5, 0.5]]


def test_mean_is_over_the_tokens_of_the_row() -> None:
    """A row's weight does not depend on the rows beside it (the batch-token mean would)."""
    codes = codes_of(4)
    codes[0, 1:] = ABSENT
    loss = SchemaTransformer(conf("llm"), LAYOUT).row_loss(codes, gen())
    fresh = np.log(LAYOUT.sizes)  # zero heads: uniform
    np.testing.assert_allclose(loss.detach(), [fresh[0], *[fresh.mean()] * 3], rtol=1e-5)


def test_gradient_is_zero_where_a_party_is_said_not_to_train() -> None:
    for party in LAYOUT.parties:
        held = LAYOUT.held_by(party)
        codes = codes_of(32)
        codes[:, ~held] = ABSENT
        made = model()
        made.row_loss(codes, gen()).sum().backward()
        trained = made.trained_by(held)
        for name, p in made.shared_parameters():
            moved = np.zeros(p.shape, dtype=bool) if p.grad is None else (p.grad != 0).numpy()
            assert not moved[~trained[name]].any(), name
            if not name.startswith("blocks"):  # a softmax ignores the bias of its keys
                assert moved[trained[name]].all(), name


@pytest.mark.parametrize("mode", ["bookkeeping", "hooks", "functorch"])
@pytest.mark.filterwarnings("ignore:Full backward hook", "ignore:In CPU autocast")
def test_clipped_sum_is_the_sum_of_clipped_rows(mode: Any) -> None:
    """Rows of three parties' views, some clipped and some not, against one row at a time."""
    codes = codes_of(9)
    codes[3:6, 1] = ABSENT
    codes[6:, 2:] = ABSENT
    made, clip = model(), 4.0
    rows = [lambda i=i: made.row_loss(codes[i : i + 1], gen()) for i in range(9)]
    exact = brute_force(made, rows, clip)
    norms = [float(brute_force(made, [row], 1e9).norm()) for row in rows]
    assert min(norms) < clip < max(norms)
    sums = ClippedSums(made, clip, mode)
    torch.testing.assert_close(sums(lambda: made.row_loss(codes, gen())), exact)


def test_samples_follow_the_model() -> None:
    """20,000 cached samples against the exact table."""
    made, n = model(seed=3), 20_000
    rows = made.sample(np.ones((n, 2), dtype=bool), gen(5))
    cells = np.ravel_multi_index(tuple(rows.codes.T), LAYOUT.sizes)
    every = np.stack(np.unravel_index(np.arange(48), LAYOUT.sizes), axis=1)
    with torch.no_grad():
        exact = (-4 * made.row_loss(torch.from_numpy(every), gen())).double().exp().numpy()
    exact /= exact.sum()
    assert plausible(p_counts(np.bincount(cells, minlength=48), exact))
    wrong = exact**0.9  # another temperature is caught
    assert not plausible(p_counts(np.bincount(cells, minlength=48), wrong))


def test_samples_obey_presence_and_seed() -> None:
    presence = np.array([[True, False], [False, True], [True, True]] * 50)
    rows = model().sample(presence, gen(1))
    assert np.array_equal(rows.codes != ABSENT, LAYOUT.visible(presence))
    assert (rows.codes < LAYOUT.sizes).all()
    assert rows.codes.dtype == np.int32
    assert np.array_equal(rows.codes, model().sample(presence, gen(1)).codes)
    assert not np.array_equal(rows.codes, model().sample(presence, gen(2)).codes)
    assert len(model().sample(np.zeros((0, 2), dtype=bool), gen())) == 0


def _related(n: int, seed: int) -> Rows:
    """y at b follows x at a; b is absent from a third of the rows."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, n)
    y = np.where(rng.random(n) < 0.9, x, 3)
    codes = np.stack([rng.integers(0, 2, n), x, y, (x == 2).astype(int)], axis=1)
    presence = np.ones((n, 2), dtype=bool)
    presence[: n // 3, 1] = False
    codes[~LAYOUT.visible(presence)] = ABSENT
    return Rows(codes=codes.astype(np.int32), presence=presence)


def test_the_format_stage_learns_joint_rows_and_one_partys_view() -> None:
    stage = {"format_steps": 120, "format_learning_rate": 2e-2, "format_batch": 128}
    made = SchemaTransformer(conf("llm", hidden=32, layers=1, **stage), LAYOUT)
    made.learn_format(lambda: _related(3000, 0), seed=0)
    rows = made.sample(np.ones((4000, 2), dtype=bool), gen(1))
    assert (rows.codes[:, 1] == rows.codes[:, 2]).mean() == pytest.approx(0.9, abs=0.05)
    view = torch.tensor([[s, ABSENT, y, v] for s in range(2) for y in range(4) for v in range(2)])
    with torch.no_grad():
        p = (-3 * made.row_loss(view, gen())).exp().reshape(2, 4, 2).sum(dim=0)
    expected = torch.tensor([[0.3, 0], [0.3, 0], [0, 0.3], [0.067, 0.033]])
    torch.testing.assert_close(p, expected, atol=0.05, rtol=0)


def test_without_a_format_stage_no_row_is_drafted() -> None:
    made = SchemaTransformer(conf("llm", format_steps=0), LAYOUT)
    before = made.weights
    made.learn_format(lambda: pytest.fail("drafted"), seed=0)
    assert (made.weights == before).all()


def test_shipped_configuration_is_small() -> None:
    """About 71,000 parameters on a table as wide as Adult (13 columns, 165 levels)."""
    wide = UnionLayout(
        parties=("a",),
        names=tuple("abcdefghijklm"),
        holders=((0,),) * 13,
        sizes=(2, 5, 9, 16, 15, 17, 16, 7, 6, 13, 11, 42, 6),
    )
    made = SchemaTransformer(shipped("llm"), wide)
    assert 65_000 < len(made.weights) < 80_000


@pytest.mark.parametrize(
    "wrong",
    [{"heads": 3}, {"layers": 0}, {"format_steps": -1}, {"one_party": 1.5}, {"gradients": "ghost"}],
)
def test_configurations_that_do_not_fit_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        conf("llm", **wrong)
