"""Few labels: the contrastive strategy against the package setfit, a frozen encoder and `auto`, on the same texts.

Of each dataset a number of texts of each class is drawn, several times; all methods learn from the same ones and are
tested on the same others. All read MiniLM, in one thread, fine-tuning in bf16. What is done is kept, so the same
command goes on after a stop. Needs the package setfit.

DENI_DATA=FOLDER python benchmarks/few_shot.py
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from common import RESULTS, data, environment, write
from sklearn.metrics import f1_score
from tqdm import tqdm

from deni.baselines import make_baseline
from deni.data import Texts, read_data
from deni.finetune import fine_tune
from deni.measures import mean_interval
from deni.recipe import Recipe

DATASETS, SIZES, TEST, MAX_LENGTH = ("trec", "sst2", "ag_news"), (8, 16), 500, 64
CHOSEN_ON = 3000  # texts on which defaults were chosen: none of them is drawn here
Predict = Callable[[Sequence[Any]], list[str]]


def divided(name: str, size: int, split: int) -> tuple[Texts, Texts]:
    """So many labeled texts of each class, and the test texts, which do not depend on the split."""
    data(name)
    texts = read_data(name)
    labels = np.array(texts.labels)
    rows = np.random.default_rng(999).permutation(len(texts))[CHOSEN_ON:]
    test, pool = rows[:TEST], np.random.default_rng(split).permutation(rows[TEST:])
    chosen = np.concatenate([pool[labels[pool] == label][:size] for label in sorted(set(labels))])
    return texts.select(np.random.default_rng(split).permutation(chosen)), texts.select(test)


def baseline(name: str, **settings: Any) -> Callable[[Texts], tuple[Predict, dict[str, Any]]]:
    """A baseline, in bf16 where it trains."""

    def learn(train: Texts) -> tuple[Predict, dict[str, Any]]:
        recipe = Recipe.of(strategy="default", tuning="full", model="minilm", max_length=MAX_LENGTH)
        # Without the cache, which would keep the weights of the first step: it is emptied when the context is left.
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "setfit", cache_enabled=False):
            fitted = make_baseline(name, **settings).fit(train, recipe, "cpu")
        return lambda texts: [fitted.labels[at] for at in fitted.outputs(texts).argmax(1)], {
            "steps": fitted.notes.get("steps", 0)
        }

    return learn


def strategy(name: str, **given: Any) -> Callable[[Texts], tuple[Predict, dict[str, Any]]]:
    """Fine-tuning by a strategy."""

    def learn(train: Texts) -> tuple[Predict, dict[str, Any]]:
        recipe = Recipe.of(strategy=name, model="minilm", max_length=MAX_LENGTH, bf16=True, **given)
        result = fine_tune(train, recipe, progress=False, device="cpu")
        model = result.classifier()
        return lambda texts: [model.labels[at] for at in model.predict_log_probabilities(list(texts)).argmax(1)], {
            "steps": result.trainer.state.global_step
        }

    return learn


METHODS = {
    "frozen": baseline("frozen"),
    "auto": strategy("auto"),
    "contrastive": strategy("contrastive", tuning="lora", batch_size=16, epochs=15),
    # A text is read 4 times an iteration, as part of a pair: about as often in 4 iterations as in 15 epochs.
    "setfit, 4 iterations": baseline("setfit", setfit_iterations=4),
    "setfit, 20 iterations": baseline("setfit", setfit_iterations=20),
}


def measure(name: str, size: int, split: int, method: str) -> dict[str, Any]:
    train, test = divided(name, size, split)
    torch.manual_seed(split)
    begun = time.process_time()
    predict, more = METHODS[method](train)
    seconds = time.process_time() - begun
    f1 = f1_score(list(test.labels or ()), predict(test.texts), average="macro")
    return {"texts": len(train), "macro_f1": round(float(f1), 5), "seconds": round(seconds, 1), **more}


def summary(cells: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean and SD of each dataset, size and method over its splits, and contrastive minus it over those of both."""
    found: dict[tuple[str, int, str], dict[int, Any]] = {}
    for key, cell in cells.items():
        name, size, split, method = key.split(" ", 3)
        found.setdefault((name, int(size), method), {})[int(split)] = cell
    rows = []
    for size in SIZES:
        for name in DATASETS:
            own = found.get((name, size, "contrastive"), {})
            for method in METHODS:
                each = found.get((name, size, method), {})
                f1 = [100 * cell["macro_f1"] for cell in each.values()]
                apart = [100 * (own[split]["macro_f1"] - each[split]["macro_f1"]) for split in own if split in each]
                if len(f1) < 2:
                    continue
                minus = mean_interval(apart) if len(apart) > 1 and method != "contrastive" else None
                rows.append(
                    {
                        **{"dataset": name, "size": size, "method": method, "splits": len(f1)},
                        "mean": round(float(np.mean(f1)), 2),
                        "sd": round(float(np.std(f1, ddof=1)), 2),
                        "contrastive_minus": None if minus is None else [round(float(value), 2) for value in minus],
                        "shared_splits": len(apart),
                        "seconds": round(float(np.mean([cell["seconds"] for cell in each.values()])), 1),
                        "steps": round(float(np.mean([cell["steps"] for cell in each.values()])), 1),
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument(
        "--sizes", nargs="+", type=int, choices=SIZES, default=SIZES, help="labeled texts of each class"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--output", default="few_shot", help="name of the result in results/")
    args = parser.parse_args()
    os.environ["DENI_CACHE"] = "off"  # the frozen encoder is computed each time, as the others are
    torch.set_num_threads(1)
    path = RESULTS / f"{args.output}.json"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.is_file() else {}
    result = environment()
    result["versions"] |= {name: version(name) for name in ("setfit", "sentence-transformers", "scikit-learn")}
    result |= {"test_texts": TEST, "max_length": MAX_LENGTH}
    wanted = [
        (name, size, split, method)
        for size in args.sizes
        for split in range(args.splits)
        for name in args.datasets
        for method in args.methods
    ]
    for name, size, split, method in tqdm(wanted, file=sys.stderr):
        key = f"{name} {size} {split} {method}"
        if key not in cells:
            cells[key] = measure(name, size, split, method)
            write(args.output, {**result, "rows": summary(cells), "cells": cells})


if __name__ == "__main__":
    main()
