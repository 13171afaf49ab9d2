"""Generator `llm`, backend `pretrained`: a published language model that writes rows as text.

Adapters alone are trained and travel. A row is written by `template.py`; its loss is of its own
tokens; decoding chooses among a column's values alone. After DP-2Stage (Afonja et al. 2024,
"DP-2Stage: Adapting language models as differentially private tabular data generators"): first the
format, on rows that are private already, then DP-SGD. Differs: federated; the loss is a mean
within a row; the format stage draws from the run's noisy tables; no invalid row can be written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from twinweave.generators.base import Progress, RowLossGenerator
from twinweave.generators.conf import PretrainedConf
from twinweave.generators.mlp import Blocks
from twinweave.generators.pretrained.checkpoint import check_installed, checked
from twinweave.generators.pretrained.decoding import Decoder
from twinweave.generators.pretrained.lineage import Training
from twinweave.generators.pretrained.merged import write_unsafe
from twinweave.generators.pretrained.network import AdaptedModel, unfit
from twinweave.generators.pretrained.pieces import Pieces, Written
from twinweave.generators.pretrained.template import template
from twinweave.generators.union import OneWay, Rows, UnionLayout
from twinweave.generators.writing import learn_format
from twinweave.tables.contingency import ABSENT

log = logging.getLogger("twinweave.run")
LONG_WORK = 256
"""Rows."""


class PretrainedTransformer(RowLossGenerator):
    """Starts as the published model: adapters add nothing at first.

    micro_batch: in private steps rows go through the model one by one. How a product is rounded
    depends on how many rows it has; a deep model makes more of that than the noise is charged for:
    in bfloat16, and in float32 too under weights that a server may choose
    (docs/language-models.md).
    """

    conf: PretrainedConf
    micro_batch = 1

    def __init__(
        self,
        conf: PretrainedConf,
        layout: UnionLayout,
        *,
        seed: int = 0,
        one_way: OneWay | None = None,  # noqa: ARG002
    ) -> None:
        """Raises ConfigError for a checkpoint that may not be used, or cannot write the columns."""
        super().__init__(conf, layout)
        check_installed()
        checkpoint = checked(conf.checkpoint, conf.digest, unsafe=conf.unsafe_checkpoint)
        self.template = template(layout, checkpoint)
        self.network = AdaptedModel(conf, checkpoint, torch.tensor(self.template.prompt))
        self.pieces = Pieces(self.template, self.network.start)
        self.columns = Blocks(layout)
        self._initialise(torch.Generator().manual_seed(seed))
        self._check_reads()

    def _initialise(self, generator: torch.Generator) -> None:
        """Inner matrices normal, outer ones zero."""
        for name, layer in self.network.adapters():
            nn.init.zeros_(layer.weight)
            if "lora_A" in name:
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)

    @torch.no_grad()
    def _check_reads(self) -> None:
        """Raise ConfigError for a model that cannot read a row, or makes no numbers of it."""
        try:
            lost = self.row_loss(torch.zeros((1, len(self.layout.sizes)), dtype=torch.long), None)
        except Exception:  # whatever transformers makes of a configuration that it has accepted
            raise unfit("cannot read a row") from None
        if not bool(lost.isfinite().all()):
            raise unfit("makes no finite numbers of a row")

    def shared_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The adapters' own."""
        for name, layer in self.network.adapters():
            yield from layer.named_parameters(name)

    def write_unsafe(self, folder: Path, training: Training) -> bool:
        """As a checkpoint, the adapters merged into it: afterwards this network has none."""
        write_unsafe(folder, self.network, Path(self.conf.checkpoint), training)
        return True

    def trained_by(self, held: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        """Every adapter, by whoever holds a column."""
        some = bool(held.any())
        return {name: np.full(tuple(p.shape), some) for name, p in self.shared_parameters()}

    def row_loss(self, codes: Tensor, generator: torch.Generator | None) -> Tensor:  # noqa: ARG002
        """See `loss`; a party counts as present where the row proves it, as unknown elsewhere."""
        return self.loss(codes, self.columns.proven_presence((codes != ABSENT).float()))

    def loss(self, codes: Tensor, presence: Tensor) -> Tensor:
        """Loss of each row alone, (n,) nats; no randomness is used.

        presence: (n, parties) in 0, 1/2 (unknown), 1. `allowed`: a mean over the row's columns,
        of the code's negative log-likelihood; else a mean over the row's tokens.
        """
        return self.losses(codes, presence, self.conf.loss)[0]

    def losses(self, codes: Tensor, presence: Tensor, *kinds: str) -> list[Tensor]:
        """`loss` of each of these kinds, of one pass through the model."""
        written = self.pieces.write(codes, presence, self._written(codes))
        hidden = self.network.packed(written.tokens, written.mask)
        return [
            self._choices(codes, written, hidden)
            if kind == "allowed"
            else self._tokens(written, hidden, values=kind == "values")
            for kind in kinds
        ]

    def _written(self, codes: Tensor) -> tuple[int, ...]:
        """Columns that have slots. Which ones lack must not matter to the rows beside: it does not
        where positions are counted over unmasked tokens, as in causal models."""
        live = (codes != ABSENT).any(dim=0).tolist()
        return self.template.held(live if self.network.causal else [True] * len(live))

    def _choices(self, codes: Tensor, written: Written, hidden: Tensor) -> Tensor:
        total = hidden.new_zeros(len(codes))
        for column in written.values:
            code = codes[:, column]
            lost = self._choice(code.clamp(min=0), column, written, hidden)
            total = total + torch.where(code != ABSENT, lost, 0.0)
        mean: Tensor = total / (codes != ABSENT).sum(dim=1).clamp(min=1)
        return mean

    def _choice(self, code: Tensor, column: int, written: Written, hidden: Tensor) -> Tensor:
        """Negative log-likelihood of a column's codes, (n,) nats."""
        piece, (first, _) = self.pieces.column(column), written.values[column]
        before = hidden[:, [first + at - 1 for at in piece.choices]]
        return piece.choice_loss(self.network.logits(before, piece.alphabet), code)

    def _tokens(self, written: Written, hidden: Tensor, *, values: bool) -> Tensor:
        """Among the whole vocabulary: of values' tokens, or of all."""
        every = range(1, written.tokens.shape[1])
        slots = written.value_slots() if values else list(every)
        logits = self.network.logits(hidden[:, [slot - 1 for slot in slots]])
        targets, counted = written.tokens[:, slots], written.mask[:, slots]
        lost = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        mean: Tensor = (lost * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        return mean

    def sample(self, presence: NDArray[np.bool_], generator: torch.Generator) -> Rows:
        """See `Generator.sample`. Uses an accelerator where torch sees one."""
        codes = np.full((len(presence), len(self.layout.sizes)), ABSENT, dtype=np.int32)
        return Rows(codes=self._decoded(codes, presence, generator)[0], presence=presence)

    @torch.no_grad()
    def shares(self, rows: Rows, column: int) -> NDArray[np.float64]:
        """See `Generator.shares`: each code tried in turn, in all rows."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.to(device).eval()
        found = np.empty((len(rows), self.layout.sizes[column]))
        for at in range(0, len(rows), self.conf.decode_batch):
            part = slice(at, at + self.conf.decode_batch)
            codes = torch.from_numpy(rows.codes[part].astype(np.int64)).to(device)
            bits = torch.from_numpy(rows.presence[part].astype(np.float32)).to(device)
            lost = [self._lost(codes, bits, column, code) for code in range(found.shape[1])]
            found[part] = (-torch.stack(lost, dim=1).double()).softmax(dim=1).cpu().numpy()
        return found

    def _lost(self, codes: Tensor, presence: Tensor, column: int, code: int) -> Tensor:
        """Negative log-likelihood of one code of a column, after the columns before it: (n,)."""
        codes = codes.clone()
        codes[:, column] = code
        order = self._written(codes)
        written = self.pieces.write(codes, presence, order[: order.index(column) + 1])
        hidden = self.network.packed(written.tokens, written.mask)
        return self._choice(codes[:, column], column, written, hidden)

    def complete(self, rows: Rows, generator: torch.Generator, *, tries: int = 8) -> Rows:
        """Write the columns that are ABSENT in `rows`, given all others, wherever they stand.

        Sampling importance resampling (Rubin 1988): of `tries` completions, each written in order
        with the given codes forced, one is drawn in proportion to the likelihood of what was
        forced. Exact where all that is given is written first; otherwise as `tries` grows.
        """
        every = np.repeat(np.arange(len(rows)), tries)
        codes, weights = self._decoded(rows.codes[every], rows.presence[every], generator)
        shares = torch.from_numpy(weights).reshape(len(rows), tries).softmax(dim=1)
        pick = torch.multinomial(shares, 1, generator=generator)[:, 0].numpy()
        return Rows(codes=codes[np.arange(len(rows)) * tries + pick], presence=rows.presence)

    @torch.no_grad()
    def _decoded(
        self, given: NDArray[np.int32], presence: NDArray[np.bool_], generator: torch.Generator
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """(codes, log-likelihood of the given ones), batches of one presence pattern each."""
        self.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        codes, weights = given.copy(), np.zeros(len(given))
        patterns, of = np.unique(presence, axis=0, return_inverse=True)
        told = _Quarters(len(given))
        for number, pattern in enumerate(patterns):
            rows = np.flatnonzero(of.reshape(-1) == number)
            for part in np.split(
                rows, range(self.conf.decode_batch, len(rows), self.conf.decode_batch)
            ):
                decoder = Decoder(self.network, self.pieces, self.conf, generator)
                codes[part], weights[part] = decoder.rows(given[part], pattern, self.template)
                told.more(len(part))
        return codes, weights

    def learn_format(
        self, draft: Callable[[], Rows], *, seed: int, progress: Progress | None = None
    ) -> None:
        """Plain training for `conf.format_steps`; the learning rate falls linearly to zero."""
        conf = self.conf
        if not conf.format_steps:
            return
        generator = torch.Generator().manual_seed(seed)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.to(device).train()
        rows = self._uniform(generator) if conf.format_rows == "uniform" else draft()
        parameters = [p for _, p in self.shared_parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=conf.format_learning_rate, weight_decay=0.0)

        def backward(codes: Tensor, presence: Tensor) -> None:
            parts = (torch.split(whole, conf.micro_batch) for whole in (codes, presence))
            for part, known in zip(*parts, strict=True):
                loss = self.loss(part.to(device), known.to(device)).sum() / conf.format_batch
                torch.autograd.backward(loss)

        learn_format(
            rows, conf, optimizer, backward, self.columns, self.layout, generator, progress
        )

    def _uniform(self, generator: torch.Generator) -> Rows:
        """Rows that know the schema alone: everyone present, every code as likely as another."""
        n = self.conf.format_steps * self.conf.format_batch
        codes = [torch.randint(size, (n,), generator=generator) for size in self.layout.sizes]
        whole = np.ones((n, len(self.layout.parties)), dtype=bool)
        return Rows(codes=torch.stack(codes, dim=1).numpy().astype(np.int32), presence=whole)


class _Quarters:
    """Logs each quarter of the rows written, where there is more than a moment's work."""

    def __init__(self, rows: int) -> None:
        self._rows, self._done = rows, 0

    def more(self, rows: int) -> None:
        before, self._done = 4 * self._done // self._rows, self._done + rows
        now = 4 * self._done // self._rows
        if now > before and self._rows >= LONG_WORK:
            log.info("writing rows: %d%% of %d", 25 * now, self._rows)
