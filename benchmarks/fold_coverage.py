"""How often does the interval of a cross-validated estimate cover the score of the model that is trained on all labels?

Of `interval_coverage.py --folds`, which writes the result.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from common import data
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from deni.data import read_texts
from deni.measures import accuracy, macro_f1
from deni.measures.folds import of_delivered, pseudo_values
from deni.models.features import FrozenEncoder

FOLDS, LABELS, LEAST = 5, (50, 200, 500), 0.93
TRUTH = 5_000  # simulated texts that the true score is measured on
FACTORS = np.arange(1, 2.01, 0.05)
SCORES = {"accuracy": accuracy, "macro F1": macro_f1}
WORLDS: dict[str, tuple[list[float], float]] = {  # shares of the classes, and how far apart their means are
    "2 classes, even": ([1, 1], 1.5),
    "2 classes, 85 to 15": ([85, 15], 2.0),
    "6 classes, even": ([1] * 6, 3.0),
    "6 classes, each two thirds of the one before": ([(2 / 3) ** at for at in range(6)], 3.0),
    "2 classes, 70 to 30, hardly apart": ([70, 30], 0.5),
    "4 classes, nearly all right": ([1] * 4, 7.0),
}
DATASETS, POOL = ("trec", "snips", "cola"), 2000  # texts of each that labels, and the truth, are drawn from
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
Sample = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # features and classes of the labels, of all others


def simulated(shares: list[float], apart: float, labels: int, generator: np.random.Generator) -> Sample:
    """Classes that are normal in 20 dimensions, around means that are drawn anew each time."""
    means = generator.normal(size=(len(shares), 20))
    means *= apart / np.linalg.norm(means, axis=1, keepdims=True)
    classes = generator.choice(len(shares), labels + TRUTH, p=np.array(shares) / sum(shares))
    features = means[classes] + generator.normal(size=(len(classes), 20))
    return features[:labels], classes[:labels], features[labels:], classes[labels:]


def drawn(features: np.ndarray, classes: np.ndarray, labels: int, generator: np.random.Generator) -> Sample:
    """Labels as they come: some of the texts at random, not balanced by class."""
    order = generator.permutation(len(classes))
    mine, others = order[:labels], order[labels:]
    return features[mine], classes[mine], features[others], classes[others]


def ridge(features: np.ndarray, classes: np.ndarray, asked: np.ndarray, count: int) -> np.ndarray:
    """Scores of a ridge regression on classes, in closed form: as good as any for normal classes, and quick."""
    x = np.column_stack([features, np.ones(len(features))])
    weight = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ np.eye(count)[classes])
    return np.column_stack([asked, np.ones(len(asked))]) @ weight


def logistic(features: np.ndarray, classes: np.ndarray, asked: np.ndarray, count: int) -> np.ndarray:
    """Log probabilities of a logistic regression; of a class that it has not seen a very low one."""
    fitted = LogisticRegression(C=10, max_iter=200, tol=1e-3).fit(features, classes)
    found = np.full((len(asked), count), -50.0)
    found[:, fitted.classes_] = fitted.predict_log_proba(asked)
    return found


def one(sample: Sample, fit: Fit, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The truth, the estimate of `deni train --cv`, and other intervals, for each score."""
    x, y, others, truth = sample
    known, y = np.unique(y, return_inverse=True)
    kept = np.isin(truth, known)  # a text of a class that no label has is another question
    others, truth = others[kept], np.searchsorted(known, truth[kept])
    count = len(known)
    delivered = fit(x, y, others, count).argmax(1)
    folds, outputs = np.zeros(len(y), dtype=int), np.zeros((len(y), count))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        splits = StratifiedKFold(FOLDS, shuffle=True, random_state=int(generator.integers(2**31))).split(x, y)
        for fold, (seen, left_out) in enumerate(splits):
            folds[left_out] = fold
            outputs[left_out] = fit(x[seen], y[seen], x[left_out], count)
    chosen, resampled = outputs.argmax(1), generator.multinomial(len(y), np.full(len(y), 1 / len(y)), size=200)
    for name, score in SCORES.items():
        value, each = pseudo_values(lambda weights, score=score: score(chosen[None], y, weights)[:, 0], folds)
        low, high = of_delivered(each, 1 / (FOLDS - 1), widened=1.0)
        half = (high - low) / 2
        true = float(score(delivered[None], truth)[0])
        boot = np.quantile(score(chosen[None], y, resampled)[:, 0], [0.025, 0.975])
        yield {
            "score": name,
            "labels": len(y),
            "true": true,
            "value": value,
            "half": half,
            "bootstrap": bool(boot[0] <= true <= boot[1]),
            "bootstrap length": float(boot[1] - boot[0]),
        }


def ends(row: dict[str, Any], factor: float) -> tuple[float, float]:
    """The interval that `deni.cross_validation.estimating.interval` would give with this factor."""
    if row["value"] == 1:
        return 1 - 3 / row["labels"], 1.0
    return max(row["value"] - factor * row["half"], 0.0), min(row["value"] + factor * row["half"], 1.0)


def coverage(rows: list[dict[str, Any]], factor: float) -> float:
    """The share of intervals, widened by a factor, that have the truth in them."""
    each = [(ends(row, factor), row["true"]) for row in rows]
    return float(np.mean([low <= true <= high for (low, high), true in each]))


def widened(rows: list[dict[str, Any]], factor: float) -> dict[str, float]:
    """Coverage and mean length with the factor that was chosen."""
    return {"widened": coverage(rows, factor), "length": float(np.mean([np.ptp(ends(row, factor)) for row in rows]))}


def table(
    make: Callable[[int, np.random.Generator], Sample], fit: Fit, times: int, seed: int
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """A row for each number of labels and score, and what it is made of."""
    for labels in LABELS:
        generator = np.random.default_rng([seed, labels])
        found = [each for _ in tqdm(range(times)) for each in one(make(labels, generator), fit, generator)]
        for name in SCORES:
            rows = [row for row in found if row["score"] == name]
            row = {
                "labels": labels,
                "score": name,
                "true": float(np.mean([each["true"] for each in rows])),
                "estimate": float(np.mean([each["value"] for each in rows])),
                "corrected t": coverage(rows, 1.0),
                "bootstrap": float(np.mean([each["bootstrap"] for each in rows])),
                "bootstrap length": float(np.mean([each["bootstrap length"] for each in rows])),
            }
            yield row, rows


def lowest(simulated: list[Any], real: list[Any], factor: float) -> dict[str, float]:
    """Coverage: of the worst row of the simulation; of the worst number of labels on real texts, mean over its rows."""
    by_labels = {labels: [rows for rows in real if rows[0]["labels"] == labels] for labels in LABELS}
    means = [float(np.mean([coverage(rows, factor) for rows in each])) for each in by_labels.values()]
    return {"simulation": min(coverage(rows, factor) for rows in simulated), "validation": min(means)}


def run(times: int, draws: int) -> dict[str, Any]:
    """All tables, and the factor: the smallest with which all of them, see `lowest`, cover often enough."""
    simulation, kept = [], []
    for seed, (name, (shares, apart)) in enumerate(WORLDS.items()):
        make = lambda labels, generator, shares=shares, apart=apart: simulated(shares, apart, labels, generator)  # noqa: E731
        for row, rows in table(make, ridge, times, seed):
            simulation.append({"world": name, **row})
            kept.append(rows)
    validation, on_texts = [], []
    for seed, name in enumerate(DATASETS):
        texts = read_texts(data(name))
        pool = np.random.default_rng([seed, 1]).permutation(len(texts))[:POOL]
        chosen_texts = texts.select(pool.tolist())
        features = FrozenEncoder("minilm", batch_size=32)(list(chosen_texts.texts), progress=True)
        classes = np.unique(chosen_texts.labels, return_inverse=True)[1]
        make = lambda labels, generator, x=features, y=classes: drawn(x, y, labels, generator)  # noqa: E731
        for row, rows in table(make, logistic, draws, 100 + seed):
            validation.append({"data": name, **row})
            on_texts.append(rows)
    least = {f"{factor:.2f}": lowest(kept, on_texts, factor) for factor in FACTORS}
    chosen = next((name for name, covered in least.items() if min(covered.values()) >= LEAST), None)
    print(f"factor {chosen}: {least}", flush=True)
    factor = float(chosen or FACTORS[-1])
    for row, rows in zip([*simulation, *validation], [*kept, *on_texts], strict=True):
        row |= widened(rows, factor)
    return {
        "folds": FOLDS,
        "times": times,
        "draws": draws,
        "least": LEAST,
        "factor": float(chosen) if chosen else None,
        "least_coverage": least,
        "simulation": simulation,
        "validation": validation,
    }
