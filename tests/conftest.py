"""Tiny random models and batches."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor, nn

from deni.randomness import generator, global_generators

torch.set_num_threads(1)
ARCHITECTURES = ("bert", "roberta", "albert", "distilbert")
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
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
}


def make_tiny(
    architecture: str,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    num_labels: int = 3,
    attention: str = "sdpa",
) -> nn.Module:
    """A tiny random model for sequence classification, in training mode."""
    family, sizes = SMALL[architecture]
    config = getattr(transformers, f"{family}Config")(num_labels=num_labels, **sizes)
    config._attn_implementation = attention
    with global_generators(seed):
        model = getattr(transformers, f"{family}ForSequenceClassification")(config)
    return model.to(dtype).train()


def make_batch(rows: int = 4, tokens: int = 7, seed: int = 0, num_labels: int = 3) -> dict[str, Tensor]:
    """Token ids above the special ones, a mask with padding on the right, and labels."""
    draw = generator(seed)
    ids = torch.randint(5, 60, (rows, tokens), generator=draw)
    lengths = torch.randint(3, tokens + 1, (rows,), generator=draw)
    lengths[0] = tokens
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    labels = torch.randint(num_labels, (rows,), generator=draw)
    return {"input_ids": ids * mask + (1 - mask), "attention_mask": mask, "labels": labels}


@pytest.fixture
def tiny() -> Callable[..., nn.Module]:
    return make_tiny


@pytest.fixture
def batch() -> Callable[..., dict[str, Tensor]]:
    return make_batch
