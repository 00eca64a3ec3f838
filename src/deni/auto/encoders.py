"""Which encoder: a cross-validated regression on the vectors of each, as it is, one forward pass of the texts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deni.baselines import make_baseline
from deni.baselines.frozen import features_of, frozen_encoder, standardized
from deni.baselines.regression import cross_validated, left_out_parts, outputs_of
from deni.data import Texts, names
from deni.errors import InputError, SettingError
from deni.measures.arrays import Estimate
from deni.measures.folds import over_folds
from deni.models.loading import load_config
from deni.progress import ProgressBar
from deni.recipe import Recipe
from deni.tasks import TASKS


@dataclass(frozen=True)
class EncoderScore:
    """An encoder without training, on labeled texts.

    Args:
        model: its name.
        score: the headline metric of the task on texts that the regression has not seen, mean over folds.
        difference: to the best of those that are compared, paired over folds, with its interval of 95 %.
        seconds: of its forward passes and fits.
        parameters: of the encoder.
    """

    model: str
    score: float
    difference: Estimate
    seconds: float
    parameters: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        value, low, high = map(float, self.difference)
        return {**dataclasses.asdict(self), "difference": {"value": value, "low": low, "high": high}}


def compare_encoders(
    train: Texts, models: Sequence[str], recipe: Recipe, *, device: Any = None, progress: bool = False
) -> list[EncoderScore]:
    """The encoders by their scores, the best first; of equal ones the one that is named first.

    Each fold has its own regression with its own C by cross-validation within it: no text is predicted by what has
    seen it.

    Args:
        train: labeled texts.
        models: names: `minilm`, folders, or hub ids.
        recipe: how texts are cut, pooled and weighted; its model plays no part.
        device: where encoders compute.

    Raises:
        SettingError: texts that no frozen encoder can be compared on.
        InputError: a model that cannot be loaded, or too few texts.
    """
    task, labels = TASKS[train.task], names(train)
    if why := make_baseline("frozen").why_unfit(task, train.pairs):
        raise SettingError(f"encoders cannot be compared: a frozen one {why.partition(':')[0]}")
    if task.one_class and len(labels) < 2:
        raise InputError(f"{train.source}: all texts have the label {labels[0]!r}, a classifier needs 2 classes")
    gold = np.asarray(task.encode(train.labels or (), labels, train.source))
    parts = left_out_parts(gold, task)
    if not parts:
        raise InputError(f"{train.source}: no class has two texts, and comparing encoders leaves some out: add some")
    for model in models:
        load_config(model)  # what is not there is said before minutes are spent on the others
    found = []
    with ProgressBar("encoders", len(models), unit="compared", shown=progress) as bar:
        for model in models:
            bar.update(bar.done, model)
            began = time.perf_counter()
            encoder = frozen_encoder(dataclasses.replace(recipe, model=model), device)
            features = features_of(encoder, train.texts)
            scores = []
            for seen, left_out in parts:
                fit = cross_validated(standardized, features[seen], gold[seen], task, len(labels), recipe.class_weights)
                outputs = outputs_of(task, fit.logits(features[left_out]))
                scores.append(task.scores(gold[left_out], outputs, labels)[task.headline])
            found.append((model, np.array(scores), time.perf_counter() - began, encoder.parameters))
            bar.advance()
    best = max(found, key=lambda each: each[1].mean())
    share = float(np.mean([len(left_out) / len(seen) for seen, left_out in parts]))
    rows = [
        EncoderScore(model, float(scores.mean()), over_folds(scores - best[1], share), seconds, parameters)
        for model, scores, seconds, parameters in found
    ]
    return sorted(rows, key=lambda row: -row.score)


def as_record(rows: Sequence[EncoderScore], task: str) -> dict[str, Any]:
    """A comparison as JSON values, for `deni.json`."""
    return {"chosen": rows[0].model, "metric": TASKS[task].headline, "compared": [row.to_json() for row in rows]}


def told(record: Mapping[str, Any]) -> str:
    """Which encoder was chosen and why, in a sentence, of what `as_record` gives."""
    best, second = record["compared"][:2]
    ends = second["difference"]
    return (
        f"The encoder is {record['chosen']}, the best of {len(record['compared'])} by a cross-validated regression on "
        f"their frozen vectors: {record['metric'].replace('_', ' ')} {best['score']:.3f}; next {second['model']} "
        f"({ends['value']:+.3f}, 95 % interval {ends['low']:+.3f} to {ends['high']:+.3f} over folds)."
    )
