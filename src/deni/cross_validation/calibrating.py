"""Temperatures, and where to answer, of a trained model: from its out-of-fold predictions, or a dev split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deni.artifact import Classifier
from deni.artifact.abstention import describe_abstention, why_no_abstention
from deni.artifact.calibration import fit_calibration, why_not_calibrated
from deni.artifact.out_of_fold import MEMBER, MERGED, VOTE
from deni.data import Texts
from deni.finetune import FineTuneResult
from deni.models.tokenizing import encode
from deni.population import Population, mean_of_members
from deni.randomness import Sources, derive
from deni.tasks import TASKS

FOLDS = 5  # of a dev split, to measure a temperature where it was not fitted


def calibrate(result: FineTuneResult, dev: Texts | None = None) -> dict[str, Any]:
    """The keys `calibration` and `abstention` of `deni.json`; neither where there is nothing to fit them on.

    Args:
        result: with its out-of-fold predictions; without them `dev` serves for temperatures.
        dev: labeled texts that it was not trained on.
    """
    task, combine = TASKS[result.recipe.task], result.trainer.strategy.combine
    found, predictions = {}, result.out_of_fold
    if not task.chooses:
        return {}
    if predictions is not None:
        some = _calibrated(predictions.outputs, task, combine)
        found["calibration"] = fit_calibration(some, predictions.gold, predictions.folds, task, "out_of_fold")
    elif dev is not None and len(dev) >= FOLDS:
        outputs, gold, folds = _on_dev(result, dev)
        found["calibration"] = fit_calibration(_calibrated(outputs, task, combine), gold, folds, task, "dev")
    if predictions is not None and not why_no_abstention(task):
        temperature = found["calibration"].get(VOTE, {}).get("temperature")
        found["abstention"] = describe_abstention(predictions, task, temperature)
    return found


def _calibrated(outputs: Mapping[str, np.ndarray], task: Any, combine: str) -> dict[str, np.ndarray]:
    """The predictors that have probabilities."""
    left_out = VOTE if why_not_calibrated(task, combine) else None
    return {name: values for name, values in outputs.items() if name != left_out}


def _on_dev(result: FineTuneResult, dev: Texts) -> tuple[dict[str, np.ndarray], list[Any], np.ndarray]:
    """Outputs of each predictor `(1, N, C)`, what is right, and a fold of each text `(1, N)`."""
    classifier = result.classifier()
    members = classifier.members(dev.texts)
    outputs = {VOTE: classifier.combined(members, calibrated=False)}
    if members.shape[1] > 1:
        outputs[MERGED] = merged(result).members(dev.texts)[:, 0]
        outputs[MEMBER] = members[:, 0]
    gold: list[Any] = encode(dev, result.labels)
    order = np.random.default_rng(derive(result.recipe.seed, "calibration")).permutation(len(dev))
    folds = order % FOLDS
    if TASKS[result.recipe.task].of_words:
        folds = folds.repeat([len(each) for each in gold])
        gold = [label for each in gold for label in each]
    return {name: values[None] for name, values in outputs.items()}, gold, folds[None]


def merged(result: FineTuneResult) -> Classifier:
    """The mean of the members as a model, as `deni export --as single` writes it."""
    population, voters = result.trainer.population, result.voters
    values = {name: value if voters is None else value[list(voters)] for name, value in population.values.items()}
    model = population.copy_of(population.full(mean_of_members(values)))
    one = Population(model.eval(), [Sources(0)], "loop")
    return Classifier(one, result.tokenizer, result.labels, {**result.info(), "vote": {"combine": "soft"}})
