"""Tiny random models, batches and texts."""

import random
import signal
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
from torch import Tensor, nn

from deni.randomness import generator, global_generators

ARCHITECTURES = ("bert", "roberta", "albert", "distilbert")
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
DECODER = {**SIZES, "num_key_value_heads": 2, "pad_token_id": 1}  # num_key_value_heads: two heads share keys and values
SMALL = {
    "bert": ("Bert", SIZES),
    "roberta": ("Roberta", SIZES),
    "albert": ("Albert", {**SIZES, "embedding_size": 16, "hidden_dropout_prob": 0.1, "classifier_dropout_prob": 0.1}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 40},
    ),
    "electra": ("Electra", {**SIZES, "embedding_size": 16}),
    "mpnet": ("MPNet", SIZES),
    "deberta-v2": (
        "DebertaV2",
        {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    ),
    "modernbert": (
        "ModernBert",
        {**SIZES, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "xlm-roberta": ("XLMRoberta", SIZES),
    "camembert": ("Camembert", SIZES),
    "deberta": ("Deberta", {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "llama": ("Llama", DECODER),
    "mistral": ("Mistral", {**DECODER, "head_dim": 8}),
    "gemma": ("Gemma", {**DECODER, "head_dim": 8}),
    "qwen2": ("Qwen2", DECODER),
    "qwen3": ("Qwen3", {**DECODER, "head_dim": 8}),
    "gpt_neox": ("GPTNeoX", {**DECODER, "bos_token_id": 2, "eos_token_id": 3}),
    "opt": ("OPT", {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 1}),
    "gpt2": (
        "GPT2",
        {
            "vocab_size": 60,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_inner": 48,
            "n_positions": 40,
            "pad_token_id": 1,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
}


# The first condition first: the package cannot be imported beside another transformers.
TRANSFORMERS_5 = int(transformers.__version__.split(".")[0]) >= 5
HAS_ADAPTERS = transformers.__version__.startswith("4.57.") and find_spec("adapters") is not None
needs_adapters = pytest.mark.skipif(not HAS_ADAPTERS, reason="needs the package adapters and transformers 4.57")
SMALL_TUNINGS = {
    "lora": {"lora_r": 4, "lora_alpha": 4},
    "prompt": {"prompt_tokens": 3},
    "unipelt": {"unipelt_r": 4, "unipelt_prefix": 5, "unipelt_reduction": 8},
}


def make_tiny(
    architecture: str,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    num_labels: int = 3,
    attention: str = "sdpa",
    task: str = "Sequence",
) -> nn.Module:
    """A tiny random model for sequence or token classification, in training mode."""
    family, sizes = SMALL[architecture]
    config = getattr(transformers, f"{family}Config")(num_labels=num_labels, **sizes)
    model_class = getattr(transformers, f"{family}For{task}Classification")
    config._attn_implementation = attention if model_class._supports_sdpa else "eager"
    with global_generators(seed):
        model = model_class(config)
    return model.to(dtype).train()


def make_batch(
    rows: int = 4, tokens: int = 7, seed: int = 0, num_labels: int = 3, side: str = "right", task: str = "Sequence"
) -> dict[str, Tensor]:
    """Token ids above the special ones, a mask with padding on one side, and labels; of tokens -100 at some."""
    draw = generator(seed)
    ids = torch.randint(5, 60, (rows, tokens), generator=draw)
    lengths = torch.randint(3, tokens + 1, (rows,), generator=draw)
    lengths[0] = tokens
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    if side == "left":
        mask = mask.flip(1)
    labels = torch.randint(num_labels, (rows,), generator=draw)
    if task == "Token":
        labels = torch.randint(num_labels, (rows, tokens), generator=draw)
        labels[(mask == 0) | (torch.rand(rows, tokens, generator=draw) < 0.2)] = -100
    return {"input_ids": ids * mask + (1 - mask), "attention_mask": mask, "labels": labels}


TOPICS = {
    "billing": "invoice money charged refund payment card price bill",
    "delivery": "parcel late courier address shipped box arrive track",
    "login": "password account code email locked screen sign reset",
}
FILLERS = ["the", "my", "is", "a", "please", "not", "where", "why"]


def heed_interrupts() -> None:
    """For `preexec_fn`: a test run that was begun in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def toy_rows(each: int = 12, seed: int = 0) -> list[tuple[str, str]]:
    """Toy sentences with their class: four words of the class and two that say nothing."""
    rng = random.Random(seed)
    rows = []
    for _ in range(each):
        for label, words in TOPICS.items():
            chosen = [*rng.sample(words.split(), 4), *rng.sample(FILLERS, 2)]
            rows.append((" ".join(chosen), label))
    return rows


def write_csv(file: Path, rows: list[tuple[str, str]]) -> Path:
    """A CSV with the columns text and label."""
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(file, index=False)
    return file
