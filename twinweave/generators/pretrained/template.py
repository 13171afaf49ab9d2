"""Rows as text, and the text as tokens: what is forced, and what may be chosen where.

A row reads ` publisher yes, advertiser unknown; sex: male, age: 25 to 29, ...`: first the presence
at each party, then the columns in `order.column_order`. Names and punctuation are forced. The
tokens of a column's values form a trie; where a path through it parts, a token is chosen among its
children, so every sequence of choices ends in a code of the column: no invalid row can be written.

Every piece has a fixed place (slots); shorter ones are padded and masked. So all rows of a batch
line up, and a row's tokens do not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.generators.order import column_order
from twinweave.generators.pretrained.checkpoint import TOKENIZER, Checkpoint, config_of
from twinweave.generators.union import UnionLayout

PRESENCE = (" no", " unknown", " yes")
"""Of presence 0, 1/2 and 1."""
PAD = 0
"""Token at masked places: attended by none."""


class Tokens(Protocol):
    """Text to tokens, without special ones."""

    def __call__(self, text: str) -> tuple[int, ...]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """One of several texts at a fixed place. tokens: int64 (texts + 1, slots); mask: bool, the
    same, False where padded; the last text is none at all."""

    tokens: NDArray[np.int64]
    mask: NDArray[np.bool_]

    @property
    def slots(self) -> int:
        return self.tokens.shape[1]

    @classmethod
    def of(cls, texts: Sequence[tuple[int, ...]]) -> Piece:
        slots = max(map(len, texts), default=0)
        tokens = np.full((len(texts) + 1, slots), PAD, dtype=np.int64)
        mask = np.zeros((len(texts) + 1, slots), dtype=bool)
        for i, text in enumerate(texts):
            tokens[i, : len(text)], mask[i, : len(text)] = text, True
        return cls(tokens=tokens, mask=mask)


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnText(Piece):
    """The texts of one column's codes: ` name:`, then the value and a comma.

    named: slots of the name. alphabet: int64 (tokens,), all that occur in values. chosen: int64
    (size, values' slots), each value token's number in the alphabet. allowed: bool (size, values'
    slots, tokens), the children of the trie's node that a code's path has reached. Behind the
    value's end both say the alphabet's first token, so that nothing is chosen there.
    """

    named: int
    alphabet: NDArray[np.int64]
    chosen: NDArray[np.int64]
    allowed: NDArray[np.bool_]

    @property
    def values(self) -> int:
        """Slots of the value."""
        return self.slots - self.named

    @cached_property
    def choices(self) -> tuple[int, ...]:
        """Slots of the value at which some code's path parts from another's."""
        return tuple(np.flatnonzero((self.allowed.sum(axis=2) > 1).any(axis=0)).tolist())

    @classmethod
    def written(cls, name: tuple[int, ...], values: Sequence[tuple[int, ...]]) -> ColumnText:
        """Raises ValueError where one value's tokens begin with all of another's."""
        ranked = sorted(values)
        if any(b[: len(a)] == a for a, b in pairwise(ranked)):
            raise ValueError("a value begins with all of another")
        piece = Piece.of([name + value for value in values])
        alphabet = sorted({token for value in values for token in value})
        number = {token: i for i, token in enumerate(alphabet)}
        slots = piece.slots - len(name)
        chosen = np.zeros((len(values), slots), dtype=np.int64)
        allowed = np.zeros((len(values), slots, len(alphabet)), dtype=bool)
        allowed[:, :, 0] = np.arange(slots) >= np.array([len(v) for v in values])[:, None]
        children: dict[tuple[int, ...], set[int]] = {}
        for value in values:
            for at, token in enumerate(value):
                children.setdefault(value[:at], set()).add(number[token])
        for code, value in enumerate(values):
            for at, token in enumerate(value):
                chosen[code, at] = number[token]
                allowed[code, at, list(children[value[:at]])] = True
        return cls(
            tokens=piece.tokens,
            mask=piece.mask,
            named=len(name),
            alphabet=np.array(alphabet, dtype=np.int64),
            chosen=chosen,
            allowed=allowed,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Template:
    """All pieces of a row, in the order they are written. columns: by union column.

    prompt: tokens that an encoder reads, the same for every row.
    """

    layout: UnionLayout
    order: tuple[int, ...]
    presence: tuple[Piece, ...]
    columns: dict[int, ColumnText] = field(repr=False)
    prompt: tuple[int, ...] = field(repr=False)

    @property
    def slots(self) -> int:
        """Of a whole row, with the one that starts it."""
        pieces = [*self.presence, *self.columns.values()]
        return 1 + sum(piece.slots for piece in pieces)

    @property
    def largest(self) -> int:
        """The largest token that is ever read."""
        pieces = [*self.presence, *self.columns.values()]
        return max([*self.prompt, *(int(p.tokens.max()) for p in pieces if p.tokens.size)])

    @classmethod
    def of(cls, layout: UnionLayout, tokens: Tokens) -> Template:
        """Raises ConfigError where two values of a column have the same tokens."""
        columns = {}
        for column, name in enumerate(layout.names):
            values = [tokens(f" {text}") + tokens(",") for text in texts_of(layout, column)]
            try:
                columns[column] = ColumnText.written(tokens(f" {name}:"), values)
            except ValueError:
                raise ConfigError(
                    "generator.checkpoint",
                    f"its tokenizer cannot tell the values of column {name!r} apart",
                    "Rename levels in the schema, or use another checkpoint.",
                ) from None
        ends = [","] * (len(layout.parties) - 1) + [";"]
        presence = [
            Piece.of([tokens(f" {party}{state}") + tokens(end) for state in PRESENCE])
            for party, end in zip(layout.parties, ends, strict=True)
        ]
        return cls(
            layout=layout,
            order=column_order(layout),
            presence=tuple(presence),
            columns=columns,
            prompt=tokens(f"A row with {', '.join(layout.names)}:"),
        )

    def held(self, live: Sequence[bool] | NDArray[np.bool_]) -> tuple[int, ...]:
        """The columns of `live` (columns,), in the order they are written."""
        return tuple(c for c in self.order if live[c])


def texts_of(layout: UnionLayout, column: int) -> tuple[str, ...]:
    """What is written for each code of a column: its label; its number where there is none."""
    if layout.labels:
        return layout.labels[column]
    return tuple(map(str, range(layout.sizes[column])))


def tokens_of(checkpoint: Checkpoint) -> Tokens:
    """The checkpoint's own tokenizer, without what its file adds for training: padding, a length
    at which texts are cut, and merges that are left out at random, elsewhere at each party."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(checkpoint.folder / TOKENIZER))
    except Exception:  # of no class of its own
        raise ConfigError(
            "generator.checkpoint", f"its {TOKENIZER} cannot be read", "Save it anew."
        ) from None

    tokenizer.no_padding()
    tokenizer.no_truncation()
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None

    def tokens(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False).ids)

    return tokens


def template(layout: UnionLayout, checkpoint: Checkpoint) -> Template:
    """A union's rows in a checkpoint's tokens. Raises ConfigError where the model cannot hold one
    or cannot tell two values apart."""
    made = Template.of(layout, tokens_of(checkpoint))
    if checkpoint.positions is not None and made.slots > checkpoint.positions:
        raise ConfigError(
            "generator.checkpoint",
            f"reads {checkpoint.positions} tokens, and a row has up to {made.slots}",
            "Use another one, or fewer columns.",
        )
    known = config_of(checkpoint.folder).get("vocab_size")
    if not isinstance(known, int) or made.largest >= known:
        raise ConfigError(
            "generator.checkpoint",
            f"its {TOKENIZER} has tokens that its model does not know",
            "Give a model with its own tokenizer.",
        )
    return made
