"""Does an encoder that `deni adapt` has adapted read texts better? MiniLM as it is, and adapted to a pool of texts.

Texts are drawn once: test texts, and a pool without labels. Each seed draws labeled texts of the pool; the baseline
`frozen`, a regression on the vectors of the frozen encoder, and `auto`, fine-tuned in bf16 with that seed, learn from
them and are measured on the test texts. What is measured is kept, so the same command goes on after a stop.

DENI_DATA=FOLDER python benchmarks/adaptation.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, data, environment, write
from sklearn.metrics import f1_score

from deni.adaptation import adapt
from deni.baselines import make_baseline
from deni.data import Texts, read_data
from deni.finetune import fine_tune
from deni.measures import mean_interval
from deni.recipe import Recipe

DATASETS = ("trec", "sst2", "ag_news", "db_pedia")
TEST, POOL, LABELED = 1500, 2000, 200


def drawn(name: str) -> tuple[Texts, Texts]:
    """Test texts and the pool of a dataset, as benchmarks draw its texts."""
    data(name)
    read = read_data(name)
    order = np.random.default_rng(12345).permutation(len(read))
    return read.select(order[:TEST]), read.select(order[TEST : TEST + POOL])


def probed(model: str, train: Texts, test: Texts, seed: int) -> list[str]:
    """The labels of the test texts by a regression on vectors of the frozen encoder."""
    fitted = make_baseline("frozen").fit(train, Recipe.of(model=model, strategy="default", max_length=64), "cpu")
    return [fitted.labels[at] for at in fitted.outputs(test.texts).argmax(1)]


def fine_tuned(model: str, train: Texts, test: Texts, seed: int) -> list[str]:
    """The labels of the test texts by `auto`."""
    recipe = Recipe.of(model=model, strategy="auto", max_length=64, bf16=True, seed=seed)
    classifier = fine_tune(train, recipe, progress=False, device="cpu").classifier()
    return [classifier.labels[at] for at in classifier.predict_log_probabilities(list(test.texts)).argmax(1)]


METHODS: dict[str, Callable[[str, Texts, Texts, int], list[str]]] = {"frozen": probed, "auto": fine_tuned}


def measure(method: str, model: str, test: Texts, pool: Texts, seeds: int) -> list[float]:
    """Macro F1 on the test texts in points, learned from so many labels of the pool, for each seed."""
    scores = []
    for seed in range(seeds):
        rows = np.random.default_rng(seed).choice(len(pool), LABELED, replace=False)
        found = METHODS[method](model, pool.select(rows), test, seed)
        scores.append(round(100 * float(f1_score(list(test.labels or ()), found, average="macro")), 2))
    return scores


def rows_of(kept: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each dataset and method: scores before and after each adaptation, and their difference."""
    rows = []
    for name, found in kept.items():
        for method, before in found["before"].items():
            if done := [run for run in found["runs"].values() if method in run["after"]]:
                after = [run["after"][method] for run in done]
                row = {"dataset": name, "method": method, "before": before, "after": after}
                row["minus_before"] = np.round(mean_interval(np.mean(after, 0) - before), 2).tolist()
                rows.append({**row, "adaptations": [run["adaptation"] for run in done]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=DATASETS)
    parser.add_argument("--methods", nargs="+", default=tuple(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, default=20, help="draws of labeled texts")
    parser.add_argument("--runs", type=int, default=1, help="adaptations, each with its own seed")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--output", default="adaptation", help="name of the result in results/")
    args = parser.parse_args()
    path = RESULTS / f"{args.output}.json"
    kept = json.loads(path.read_text(encoding="utf-8")).get("kept", {}) if path.is_file() else {}
    result = environment()
    result["versions"] |= {name: version(name) for name in ("sentence-transformers", "scikit-learn", "numpy")}
    result |= {"seeds": args.seeds, "test": TEST, "pool": POOL, "labeled": LABELED}
    settings = {"learning_rate": args.learning_rate, "epochs": args.epochs, "steps": args.steps}
    for name in args.datasets:
        test, pool = drawn(name)
        found = kept.setdefault(name, {"before": {}, "runs": {}})
        for method in args.methods:
            if method not in found["before"]:
                found["before"][method] = measure(method, "minilm", test, pool, args.seeds)
        for run in map(str, range(args.runs)):
            missing = [
                method for method in args.methods if method not in found["runs"].get(run, {"after": {}})["after"]
            ]
            if not missing:
                continue
            with tempfile.TemporaryDirectory() as folder:
                encoder = str(Path(folder) / "encoder")
                made = adapt(pool, output=encoder, test=test, seed=int(run), bf16=True, device="cpu", **settings)
                of_run = found["runs"].setdefault(run, {"after": {}, "adaptation": made.to_json()})
                for method in missing:
                    of_run["after"][method] = measure(method, encoder, test, pool, args.seeds)
            write(args.output, {**result, "rows": rows_of(kept), "kept": kept})


if __name__ == "__main__":
    main()
