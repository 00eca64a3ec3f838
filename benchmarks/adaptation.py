"""Does an encoder that `deni adapt` has adapted read texts better? MiniLM as it is, and adapted to a pool of texts.

Texts are drawn once: test texts, and a pool without labels. Each seed draws labeled texts of the pool; a regression on
the vectors of the frozen encoder, the baseline `frozen`, is fitted on them and measured on the test texts.

DENI_DATA=FOLDER python benchmarks/adaptation.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from common import data, environment, write

from deni.adaptation import Adaptation, adapt
from deni.baselines import make_baseline
from deni.data import Texts, read_data
from deni.measures import mean_interval
from deni.recipe import Recipe
from deni.tasks import TASKS

DATASETS = ("trec", "ag_news")
TEST, POOL, LABELED = 1500, 2000, 200
TASK = TASKS["single_label"]


def drawn(name: str) -> tuple[Texts, Texts]:
    """Test texts and the pool of a dataset, as benchmarks draw its texts."""
    data(name)
    read = read_data(name)
    order = np.random.default_rng(12345).permutation(len(read))
    return read.select(order[:TEST]), read.select(order[TEST : TEST + POOL])


def probed(model: str, test: Texts, pool: Texts, seeds: int) -> list[float]:
    """Macro F1 on the test texts in points, of a regression on so many labels of the pool, for each seed."""
    recipe = Recipe.of(strategy="default", tuning="full", model=model, max_length=64)
    scores = []
    for seed in range(seeds):
        rows = np.random.default_rng(seed).choice(len(pool), LABELED, replace=False)
        fitted = make_baseline("frozen").fit(pool.select(rows), recipe, "cpu")
        gold = TASK.encode(test.labels or (), fitted.labels, test.source)
        scores.append(100 * TASK.scores(gold, fitted.outputs(test.texts), fitted.labels)[TASK.headline])
    return scores


def measure(name: str, seeds: int, runs: int, **settings: Any) -> dict[str, Any]:
    """A dataset: scores before and after, and what the adaptation took."""
    test, pool = drawn(name)
    before = probed("minilm", test, pool, seeds)
    after, made = [], list[Adaptation]()
    for run in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "encoder"
            made.append(adapt(pool, output=output, test=test, seed=run, bf16=True, device="cpu", **settings))
            after.append(probed(str(output), test, pool, seeds))
        print(name, run, made[-1].losses, f"{made[-1].seconds:.0f} s", np.mean(before), np.mean(after[-1]), flush=True)
    more = np.array(after).mean(0) - np.array(before)
    return {
        "dataset": name,
        "before": np.round(before, 2).tolist(),
        "after": np.round(after, 2).tolist(),
        "minus_before": np.round(mean_interval(more), 2).tolist(),
        "adaptations": [each.to_json() for each in made],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=DATASETS)
    parser.add_argument("--seeds", type=int, default=20, help="draws of labeled texts")
    parser.add_argument("--runs", type=int, default=3, help="adaptations, each with its own seed")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--output", default="adaptation", help="name of the result in results/")
    args = parser.parse_args()
    begun = time.perf_counter()
    result = environment()
    result["versions"] |= {name: version(name) for name in ("sentence-transformers", "scikit-learn", "numpy")}
    result |= {"seeds": args.seeds, "runs": args.runs, "test": TEST, "pool": POOL, "labeled": LABELED}
    settings = {"learning_rate": args.learning_rate, "epochs": args.epochs, "steps": args.steps}
    result["rows"] = [measure(name, args.seeds, args.runs, **settings) for name in args.datasets]
    result["seconds"] = round(time.perf_counter() - begun, 1)
    write(args.output, result)


if __name__ == "__main__":
    main()
