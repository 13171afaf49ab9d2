"""What generators that write a row column by column share: one party's view of it, a draw."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from twinweave.generators.mlp import Blocks
from twinweave.generators.union import UnionLayout
from twinweave.tables.contingency import ABSENT


def narrowed(
    columns: Blocks,
    layout: UnionLayout,
    codes: Tensor,
    presence: Tensor,
    *,
    share: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Show a share of the rows as one of their parties sees them: (codes, presence).

    A party drawn at random, the others' columns absent, their presence unknown: a model learns
    whole rows and, in the same weights, the view from which that party will train it.
    """
    held = torch.from_numpy(np.stack([layout.held_by(p) for p in layout.parties]))
    viewer = torch.multinomial(presence.clamp(min=1e-9), 1, generator=generator)[:, 0]
    narrow = torch.rand(len(codes), generator=generator) < share
    shown = torch.where(narrow[:, None] & ~held[viewer], ABSENT, codes)
    seen = (shown != ABSENT).float().to(columns.alone.device)
    proven = columns.proven_presence(seen).to(presence.device)
    return shown, torch.where(narrow[:, None], proven, presence)


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One code for each row of (n, size) logits, by inverting the distribution: (n,) int64."""
    steps = logits.softmax(dim=-1).cumsum(dim=-1)[:, :-1].contiguous()
    at = torch.rand((len(logits), 1), generator=generator)
    return torch.searchsorted(steps, at, right=True)[:, 0]
