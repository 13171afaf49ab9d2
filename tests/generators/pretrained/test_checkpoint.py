"""Which checkpoints may start a private run, and which are refused, with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.generators.pretrained.tiny import LAYOUT, conf, edit
from twinweave.errors import ConfigError
from twinweave.generators import registry
from twinweave.generators.pretrained import lineage
from twinweave.generators.pretrained.checkpoint import checked, digest_of
from twinweave.generators.pretrained.lineage import Lineage, Training
from twinweave.generators.pretrained.template import tokens_of
from twinweave.parsing import parse


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["gpt2"], tmp_path / "model"))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def elsewhere(folder: Path) -> None:
    """The weights out of the way of whoever hashes them and looks for their mark."""
    (folder / "more").mkdir()
    (folder / "model.safetensors").rename(folder / "more" / "model.safetensors")
    (folder / "looked-at.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    index = {"metadata": {}, "weight_map": {"wte.weight": "more/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def named(folder: Path) -> None:
    """The weights that are loaded in a folder below, others of the same shapes in their place."""
    (folder / "more").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "more")
    edit(folder, transformers_weights="more/model.safetensors")


def headless(folder: Path) -> None:
    head = b'{"__metadata__": null}'
    (folder / "more.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: f.rename(f.with_name("gone")), "is no folder"),
        (lambda f: (f / "more.safetensors").symlink_to("nowhere"), "cannot be read"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "cannot be read"),
        (lambda f: edit(f, rope_parameters={"rope_type": "longrope"}), "change each other"),
        (lambda f: edit(f, rope_scaling={"type": "dynamic"}), "change each other"),
        (lambda f: edit(f, use_sliding_window=True, sliding_window=16), "reads 16 tokens"),
        (lambda f: edit(f, n_positions="many"), "no number of positions"),
        (elsewhere, "names files that are not in it"),
        (named, "names a file of weights"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "another folder has the base"),
        (lambda f: edit(f, quantization_config={"load_in_4bit": True}), "quantised"),
        (lambda f: edit(f, n_layer=3), "not those of the model"),
        (lambda f: edit(f, model_type="llama"), "not those of the model"),
        (lambda f: edit(f, n_layer=None), "no number of layers"),
        (lambda f: edit(f, vocab_size=250), "tokens that its model does not know"),
        (lambda f: (f / "config.json").write_text("[]"), "cannot be read"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot be read"),
        (headless, "safetensors format"),
        (pickled, "may run code"),
        (lambda f: edit(f, model_type="mamba"), "not checked exact"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x00"), "safetensors format"),
        (lambda f: edit(f, n_positions=20), "reads 20 tokens"),
    ],
)
def test_what_is_no_fit_checkpoint_is_refused(
    folder: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    conf(folder).check(LAYOUT)
    spoil(folder)
    with pytest.raises(ConfigError, match=reason) as caught:
        conf(folder).check(LAYOUT)
    assert str(folder) not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"return_dict": False}, "cannot read a row"), ({"bos_token_id": 10**6}, "cannot read a row")],
)
def test_a_model_that_cannot_read_a_row_is_refused(
    folder: Path, fields: dict[str, Any], reason: str
) -> None:
    """Once it is loaded, before it is trained."""
    edit(folder, **fields)
    with pytest.raises(ConfigError, match=reason):
        registry.build(conf(folder), LAYOUT)


def test_attention_is_computed_as_it_was_checked(folder: Path) -> None:
    edit(folder, attn_implementation="flex_attention")
    made: Any = registry.build(conf(folder), LAYOUT)
    assert made.network.model.config._attn_implementation == "sdpa"


def test_what_a_tokenizer_adds_for_training_is_left_out(folder: Path) -> None:
    """Padding, a length at which texts are cut, merges left out at random."""
    wanted = tokens_of(checked(str(folder)))
    path = folder / "tokenizer.json"
    made = Tokenizer.from_file(str(path))
    made.enable_padding(length=16)
    made.enable_truncation(3)
    made.model.dropout = 0.9
    made.save(str(path))
    found = tokens_of(checked(str(folder)))
    for text in (" male", " sex: male, town: Como"):
        assert {found(text) for _ in range(5)} == {wanted(text)}


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda weights: weights.pop(name)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without("transformer.h.1.mlp.c_fc.weight"), "lacks weights"),
        (lambda w: w["transformer.ln_f.bias"].fill_(float("nan")), "no finite numbers"),
        (lambda w: w.update({"transformer.wpe.weight": w["transformer.wte.weight"]}), "do not fit"),
    ],
)
def test_weights_that_are_not_all_there_are_refused(
    folder: Path, spoil: Callable[[dict[str, Any]], object], reason: str
) -> None:
    """Once they are loaded: what lacks would be drawn at random, otherwise at every party."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    spoil(weights)
    whole = {name: tensor.clone() for name, tensor in weights.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=reason) as caught:
        registry.build(conf(folder), LAYOUT)
    assert str(folder) not in str(caught.value)


def test_values_that_the_tokenizer_cannot_tell_apart_are_refused(folders: dict[str, Path]) -> None:
    twice = replace(LAYOUT, labels=(("same", "same"), *LAYOUT.labels[1:]))
    with pytest.raises(ConfigError, match="'sex'"):
        conf(folders["gpt2"]).check(twice)


def test_a_mode_without_exact_gradients_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="gradients"):
        conf(folders["gpt2"], gradients="ghost")


@pytest.mark.parametrize("over", [{"temperature": 1e-300}, {"decode_noise": 1e300}])
def test_logits_that_would_be_no_numbers_are_refused(
    folders: dict[str, Path], over: dict[str, float]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(over))):
        conf(folders["gpt2"], **over)


def test_another_model_than_the_runs_is_refused(folder: Path) -> None:
    """The specification has the hash of its files; a party's folder may have any name."""
    pinned = conf(folder).pinned()
    moved = folder.rename(folder.parent / "elsewhere")
    pinned.placed(str(moved)).check(LAYOUT)
    with pytest.raises(ConfigError, match=r"site\.checkpoint"):
        pinned.placed(None)
    edit(moved, layer_norm_epsilon=1e-6)
    with pytest.raises(ConfigError, match="another hash"):
        pinned.placed(str(moved)).check(LAYOUT)


def unsafely_trained(folder: Path) -> Path:
    """As a fine-tuning without noise leaves it."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", lineage.MARK: "german_credit"})
    trained = (Training(dataset="german_credit", epsilon=None, delta=1e-5),)
    lineage.write(folder, Lineage(digest=digest_of(folder), trained=trained))
    return folder


def without_lineage(folder: Path) -> Path:
    (folder / lineage.FILE).unlink()
    return folder


def with_another(folder: Path) -> Path:
    lineage.write(folder, Lineage(digest=digest_of(folder), trained=()))
    return folder


@pytest.mark.parametrize(
    "disguise",
    [
        lambda f: f,
        lambda f: f.rename(f.parent / "another name"),
        without_lineage,
        with_another,
    ],
    ids=["as it is", "renamed", "without its lineage", "with another lineage"],
)
def test_a_checkpoint_trained_without_noise_starts_no_private_run(
    folder: Path, disguise: Callable[[Path], Path]
) -> None:
    found = disguise(unsafely_trained(folder))
    for refused in (
        lambda: checked(str(found)),
        lambda: conf(found).pinned(),
        lambda: conf(found).check(LAYOUT),
        lambda: registry.build(conf(found), LAYOUT),
    ):
        with pytest.raises(ConfigError, match="without noise"):
            refused()


def test_a_lineage_holds_the_mark_even_where_the_weights_lost_it(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = unsafely_trained(folder) / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="without noise"):
        checked(str(folder))


def test_a_private_lineage_may_go_on_and_is_of_its_files_alone(folder: Path) -> None:
    trained = (Training(dataset="german_credit", epsilon=1.0, delta=1e-5),)
    lineage.write(folder, Lineage(digest=digest_of(folder), trained=trained))
    assert checked(str(folder)).digest == digest_of(folder)
    edit(folder, layer_norm_epsilon=1e-6)
    with pytest.raises(ConfigError, match="other files"):
        checked(str(folder))


def promising(folder: Path, epsilon: object) -> None:
    """A lineage of these files that says such an epsilon."""
    trained = [{"dataset": "german_credit", "epsilon": epsilon, "delta": 1e-5}]
    told = json.dumps({"digest": digest_of(folder), "trained": trained})
    (folder / lineage.FILE).write_text(told)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: (f / lineage.FILE).write_text('{"digest": 3}'),
        lambda f: (f / lineage.FILE).symlink_to("nowhere"),  # not taken for none
        lambda f: promising(f, "inf"),
        lambda f: promising(f, "nan"),
        lambda f: promising(f, -1.0),
    ],
)
def test_a_lineage_that_says_nothing_plain_is_refused(
    folder: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(folder)
    with pytest.raises(ConfigError, match="cannot be read"):
        checked(str(folder))


def test_a_lineage_says_what_its_model_was_trained_on() -> None:
    with pytest.raises(ConfigError, match="trained"):
        parse(Lineage, {"digest": "x"})


def test_a_public_file_goes_with_its_name_and_its_folder_stays_here(folder: Path) -> None:
    for over in ({"format_rows": "file"}, {"format_file": "/private/place/rows.csv"}):
        with pytest.raises(ConfigError, match="format_file"):
            conf(folder, **over)
    whole = conf(folder, format_rows="file", format_file=str(folder / "rows.csv"))
    with pytest.raises(ConfigError, match="is no file"):
        whole.pinned()
    (folder / "rows.csv").touch()
    assert whole.pinned().told().format_file == "rows.csv"
    assert whole.pinned().public_file == str(folder / "rows.csv")
