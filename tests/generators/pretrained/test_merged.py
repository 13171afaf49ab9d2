"""The checkpoint of a fine-tuning without noise: the very model, and marked for good."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.generators.pretrained.tiny import ARCHITECTURES, LAYOUT, conf, model
from twinweave.errors import ConfigError
from twinweave.generators import registry
from twinweave.generators.pretrained import lineage
from twinweave.generators.pretrained.checkpoint import checked, digest_of
from twinweave.generators.pretrained.lineage import Training

TRAINED = Training(dataset="german_credit", epsilon=None, delta=1e-5)
CODES = torch.tensor([[0, 0, 1, 1], [1, 2, 3, 0], [0, 1, 0, 1]])


def losses(network: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = network.row_loss(CODES, torch.Generator())
    return found


def written(base: Path, folder: Path, **over: Any) -> tuple[Path, torch.Tensor]:
    """A checkpoint of a model whose adapters add something, and what it made of rows before."""
    network = model(base, **over)
    expected = losses(network)
    assert network.write_unsafe(folder, TRAINED)
    return folder, expected


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_it_is_the_model_that_was_trained_and_goes_on_without_noise_alone(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    folder, expected = written(folders[kind], tmp_path / "fine-tuned")
    begun = losses(registry.build(conf(folders[kind]), LAYOUT))
    assert not torch.allclose(begun, expected, rtol=1e-2)
    again = registry.build(conf(folder, unsafe_checkpoint=True), LAYOUT)
    torch.testing.assert_close(losses(again), expected, rtol=1e-4, atol=1e-4)
    assert not (tmp_path / "fine-tuned.new").exists()
    for refused in (lambda: checked(str(folder)), lambda: registry.build(conf(folder), LAYOUT)):
        with pytest.raises(ConfigError, match="without noise"):
            refused()


def test_a_small_change_is_not_lost_to_the_weights_precision(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder, _ = written(folders["gpt2"], tmp_path / "fine-tuned", precision="bfloat16")
    head = lineage.header(folder / "model.safetensors")
    assert {t["dtype"] for n, t in head.items() if n != "__metadata__"} == {"F32"}


def renamed(folder: Path) -> Path:
    return folder.rename(folder.parent / "distilgpt2")


def without_lineage(folder: Path) -> Path:
    (folder / lineage.FILE).unlink()
    return folder


def saved_by_transformers(folder: Path) -> Path:
    """Loaded and saved anew elsewhere: neither the lineage nor the header's mark comes along."""
    from transformers import AutoModelForCausalLM

    into = folder.parent / "anew"
    AutoModelForCausalLM.from_pretrained(str(folder)).save_pretrained(str(into))
    shutil.copy(folder / "tokenizer.json", into)
    assert not (into / lineage.FILE).exists()
    assert lineage.MARK not in lineage.header(into / "model.safetensors")["__metadata__"]
    return into


def weights_alone(folder: Path) -> Path:
    """Among the files of the model that it was made from."""
    from transformers import GPT2Config

    (folder / lineage.FILE).unlink()
    config = GPT2Config.from_pretrained(str(folder))
    delattr(config, lineage.CONFIG_MARK)
    config.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize(
    "disguise", [renamed, without_lineage, saved_by_transformers, weights_alone]
)
def test_no_disguise_starts_a_private_run(
    folders: dict[str, Path], tmp_path: Path, disguise: Callable[[Path], Path]
) -> None:
    found = disguise(written(folders["gpt2"], tmp_path / "fine-tuned")[0])
    with pytest.raises(ConfigError, match="without noise"):
        checked(str(found))
    assert checked(str(found), unsafe=True).digest == digest_of(found)


def test_its_lineage_has_what_came_before(folders: dict[str, Path], tmp_path: Path) -> None:
    first, _ = written(folders["gpt2"], tmp_path / "first")
    later = replace(TRAINED, dataset="adult")
    network = registry.build(conf(first, unsafe_checkpoint=True), LAYOUT)
    assert network.write_unsafe(tmp_path / "second", later)
    found = lineage.read(tmp_path / "second")
    assert found is not None
    assert found.trained == (TRAINED, later)
    assert found.digest == digest_of(tmp_path / "second")
