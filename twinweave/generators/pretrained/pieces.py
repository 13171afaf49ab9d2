"""A template as tensors: codes of rows to tokens, and the choices of a column's values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from twinweave.generators.pretrained.template import ColumnText, Piece, Template


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """Rows as tokens. tokens: int64 (n, slots); mask: bool, the same. values: by column, the slots
    that its values begin and end at."""

    tokens: Tensor
    mask: Tensor
    values: dict[int, tuple[int, int]]

    def value_slots(self) -> list[int]:
        """All slots of values, in order."""
        return [slot for span in self.values.values() for slot in range(*span)]


class PieceTensors(nn.Module):
    """See `template.Piece`."""

    def __init__(self, piece: Piece) -> None:
        super().__init__()
        self.slots = piece.slots
        self._keep("tokens", torch.from_numpy(piece.tokens))
        self._keep("mask", torch.from_numpy(piece.mask))

    tokens: Tensor
    mask: Tensor

    def _keep(self, name: str, constant: Tensor) -> None:
        self.register_buffer(name, constant, persistent=False)


class ColumnTensors(PieceTensors):
    """See `template.ColumnText`. choices: slots of the value at which something is chosen."""

    def __init__(self, text: ColumnText) -> None:
        super().__init__(text)
        self.named = text.named
        self.choices = text.choices
        self._keep("alphabet", torch.from_numpy(text.alphabet))
        self._keep("chosen", torch.from_numpy(text.chosen))
        self._keep("allowed", torch.from_numpy(text.allowed))

    alphabet: Tensor
    chosen: Tensor
    allowed: Tensor

    def choice_loss(self, logits: Tensor, code: Tensor) -> Tensor:
        """Negative log-likelihood of each row's code among the column's: (n,) nats.

        logits: (n, choices, alphabet). code: int64 (n,).
        """
        at = list(self.choices)
        allowed, chosen = self.allowed[code][:, at], self.chosen[code][:, at]
        shares = logits.masked_fill(~allowed, -torch.inf).log_softmax(dim=2)
        return -shares.gather(2, chosen[:, :, None])[:, :, 0].sum(dim=1)


class Pieces(nn.Module):
    """All pieces of a template, on one device."""

    def __init__(self, template: Template, start: int) -> None:
        super().__init__()
        self.start = start
        self.presence = nn.ModuleList(PieceTensors(piece) for piece in template.presence)
        self.columns = nn.ModuleDict(
            {str(c): ColumnTensors(text) for c, text in template.columns.items()}
        )

    def column(self, column: int) -> ColumnTensors:
        found = self.columns[str(column)]
        assert isinstance(found, ColumnTensors)
        return found

    def opening(self, presence: Tensor) -> tuple[Tensor, Tensor]:
        """(n, parties) presence in 0, 1/2, 1 -> tokens and mask of what comes before columns."""
        n = len(presence)
        first = torch.full((n, 1), self.start, device=presence.device)
        tokens, mask = [first], [torch.ones_like(first, dtype=torch.bool)]
        states = (2 * presence).round().long()
        for piece, state in zip(self.presence, states.unbind(dim=1), strict=True):
            assert isinstance(piece, PieceTensors)
            tokens.append(piece.tokens[state])
            mask.append(piece.mask[state])
        return torch.cat(tokens, dim=1), torch.cat(mask, dim=1)

    def write(self, codes: Tensor, presence: Tensor, columns: tuple[int, ...]) -> Written:
        """(n, all columns) codes, these columns of them, in this order. ABSENT: masked."""
        tokens, mask = ([part] for part in self.opening(presence))
        at, values = tokens[0].shape[1], {}
        for column in columns:
            piece, code = self.column(column), codes[:, column]
            tokens.append(piece.tokens[code])  # ABSENT, -1, is the last text: none
            mask.append(piece.mask[code])
            values[column] = at + piece.named, at + piece.slots
            at += piece.slots
        return Written(tokens=torch.cat(tokens, 1), mask=torch.cat(mask, 1), values=values)
