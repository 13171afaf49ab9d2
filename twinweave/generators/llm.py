"""Generator `llm`, backend `schema`: a small causal transformer over the schema's own tokens.

One token a column, in a fixed order; the distribution of a token is a softmax over that
column's codes alone, so no invalid row can be written. The first position carries the
presence of the row at each party. A column that a row lacks (code ABSENT) enters as zero, is
never attended, and carries no loss.

Every parameter lives in `nn.Linear`, `nn.Embedding` or `nn.LayerNorm`, and what belongs to
one column (its token vectors, its output head) in modules of its own: per-row gradients are
exact in closed form, and a party can tell from public facts which parameters it trains.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from twinweave.generators.base import Progress, RowLossGenerator
from twinweave.generators.conf import Activation, LlmConf
from twinweave.generators.mlp import ACTIVATIONS, Blocks, presence_input
from twinweave.generators.order import column_order
from twinweave.generators.union import OneWay, Rows, UnionLayout
from twinweave.generators.writing import draw, learn_format
from twinweave.tables.contingency import ABSENT

CHUNK = 8192
"""Rows decoded at once: bounds the memory of `sample` (about 64 MB at the default size)."""

SCORE = 30.0
"""Bound of an attention score: weights in a row differ by at most exp(60), finite in float32."""


class Block(nn.Module):
    """Pre-norm transformer block; attention written with plain linear layers and products."""

    def __init__(self, width: int, heads: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_hidden = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.activation = ACTIVATIONS[activation]()
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor, allowed: Tensor, past: list[Tensor] | None = None) -> Tensor:
        """x: (n, t, width). allowed: 0 or 1, broadcast to (n, heads, t, keys).

        past: keys and values of earlier positions, extended in place (decoding only).
        Scores are clamped to +-SCORE, so that the softmax needs no maximum: for rows this
        short that takes a third of the time.
        """
        n, t, width = x.shape
        packed = self.query_key_value(self.norm_attention(x))
        q, k, v = packed.view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = (torch.cat((old, new), dim=2) for old, new in zip(past, (k, v), strict=True))
            past[:] = [k, v]
        scores = q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5
        weights = scores.clamp(-SCORE, SCORE).exp() * allowed
        mixed = (weights @ v) / weights.sum(dim=-1, keepdim=True)
        mixed = mixed.transpose(1, 2).reshape(n, t, width)
        x = x + self.out(mixed)
        out: Tensor = x + self.down(self.activation(self.up(self.norm_hidden(x))))
        return out


class SchemaTransformer(RowLossGenerator):
    """Writes the union columns in `column_order`. Every column starts out uniform."""

    conf: LlmConf

    def __init__(
        self,
        conf: LlmConf,
        layout: UnionLayout,
        *,
        seed: int = 0,
        one_way: OneWay | None = None,  # noqa: ARG002
    ) -> None:
        super().__init__(conf, layout)
        width = conf.width
        self.order = column_order(layout)
        self.columns = Blocks(layout)
        self.presence = nn.Linear(len(layout.parties), width, bias=False)
        self.positions = nn.Embedding(len(self.order), width)
        self.tokens = nn.ModuleDict(  # the last column written is read by none
            {str(column): nn.Embedding(layout.sizes[column], width) for column in self.order[:-1]}
        )
        blocks = [
            Block(width, conf.heads, conf.hidden, conf.activation) for _ in range(conf.layers)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.outputs = nn.ModuleList(nn.Linear(width, size) for size in layout.sizes)
        self._initialise(blocks, torch.Generator().manual_seed(seed))

    def _initialise(self, blocks: list[Block], generator: torch.Generator) -> None:
        """Scaled normal weights; heads and presence at zero: every first output is uniform."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                std = module.in_features**-0.5
                nn.init.normal_(module.weight, std=std, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.5, generator=generator)
        for block in blocks:
            for last in (block.out, block.down):
                last.weight.data.mul_((2 * len(blocks)) ** -0.5)
        nn.init.zeros_(self.presence.weight)
        for output in self.outputs:
            nn.init.zeros_(output.weight)  # type: ignore[arg-type]

    def trained_by(self, held: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        """Entries of each parameter that rows with these columns alone can move.

        Gradients of the others are zero for every such row: token vectors and heads of the
        columns they lack, the presence of parties they cannot prove. Public.
        """
        useful = self._useful([bool(held[c]) for c in self.order])
        read = np.array([j in useful for j in range(len(self.order))])
        mask = {
            name: np.full(tuple(p.shape), bool(held.any())) for name, p in self.shared_parameters()
        }
        mask["presence.weight"] &= self.layout.proven(held)[None, :]
        mask["positions.weight"] &= read[:, None]
        for at, column in enumerate(self.order[:-1], start=1):
            mask[f"tokens.{column}.weight"] &= held[column] and read[at]
        for column, mine in enumerate(held):
            mask[f"outputs.{column}.weight"] &= mine
            mask[f"outputs.{column}.bias"] &= mine
        return mask

    def _useful(self, live: list[bool]) -> list[int]:
        """Positions that write a live column, or are read by one that does."""
        last = max((j for j, alive in enumerate(live) if alive), default=0)
        return [
            j for j, alive in enumerate(live) if alive or (j < last and (j == 0 or live[j - 1]))
        ]

    def row_loss(self, codes: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Mean cross-entropy of the held tokens: (n,). No randomness is used.

        A party counts as present where the row has a column of its own alone, as unknown
        elsewhere.
        """
        return self.loss(codes, self.seen(codes))

    def seen(self, codes: Tensor) -> Tensor:
        """(n, columns) codes -> (n, parties) presence as the row itself proves it: 1 or 1/2."""
        return self.columns.proven_presence((codes != ABSENT).float())

    def loss(self, codes: Tensor, presence: Tensor) -> Tensor:
        """Like `row_loss`, with presence (n, parties) in 0, 1/2 (unknown), 1 given."""
        held = codes != ABSENT
        live = [bool(held[:, c].any()) for c in self.order]
        keep = self._useful(live)
        ends = self._ends(keep, codes, presence)
        total = presence.new_zeros(len(codes))
        for at, j in enumerate(keep):
            column = self.order[j]
            if live[j]:
                logits = self.outputs[column](ends[at])
                target = codes[:, column].clamp(min=0)
                lost = functional.cross_entropy(logits, target, reduction="none")
                total = total + lost * held[:, column]
        mean: Tensor = total / held.sum(dim=1).clamp(min=1)
        return mean

    def _ends(self, keep: list[int], codes: Tensor, presence: Tensor) -> tuple[Tensor, ...]:
        """What the last block leaves at each kept position: (n, width) each."""
        place = self.positions(torch.tensor(keep, device=codes.device).expand(len(codes), -1))
        x = place + torch.stack([self._read(j, codes, presence) for j in keep], dim=1)
        known = torch.stack([self._readable(j, codes) for j in keep], dim=1)
        allowed = known[:, None, None, :] * x.new_ones(len(keep), len(keep)).tril()
        for block in self.blocks:
            x = block(x, allowed)
        return self.norm(x).unbind(dim=1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def sample(self, presence: NDArray[np.bool_], generator: torch.Generator) -> Rows:
        """Ancestral sampling at temperature 1, keys and values cached; see `Generator.sample`.

        Deterministic under `generator` for a given number of rows.
        """
        visible = torch.from_numpy(self.layout.visible(presence))
        bits = torch.from_numpy(presence.astype(np.float32))
        parts = [
            self._decode(bits[at : at + CHUNK], visible[at : at + CHUNK], generator)
            for at in range(0, max(1, len(bits)), CHUNK)
        ]
        codes = torch.cat(parts).numpy().astype(np.int32)
        return Rows(codes=codes, presence=presence.astype(bool))

    @torch.no_grad()
    def shares(self, rows: Rows, column: int) -> NDArray[np.float64]:
        at, parts = self.order.index(column), []
        for first in range(0, max(1, len(rows)), CHUNK):
            codes = torch.from_numpy(rows.codes[first : first + CHUNK].astype(np.int64))
            bits = torch.from_numpy(rows.presence[first : first + CHUNK].astype(np.float32))
            end = self._ends(list(range(at + 1)), codes, bits)[-1]
            parts.append(self.outputs[column](end).softmax(dim=-1))
        return torch.cat(parts).numpy().astype(np.float64)

    def _decode(self, presence: Tensor, visible: Tensor, generator: torch.Generator) -> Tensor:
        codes = torch.full(visible.shape, ABSENT, dtype=torch.int64)
        n = len(codes)
        known = torch.ones((n, 0), dtype=torch.bool)
        empty = torch.zeros((n, self.conf.heads, 0, self.conf.width // self.conf.heads))
        pasts = [[empty, empty] for _ in self.blocks]
        for j, column in enumerate(self.order):
            known = torch.cat((known, self._readable(j, codes)[:, None]), dim=1)
            allowed = known[:, None, None, :].float()
            x = (self._read(j, codes, presence) + self.positions.weight[j])[:, None]
            for block, past in zip(self.blocks, pasts, strict=True):
                x = block(x, allowed, past)
            drawn = draw(self.outputs[column](self.norm(x[:, 0])), generator)
            codes[:, column] = torch.where(visible[:, column], drawn, ABSENT)
        return codes

    def _read(self, j: int, codes: Tensor, presence: Tensor) -> Tensor:
        """What position j reads: presence first, then the column before it; (n, width)."""
        if j == 0:
            first: Tensor = self.presence(presence_input(presence))
            return first
        column = self.order[j - 1]
        code = codes[:, column]
        token: Tensor = self.tokens[str(column)](code.clamp(min=0))
        return token * (code != ABSENT)[:, None]

    def _readable(self, j: int, codes: Tensor) -> Tensor:
        """Whether later positions may attend position j: (n,) bool."""
        if j == 0:
            return torch.ones(len(codes), dtype=torch.bool, device=codes.device)
        return codes[:, self.order[j - 1]] != ABSENT

    def learn_format(
        self, draft: Callable[[], Rows], *, seed: int, progress: Progress | None = None
    ) -> None:
        """Plain training for `conf.format_steps`; the learning rate falls linearly to zero."""
        conf = self.conf
        if not conf.format_steps:
            return
        rows = draft()
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=conf.format_learning_rate, weight_decay=0.01
        )

        def backward(codes: Tensor, presence: Tensor) -> None:
            torch.autograd.backward(self.loss(codes, presence).mean())

        self.train()
        learn_format(
            rows, conf, optimizer, backward, self.columns, self.layout, generator, progress
        )
