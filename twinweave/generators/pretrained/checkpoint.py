"""A checkpoint: a local folder of a published language model, checked before it is loaded.

Nothing is downloaded, no code of a folder is run: weights are safetensors, the architecture is one
that `transformers` has itself. Imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twinweave.errors import ConfigError
from twinweave.generators.pretrained import lineage

CONFIG, TOKENIZER, INDEX = "config.json", "tokenizer.json", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
ELSEWHERE = "transformers_weights"
"""Key of config.json: the file that `transformers` takes for the weights, in any subfolder."""
EXTRA = ("torch", "transformers", "peft", "tokenizers")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A kind of model whose per-row gradients were held against brute force, in every mode.

    causal: a decoder alone; else encoder and decoder. adapted: names of the linear layers that
    get adapters, a regular expression over module names; each: how many a layer has. They belong
    to the decoder, whose inputs have the rows of the batch first; an encoder reads the same public
    prompt for all rows, once.
    """

    causal: bool
    adapted: str
    each: int


_SPLIT = r".*\.self_attn\.(q|k|v|o)_proj"
ARCHITECTURES = {
    "gpt2": Architecture(causal=True, adapted=r".*\.attn\.c_(attn|proj)", each=2),
    "llama": Architecture(causal=True, adapted=_SPLIT, each=4),
    "qwen2": Architecture(causal=True, adapted=_SPLIT, each=4),
    "qwen3": Architecture(causal=True, adapted=_SPLIT, each=4),
    "t5": Architecture(causal=False, adapted=r"decoder\..*Attention\.(q|k|v|o)", each=8),
    "bart": Architecture(causal=False, adapted=r".*decoder\..*attn\.(q|k|v|out)_proj", each=8),
}
"""By `model_type` of config.json."""

ROTATIONS = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions (`rope_type`) whose frequencies are the same for every batch. Others,
as `longrope` and `dynamic`, take them from its longest row: a row's loss would be its neighbours'
too."""

_LAYERS = ("num_decoder_layers", "decoder_layers", "num_hidden_layers", "n_layer", "num_layers")
"""Names of the decoder's number of layers: those of two stacks first, whose others may be the
encoder's."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder that passed. digest: SHA-256, hex, of configuration, tokenizer and weights."""

    folder: Path
    digest: str
    model_type: str
    positions: int | None

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[self.model_type]


def checked(folder: str, digest: str | None = None, *, unsafe: bool = False) -> Checkpoint:
    """The checkpoint in a folder, fit for a private run; or, where `unsafe`, for one that trains
    without noise, which may go on with what another such run made.

    digest: that the run's specification names. Raises ConfigError for a folder that is none, a
    kind of model that was not checked, weights that may run code, a lineage that refuses, or other
    files than the run's.
    """
    path = Path(folder)
    kind = model_type(path)
    found = digest_of(path)
    lineage.check(path, found, config_of(path), unsafe=unsafe)
    _check_layers(path, ARCHITECTURES[kind])
    _check_rotation(config_of(path))
    if digest not in (None, found):
        raise _refused(
            "is not the run's: its files have another hash",
            "Use the model that the run began with, the same one at all parties.",
        )
    return Checkpoint(folder=path, digest=found, model_type=kind, positions=_positions(path))


def check_installed() -> None:
    """Raise ConfigError where the packages of the extra `llm` lack."""
    for name in EXTRA:
        if find_spec(name) is None:
            raise ConfigError(
                "generator.backend", f"pretrained needs {name}", "pip install 'twinweave[llm]'."
            )


def model_type(folder: Path) -> str:
    """Which of ARCHITECTURES the folder holds. Raises ConfigError for all else.

    Also for what transformers would follow to other weights than those that are hashed and whose
    marks are read: adapters saved beside a base, an index or a configuration that names files
    elsewhere.
    """
    for name in (CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise _refused(
                f"has no {name}" if folder.is_dir() else "is no folder",
                "Give the folder that save_pretrained of model and (fast) tokenizer wrote; "
                "scripts.checkpoint makes one.",
            )
    if not any(folder.glob("*.safetensors")):
        raise _refused("has no *.safetensors; pickled weights may run code", "Save it as such.")
    if (folder / ADAPTER).exists():
        raise _refused(
            f"has {ADAPTER}: adapters, of which another folder has the base",
            "Merge them into the model (merge_and_unload) and save that.",
        )
    _check_index(folder)
    config = config_of(folder)
    if config.get(ELSEWHERE) is not None:
        raise _refused(
            f"its {CONFIG} names a file of weights ({ELSEWHERE})",
            "Load the model and save it anew: weights lie beside their configuration.",
        )
    if config.get("quantization_config"):
        raise _refused("is quantised", "Save it in float32 or bfloat16; scripts.checkpoint does.")
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise _refused(
            "is of a kind whose gradients of rows were not checked exact",
            f"Use one of: {', '.join(ARCHITECTURES)}.",
        )
    return kind


def _check_index(folder: Path) -> None:
    """Raise ConfigError where an index of weight files names any that are not in the folder."""
    if not (folder / INDEX).exists():
        return
    try:
        named = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise _refused(f"its {INDEX} cannot be read", "Save it anew.") from None
    if not named <= {path.name for path in folder.glob("*.safetensors")}:
        raise _refused(f"its {INDEX} names files that are not in it", "Save it anew.")


def digest_of(folder: Path) -> str:
    """SHA-256, hex, over the names and contents of the files that a model is loaded from.

    Raises ConfigError for one that cannot be read, as a link to a file that is gone.
    """
    names = [CONFIG, TOKENIZER, *sorted(p.name for p in folder.glob("*.safetensors"))]
    names += [INDEX] if (folder / INDEX).exists() else []
    files = [folder / name for name in names]
    try:
        return _digest(tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files))
    except OSError:
        raise _refused("has a file that cannot be read", "Get the folder again.") from None


@cache
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    total = hashlib.sha256()
    for name, _, size in files:
        total.update(f"{Path(name).name}\0{size}\0".encode())
        with Path(name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def config_of(folder: Path) -> dict[str, Any]:
    """config.json. Raises ConfigError."""
    try:
        found = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _refused(f"its {CONFIG} cannot be read", "Save it anew.")
    return found


def weights_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights by name, from the heads of the files. Raises ConfigError."""
    heads = [lineage.header(path) for path in sorted(folder.glob("*.safetensors"))]
    try:
        return {
            name: tuple(tensor["shape"])
            for head in heads
            for name, tensor in head.items()
            if name != "__metadata__"
        }
    except (LookupError, TypeError):
        raise _refused("a weight file is not in safetensors format", "Save it anew.") from None


def adapted_weights(folder: Path, architecture: Architecture) -> tuple[tuple[int, ...], ...]:
    """Shapes of the weights of the layers that get adapters."""
    adapted = re.compile(rf"({architecture.adapted})\.weight")
    return tuple(shape for name, shape in weights_of(folder).items() if adapted.fullmatch(name))


def layers_of(config: dict[str, Any]) -> int:
    """Layers of the decoder. Raises ConfigError where the configuration does not say."""
    return number_of(config, "layers", *_LAYERS)


def number_of(config: dict[str, Any], what: str, *names: str) -> int:
    """The first of these fields that has a number above 0. Raises ConfigError where none has."""
    for name in names:
        found = config.get(name)
        if isinstance(found, int) and found > 0:
            return found
    raise _refused(f"its {CONFIG} says no number of {what}", "Save it anew.")


def _check_layers(folder: Path, architecture: Architecture) -> None:
    """Raise ConfigError where weights and configuration are of two models: what lacks would be
    drawn at random, otherwise at every party. All weights are looked at when they are loaded."""
    wanted = architecture.each * layers_of(config_of(folder))
    if len(adapted_weights(folder, architecture)) != wanted:
        raise _refused(
            f"its weights are not those of the model in its {CONFIG}",
            "Save model and configuration anew, together.",
        )


def _positions(folder: Path) -> int | None:
    """Tokens that the model can read, all of them at every token; None: as many as one likes, or
    what `transformers` takes where nothing is said.

    A window that slides counts places, masked ones too: where a row is longer than it, decoding
    would not draw from what training learns.
    """
    config = config_of(folder)
    if config["model_type"] == "t5":
        return None
    said = [n for n in ("max_position_embeddings", "n_positions") if config.get(n) is not None]
    limits = [number_of(config, "positions", *said)] if said else []
    if config.get("use_sliding_window"):
        limits.append(number_of(config, "positions in its window", "sliding_window"))
    return min(limits, default=None)


def _check_rotation(config: dict[str, Any]) -> None:
    """Raise ConfigError for rotary positions that are none of ROTATIONS."""
    for name in ("rope_parameters", "rope_scaling"):
        told = config.get(name) or {}
        known = isinstance(told, dict)
        if not known or told.get("rope_type", told.get("type", "default")) not in ROTATIONS:
            raise _refused(
                f"counts positions in a way ({name}) by which rows of a batch change each other",
                f"Use a model whose rope_type is one of: {', '.join(ROTATIONS)}.",
            )


def _refused(rule: str, remedy: str) -> ConfigError:
    return ConfigError("generator.checkpoint", rule, remedy)
