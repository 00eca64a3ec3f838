"""Does `torch.compile` make a step of fine-tuning faster on a CPU? One thread, MiniLM, batch 8, texts of TREC.

Plain PyTorch trains one model on the same batches in turns: as it is, compiled by inductor for any length, and as it is
with the products of oneDNN that training takes in deni (`deni.models.products`). Seconds are those of the processor.

    python benchmarks/compiled.py
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from common import environment, write
from member_step import texts_of
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import DataCollatorWithPadding

from deni.data import names
from deni.models.loading import load_model, load_tokenizer
from deni.models.products import fast_products
from deni.models.tokenizing import tokenize
from deni.tasks import DEFAULT

BATCH, MODEL = 8, "minilm"


def batches_of(texts: int) -> list[dict[str, torch.Tensor]]:
    """Padded batches of texts of TREC, those of one length each."""
    train, tokenizer = texts_of(texts), load_tokenizer(MODEL, DEFAULT)
    rows = tokenize(train, tokenizer, 64, names(train)).select_columns(["input_ids", "attention_mask", "labels"])
    return list(DataLoader(rows, BATCH, collate_fn=DataCollatorWithPadding(tokenizer)))


def steps(
    model: Callable[..., Any],
    trained: nn.Module,
    batches: list[dict[str, torch.Tensor]],
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> float:
    """Seconds of the processor a step."""
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-6, fused=True)
    began = time.process_time()
    for batch in batches:
        with around():
            model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - began) / len(batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch._inductor.config.force_disable_caches = True  # as on a machine that has compiled nothing yet
    batches = batches_of(args.texts)
    model = load_model(MODEL, names(texts_of(args.texts)), None, DEFAULT).train()
    compiled = torch.compile(model, dynamic=True)
    ways: dict[str, Callable[[], float]] = {
        "PyTorch": lambda: steps(model, model, batches),
        "compiled": lambda: steps(compiled, model, batches),
        "deni's products": lambda: steps(model, model, batches, fast_products),
    }
    plain = ways["PyTorch"]()
    began = time.process_time()
    ways["compiled"]()
    compiling = time.process_time() - began - plain * len(batches)
    ways["compiled"]()  # what other lengths still compile
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in tqdm(range(args.rounds), desc="rounds"):
        for name, way in ways.items():
            seconds[name].append(way())
    rows = [{"case": name, "ms": 1000 * median(each)} for name, each in seconds.items()]
    ratios = {
        name: median(one / other for one, other in zip(each, seconds["PyTorch"], strict=True))
        for name, each in seconds.items()
    }
    rows = [{**row, "ratio": ratios[str(row["case"])]} for row in rows]
    result = {**environment(), "batch": BATCH, "compiling_seconds": compiling, "steps": len(batches), "rows": rows}
    write("compiled", result)


if __name__ == "__main__":
    main()
