"""Configuration of the generators: what `conf/generator/*.yaml` may say. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field

from twinweave.errors import ConfigError
from twinweave.parsing import Parsed, check_not_negative, check_positive

if TYPE_CHECKING:
    from twinweave.generators.cost import Cost
    from twinweave.generators.union import UnionLayout

FIELD = "generator"

MOST_LAYERS, MOST_WIDTH, MOST_RANK = 1_000, 1 << 16, 1_024
MOST_LOGIT = 1e6
"""Of what multiplies or is added to logits: beyond, they are no numbers in single precision."""
MOST_ROUNDS, MOST_STEPS = 10_000, 10**6
MOST_NUMBERS = 1 << 28
"""What a party still takes on: a specification comes from outside. Numbers: in a network's inner
layers, or in what a batch of its own rows is at one of them."""

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh"]

GradientMode = Literal["bookkeeping", "ghost", "hooks", "functorch"]
"""How the gradient of each row is had: our own book-keeping, or a mode of Opacus."""


def check_clip(where: str, clip: float) -> None:
    """Raise ConfigError unless noise and gradients of this clip are ordinary single-precision
    numbers: beyond, noise of the charged scale would round to nothing."""
    if not 1e-6 <= clip <= 1e9:
        name = f"{where}.clip" if where else "clip"
        raise ConfigError(name, "not in 1e-6..1e9", "Common choice: 1.")


def check_numbers(*sizes: int) -> None:
    """Raise ConfigError where these, of a network, are more than a party holds in memory."""
    if sum(sizes) > MOST_NUMBERS:
        raise ConfigError(
            FIELD,
            f"a network of more than {MOST_NUMBERS:,} numbers",
            "Give fewer or narrower layers.",
        )


@dataclass(frozen=True, kw_only=True)
class TrainingConf(Parsed):
    """What local DP-SGD needs, whatever the generator. All of it is public and fixed per run.

    learning_rate: of the private steps (DP-Adam).
    clip: bound C on the L2 norm of one row's gradient.
    expected_batch: rows expected in a Poisson batch.
    rounds: in each, every party trains and the server combines the updates.
    local_steps: private steps of a round, at each party.
    gradients: how per-row gradients are had, all of them exact: `bookkeeping` (one backward
        pass, the fastest) or Opacus's `ghost`, `hooks` and `functorch`.
    """

    soft: ClassVar[bool] = True
    """Whether the generator has soft output (`SoftGenerator`)."""
    writes: ClassVar[bool] = False
    """Whether it says the chances of a column it writes (`Generator.shares`)."""
    learning_rate: float
    clip: float
    expected_batch: int
    rounds: int
    local_steps: int
    gradients: GradientMode = "bookkeeping"

    def __post_init__(self) -> None:
        check_positive(FIELD, self, "learning_rate", "expected_batch")
        check_clip(FIELD, self.clip)
        check_not_negative(FIELD, self, "rounds", most=MOST_ROUNDS)
        check_not_negative(FIELD, self, "local_steps", most=MOST_STEPS)

    @property
    def steps(self) -> int:
        """Private steps of the whole run, at each party."""
        return self.rounds * self.local_steps

    @property
    def auto_share(self) -> float:
        """What training gets of the budget where nobody says (`generators/earning.py`)."""
        return 0.0

    @property
    def most_candidates(self) -> int | None:
        """See `Generator.most_candidates`."""
        return None

    @property
    def kind(self) -> str:
        """Its entry in `registry.KINDS`."""
        name: str = getattr(self, "name")  # noqa: B009 (of the kinds themselves)
        return name

    @property
    def threads(self) -> int:
        """That a party trains with: matrices are small, and a simulation's parties share cores."""
        return 1

    @property
    def public_file(self) -> str | None:
        """Of rows to learn the format from; None: they are drawn from the noisy tables."""
        return None

    def pinned(self) -> Self:
        """With the hash of what it reads from disk, to which all of a run is held."""
        return self

    def told(self) -> Self:
        """As a run's specification has it: without what only the server reads."""
        return self

    def placed(self, checkpoint: str | None) -> Self:  # noqa: ARG002
        """As a party reads it: with its own folder in the place of the specification's."""
        return self

    def cost(self, layout: UnionLayout, *, drawn: float) -> Cost | None:  # noqa: ARG002
        """What a run costs that draws so many rows; None where it takes minutes at most."""
        return None

    def check(self, layout: UnionLayout) -> None:  # noqa: ARG002
        """Raise ConfigError where it cannot be built for this union. Loads no torch."""
        return

    def check_unsafe(self, unsafe: bool) -> None:  # noqa: ARG002
        """Raise ConfigError where it asks for what a run that trains with noise may not have."""
        return


@dataclass(frozen=True, kw_only=True)
class TvaeConf(TrainingConf):
    """Variational autoencoder over one-hot blocks.

    name: which generator.
    layers: hidden layers of encoder and decoder each.
    width: units of a hidden layer.
    activation: of the hidden layers.
    latent: numbers in the code of a row, shared out among parties with columns of their own.
    beta: weight of the KL term.
    """

    name: Literal["tvae"] = "tvae"
    layers: int
    width: int
    activation: Activation
    latent: int
    beta: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(FIELD, self, "layers", most=MOST_LAYERS)
        check_positive(FIELD, self, "width", "latent", most=MOST_WIDTH)
        check_not_negative(FIELD, self, "beta")
        check_numbers(self.layers * self.width**2, self.width * self.latent)


@dataclass(frozen=True, kw_only=True)
class CtganConf(TrainingConf):
    """Conditional Wasserstein GAN.

    name: which generator.
    learning_rate: of the discriminator, whose steps are the private ones.
    layers: hidden layers of the generator.
    width: units of each of them.
    activation: of the hidden layers.
    latent: normal numbers that the generator starts from.
    generator_learning_rate: of the generator, which sees no row and trains at no cost.
    discriminator_layers: hidden layers of the discriminator.
    discriminator_width: units of each of them.
    discriminator_steps: private steps between two steps of the generator.
    lipschitz: bound on the spectral norm of each discriminator layer.
    condition: weight of the loss that makes a generated row obey its condition.
    anchor: weight of the generator's distance to the noisy one-way tables.
    temperature: of the straight-through Gumbel softmax while training.
    generator_batch: fake rows of a generator step.
    """

    name: Literal["ctgan"] = "ctgan"
    layers: int
    width: int
    activation: Activation
    latent: int
    generator_learning_rate: float
    generator_batch: int
    discriminator_layers: int
    discriminator_width: int
    discriminator_steps: int
    lipschitz: float
    condition: float
    anchor: float
    temperature: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(FIELD, self, "layers", "discriminator_layers", most=MOST_LAYERS)
        check_positive(FIELD, self, "width", "latent", "discriminator_width", most=MOST_WIDTH)
        check_positive(FIELD, self, "generator_batch", most=MOST_WIDTH)
        check_positive(FIELD, self, "discriminator_steps", most=MOST_STEPS)
        check_positive(FIELD, self, "generator_learning_rate", "lipschitz", "temperature")
        check_not_negative(FIELD, self, "condition", "anchor")
        check_numbers(
            self.layers * self.width**2,
            self.width * self.latent,
            self.discriminator_layers * self.discriminator_width**2,
            self.generator_batch * max(self.width, self.latent, self.discriminator_width),
        )


@dataclass(frozen=True, kw_only=True)
class LlmConf(TrainingConf):
    """Causal transformer over the schema's tokens.

    name, backend: which generator.
    layers: blocks of the transformer.
    width: of a token's vector.
    heads: of attention; they divide the width.
    hidden: inner width of a block.
    activation: inside a block.
    format_steps: of plain training on rows drawn from the noisy tables, before the private steps.
    format_learning_rate: that of it.
    format_batch: rows of one of its steps.
    one_party: share of those rows shown as a single party sees them.
    gradients: not `ghost`, whose norms of sequences can be lost in rounding.
    """

    soft: ClassVar[bool] = False
    writes: ClassVar[bool] = True
    name: Literal["llm"] = "llm"
    gradients: Literal["bookkeeping", "hooks", "functorch"] = "bookkeeping"
    backend: Literal["schema"] = "schema"
    layers: int
    width: int
    heads: int
    hidden: int
    activation: Activation
    format_steps: int
    format_learning_rate: float
    format_batch: int
    one_party: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(FIELD, self, "layers", most=MOST_LAYERS)
        check_positive(FIELD, self, "width", "heads", "hidden", most=MOST_WIDTH)
        check_positive(FIELD, self, "format_learning_rate", "format_batch")
        check_not_negative(FIELD, self, "format_steps")
        check_numbers(self.layers * self.width * (4 * self.width + 2 * self.hidden))
        if self.width % self.heads:
            raise ConfigError("generator.heads", "does not divide the width", "Correct either.")
        check_share(self)


@dataclass(frozen=True, kw_only=True)
class PretrainedConf(TrainingConf):
    """A published language model that writes rows as text, by adapters.

    name, backend: which generator.
    checkpoint: a local folder. digest: SHA-256 of its files; None: whatever is there.
    unsafe_checkpoint: it may be one that was trained without noise; in runs with
        `privacy.unsafe` alone.
    rank: of the adapters (LoRA). scale: their alpha, divided by the rank.
    precision: of the frozen weights; adapters are float32.
    loss: of the tokens of values among those that the column allows (`allowed`), among all
        (`values`), or of every token among all (`all`, as is usual: for comparison).
    format_rows: what plain training before the private steps is on: rows drawn from the noisy
        tables (`tables`), from the schema alone, uniformly (`uniform`), or of a public file
        (`file`).
    format_file: that file, CSV or Parquet with every column of every party.
    format_steps: of that training. format_learning_rate: that of it. format_batch: rows of a step.
    one_party: share of those rows shown as a single party sees them.
    micro_batch: rows through the model at once in the format stage; in private steps it is one.
    candidates: rows it writes for a synthesis, at most; with fewer than are wanted, rows repeat.
    decode_batch: rows through the model at once in decoding.
    temperature: logits are divided by it in decoding. decode_noise: standard deviation of normal
        noise on logits in decoding; no part of any guarantee.
    gradients: not `ghost`, whose norms of sequences can be lost in rounding.
    """

    soft: ClassVar[bool] = False
    writes: ClassVar[bool] = True
    name: Literal["llm"] = "llm"
    backend: Literal["pretrained"] = "pretrained"
    gradients: Literal["bookkeeping", "hooks", "functorch"] = "bookkeeping"
    checkpoint: str
    digest: str | None = None
    unsafe_checkpoint: bool = False
    rank: int
    scale: float
    precision: Literal["float32", "bfloat16"]
    loss: Literal["allowed", "values", "all"]
    format_rows: Literal["tables", "uniform", "file"]
    format_file: str | None = None
    format_steps: int
    format_learning_rate: float
    format_batch: int
    one_party: float
    micro_batch: int
    candidates: int
    decode_batch: int
    temperature: float
    decode_noise: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(FIELD, self, "rank", most=MOST_RANK)
        check_positive(FIELD, self, "micro_batch", "decode_batch", most=MOST_WIDTH)
        check_positive(FIELD, self, "scale", "format_learning_rate", "format_batch", "candidates")
        check_positive(FIELD, self, "temperature", least=1 / MOST_LOGIT, most=MOST_LOGIT)
        check_not_negative(FIELD, self, "decode_noise", most=MOST_LOGIT)
        check_not_negative(FIELD, self, "format_steps")
        check_share(self)
        if (self.format_rows == "file") != (self.format_file is not None):
            raise ConfigError(
                "generator.format_file",
                "goes with format_rows=file, and it with a file",
                "Give both, or neither.",
            )

    @property
    def kind(self) -> str:
        return "llm_pretrained"

    @property
    def most_candidates(self) -> int:
        return self.candidates

    @property
    def public_file(self) -> str | None:
        return self.format_file

    @property
    def auto_share(self) -> float:
        return 0.1

    @property
    def threads(self) -> int:
        """All there are: the matrices are large."""
        return os.cpu_count() or 1

    def pinned(self) -> Self:
        from twinweave.generators.pretrained.checkpoint import checked

        found = checked(self.checkpoint, self.digest, unsafe=self.unsafe_checkpoint)
        if self.format_file and not Path(self.format_file).is_file():
            raise ConfigError("generator.format_file", "is no file", "Name a CSV or Parquet file.")
        return replace(self, digest=found.digest)

    def told(self) -> Self:
        return replace(self, format_file=self.format_file and Path(self.format_file).name)

    def placed(self, checkpoint: str | None) -> Self:
        if checkpoint is None:
            raise ConfigError(
                "site.checkpoint",
                "is missing, and the run trains a pretrained model",
                "Name the folder of your own copy of the model in the site file.",
            )
        return replace(self, checkpoint=checkpoint)

    def cost(self, layout: UnionLayout, *, drawn: float) -> Cost | None:
        from twinweave.generators.pretrained.costs import estimate

        return estimate(self, layout, layout.parties, drawn=drawn)

    def check(self, layout: UnionLayout) -> None:
        from twinweave.generators.pretrained.checkpoint import check_installed, checked
        from twinweave.generators.pretrained.template import template

        check_installed()
        template(layout, checked(self.checkpoint, self.digest, unsafe=self.unsafe_checkpoint))

    def check_unsafe(self, unsafe: bool) -> None:
        if self.unsafe_checkpoint and not unsafe:
            raise ConfigError(
                "generator.unsafe_checkpoint",
                "is true, and a run that trains with noise starts from no such checkpoint",
                "Start from the checkpoint that it was made from, or set privacy.unsafe=true.",
            )


def check_share(conf: LlmConf | PretrainedConf) -> None:
    """Raise ConfigError where `one_party` is no share of rows."""
    if not 0 <= conf.one_party <= 1:
        raise ConfigError("generator.one_party", "not in 0..1", "Give a share of the rows.")


GeneratorConf = TvaeConf | CtganConf | LlmConf | PretrainedConf
_Llm = Annotated[LlmConf | PretrainedConf, Field(discriminator="backend")]
NamedGenerator = Annotated[TvaeConf | CtganConf | _Llm, Field(discriminator="name")]
"""As parsed, by its name and backend: a wrong value of one is told as no fault of the others."""
