"""Do temperatures calibrate, and is the accuracy that abstention promises there? Simulated, and on held-back texts.

python benchmarks/calibration.py

Real texts: logistic regression on 64 principal components of frozen features of MiniLM, in place of a fine-tuned model,
with out-of-fold predictions of five folds; labels are drawn as they come, not balanced by class.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from common import environment, write
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from deni.baselines.frozen import features_of, frozen_encoder, standardized
from deni.data import names, read_data
from deni.errors import InputError
from deni.measures import calibration_scores, choose_threshold, cross_fit_temperature, negative_log_likelihood
from deni.measures.calibration import temper
from deni.models.tokenizing import encode
from deni.recipe import Recipe

DATASETS = ("trec", "ag_news", "sst2", "snips")
TEXTS = 3500  # of a dataset: labels are drawn from them, the rest are held back
SIZES = (100, 200, 500)
LARGE = (1000, 2000)  # where other calibrators than a temperature may be fitted
FOLDS, C, PARTS = 5, 30.0, 64
TARGETS = (0.9, 0.95)
ABSENT = -12.0  # log probability of a class that a fold has not
_READ: dict[str, Any] = {}  # datasets by name
# Of doubt u, uniform from 0 to 1, the probability of an error, and the accuracy of the surest share.
WORLDS: dict[str, tuple[Callable[[Any], Any], Callable[[float], float]]] = {
    "errors among the doubtful": (lambda u: 0.5 * u**3, lambda share: 1 - share**3 / 8),
    "errors grow evenly": (lambda u: 0.2 * u, lambda share: 1 - 0.1 * share),
    "confidence says nothing": (lambda u: 0.06 + 0 * u, lambda share: 0.94),
}


def simulated(draws: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """How often the true accuracy of the answers is below the target, in worlds where it is known."""
    rows = []
    for name, (error, accuracy) in WORLDS.items():
        for texts in (100, 200, 500, 1000):
            below, coverages = 0, []
            for _ in range(draws):
                doubt = generator.random(texts)
                confidence, right = 1 - doubt / 2, generator.random(texts) >= error(doubt)
                try:
                    found = choose_threshold(confidence, right, 0.95)
                except InputError:
                    coverages.append(0.0)
                    continue
                share = 2 * (1 - found.threshold) if found.threshold else 1.0
                coverages.append(share)
                below += accuracy(share) < 0.95
            rows.append(
                {
                    "world": name,
                    "texts": texts,
                    "below": below / draws,
                    "answers": float(np.mean(np.array(coverages) > 0)),
                    "coverage": float(np.mean(coverages)),
                }
            )
    return rows


class Dataset:
    """Frozen features and classes of texts."""

    def __init__(self, name: str) -> None:
        every = read_data(name)
        texts = every.select(np.random.default_rng(12345).permutation(len(every))[:TEXTS])
        recipe = Recipe.of(None, "default", "full", model="minilm", max_length=64)
        features = features_of(frozen_encoder(recipe, "cpu"), texts.texts, progress=True)
        self.features = PCA(PARTS, random_state=0).fit_transform(features)
        self.gold = np.array(encode(texts, names(texts)))
        self.classes = int(self.gold.max()) + 1

    def predicted(self, train: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Log probabilities `(N, C)` of others, by a model of the training texts."""
        scale = standardized(self.features[train])
        model = LogisticRegression(C=C, max_iter=200).fit(scale(self.features[train]), self.gold[train])
        result = np.full((len(other), self.classes), ABSENT)
        result[:, model.classes_] = model.predict_log_proba(scale(self.features[other]))
        return log_softmax(result, axis=-1)

    def out_of_fold(self, train: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Log probabilities `(N, C)`, and the fold of each text."""
        result, folds = np.zeros((len(train), self.classes)), np.zeros(len(train), dtype=int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class with fewer texts than folds
            parts = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(train, self.gold[train]))
        for fold, (rest, own) in enumerate(parts):
            result[own], folds[own] = self.predicted(train[rest], train[own]), fold
        return result, folds


# ---- other calibrators ---------------------------------------------------------------------------------------------


def vector_scaling(predicted: np.ndarray, gold: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A factor and a bias of each class (Guo et al. 2017)."""
    classes = predicted.shape[1]

    def scaled(values: np.ndarray, at: np.ndarray) -> np.ndarray:
        return log_softmax(values * at[:classes] + at[classes:], axis=-1)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        found = scaled(predicted, at)
        slope = (np.exp(found) - np.eye(classes)[gold]) / len(gold)
        return -found[np.arange(len(gold)), gold].mean(), np.concatenate([(slope * predicted).sum(0), slope.sum(0)])

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    best = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return lambda values: scaled(values, best)


def isotonic(predicted: np.ndarray, gold: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """An increasing function of each class's probability, normalized (Zadrozny and Elkan 2002)."""
    fits = [
        IsotonicRegression(y_min=1e-3, y_max=1 - 1e-3, out_of_bounds="clip").fit(np.exp(predicted[:, at]), gold == at)
        for at in range(predicted.shape[1])
    ]

    def apply(values: np.ndarray) -> np.ndarray:
        found = np.stack([fit.predict(np.exp(values[:, at])) for at, fit in enumerate(fits)], 1)
        return np.log(found / found.sum(1, keepdims=True))

    return apply


def cross_fitted(fit: Any, predicted: np.ndarray, gold: np.ndarray, folds: np.ndarray) -> float:
    """The NLL of each fold by what was fitted on the others."""
    found = np.empty_like(predicted)
    for fold in np.unique(folds):
        own = folds == fold
        found[own] = fit(predicted[~own], gold[~own])(predicted[own])
    return float(negative_log_likelihood(found, gold))


# ---- real texts ----------------------------------------------------------------------------------------------------


def one_draw(dataset: Dataset, size: int, seed: int) -> dict[str, Any]:
    """Labels are drawn; a model, its temperature and its thresholds meet the texts that were held back."""
    order = np.random.default_rng(seed).permutation(len(dataset.gold))
    train, held = order[:size], order[size:]
    predicted, folds = dataset.out_of_fold(train, seed)
    gold, truth = dataset.gold[train], dataset.gold[held]
    new = dataset.predicted(train, held)
    fit = cross_fit_temperature(predicted[None], gold, folds[None])
    calibrated = temper(new, fit.temperature)
    row: dict[str, Any] = {
        "temperature": fit.temperature,
        "accuracy": float((new.argmax(1) == truth).mean()),
        "said": fit.after._asdict(),
        "before": {name: float(each) for name, each in calibration_scores(new, truth)._asdict().items()},
        "after": {name: float(each) for name, each in calibration_scores(calibrated, truth)._asdict().items()},
    }
    if size in SIZES:
        sure, right = np.exp(temper(predicted, fit.temperature)).max(1), predicted.argmax(1) == gold
        confidence, hits = np.exp(calibrated).max(1), new.argmax(1) == truth
        extra, rest = slice(0, size), slice(size, None)  # as many labels more, in place of out-of-fold predictions
        row["answers"] = {target: answers(sure, right, confidence, hits, target) for target in TARGETS}
        row["file"] = {
            target: answers(confidence[extra], hits[extra], confidence[rest], hits[rest], target) for target in TARGETS
        }
    if size in LARGE and np.bincount(gold).min() >= 50:
        row["others"] = {}
        for name, how in (("vector", vector_scaling), ("isotonic", isotonic)):
            found = how(predicted, gold)(new)
            row["others"][name] = {
                "cross_fitted": cross_fitted(how, predicted, gold, folds),
                "nll": float(negative_log_likelihood(found, truth)),
                "ece": float(calibration_scores(found, truth).ece),
                "changed": float((found.argmax(1) != new.argmax(1)).mean()),
            }
    return row


def answers(
    sure: np.ndarray, right: np.ndarray, confidence: np.ndarray, hits: np.ndarray, target: float
) -> dict[str, float] | None:
    """Coverage as said and as it is, and the accuracy of the answers; None where the labels do not suffice."""
    try:
        found = choose_threshold(np.minimum(sure, 1), right, target)
    except InputError:
        return None
    answered = confidence > found.threshold
    accuracy = float(hits[answered].mean()) if answered.any() else 1.0
    return {"said": found.coverage, "coverage": float(answered.mean()), "accuracy": accuracy}


def calibration_row(dataset: str, size: int, draws: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the draws; of other calibrators how often they win, and what they cost."""
    row: dict[str, Any] = {"dataset": dataset, "texts": size, "draws": len(draws)}
    for name in ("temperature", "accuracy"):
        row[name] = float(np.mean([each[name] for each in draws]))
    for when in ("before", "after", "said"):
        row[when] = {name: float(np.mean([each[when][name] for each in draws])) for name in draws[0][when]}
    others = [each["others"] for each in draws if "others" in each]
    row["others"] = {
        how: {name: float(np.mean([each[how][name] for each in others])) for name in others[0][how]}
        for how in (others[0] if others else ())
    }
    return row


def abstention_rows(dataset: str, size: int, draws: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each target how often it is supported, and how often the accuracy on the held-back texts is below it."""
    rows = []
    for by in ("answers", "file"):
        for target in TARGETS:
            given = [found for each in draws if (found := each[by][target]) is not None]
            row = {"dataset": dataset, "texts": size, "draws": len(draws), "by": by, "target": target}
            row |= {"supported": len(given), "below": sum(found["accuracy"] < target for found in given)}
            names = ("said", "coverage", "accuracy") if given else ()
            rows.append({**row, **{name: float(np.mean([found[name] for found in given])) for name in names}})
    return rows


def _draw(task: tuple[str, int, int]) -> dict[str, Any]:
    name, size, seed = task
    return one_draw(_READ[name], size, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=100, help="draws of the labels, of real texts")
    parser.add_argument("--large", type=int, default=10, help="draws of 1,000 and 2,000 labels")
    parser.add_argument("--simulated", type=int, default=2000, help="draws of a simulated world")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--output", nargs=2, default=("calibration", "abstention"), help="names of the results")
    given = parser.parse_args()
    model = f"logistic regression, C = {C:g}, on {PARTS} principal components of frozen MiniLM features"
    about: dict[str, Any] = {**environment(), "classifier": model}
    calibrated: dict[str, Any] = {**about, "rows": []}
    abstained: dict[str, Any] = {**about, "draws": given.simulated, "simulated": [], "rows": []}
    for name in DATASETS:
        _READ[name] = Dataset(name)
    tasks = [
        (name, size, seed)
        for name in DATASETS
        for size in (*SIZES, *LARGE)
        for seed in range(given.large if size in LARGE else given.draws)
    ]
    with ProcessPoolExecutor(given.jobs, get_context("fork")) as pool:  # which has the features
        found = list(tqdm(pool.map(_draw, tasks), total=len(tasks)))
    for name, size in dict.fromkeys(task[:2] for task in tasks):
        draws = [row for row, task in zip(found, tasks, strict=True) if task[:2] == (name, size)]
        calibrated["rows"].append(calibration_row(name, size, draws))
        abstained["rows"] += abstention_rows(name, size, draws) if size in SIZES else []
    abstained["simulated"] = simulated(given.simulated, np.random.default_rng(0))
    write(given.output[0], calibrated)
    write(given.output[1], abstained)


if __name__ == "__main__":
    main()
