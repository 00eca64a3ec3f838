"""Tiny random models of every architecture that has a row in `deni.models.architectures`, and what they compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
)

from deni.engine.answers import ANSWERS, answer
from deni.engine.probe import why_not_stacked
from deni.models.architectures import HEADS, auto_class
from deni.randomness import generator, global_generators
from deni.tuning import make_tuning

PADDING = 1
SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "num_labels": 3,
    "pad_token_id": PADDING,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
# Further settings of an architecture, by which a small model is like its published ones.
OWN: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_heads": 4, "hidden_dim": 48},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "electra": {"embedding_size": 16},
    "gemma": {"head_dim": 8, "num_key_value_heads": 2},
    "gpt2": {"n_inner": 48},
    "llama": {"num_key_value_heads": 2},
    "mistral": {"head_dim": 8, "num_key_value_heads": 2},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"head_dim": 8, "num_key_value_heads": 2},
    "stablelm": {"num_key_value_heads": 2},
}
_SMALL: dict[str, dict[str, Any]] = {"lora": {"lora_r": 4, "lora_alpha": 4}, "prompt": {"prompt_tokens": 3}}


def architectures(tokens: bool = False) -> Iterator[str]:
    """Their names; with `tokens` of those that have an output for each token."""
    for name in sorted(HEADS):
        if not tokens or CONFIG_MAPPING[name] in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING:
            yield name


def tiny(architecture: str, tokens: bool = False, **sizes: Any) -> nn.Module:
    """A random model with an output for each text, or for each token.

    Args:
        sizes: of the configuration, in place of those above.
    """
    settings = {**SIZES, **OWN.get(architecture, {}), **sizes}
    with global_generators(0):
        return auto_class(tokens).from_config(CONFIG_MAPPING[architecture](**settings))


# Of language models that generate; `HEADS` has those that classify.
LANGUAGE_MODELS = (
    *("bart", "bloom", "cohere", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "granite", "llama"),
    *("mbart", "mistral", "mt5", "olmo2", "opt", "pegasus", "phi", "phi3", "qwen2", "qwen3", "smollm3", "stablelm"),
    "t5",
)


def tiny_language_model(architecture: str) -> nn.Module:
    """A random language model that takes `deni.engine.answers.ANSWERS`."""
    config = CONFIG_MAPPING[architecture](**{**SIZES, **OWN.get(architecture, {}), "decoder_start_token_id": 2})
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with global_generators(0):
        model = auto.from_config(config)
    answer(model)
    return model


def tuned(model: nn.Module, tuning: str) -> nn.Module:
    """The model with what trains in it, from the same seed each time."""
    with global_generators(0):
        return make_tuning(tuning, **_SMALL.get(tuning, {})).apply(model)


def why_in_a_loop(model: nn.Module, side: str = "right", answers: bool = False) -> str:
    """Why members are computed one after another, as training finds out before its first step; empty if they are not.

    Args:
        model: plain and tuned, in float64.
        side: where texts are padded.
        answers: the loss is that of answers, of a language model.
    """
    mask = (torch.arange(7) < torch.tensor([7, 5, 4, 6])[:, None]).long()
    mask = mask.flip(1) if side == "left" else mask
    ids = torch.randint(5, SIZES["vocab_size"], mask.shape, generator=generator(0))
    batch = {"input_ids": torch.where(mask.bool(), ids, PADDING), "attention_mask": mask}
    if answers:
        batch[ANSWERS] = torch.where(mask.bool(), ids, -100)
    return why_not_stacked(model, batch, {"input_ids": PADDING, ANSWERS: -100})
