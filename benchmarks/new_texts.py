"""Do prediction sets hold the truth as often as they say, and does the scope tell texts of another dataset apart?

python benchmarks/new_texts.py
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from common import RESULTS, environment, write
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from deni.data import Texts, read_data
from deni.finetune import fine_tune
from deni.measures import (
    fit_gaussian,
    mahalanobis,
    mean_p_values,
    p_values,
    percentiles,
    prediction_sets,
    probability_scores,
)
from deni.models.features import FrozenEncoder
from deni.recipe import Recipe

DATASETS = ("trec", "snips", "ag_news", "db_pedia")
OTHERS = (("trec", "snips"), ("snips", "trec"), ("ag_news", "db_pedia"), ("db_pedia", "ag_news"))
POOL, NEW, FEWER, CALIBRATION, FOLDS, LEVELS = 2000, 800, 500, 100, 5, (0.8, 0.9, 0.95)
FINE_TUNED = ("trec", "snips")
PARTS = ("sets", "scope", *FINE_TUNED)
Rows = dict[str, Any]
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def adaptive(logs: np.ndarray, u: np.ndarray, penalty: float = 0.0) -> np.ndarray:
    """Cumulative probability of the more likely classes plus `u` times its own (APS); RAPS penalizes low ranks.

    Args:
        logs: log probabilities, `(..., N, C)`.
        u: `(N,)`, from 0 to 1; 1 without chance.
    """
    order = np.argsort(-logs, axis=-1, kind="stable")
    ordered = np.take_along_axis(np.exp(logs), order, -1)
    scores = ordered.cumsum(-1) - (1 - u[:, None]) * ordered + penalty * np.arange(logs.shape[-1])
    found = np.empty_like(scores)
    np.put_along_axis(found, order, scores, -1)
    return found


SCORES: dict[str, Score] = {
    "1 - probability (LAC)": lambda logs, u: probability_scores(logs),
    "APS": lambda logs, u: adaptive(logs, np.ones_like(u)),
    "APS, randomized": adaptive,
    "RAPS, randomized": lambda logs, u: adaptive(logs, u, 0.1),
}


def pool(name: str, generator: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Some texts of a dataset, drawn once, with their classes."""
    texts = read_data(name)
    assert texts.labels is not None
    rows = generator.permutation(len(texts))[:POOL]
    return [texts.texts[row] for row in rows], np.unique([texts.labels[row] for row in rows], return_inverse=True)[1]


def probe(x: np.ndarray, y: np.ndarray, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """A logistic regression as a function of vectors, `(N, C)` log probabilities; a class that it lacks is unlikely."""
    model = LogisticRegression(C=30, max_iter=200, tol=1e-3).fit(x, y)

    def predict(new: np.ndarray) -> np.ndarray:
        found = np.full((len(new), classes), 1e-6)
        found[:, model.classes_] += model.predict_proba(new)
        return np.log(found / found.sum(1, keepdims=True))

    return predict


def row_of(sets: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Coverage, mean size, and coverage of the class that is covered least, among those of 20 texts or more."""
    hits = sets[np.arange(len(gold)), gold]
    counts = np.bincount(gold, minlength=sets.shape[1])
    by_class = [hits[gold == at].mean() for at in np.flatnonzero(counts >= 20)]
    return {"coverage": hits.mean(), "size": sets.sum(1).mean(), "least_class": min(by_class)}


def mean_rows(found: dict[tuple[Any, ...], list[dict[str, float]]], names: tuple[str, ...]) -> list[Rows]:
    rows = []
    for key, each in found.items():
        means = {name: round(float(np.mean([one[name] for one in each])), 4) for name in each[0]}
        spread = float(np.std([one["coverage"] for one in each], ddof=1)) if len(each) > 1 else 0.0
        rows.append({**dict(zip(names, key, strict=True)), **means, "coverage_sd": round(spread, 4)})
    return rows


def sets_of_probes(vectors: np.ndarray, gold: np.ndarray, labeled: int, draws: int) -> list[Rows]:
    """Frozen encoder and logistic regression: many draws of labeled, calibration and new texts."""
    classes, found = gold.max() + 1, {}
    scores = SCORES if labeled == 200 else dict(list(SCORES.items())[:1])
    for draw in tqdm(range(draws)):
        generator = np.random.default_rng(draw)
        rows, u = generator.permutation(len(gold)), generator.random(len(gold))
        train, calibration, new = rows[:labeled], rows[labeled : labeled + CALIBRATION], rows[-NEW:]
        predict = probe(vectors[train], gold[train], classes)
        parts, by_fold = [], []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class of fewer texts than folds
            splits = StratifiedKFold(FOLDS, shuffle=True, random_state=draw).split(train, gold[train])
            for kept, left in splits:
                model = probe(vectors[train][kept], gold[train][kept], classes)
                parts.append((train[left], model(vectors[train[left]])))
                by_fold.append(model(vectors[new]))
        for name, score in scores.items():
            own = score(predict(vectors[calibration]), u[calibration])[np.arange(CALIBRATION), gold[calibration]]
            values = {
                "split": p_values(own, score(predict(vectors[new]), u[new])),
                "folds": mean_p_values(
                    [score(logs, u[left])[np.arange(len(left)), gold[left]] for left, logs in parts],
                    score(np.stack(by_fold), u[new]),
                ),
            }
            for how, each in values.items():
                for level in LEVELS if name == next(iter(SCORES)) else (0.9,):
                    row = row_of(prediction_sets(each, level), gold[new])
                    found.setdefault((labeled, name, how, level), []).append(row)
    return mean_rows(found, ("labeled", "score", "how", "level"))


def sets_of_model(logs: np.ndarray, gold: np.ndarray, draws: int) -> list[Rows]:
    """A fine-tuned model: many draws of calibration texts among those that it has not learned."""
    found: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    scores = probability_scores(logs)
    for draw in range(draws):
        rows = np.random.default_rng(draw).permutation(len(gold))
        known, new = rows[:CALIBRATION], rows[CALIBRATION:]
        values = p_values(scores[known, gold[known]], scores[new])
        for level in LEVELS:
            found.setdefault((level,), []).append(row_of(prediction_sets(values, level), gold[new]))
    return mean_rows(found, ("level",))


def to_classes(labeled: np.ndarray, gold: np.ndarray, new: np.ndarray) -> np.ndarray:
    """To the nearest class mean, with one shrunken covariance around them (Lee et al. 2018)."""
    classes, numbers = np.unique(gold, return_inverse=True)
    means = np.stack([labeled[gold == each].mean(0) for each in classes])
    shrunk = LedoitWolf(assume_centered=True).fit(labeled - means[numbers])
    root = np.linalg.cholesky(shrunk.precision_)
    return cdist(new @ root, means @ root).min(1)


def to_neighbors(labeled: np.ndarray, new: np.ndarray, neighbors: int = 10) -> np.ndarray:
    """The mean cosine distance to the nearest labeled texts (Sun et al. 2022)."""
    return NearestNeighbors(n_neighbors=neighbors, metric="cosine").fit(labeled).kneighbors(new)[0].mean(1)


def scope_row(
    labeled: np.ndarray,
    gold: np.ndarray,
    new: np.ndarray,
    other: np.ndarray,
    unsure: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, float]:
    """AUROC of texts of another dataset against new ones of the same, and how many of these look unlike the labeled.

    Args:
        unsure: 1 minus the confidence for new and other texts, where a model predicts.
    """
    truth = np.repeat([0, 1], [len(new), len(other)])
    both = np.concatenate([new, other])
    known = fit_gaussian(labeled)
    distances = mahalanobis(known.mean, known.root, both)
    found = {
        "mean": roc_auc_score(truth, distances),
        "classes": roc_auc_score(truth, to_classes(labeled, gold, both)),
        "neighbors": roc_auc_score(truth, to_neighbors(labeled, both)),
        **({} if unsure is None else {"confidence": roc_auc_score(truth, np.concatenate(unsure))}),
    }
    shown = percentiles(known.distances, distances)
    for at in (90, 99):
        found |= {
            f"new_above_{at}": (shown[truth == 0] >= at).mean(),
            f"other_above_{at}": (shown[truth == 1] >= at).mean(),
        }
    return {name: float(value) for name, value in found.items()}


def fine_tuned(name: str, texts: dict[str, tuple[list[str], np.ndarray]], epochs: float) -> dict[str, Any]:
    """Sets and scope of a model that is fine-tuned on 200 labels."""
    (given, gold), other = texts[name], dict(OTHERS)[name]
    new, far, truth = given[200 : 200 + FEWER], texts[other][0][:FEWER], gold[200 : 200 + FEWER]
    train = Texts(given[:200], [str(each) for each in gold[:200]], name, None)  # type: ignore[arg-type]
    recipe = Recipe.of(None, "default", "lora", model="minilm", epochs=epochs)
    model = fine_tune(train, recipe, progress=True).classifier()
    logs, unsure = model.predict_log_probabilities(new), -model.predict_log_probabilities(far).max(1)
    whole = np.full((len(new), gold.max() + 1), np.log(1e-9))
    whole[:, [int(label) for label in model.labels]] = logs
    labeled, near, other_vectors = (model.features(each) for each in (given[:200], new, far))
    row = scope_row(labeled, gold[:200], near, other_vectors, (-logs.max(1), unsure))
    named = {key: round(value, 4) for key, value in row.items()}
    scope = {"dataset": name, "other": other, "features": "fine-tuned", **named}
    accuracy = round(float((whole.argmax(1) == truth).mean()), 4)
    return {"accuracy": accuracy, "sets": sets_of_model(whole, truth, 200), "scope": scope}


def frozen_scope(vectors: dict[str, np.ndarray], texts: dict[str, tuple[list[str], np.ndarray]]) -> list[Rows]:
    """Scope by the vectors of the frozen encoder, mean of 5 draws of 200 labeled texts."""
    result = []
    for name, other in OTHERS:
        found = []
        for draw in range(5):
            rows = np.random.default_rng(draw).permutation(POOL)
            known, new = rows[:200], rows[-NEW:]
            own, gold = vectors[name], texts[name][1]
            found.append(scope_row(own[known], gold[known], own[new], vectors[other][:NEW], None))
        means = {key: round(float(np.mean([each[key] for each in found])), 4) for key in found[0]}
        result.append({"dataset": name, "other": other, "features": "frozen", **means})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--only", choices=PARTS, action="append", help="parts to measure again; the others stay")
    parser.add_argument("--output", default="new_texts", help="name of the result")
    args = parser.parse_args()
    parts, generator = args.only or PARTS, np.random.default_rng(0)
    texts = {name: pool(name, generator) for name in DATASETS}
    result = environment()
    result["versions"] |= {name: version(name) for name in ("numpy", "scipy", "scikit-learn")}
    result |= {"draws": args.draws, "calibration": CALIBRATION, "folds": FOLDS, "epochs": args.epochs, "labeled": 200}
    if "sets" in parts or "scope" in parts:
        encoder = FrozenEncoder("minilm", max_length=64)
        vectors = {name: encoder(each, progress=True) for name, (each, _) in texts.items()}
    if "scope" in parts:
        result["scope"] = frozen_scope(vectors, texts)
    if "sets" in parts:
        result["sets"] = [
            {"dataset": name, **row}
            for name in DATASETS
            for labeled in (50, 200)
            for row in sets_of_probes(vectors[name], texts[name][1], labeled, args.draws)
        ]
    result |= {name: fine_tuned(name, texts, args.epochs) for name in FINE_TUNED if name in parts}
    earlier = RESULTS / f"{args.output}.json"
    kept = json.loads(earlier.read_text(encoding="utf-8")) if earlier.exists() else {}
    write(args.output, {**kept, **result})


if __name__ == "__main__":
    main()
