"""What a checkpoint was trained on, kept with its weights: which ones may start a private run.

Three records that say the same: `lineage.json` in the folder, bound to the hash of the folder's
files; the unsafe mark inside the weight files' own headers; and the same mark in the model's
configuration. A renamed or copied folder keeps all three; one whose `lineage.json` was deleted, or
is another's, keeps the marks; weights that were loaded and saved anew by `transformers` keep that
of the configuration. Who takes out all three is not found out.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinweave.errors import AppError, ConfigError
from twinweave.parsing import Parsed, canonical_json, check_not_negative, load_json, parse

FILE = "lineage.json"
MARK = "twinweave.unsafe"
"""Key in the header of a safetensors file; its value says of what training."""
CONFIG_MARK = "twinweave_unsafe"
"""The same in config.json, where `transformers` keeps what it does not know."""

_HEADER = 100_000_000
"""Bytes at most: as the format's own library allows."""


@dataclass(frozen=True, kw_only=True)
class Training(Parsed):
    """One training on private rows. epsilon, delta: what it cost; epsilon None: no guarantee."""

    dataset: str
    epsilon: float | None
    delta: float

    def __post_init__(self) -> None:
        told = ("delta",) if self.epsilon is None else ("epsilon", "delta")
        check_not_negative(FILE, self, *told)  # and finite: else it would be no guarantee


@dataclass(frozen=True, kw_only=True)
class Lineage(Parsed):
    """digest: of the folder's files (`checkpoint.digest`). trained: the oldest first."""

    digest: str
    trained: tuple[Training, ...]

    @property
    def unsafe(self) -> bool:
        """Whether a training without noise on private rows is among them."""
        return any(t.epsilon is None for t in self.trained)


def check(folder: Path, digest: str, config: Mapping[str, Any], *, unsafe: bool) -> None:
    """Raise ConfigError unless the checkpoint in `folder` may start a private run; or, where
    `unsafe`, one that trains without noise. config: its config.json."""
    marked = CONFIG_MARK in config or any(
        MARK in header(path).get("__metadata__", {})
        for path in sorted(folder.glob("*.safetensors"))
    )
    lineage = read(folder)
    if not unsafe and (marked or (lineage is not None and lineage.unsafe)):
        raise _refused(
            "was fine-tuned on private rows without noise (its lineage says so)",
            "Start from the checkpoint that it was made from. Only a run with privacy.unsafe=true "
            "may go on with this one (generator.unsafe_checkpoint=true).",
        )
    if lineage is not None and lineage.digest != digest:
        raise _refused(
            f"{FILE} is of other files than those in the folder",
            "Restore the folder as it was written.",
        )


def read(folder: Path) -> Lineage | None:
    """The folder's lineage; None where it has none, as published ones. Raises ConfigError."""
    path = folder / FILE
    if not (path.exists() or path.is_symlink()):
        return None
    try:
        return parse(Lineage, load_json(path.read_text(), FILE), where=FILE)
    except (AppError, OSError, UnicodeError):
        raise _refused(f"{FILE} cannot be read", "Restore the folder as it was written.") from None


def write(folder: Path, lineage: Lineage) -> None:
    """Put the lineage beside the files that it is of."""
    (folder / FILE).write_text(canonical_json(lineage) + "\n")


def header(path: Path) -> dict[str, Any]:
    """Of a safetensors file: shape and place of each tensor, and texts under `__metadata__`.

    Raises ConfigError where it is none.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            found = json.loads(file.read(min(length, _HEADER)))
    except (OSError, ValueError, RecursionError, struct.error):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("__metadata__", {}), dict):
        raise _refused("a weight file is not in safetensors format", "Save it anew.") from None
    return found


def _refused(rule: str, remedy: str) -> ConfigError:
    return ConfigError("generator.checkpoint", rule, remedy)
