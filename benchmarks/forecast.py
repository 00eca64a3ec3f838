"""Is what `deni forecast` says about more labels true? Forecasts from 200 labels against what 400 give.

python benchmarks/forecast.py

Texts and labels are drawn as they come. The forecast sees 200 labels; the truth is the score, on 1,000 other texts, of
the same regression fitted on these and 200 more. The constants of `deni.measures.learning_curve` were chosen on other
draws than the first 20; `--first` takes others.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from typing import Any

import numpy as np
from common import data, environment, write

from deni.baselines.frozen import features_of, frozen_encoder, standardized
from deni.baselines.regression import Regression, cross_validated
from deni.commands.forecast import forecast_with, probe
from deni.data import names, read_data
from deni.measures import macro_f1
from deni.models.tokenizing import encode
from deni.progress import track
from deni.recipe import Recipe
from deni.tasks import TASKS

DATASETS = ("trec", "sst2", "ag_news", "snips")
SEEN, AHEAD = 200, 400  # labels of the forecast, and those that it is for
POOL, TEST = 1500, 1000  # texts that draws choose from, and those that the truth is measured on


def draws(dataset: str, first: int, count: int) -> list[dict[str, Any]]:
    """Forecast and truth of each draw of labels."""
    texts, task = read_data(data(dataset)), TASKS["single_label"]
    texts = texts.select(np.random.default_rng(0).permutation(len(texts))[: POOL + TEST].tolist())
    labels, recipe = names(texts), Recipe.of(strategy="default", model="minilm")
    features, gold = features_of(frozen_encoder(recipe), texts.texts, progress=True), np.array(encode(texts, labels))
    found = []

    def fit(rows: np.ndarray) -> tuple[Regression, float]:
        """The regression on these rows, and its score on the test texts."""
        fitted = cross_validated(standardized, features[rows], gold[rows], task, len(labels))
        return fitted, float(macro_f1(fitted.logits(features[POOL:]).argmax(-1)[None], gold[POOL:])[0])

    for draw in track(range(first, first + count), dataset, unit="draws"):
        rows = np.random.default_rng([1, draw]).permutation(POOL)[:AHEAD]
        seen = texts.select(rows[:SEEN].tolist())
        own = names(seen)
        (regression, now), (_, then) = fit(rows[:SEEN]), fit(rows)
        fit_predict = probe(features[rows[:SEEN]], encode(seen, own), task, len(own), strength=regression.c)
        curve = forecast_with(fit_predict, seen, [AHEAD], seed=draw)
        found.append(
            {
                **{"dataset": dataset, "draw": draw, "now": now, "then": then},
                **{name: list(getattr(curve.forecasts[0], name)) for name in ("score", "gain")},
                **{"last": float(curve.scores.value[-1]), "rare": len(curve.rare)},
            }
        )
    return found


def summarize(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Errors of forecast and of "as the last value", in points, and how often the intervals hold the truth."""

    def ends(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows]).T

    then, gained = ends("then"), ends("then") - ends("now")
    (score, low, high), (gain, least, most) = ends("score"), ends("gain")
    return {
        "forecasts": len(rows),
        "gain": 100 * float(gained.mean()),
        "gain_error": 100 * float(np.abs(gain - gained).mean()),
        "gain_bias": 100 * float((gain - gained).mean()),
        "naive_gain_error": 100 * float(np.abs(gained).mean()),
        "gain_coverage": float(((least <= gained) & (gained <= most)).mean()),
        "gain_width": 100 * float((most - least).mean()),
        "score_error": 100 * float(np.abs(score - then).mean()),
        "naive_score_error": 100 * float(np.abs(ends("last") - then).mean()),
        "score_coverage": float(((low <= then) & (then <= high)).mean()),
        "score_width": 100 * float((high - low).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--output", default="forecast", help="Name of the result, without .json.")
    args = parser.parse_args()
    result = environment()
    result["versions"] |= {name: version(name) for name in ("numpy", "scikit-learn")}
    result |= {"seen": SEEN, "ahead": AHEAD, "draws": args.draws, "first": args.first, "test": TEST, "confidence": 0.9}
    rows = [row for dataset in DATASETS for row in draws(dataset, args.first, args.draws)]
    groups = {dataset: [row for row in rows if row["dataset"] == dataset] for dataset in DATASETS} | {"all": rows}
    result["results"] = [{"dataset": dataset, **summarize(own)} for dataset, own in groups.items()]
    result["rows"] = rows
    write(args.output, result)
    for row in result["results"]:
        print({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()})


if __name__ == "__main__":
    main()
