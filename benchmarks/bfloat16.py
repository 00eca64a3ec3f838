"""What a whole training gains by bfloat16: seconds of the processor, on CPU, one thread.

MiniLM on 200 texts of each dataset: `auto`, which is one model with LoRA, and what costs more. Trainings in float32 and
in bfloat16 take turns; a run is one such pair with one seed.

    python benchmarks/bfloat16.py
"""

from __future__ import annotations

import argparse
import time
import warnings
from statistics import median
from typing import Any

import torch
from common import data, environment, write
from tqdm import tqdm

from deni.commands.parts import read_parts
from deni.data import Texts
from deni.finetune import fine_tune
from deni.recipe import Recipe

DATASETS = ("trec", "sst2", "ag_news")
CASES: dict[str, dict[str, Any]] = {
    "auto, 5 of its 15 epochs": {"epochs": 5},
    "ensemble of 10, LoRA": {"strategy": "ensemble", "tuning": "lora", "epochs": 1},
    "default, full": {"strategy": "default", "tuning": "full", "epochs": 3},
}


def seconds_of(train: Texts, recipe: Recipe) -> float:
    """Of the processor, for a whole training."""
    began = time.process_time()
    fine_tune(train, recipe, progress=False, device="cpu")
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = []
    turns = [(dataset, case, run) for dataset in DATASETS for case in CASES for run in range(args.runs)]
    seconds: dict[tuple[str, str, bool], list[float]] = {}
    for dataset, case, run in tqdm(turns):
        for bf16 in (False, True) if run % 2 else (True, False):
            recipe = Recipe.of(model="minilm", bf16=bf16, seed=run, **CASES[case])
            train, _, _ = read_parts(data(dataset), recipe, labelled=200, test_size=1000)
            seconds.setdefault((dataset, case, bf16), []).append(seconds_of(train, recipe))
    for dataset in DATASETS:
        for case in CASES:
            full, half = (seconds[dataset, case, bf16] for bf16 in (False, True))
            ratio = median(short / long for short, long in zip(half, full, strict=True))
            row = {"dataset": dataset, "case": case, "float32": median(full), "bf16": median(half), "ratio": ratio}
            rows.append(row)
            print(row, flush=True)
    write("bfloat16", {**environment(), "settings": vars(args), "rows": rows})


if __name__ == "__main__":
    main()
