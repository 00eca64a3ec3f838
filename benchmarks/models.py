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
from architectures import LANGUAGE_MODELS, architectures, tiny, tiny_language_model, tuned, why_in_a_loop
from transformers.utils import logging

from deni.generation.voting import refuse
from deni.models.architectures import head_dropout_key
from deni.tuning import TUNINGS

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
INTRODUCTION = """\
# Models

Which engine computes the members of a forked phase. Written by `benchmarks/models.py`, which builds a tiny random
model of each architecture and probes it as training does before the first step, with padding on the right and on
the left. The engine `loop` is equally exact, but slower. Models of other architectures are probed in the same way
before training; the log gives the reason if one falls back to `loop`. The last column is the config key that
`--dropout` sets. UniPELT is not listed: it needs transformers 4.57.
"""
LANGUAGE = """
## Language models that generate

The [task `generation`](language_models.md) takes folders of `AutoModelForCausalLM` and `AutoModelForSeq2SeqLM`. The
same for the log-likelihood of answers, padded on the right. Members of Llama, Qwen2, Gemma 2, GPT-2, T5 and BART were
also compared with plain PyTorch over whole trainings (`tests/engine/test_answers.py`). Tied embeddings, soft-capping
(Gemma 2) and scales of logits (Cohere, Granite, T5) are those of the model. Members vote on each token where each can
have its own keys and values, which is so for all of these; models with another state (Mamba, RWKV) are refused.

| architecture | tunings | engine | why not stacked |
| --- | --- | --- | --- |"""
TOKENS = """
## Token classification

The same for models with an output per token. Prompt tuning does not support them, and transformers has none for OPT.
Where the last column is none, the encoder's own dropout is used in front of the head.
"""
TABLE = """
| architecture | tunings | engine | why not stacked | dropout in front of the head |
| --- | --- | --- | --- | --- |"""


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
    for architecture in architectures(tokens):
        lines: dict[tuple[str, ...], list[str]] = {}  # engine, reason and dropout -> the tunings that have them
        for tuning in (each for each in TUNINGS if each not in (["unipelt", "prompt"] if tokens else ["unipelt"])):
            model = tuned(tiny(architecture, tokens), tuning).to(torch.float64)
            right, left = (why_in_a_loop(model, side) for side in ("right", "left"))
            reason = short(right)
            assert reason == short(left), (
                f"{architecture}, {tuning}: {right} with padding on the right, {left} on the left"
            )
            dropout = head_dropout_key(model.config, tokens)
            cells = "loop" if reason else "stacked", reason or "-", f"`{dropout}`" if dropout else "none"
            lines.setdefault(cells, []).append(tuning)
        for cells, tunings in lines.items():
            yield f"| {' | '.join((architecture, ', '.join(tunings), *cells))} |"


def language_rows() -> Iterator[str]:
    """The same of language models that generate."""
    for architecture in LANGUAGE_MODELS:
        lines: dict[str, list[str]] = {}  # reason -> the tunings that have it
        for tuning in ("full", "lora", "ia3"):
            model = tuned(tiny_language_model(architecture), tuning).to(torch.float64)
            refuse(model)
            lines.setdefault(short(why_in_a_loop(model, answers=True)), []).append(tuning)
        for reason, tunings in lines.items():
            yield f"| {architecture} | {', '.join(tunings)} | {'loop' if reason else 'stacked'} | {reason or '-'} |"


def page() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        texts, answers, tokens = list(rows(tokens=False)), list(language_rows()), list(rows(tokens=True))
    return "\n".join([INTRODUCTION + TABLE, *texts, LANGUAGE, *answers, TOKENS + TABLE, *tokens, ""])


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
