"""Does what `deni suggest` chooses teach more than texts drawn at random? Simulated labeling from 50 to 300 texts.

The model is a logistic regression on the features of a frozen encoder, fitted anew after each 50 labels; labels come
from the dataset. Each seed draws a pool, test texts and the first 50 labels, the same for all ways to choose.

DENI_DATA=FOLDER python benchmarks/suggest.py
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from common import environment, frozen_features, write
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from tqdm import tqdm

from deni.labeling.choosing import choose, uncertainty
from deni.measures import accuracy, macro_f1, mean_interval, mutual_information
from deni.tasks import TASKS

DATASETS, TEST = ("trec", "ag_news"), 1500
FIRST, EACH, LAST = 50, 50, 300
MEMBERS = 3
TASK = TASKS["single_label"]
WAYS = {
    "random": "drawn at random",
    "uncertain": "the most uncertain",
    "disagreement": f"clusters of those on which {MEMBERS} members disagree most",
    "suggest": "clusters of the most uncertain (`deni suggest`)",
}


def fitted(features: np.ndarray, gold: np.ndarray, classes: int, unlabeled: np.ndarray) -> np.ndarray:
    """Log probabilities of a regression, `(N, C)`; a class that has no label yet gets hardly any."""
    regression = LogisticRegression(C=10, max_iter=1000).fit(features, gold)
    probabilities = np.full((len(unlabeled), classes), 1e-9)
    probabilities[:, regression.classes_] = regression.predict_proba(unlabeled)
    return np.log(probabilities / probabilities.sum(1, keepdims=True))


def chosen(
    way: str, features: np.ndarray, gold: np.ndarray, classes: int, pool: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Which of the pool to label next.

    Args:
        features, gold: of the labeled texts.
        pool: features.
    """
    if way == "random":
        return generator.choice(len(pool), EACH, replace=False)
    if way == "disagreement":
        drawn = [generator.integers(len(gold), size=len(gold)) for _ in range(MEMBERS)]
        members = np.stack([fitted(features[rows], gold[rows], classes, pool) for rows in drawn], 1)
        return choose(mutual_information(members), pool, EACH).rows
    votes = fitted(features, gold, classes, pool)
    uncertain = uncertainty(TASK, votes[:, None], votes)
    return np.argsort(-uncertain)[:EACH] if way == "uncertain" else choose(uncertain, pool, EACH).rows


def curve(way: str, features: np.ndarray, gold: np.ndarray, seed: int) -> list[tuple[float, float]]:
    """Accuracy and macro F1 on the test texts with 50, 100, ... labels, in points."""
    generator = np.random.default_rng(seed)
    order, classes, scores = generator.permutation(len(gold)), int(gold.max()) + 1, []
    test, labeled, pool = order[:TEST], order[TEST : TEST + FIRST], order[TEST + FIRST :]
    while True:
        found = fitted(features[labeled], gold[labeled], classes, features[test]).argmax(1)[None]
        scores.append((100 * float(accuracy(found, gold[test])[0]), 100 * float(macro_f1(found, gold[test])[0])))
        if len(labeled) >= LAST:
            return scores
        rows = chosen(way, features[labeled], gold[labeled], classes, features[pool], generator)
        labeled, pool = np.concatenate([labeled, pool[rows]]), np.delete(pool, rows)


def simulate(name: str, seeds: int) -> dict[str, Any]:
    features, gold, _ = frozen_features(name)
    features = normalize(features)
    curves = {
        way: np.array([curve(way, features, gold, seed) for seed in tqdm(range(seeds), f"{name}, {way}")])
        for way in WAYS
    }  # (seeds, sizes, 2)
    rows = {}
    for way, scores in curves.items():
        more = (scores - curves["random"])[:, 1:].mean(1)  # (seeds, 2), the mean over 100 to 300 labels
        rows[way] = {
            metric: {
                "mean": scores[:, :, at].mean(0).round(2).tolist(),
                "sd": scores[:, :, at].std(0, ddof=1).round(2).tolist(),
                "minus_random": None if way == "random" else np.round(mean_interval(more[:, at]), 2).tolist(),
            }
            for at, metric in enumerate(("accuracy", "macro_f1"))
        }
    return {
        "dataset": name,
        "pool": len(gold) - TEST,
        "ways": rows,
        "scores": {way: each.round(2).tolist() for way, each in curves.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", default="suggest", help="name of the result in results/")
    args = parser.parse_args()
    begun = time.perf_counter()
    result = environment()
    result["versions"] |= {name: version(name) for name in ("scikit-learn", "numpy")}
    result |= {"seeds": args.seeds, "test": TEST, "labels": list(range(FIRST, LAST + 1, EACH))}
    result["what"] = WAYS
    result["rows"] = [simulate(name, args.seeds) for name in DATASETS]
    result["seconds"] = round(time.perf_counter() - begun, 1)
    write(args.output, result)


if __name__ == "__main__":
    main()
