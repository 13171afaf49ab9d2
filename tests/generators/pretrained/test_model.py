"""The pretrained backend: every architecture is private to its rows, valid, and what it says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.generators.oracle import ClippedSums, brute_force, worst_change
from tests.generators.pretrained.tiny import ARCHITECTURES, LAYOUT, edit, model
from tests.statistics import p_counts, plausible
from twinweave.generators.pretrained import checkpoint
from twinweave.generators.union import Rows
from twinweave.tables.contingency import ABSENT

EVERY = np.stack(np.meshgrid(*map(range, LAYOUT.sizes), indexing="ij"), axis=-1).reshape(-1, 4)
"""All 48 rows of the union."""

architectures = pytest.mark.parametrize("kind", ARCHITECTURES)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codes_of(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, LAYOUT.sizes, (n, 4)))


def exact(made: Any) -> np.ndarray[Any, Any]:
    """The probability of each of all rows."""
    with torch.no_grad():
        return (-4 * made.row_loss(torch.from_numpy(EVERY), gen())).double().exp().numpy()


@architectures
def test_every_row_has_likelihood_one_in_all(folders: Any, kind: str) -> None:
    """Over all rows of the union, and over all that one party can hold: none is invalid."""
    made = model(folders[kind])
    assert exact(made).sum() == pytest.approx(1, abs=1e-5)
    view = EVERY[EVERY[:, 1] == 0]
    view[:, 1] = ABSENT
    seen = (-3 * made.row_loss(torch.from_numpy(view), gen())).exp().sum()
    assert float(seen.detach()) == pytest.approx(1, abs=1e-5)


@architectures
def test_a_rows_loss_is_its_own(folders: Any, kind: str) -> None:
    """Whatever rows are beside it, and whatever columns they lack."""
    made, codes = model(folders[kind]), codes_of(6)
    codes[:2, 1] = ABSENT
    codes[2:4, 2:] = ABSENT
    alone = torch.cat([made.row_loss(codes[i : i + 1], gen()) for i in range(6)])
    torch.testing.assert_close(made.row_loss(codes, gen()), alone, rtol=1e-4, atol=1e-5)
    one_view = codes[:2]
    torch.testing.assert_close(made.row_loss(one_view, gen()), alone[:2], rtol=1e-4, atol=1e-5)


def test_positions_that_depend_on_the_longest_row_would_be_seen(
    folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`longrope` turns all rows of a batch by what its longest one has: refused, for this."""
    scaled = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 16.0}
    scaled |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    edit(folder, rope_parameters=scaled | {"original_max_position_embeddings": 40})
    monkeypatch.setattr(checkpoint, "ROTATIONS", ("default", "longrope"))
    made, codes = model(folder), codes_of(6)
    codes[0, 1:] = ABSENT
    alone, beside = (made.row_loss(rows, gen())[0] for rows in (codes[:1], codes))
    assert abs(float((alone - beside).detach())) > 1e-3


def test_what_no_row_has_a_token_at_is_not_read(
    folders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in training nor in decoding; at every token the model says what it said before."""
    made = model(folders["llama"])
    codes = torch.from_numpy(EVERY[EVERY[:, 2] == 0])  # the shortest income
    written = made.pieces.write(codes, torch.ones(len(codes), 2), made.template.order)
    with torch.no_grad():
        wanted = made.network.hidden(written.tokens, written.mask)[written.mask]
        read: list[int] = []
        hidden = made.network.hidden

        def counted(tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
            read.append(tokens.shape[1])
            return hidden(tokens, *rest)

        monkeypatch.setattr(made.network, "hidden", counted)
        found = made.network.packed(written.tokens, written.mask)[written.mask]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    longest = int(written.mask.sum(dim=1).max())
    assert read == [longest]
    assert longest < written.tokens.shape[1]
    read.clear()
    rows = Rows(codes=np.array([[-1, 0, 0, -1]] * 4, np.int32), presence=np.ones((4, 2), bool))
    made.complete(rows, gen(), tries=1)
    assert sum(read) < longest


@architectures
@pytest.mark.parametrize("mode", ["bookkeeping", "hooks", "functorch"])
@pytest.mark.filterwarnings("ignore:Full backward hook", "ignore:In CPU autocast")
def test_clipped_sum_is_the_sum_of_clipped_rows(folders: Any, kind: str, mode: Any) -> None:
    """Of two micro-batches, against one row at a time: gradients whole, and with every second row
    clipped, to within what book-keeping adds to norms for rounding."""
    made, codes = model(folders[kind]).train(), codes_of(8)
    codes[:, 1] = ABSENT  # as a party holds them
    rows = [lambda i=i: made.row_loss(codes[i : i + 1], gen()) for i in range(8)]
    norms = sorted(float(brute_force(made, [row], 1e9).norm()) for row in rows)
    clips = ((1e4 * norms[-1], 1e-5), ((norms[3] + norms[4]) / 2, 1e-4))
    wanted = [brute_force(made, rows, clip) for clip, _ in clips]
    for (clip, close), sum_of_rows in zip(clips, wanted, strict=True):
        sums = ClippedSums(made, clip, mode)
        found = sums(
            lambda: made.row_loss(codes[:5], gen()), lambda: made.row_loss(codes[5:], gen())
        )
        each = sum(min(norm, clip) for norm in norms)
        assert float((found - sum_of_rows).norm()) <= close * each
        sums.training.module.remove_hooks()


@pytest.mark.parametrize("loss", ["allowed", "values", "all"])
def test_the_sum_moves_by_the_clip_at_most(folders: Any, loss: str) -> None:
    """By search: rows of short and long texts, each left out in turn, three sets of weights."""
    clip = 0.05
    for seed in range(3):
        made, codes = model(folders["gpt2"], seed, loss=loss).train(), codes_of(6, seed)
        sums = ClippedSums(made, clip)

        def total(kept: list[int], codes: Any = codes, made: Any = made, sums: Any = sums) -> Any:
            return sums(lambda: made.row_loss(codes[kept], gen()))

        moved = worst_change(total, 6)
        assert 0.9 * clip < moved <= clip * (1 + 1e-4)  # sums are of single precision


@pytest.mark.attack("rounding")
@pytest.mark.broken("rounding")
@pytest.mark.parametrize(
    ("kind", "precision", "times"), [("llama", "bfloat16", 1), ("t5", "float32", 100)]
)
def test_a_clipped_row_is_its_own_where_rows_go_one_by_one(
    folders: Any, kind: str, precision: str, times: int
) -> None:
    """As private steps take them. Together, how a row is rounded depends on how many there are:
    in bfloat16, and in float32 under weights that a server chose to be large."""
    clip = 0.05
    made, codes = model(folders[kind], precision=precision).train(), codes_of(8)
    made.weights = times * made.weights
    sums = ClippedSums(made, clip)

    def excess(at_once: int) -> float:
        """By how much the clipped gradients of others move with the last row, of the clip."""
        kept, last = ([*torch.split(rows, at_once)] for rows in (codes[:-1], codes[-1:]))
        every, others, own = (
            sums(*[lambda part=part: made.row_loss(part, gen()) for part in parts])
            for parts in ([*torch.split(codes, at_once)], kept, last)
        )
        return float((every - others - own).norm()) / clip

    assert excess(made.micro_batch) < 1e-5
    assert excess(8) > (1e-4 if precision == "bfloat16" else 1)


def test_the_mean_over_a_batchs_tokens_would_be_seen(folders: Any) -> None:
    """What Hugging Face returns: a row's share of it depends on the rows beside."""
    made, codes = model(folders["gpt2"], loss="values"), codes_of(6)
    codes[0] = torch.tensor([0, 0, 0, 0])
    own = made.row_loss(codes, gen())
    tokens = made.pieces.write(codes, made.columns.proven_presence(torch.ones(6, 4)), (0, 1, 2, 3))
    counts = tokens.mask[:, tokens.value_slots()].sum(dim=1)
    shares = own * counts / counts.sum()
    fewer = (own * counts)[:2] / counts[:2].sum()
    assert counts.unique().numel() > 1
    assert not torch.allclose(shares[:2] * 6, fewer * 2, rtol=1e-2)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5", "bart"])  # Qwen's cache is Llama's
def test_samples_follow_the_model(folders: Any, kind: str) -> None:
    """1,200 rows by cached decoding against the exact table; another temperature is seen."""
    n = 1200
    made = model(folders[kind], decode_batch=n // 2)
    rows = made.sample(np.ones((n, 2), dtype=bool), gen(5))
    counts = np.bincount(np.ravel_multi_index(tuple(rows.codes.T), LAYOUT.sizes), minlength=48)
    wanted = exact(made)
    assert plausible(p_counts(counts, wanted / wanted.sum()))
    other = wanted**0.5
    assert not plausible(p_counts(counts, other / other.sum()))


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_samples_obey_presence_and_seed(folders: Any, kind: str) -> None:
    presence = np.array([[True, False], [False, True], [True, True]] * 20)
    made = model(folders[kind])
    rows = made.sample(presence, gen(1))
    assert np.array_equal(rows.codes != ABSENT, LAYOUT.visible(presence))
    assert (rows.codes < LAYOUT.sizes).all()
    assert rows.codes.dtype == np.int32
    assert np.array_equal(rows.codes, made.sample(presence, gen(1)).codes)
    assert not np.array_equal(rows.codes, made.sample(presence, gen(2)).codes)
    assert len(made.sample(presence[:0], gen())) == 0


def test_completion_follows_the_conditional_law(folders: Any) -> None:
    """The first columns given the last, where that tells most; not so with a single try."""
    made, n = model(folders["gpt2"], decode_batch=6000), 500
    joint = exact(made).reshape(6, 4, 2)
    laws = joint / joint.sum(axis=0)
    prior = joint.sum(axis=(1, 2))[:, None, None]
    most = np.abs(laws - prior).sum(axis=0)
    income, label = np.unravel_index(most.argmax(), most.shape)
    given = np.full((n, 4), ABSENT, dtype=np.int32)
    given[:, 2:] = [income, label]
    rows = Rows(codes=given, presence=np.ones((n, 2), dtype=bool))

    def p(tries: int) -> float:
        done = made.complete(rows, gen(3), tries=tries)
        assert (done.codes[:, 2:] == given[:, 2:]).all()
        counts = np.bincount(3 * done.codes[:, 0] + done.codes[:, 1], minlength=6)
        return p_counts(counts, laws[:, income, label])

    assert plausible(p(12))
    assert not plausible(p(1))


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_shares_are_the_chances_of_a_column_after_those_before(folders: Any, kind: str) -> None:
    """What fairness moves: of a label, and of a column whose values part at several tokens."""
    made = model(folders[kind])
    joint = exact(made).reshape(LAYOUT.sizes)
    rows = Rows(codes=EVERY.astype(np.int32), presence=np.ones((len(EVERY), 2), dtype=bool))
    for column in (2, 3):
        upto = joint.sum(axis=tuple(range(column + 1, 4)))
        laws = upto / upto.sum(axis=-1, keepdims=True)
        wanted = laws[tuple(EVERY[:, :column].T)]
        np.testing.assert_allclose(made.shares(rows, column), wanted, rtol=1e-3, atol=1e-6)


@architectures
def test_logits_are_the_published_models_own(folders: Any, kind: str) -> None:
    """Before training adapters add nothing: hidden states and head against the model's forward."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    made = model(folders[kind])
    for name, p in made.shared_parameters():
        if "lora_B" in name:
            p.data.zero_()
    auto = AutoModelForCausalLM if made.network.causal else AutoModelForSeq2SeqLM
    published = auto.from_pretrained(str(folders[kind])).eval()
    tokens = torch.randint(3, 300, (2, 12), generator=gen())
    inputs: dict[str, Any] = {"input_ids": tokens}
    if not made.network.causal:
        prompt = made.network.prompt.expand(2, -1)
        inputs = {"input_ids": prompt, "decoder_input_ids": tokens}
    with torch.no_grad():
        wanted = published(**inputs).logits
        hidden = made.network.hidden(tokens, torch.ones_like(tokens, dtype=torch.bool))
        some = torch.tensor([5, 17, 250])
        torch.testing.assert_close(made.network.logits(hidden), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            made.network.logits(hidden, some), wanted[:, :, some], rtol=1e-4, atol=1e-5
        )


def test_the_format_stage_learns_its_rows(folders: Any) -> None:
    """From the tables: what they say. From the schema alone: every value as likely as another."""
    rng = np.random.default_rng(0)
    town = rng.integers(0, 3, 2000)
    codes = np.stack([town % 2, town, town + (rng.random(2000) < 0.1), town % 2], axis=1)
    rows = Rows(codes=codes.astype(np.int32), presence=np.ones((2000, 2), dtype=bool))
    stage = {"format_steps": 40, "format_batch": 32, "micro_batch": 32, "rank": 8}
    made = model(folders["llama"], format_learning_rate=1e-2, **stage)
    before = float(made.row_loss(torch.from_numpy(codes[:200]), gen()).mean().detach())
    made.learn_format(lambda: rows, seed=0)
    after = float(made.eval().row_loss(torch.from_numpy(codes[:200]), gen()).mean().detach())
    assert after < 0.6 * before
    plain = model(folders["llama"], format_learning_rate=1e-2, format_rows="uniform", **stage)
    spread = exact(plain).max()
    plain.learn_format(lambda: pytest.fail("drafted"), seed=0)
    assert exact(plain.eval()).max() < 0.6 * spread
