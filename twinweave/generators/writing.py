"""What generators that write a row column by column share: their format stage, a draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from twinweave.generators.base import Progress
from twinweave.generators.conf import LlmConf, PretrainedConf
from twinweave.generators.mlp import Blocks
from twinweave.generators.union import Rows, UnionLayout
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


def learn_format(
    rows: Rows,
    conf: LlmConf | PretrainedConf,
    optimizer: torch.optim.Optimizer,
    backward: Callable[[Tensor, Tensor], None],
    columns: Blocks,
    layout: UnionLayout,
    generator: torch.Generator,
    progress: Progress | None,
) -> None:
    """Plain steps on rows, a share of them `narrowed`; the learning rate falls linearly to zero.

    backward: from codes and presence of a batch to the gradients of its mean loss.
    """
    codes = torch.from_numpy(rows.codes.astype(np.int64))
    presence = torch.from_numpy(rows.presence.astype(np.float32))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1 - s / conf.format_steps)
    for step in range(conf.format_steps):
        pick = torch.randint(len(codes), (conf.format_batch,), generator=generator)
        shown, known = narrowed(
            columns,
            layout,
            codes[pick],
            presence[pick],
            share=conf.one_party,
            generator=generator,
        )
        optimizer.zero_grad()
        backward(shown, known)
        optimizer.step()
        schedule.step()
        if progress:
            progress("learn the format", step + 1, conf.format_steps)


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One code for each row of (n, size) logits, by inverting the distribution: (n,) int64.

    None that has no chance: also where the chances, rounded, add up to less than 1.
    """
    steps = logits.softmax(dim=-1).cumsum(dim=-1)
    at = torch.rand((len(logits), 1), generator=generator) * steps[:, -1:]
    return torch.searchsorted(steps[:, :-1].contiguous(), at, right=True)[:, 0]
