"""Write docs/models.md: which engine each architecture gets with each tuning; `--check` fails where it differs.

Each row is measured: a tiny random model is built, tuned and probed as before the first step of a training.

python benchmarks/models.py
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
from transformers.utils import logging

from deni.engine.probe import why_not_stacked
from deni.models.architectures import HEADS, auto_class, head_dropout_key
from deni.randomness import generator, global_generators
from deni.tuning import TUNINGS, make_tuning

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
PADDING = 1
SIZES = {
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
# What an architecture needs beside these sizes to be small and as its published models are.
OWN: dict[str, dict[str, object]] = {
    "albert": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
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
}
INTRODUCTION = """\
# Models

Which engine computes the members of a forked phase. Written by `benchmarks/models.py`, which builds a tiny random
model of each architecture and probes it as training does before the first step, with padding on the right and on
the left. The engine `loop` is equally exact, but slower. Models of other architectures are probed in the same way
before training; the log gives the reason if one falls back to `loop`. The last column is the config key that
`--dropout` sets. UniPELT is not listed: it needs transformers 4.57.
"""
TOKENS = """
## Token classification

The same for models with an output per token. Prompt tuning does not support them, and transformers has none for OPT.
Where the last column is none, the encoder's own dropout is used in front of the head.
"""
TABLE = """
| architecture | tunings | engine | why not stacked | dropout in front of the head |
| --- | --- | --- | --- | --- |"""
SMALL: dict[str, dict] = {"lora": {"lora_r": 4, "lora_alpha": 4}, "prompt": {"prompt_tokens": 3}}


def tiny(architecture: str, tuning: str, tokens: bool) -> nn.Module:
    """A random model of this architecture in float64, tuned, with an output for each text or for each token."""
    config = CONFIG_MAPPING[architecture](**{**SIZES, **OWN.get(architecture, {})})
    with global_generators(0):
        model = auto_class(tokens).from_config(config)
        tuned = make_tuning(tuning, **SMALL.get(tuning, {})).apply(model)
    return tuned.to(torch.float64)


def batch(side: str) -> dict[str, torch.Tensor]:
    """Texts of different lengths, padded on this side."""
    mask = (torch.arange(7) < torch.tensor([7, 5, 4, 6])[:, None]).long()
    mask = mask.flip(1) if side == "left" else mask
    ids = torch.randint(5, 60, mask.shape, generator=generator(0))
    return {"input_ids": torch.where(mask.bool(), ids, PADDING), "attention_mask": mask}


def short(reason: str) -> str:
    """The reason without the sizes of this tiny model and the number of one layer."""
    reason = re.sub(r"^\w+ on folded inputs: ", "", reason)
    reason = reason.replace("base_model.model.", "")
    reason = re.sub(r"\bgot \([\d, ]+\), not [\d*]+ rows", "gets inputs that are not one row for each text", reason)
    reason = re.sub(r": it does not work row by row$", "", reason)
    reason = re.sub(r"dropout on \([\d, ]+\): .*", "dropout on a tensor that is not one row for each text", reason)
    return re.sub(r"\.\d+\.", ".*.", re.sub(r" by [\d.e+-]+ of their size", "", reason))


def rows(tokens: bool) -> Iterator[str]:
    """A line for each architecture; several where its tunings differ."""
    there = [
        name for name in sorted(HEADS) if not tokens or CONFIG_MAPPING[name] in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
    ]
    for architecture in there:
        lines: dict[tuple[str, ...], list[str]] = {}  # engine, reason and dropout -> the tunings that have them
        for tuning in (each for each in TUNINGS if each not in (["unipelt", "prompt"] if tokens else ["unipelt"])):
            model = tiny(architecture, tuning, tokens)
            right, left = (why_not_stacked(model, batch(side), {"input_ids": PADDING}) for side in ("right", "left"))
            reason = short(right)
            assert reason == short(left), (
                f"{architecture}, {tuning}: {right} with padding on the right, {left} on the left"
            )
            dropout = head_dropout_key(model.config, tokens)
            cells = "loop" if reason else "stacked", reason or "-", f"`{dropout}`" if dropout else "none"
            lines.setdefault(cells, []).append(tuning)
        for cells, tunings in lines.items():
            yield f"| {' | '.join((architecture, ', '.join(tunings), *cells))} |"


def page() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        texts, tokens = list(rows(tokens=False)), list(rows(tokens=True))
    return "\n".join([INTRODUCTION + TABLE, *texts, TOKENS + TABLE, *tokens, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    text = page()
    if check:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        sys.exit(0 if same else f"{PAGE} is not what the models do: run benchmarks/models.py")
    temporary = PAGE.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, PAGE)


if __name__ == "__main__":
    main()
