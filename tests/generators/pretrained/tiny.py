"""Tiny models of every architecture, built from configuration, with a byte-level tokenizer."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.generators.toys import CONF
from twinweave.generators import registry
from twinweave.generators.conf import PretrainedConf
from twinweave.generators.union import UnionLayout
from twinweave.parsing import parse, read_yaml
from twinweave.tables.column import Role

ARCHITECTURES = ("gpt2", "llama", "qwen2", "qwen3", "t5", "bart")
VOCABULARY = 300

LAYOUT = UnionLayout(
    parties=("shop", "bank"),
    names=("sex", "town", "income", "label"),
    sizes=(2, 3, 4, 2),
    holders=((0, 1), (0,), (1,), (1,)),
    roles=(Role.SENSITIVE, Role.FEATURE, Role.FEATURE, Role.LABEL),
    labels=(
        ("male", "female"),
        ("Ba", "Bam", "Como"),  # one begins with another
        ("0 to 9", "10 to 19", "10 to 99", "(missing)"),
        ("no", "yes"),
    ),
)


def config_of(kind: str) -> Any:
    import transformers as hf

    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": VOCABULARY}
    llama = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        **ends,
    }
    match kind:
        case "gpt2":
            return hf.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=256, **ends)
        case "llama":
            return hf.LlamaConfig(**llama)
        case "qwen2":
            return hf.Qwen2Config(**llama)
        case "qwen3":
            return hf.Qwen3Config(**llama)
        case "t5":
            return hf.T5Config(
                d_model=16,
                d_kv=8,
                d_ff=24,
                num_layers=2,
                num_heads=2,
                decoder_start_token_id=0,
                initializer_factor=0.6,  # at 1, gradients of 1,000 lose digits to rounding
                **ends,
            )
        case "bart":
            return hf.BartConfig(
                d_model=16,
                encoder_layers=1,
                decoder_layers=2,
                encoder_attention_heads=2,
                init_std=0.2,  # as above, of what is too small
                decoder_attention_heads=2,
                encoder_ffn_dim=24,
                decoder_ffn_dim=24,
                max_position_embeddings=256,
                decoder_start_token_id=2,
                **ends,
            )
    raise LookupError(kind)


@cache
def tokenizer() -> Any:
    """Byte-level pairs of a few texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([" sex: male, female, town: Como, income: 10 to 19"], trainer)
    return made


def write_checkpoint(kind: str, folder: Path, seed: int = 0) -> Path:
    """A folder as save_pretrained writes it; weights far from their start, so that rows differ."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    auto = AutoModelForSeq2SeqLM if kind in ("t5", "bart") else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto.from_config(config_of(kind))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.15 * torch.randn_like(p))
    model.save_pretrained(str(folder))
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def edit(folder: Path, **fields: object) -> None:
    """Fields of its config.json, changed."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def conf(folder: Path, **over: Any) -> PretrainedConf:
    """What conf/generator ships, but small."""
    small = {"rank": 2, "expected_batch": 8, "local_steps": 2, "format_steps": 0, "micro_batch": 8}
    fields = read_yaml(CONF / "llm_pretrained.yaml")
    return parse(PretrainedConf, {**fields, "checkpoint": str(folder), **small, **over})


def model(folder: Path, seed: int = 0, **over: Any) -> Any:
    """With adapters that add something."""
    made = registry.build(conf(folder, **over), LAYOUT, seed=seed)
    weights = made.weights
    generator = torch.Generator().manual_seed(seed + 1)
    made.weights = weights + 0.3 * torch.randn(len(weights), generator=generator).numpy()
    return made
