"""Are flipped labels found? Confident learning on out-of-fold probabilities of a regression on a frozen encoder.

Of each dataset, texts are drawn by class, a tenth of their labels is replaced by another class at random, and all
are ranked by `deni.labeling`. Precision and recall are equal where as many labels are read as were flipped.
The regression is logistic, with C = 3 on features of length 1, in five folds.

DENI_DATA=FOLDER python benchmarks/wrong_labels.py
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from common import environment, frozen_features, write
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import normalize
from tqdm import tqdm

from deni.data.splits import choose_stratified
from deni.labeling.wrong import find_wrong_labels, label_quality
from deni.tasks import TASKS

DATASETS, SIZES, FLIPPED = ("trec", "ag_news"), (200, 500), 0.1
WITHOUT = 5  # draws that are measured without flips, too
TASK = TASKS["single_label"]


def flip(gold: np.ndarray, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which some are another class, and which ones these are."""
    flipped = np.zeros(len(gold), bool)
    flipped[generator.choice(len(gold), round(FLIPPED * len(gold)), replace=False)] = True
    shift = generator.integers(1, count, len(gold))
    return np.where(flipped, (gold + shift) % count, gold), flipped


def predicted(features: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Log probabilities of each text by the fit that has not seen it, `(N, C)`."""
    regression = LogisticRegression(C=3, max_iter=200)
    return np.log(cross_val_predict(regression, features, gold, cv=StratifiedKFold(5), method="predict_proba"))


def measure(outputs: np.ndarray, gold: np.ndarray, flipped: np.ndarray, labels: list[str]) -> dict[str, float]:
    """How many of the flipped labels are found."""
    quality = label_quality(gold, np.exp(outputs))
    first = np.argsort(quality, kind="stable")[: flipped.sum()]
    listed = np.array([each.text for each in find_wrong_labels(TASK, gold.tolist(), outputs, labels)], dtype=int)
    return {
        "at_flipped": float(flipped[first].mean()),
        "listed": len(listed),
        "precision": float(flipped[listed].mean()) if len(listed) else 0.0,
        "recall": float(flipped[listed].sum() / flipped.sum()),
        "accuracy": float((outputs.argmax(1) == gold).mean()),
    }


def simulate(name: str, size: int, draws: int) -> dict[str, Any]:
    features, gold, labels = frozen_features(name)
    features = normalize(features)
    rows, clean = [], []
    for draw in tqdm(range(draws), f"{name} {size}"):
        generator = np.random.default_rng(draw)
        chosen = choose_stratified([labels[at] for at in gold], size, generator)
        given, flipped = flip(gold[chosen], len(labels), generator)
        rows.append(measure(predicted(features[chosen], given), given, flipped, labels))
        if draw < WITHOUT:
            outputs = predicted(features[chosen], gold[chosen])
            clean.append(len(find_wrong_labels(TASK, gold[chosen].tolist(), outputs, labels)))
    figures = {key: [row[key] for row in rows] for key in rows[0]} | {"listed_without_flips": clean}
    summary = {key: {"mean": float(np.mean(each)), "sd": float(np.std(each, ddof=1))} for key, each in figures.items()}
    return {
        "dataset": name,
        "texts": size,
        "flipped": round(FLIPPED * size),
        **summary,
        "at_flipped_each": figures["at_flipped"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--output", default="wrong_labels", help="name of the result in results/")
    args = parser.parse_args()
    begun = time.perf_counter()
    result = environment()
    result["versions"] |= {name: version(name) for name in ("cleanlab", "scikit-learn", "numpy")}
    result |= {"draws": args.draws, "share": FLIPPED}
    result |= {"without_flips": min(WITHOUT, args.draws), "rows": []}
    for size in SIZES:
        for name in DATASETS:
            result["rows"].append(simulate(name, size, args.draws))
            result["seconds"] = round(time.perf_counter() - begun, 1)
            write(args.output, result)


if __name__ == "__main__":
    main()
