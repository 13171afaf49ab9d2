"""A pretrained model with adapters: hidden states of token rows, whole or with a cache.

LoRA: Hu et al. (2022), "LoRA: Low-rank adaptation of large language models", section 4.1, by
`peft`: beside a frozen linear layer W two of our own, x -> W x + (scale / rank) B A x. They are
plain `nn.Linear` of float32, which every gradient mode of the engine takes row by row. All else is
frozen; dropout is off, so that a row's loss is a function of the row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from twinweave.errors import ConfigError
from twinweave.generators.pretrained.checkpoint import Checkpoint

if TYPE_CHECKING:
    from twinweave.generators.conf import PretrainedConf


class AdaptedModel(nn.Module):
    """tokens (n, slots) and their mask -> hidden states (n, slots, width); see `hidden`.

    start: the token at the first slot. prompt: what an encoder reads.
    """

    def __init__(self, conf: PretrainedConf, checkpoint: Checkpoint, prompt: Tensor) -> None:
        super().__init__()
        self.causal = checkpoint.architecture.causal
        dtype = getattr(torch, conf.precision)
        self.model = adapted(_loaded(checkpoint, dtype), checkpoint, conf)
        self.start = _start(self.model.config)
        self.register_buffer("prompt", prompt, persistent=False)

    prompt: Tensor

    def train(self, mode: bool = True) -> AdaptedModel:
        """The frozen model stays as it is in use: only its adapters train."""
        super().train(mode)
        for module in self.model.modules():
            module.training = mode and isinstance(module, nn.Linear)
        return self

    def adapters(self) -> Iterator[tuple[str, nn.Linear]]:
        """The layers that are trained, by name, in the model's order."""
        for name, module in self.model.named_modules():
            if re.search(r"lora_[AB]\.default$", name):
                assert isinstance(module, nn.Linear)
                yield name, module

    def hidden(self, tokens: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        """What the last layer leaves at each slot: (n, slots, width), as precise as the adapters.

        tokens, mask: (n, slots), of all slots; with a cache, tokens are those of the slots that
        follow it, and the mask is of all slots so far. A causal model counts positions over the
        unmasked tokens alone.
        """
        options: dict[str, Any] = {"attention_mask": mask.long(), "use_cache": cache is not None}
        if cache is not None:
            options["past_key_values"] = cache.values
        if self.causal:
            places = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
            options["position_ids"] = places[:, -tokens.shape[1] :]
            out = self._decoder(tokens, **options)
        else:
            read = self._read(len(tokens)) if cache is None else cache.read(self, len(tokens))
            out = self._decoder(tokens, encoder_hidden_states=read, **options)
        last: Tensor = out.last_hidden_state
        return last.to(next(self.adapters())[1].weight.dtype)

    def packed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """`hidden` of whole rows, of which a causal model reads the unmasked tokens alone.

        A masked slot has what the last token before it left: no more slots are read than the
        longest row has tokens, where rows of long and of short values have many to spare.
        """
        if not self.causal:
            return self.hidden(tokens, mask)
        first = mask.int().argsort(dim=1, descending=True, stable=True)
        first = first[:, : int(mask.sum(dim=1).max())]
        read = self.hidden(tokens.gather(1, first), mask.gather(1, first))
        places = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        return read.gather(1, places[:, :, None].expand(-1, -1, read.shape[2]))

    def _read(self, n: int) -> Tensor:
        """What the encoder makes of the prompt, for each of n rows. It has no adapters."""
        with torch.no_grad():
            one: Tensor = self.model.get_encoder()(self.prompt[None]).last_hidden_state
        return one.expand(n, -1, -1)

    @property
    def _decoder(self) -> Any:
        return self.model.get_decoder()

    def logits(self, hidden: Tensor, alphabet: Tensor | None = None) -> Tensor:
        """(..., width) hidden states -> (..., tokens), for these tokens alone."""
        head = self.model.get_output_embeddings()
        weight, bias = head.weight.detach(), head.bias
        more = getattr(self.model, "final_logits_bias", None)  # of BART, (1, vocabulary)
        if self.model.config.model_type == "t5" and self.model.config.tie_word_embeddings:
            hidden = hidden * self.model.config.d_model**-0.5
        if alphabet is not None:
            weight = weight[alphabet]
            bias = None if bias is None else bias[alphabet]
            more = None if more is None else more[:, alphabet]
        out = nn.functional.linear(hidden, weight.to(hidden.dtype), bias)
        return out if more is None else out + more[0]


class Cache:
    """Keys and values of the slots so far, and what the encoder made of the prompt."""

    def __init__(self, *, causal: bool) -> None:
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        own = DynamicCache()
        self.values: Any = own if causal else EncoderDecoderCache(own, DynamicCache())
        self._read: Tensor | None = None

    def read(self, model: AdaptedModel, n: int) -> Tensor:
        """The encoder's output for n rows, made once."""
        if self._read is None:
            self._read = model._read(n)
        return self._read


def adapted(model: Any, checkpoint: Checkpoint, conf: PretrainedConf) -> Any:
    """The model, frozen, with adapters in place."""
    from peft import LoraConfig, inject_adapter_in_model

    lora = LoraConfig(
        r=conf.rank,
        lora_alpha=conf.scale,
        lora_dropout=0.0,
        bias="none",
        fan_in_fan_out=checkpoint.model_type == "gpt2",
        target_modules=checkpoint.architecture.adapted,
    )
    for p in model.parameters():
        p.requires_grad_(False)
    made: Any = inject_adapter_in_model(lora, model)
    for name, p in made.named_parameters():
        p.requires_grad_(".lora_" in name)
        if p.requires_grad:
            p.data = p.data.float()
    return made


def _loaded(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The published model, from its folder alone, without dropout. Raises ConfigError."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    kind = AutoModelForCausalLM if checkpoint.architecture.causal else AutoModelForSeq2SeqLM
    try:
        model, told = kind.from_pretrained(
            str(checkpoint.folder),
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation="sdpa",  # whose gradients were checked, whatever the folder says
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception:  # transformers raises what its parts raise, some of it with the folder's name
        raise unfit("cannot be loaded: weights and configuration do not fit") from None
    if told["missing_keys"] or told["mismatched_keys"]:  # would be random, others at each party
        raise unfit("lacks weights that its configuration names")
    if not all(bool(p.isfinite().all()) for p in model.parameters()):
        raise unfit("has weights that are no finite numbers")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.eval()


def unfit(rule: str) -> ConfigError:
    """Of a model that was loaded, or could not be."""
    return ConfigError("generator.checkpoint", rule, "Save model and configuration anew, together.")


def _start(config: Any) -> int:
    """The token that rows start with."""
    names = ("decoder_start_token_id", "bos_token_id", "eos_token_id")
    return next((t for t in (getattr(config, n, None) for n in names) if isinstance(t, int)), 0)
