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
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "setfit"):
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
    "setfit": baseline("setfit", setfit_iterations=20, setfit_steps=120),
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
    """Of each dataset and size, over the splits that all methods have: means, SDs, and differences to contrastive."""
    rows = []
    for size in SIZES:
        for name in DATASETS:
            splits = [
                split
                for split in range(len(cells))
                if all(f"{name} {size} {split} {method}" in cells for method in METHODS)
            ]
            if len(splits) < 2:
                continue
            of = {m: [cells[f"{name} {size} {split} {m}"] for split in splits] for m in METHODS}
            f1 = {m: 100 * np.array([each["macro_f1"] for each in found]) for m, found in of.items()}
            rows.append(
                {
                    "dataset": name,
                    "size": size,
                    "splits": len(splits),
                    "texts": of["frozen"][0]["texts"],
                    "methods": {
                        m: {
                            "mean": round(float(f1[m].mean()), 2),
                            "sd": round(float(f1[m].std(ddof=1)), 2),
                            "seconds": round(float(np.mean([each["seconds"] for each in of[m]])), 1),
                            "steps": round(float(np.mean([each["steps"] for each in of[m]])), 1),
                        }
                        for m in METHODS
                    },
                    "contrastive_minus": {
                        m: [round(float(each), 2) for each in mean_interval(f1["contrastive"] - f1[m])]
                        for m in METHODS
                        if m != "contrastive"
                    },
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
        for method in METHODS
    ]
    for name, size, split, method in tqdm(wanted, file=sys.stderr):
        key = f"{name} {size} {split} {method}"
        if key not in cells:
            cells[key] = measure(name, size, split, method)
            write(args.output, {**result, "rows": summary(cells), "cells": cells})


if __name__ == "__main__":
    main()
