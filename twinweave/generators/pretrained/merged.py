"""A fine-tuned model as a checkpoint of its own: adapters merged into the weights, and marked.

Of trainings without noise alone. Such a checkpoint starts no private run (lineage.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from twinweave import durable
from twinweave.generators.pretrained import lineage
from twinweave.generators.pretrained.checkpoint import TOKENIZER, digest_of
from twinweave.generators.pretrained.lineage import Lineage, Training
from twinweave.generators.pretrained.network import AdaptedModel


def write_unsafe(folder: Path, adapted: AdaptedModel, source: Path, training: Training) -> None:
    """Write a trained model into a new folder, as `save_pretrained` does, in float32.

    adapted: loses its adapters. source: the checkpoint that it started from. training: the last
    one; those of the source come before it. Nothing unmarked is ever under the folder's own name.
    """
    aside = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    earlier = lineage.read(source)
    trained = (*(earlier.trained if earlier else ()), training)
    lineage.write(aside, Lineage(digest="", trained=trained))  # first: it refuses as it is
    model = _merged(adapted)
    setattr(model.config, lineage.CONFIG_MARK, training.dataset)
    model.save_pretrained(str(aside))
    shutil.copyfile(source / TOKENIZER, aside / TOKENIZER)
    for path in sorted(aside.glob("*.safetensors")):
        _mark(path, training.dataset)
    lineage.write(aside, Lineage(digest=digest_of(aside), trained=trained))
    shutil.rmtree(folder, ignore_errors=True)
    durable.rename(aside, folder)


def _merged(adapted: AdaptedModel) -> Any:
    """The model with W + (scale / rank) B A in the place of each W that has adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = adapted.model.cpu().float()  # in bfloat16 a small change would round to none
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, layer in found:
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    return model


def _mark(path: Path, dataset: str) -> None:
    """Put the mark into the header of a safetensors file."""
    from safetensors.torch import load_file, save_file

    told = lineage.header(path).get("__metadata__", {})
    save_file(load_file(path), path, metadata={**told, lineage.MARK: dataset})
