"""Rows out of a model: names and punctuation forced, values chosen within a column's trie.

Slots that nothing is chosen at are read in one go with the next that matters; keys and values of
all slots so far are cached. What has been chosen narrows the codes that a column can still be;
when its slots are through, one is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinweave.generators.pretrained.network import AdaptedModel, Cache
from twinweave.generators.pretrained.pieces import ColumnTensors, Pieces
from twinweave.generators.pretrained.template import Template
from twinweave.generators.writing import draw
from twinweave.tables.contingency import ABSENT

if TYPE_CHECKING:
    from twinweave.generators.conf import PretrainedConf


class Decoder:
    """One batch of rows of one presence pattern, slot by slot. Use once."""

    def __init__(
        self,
        network: AdaptedModel,
        pieces: Pieces,
        conf: PretrainedConf,
        generator: torch.Generator,
    ) -> None:
        self.network, self.pieces, self.conf = network, pieces, conf
        self.generator = generator
        self._cache = Cache(causal=network.causal)
        self._tokens: list[Tensor] = []
        self._mask: list[Tensor] = []
        self._seen = self._last = torch.empty(0)

    def rows(
        self, given: NDArray[np.int32], pattern: NDArray[np.bool_], template: Template
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """given: (n, columns) codes, ABSENT where to be written. pattern: (parties,) presence.

        Returns the codes and the log-likelihood of those given.
        """
        device = self.pieces.column(0).tokens.device
        codes = torch.from_numpy(given.astype(np.int64)).to(device)
        weights = torch.zeros(len(codes), dtype=torch.float64, device=device)
        bits = torch.from_numpy(pattern.astype(np.float32)).to(device)
        tokens, mask = self.pieces.opening(bits.expand(len(codes), -1))
        self._seen = mask[:, :0]
        self._push(tokens, mask)
        visible = template.layout.visible(pattern[None])[0]
        for column in template.order:
            if visible[column]:
                codes[:, column], told = self._write(self.pieces.column(column), codes[:, column])
                weights += told
            elif not self.network.causal:
                piece = self.pieces.column(column)
                none = piece.tokens[-1].expand(len(codes), -1)
                self._push(none, torch.zeros_like(none, dtype=torch.bool))
            if not visible[column]:
                codes[:, column] = ABSENT
        return codes.cpu().numpy().astype(np.int32), weights.cpu().numpy()

    def _push(self, tokens: Tensor, mask: Tensor) -> None:
        """Slots that are settled, to be read before the next choice."""
        self._tokens.append(tokens)
        self._mask.append(mask)

    def _before(self) -> Tensor:
        """Read what was pushed; what the model makes of the last slot: (n, width).

        A causal model counts positions over tokens: slots that no row has one at are left out.
        """
        tokens, mask = torch.cat(self._tokens, dim=1), torch.cat(self._mask, dim=1)
        self._tokens, self._mask = [], []
        if self.network.causal:
            some = mask.any(dim=0)
            tokens, mask = tokens[:, some], mask[:, some]
        if mask.shape[1]:
            self._seen = torch.cat([self._seen, mask], dim=1)
            self._last = self.network.hidden(tokens, self._seen, self._cache)[:, -1]
        return self._last

    def _write(self, piece: ColumnTensors, given: Tensor) -> tuple[Tensor, Tensor]:
        """One column of all rows: (codes, log-likelihood of those given), (n,) each."""
        n, forced = len(given), given != ABSENT
        weight = torch.zeros(n, dtype=torch.float64, device=given.device)
        alive = torch.ones((n, len(piece.chosen)), dtype=torch.bool, device=given.device)
        name = piece.tokens[0, : piece.named].expand(n, -1)
        self._push(name, torch.ones_like(name, dtype=torch.bool))
        for at in range(piece.slots - piece.named):
            if at in piece.choices:
                shares = self._shares(piece, at, alive)
                drawn = draw(shares.cpu(), self.generator).to(given.device)
                token = torch.where(forced, piece.chosen[given.clamp(min=0), at], drawn)
                told = shares.gather(1, token[:, None])[:, 0].double()
                weight += torch.where(forced, told, 0.0)
                alive &= piece.chosen[:, at] == token[:, None]
            one = alive.int().argmax(dim=1)
            slot = piece.named + at
            self._push(piece.tokens[one, slot, None], piece.mask[one, slot, None])
        return alive.int().argmax(dim=1), weight

    def _shares(self, piece: ColumnTensors, at: int, alive: Tensor) -> Tensor:
        """Log-probabilities of the next token among those that alive codes allow: (n, alphabet)."""
        logits = self.network.logits(self._before(), piece.alphabet) / self.conf.temperature
        if self.conf.decode_noise:
            noise = torch.randn(logits.shape, generator=self.generator)
            logits = logits + self.conf.decode_noise * noise.to(logits.device)
        below = torch.nn.functional.one_hot(piece.chosen[:, at], len(piece.alphabet)).bool()
        allowed = (alive[:, :, None] & below).any(dim=1)
        return logits.masked_fill(~allowed, -torch.inf).log_softmax(dim=1)
