"""What generators that write a row column by column share."""

from __future__ import annotations

import pytest
import torch

from twinweave.generators.writing import draw


def test_what_has_no_chance_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the chances, rounded, add up to less than the largest number that is drawn."""
    largest = 1 - 2**-24
    monkeypatch.setattr(torch, "rand", lambda size, **_: torch.full(size, largest))
    logits = torch.randn((200, 100), generator=torch.Generator().manual_seed(0))
    logits[:, -1] = -torch.inf
    assert (logits.softmax(dim=1).cumsum(dim=1)[:, -1] < largest).any()
    assert int(draw(logits, torch.Generator()).max()) < 99
