"""A checkpoint: a local folder of a published language model, checked before it is loaded.

Nothing is downloaded, no code of a folder is run: weights are safetensors, the architecture is one
that `transformers` has itself. Imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twinweave.errors import ConfigError
from twinweave.generators.pretrained import lineage

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
EXTRA = ("torch", "transformers", "peft", "tokenizers")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A kind of model whose per-row gradients were held against brute force, in every mode.

    causal: a decoder alone; else encoder and decoder. adapted: names of the linear layers that
    get adapters, a regular expression over module names. They belong to the decoder, whose inputs
    have the rows of the batch first; an encoder reads the same public prompt for all rows, once.
    """

    causal: bool
    adapted: str


_SPLIT = r".*\.self_attn\.(q|k|v|o)_proj"
ARCHITECTURES = {
    "gpt2": Architecture(causal=True, adapted=r".*\.attn\.c_(attn|proj)"),
    "llama": Architecture(causal=True, adapted=_SPLIT),
    "qwen2": Architecture(causal=True, adapted=_SPLIT),
    "qwen3": Architecture(causal=True, adapted=_SPLIT),
    "t5": Architecture(causal=False, adapted=r"decoder\..*Attention\.(q|k|v|o)"),
    "bart": Architecture(causal=False, adapted=r".*decoder\..*attn\.(q|k|v|out)_proj"),
}
"""By `model_type` of config.json."""


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


def checked(folder: str, digest: str | None = None) -> Checkpoint:
    """The checkpoint in a folder, fit for a private run.

    digest: that the run's specification names. Raises ConfigError for a folder that is none, a
    kind of model that was not checked, weights that may run code, a lineage that refuses, or other
    files than the run's.
    """
    path = Path(folder)
    kind = model_type(path)
    found = digest_of(path)
    lineage.check(path, found)
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
    """Which of ARCHITECTURES the folder holds. Raises ConfigError for all else."""
    for name in (CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise _refused(
                f"has no {name}",
                "Give the folder that save_pretrained of model and (fast) tokenizer wrote; "
                "scripts.checkpoint makes one.",
            )
    if not any(folder.glob("*.safetensors")):
        raise _refused("has no *.safetensors; pickled weights may run code", "Save it as such.")
    kind = str(config_of(folder).get("model_type"))
    if kind not in ARCHITECTURES:
        raise _refused(
            "is of a kind whose gradients of rows were not checked exact",
            f"Use one of: {', '.join(ARCHITECTURES)}.",
        )
    return kind


def digest_of(folder: Path) -> str:
    """SHA-256, hex, over the names and contents of the files that a model is loaded from."""
    names = [CONFIG, TOKENIZER, *sorted(p.name for p in folder.glob("*.safetensors"))]
    files = [folder / name for name in names]
    return _digest(tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files))


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
        found: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        raise _refused(f"its {CONFIG} cannot be read", "Save it anew.") from None
    return found


def _positions(folder: Path) -> int | None:
    """Tokens that the model can read; None: as many as one likes."""
    config = config_of(folder)
    found = config.get("max_position_embeddings") or config.get("n_positions")
    return None if config["model_type"] == "t5" or not found else int(found)


def _refused(rule: str, remedy: str) -> ConfigError:
    return ConfigError("generator.checkpoint", rule, remedy)
