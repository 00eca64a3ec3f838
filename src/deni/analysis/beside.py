"""A trained model beside the baselines, on the same test texts."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deni.baselines import BASELINES
from deni.measures import Estimate, other_texts
from deni.progress import ProgressBar
from deni.provenance import digest
from deni.tasks import TASKS

if TYPE_CHECKING:
    from deni.data import Texts
    from deni.finetune import Evaluation
    from deni.recipe import Recipe

_OUTPUTS: dict[str, tuple[np.ndarray, float]] = {}  # digest of what is fitted and predicted -> outputs, seconds
KEPT = 16


@dataclass(frozen=True)
class BaselineScore:
    """A baseline on the test texts.

    Args:
        name: of the baseline.
        score: the headline of the task.
        seconds: of its fit and its predictions.
        outputs: as those of a vote.
    """

    name: str
    score: float
    seconds: float
    outputs: np.ndarray


@dataclass(frozen=True)
class Beside:
    """The baselines, and how far the model is from the best of them.

    Args:
        scores: of each baseline that makes sense for the task.
        difference: the model's headline minus that of the best, with the interval of 95 % over other test texts, which
            both share.
    """

    scores: Sequence[BaselineScore]
    difference: Estimate

    @property
    def best(self) -> BaselineScore:
        """The baseline with the highest score, of equal ones the first."""
        return max(self.scores, key=lambda each: each.score)


def compare_with_baselines(
    train: Texts,
    evaluation: Evaluation,
    recipe: Recipe,
    labels: Sequence[str],
    generator: np.random.Generator,
    device: Any = None,
    progress: bool = False,
) -> Beside:
    """Fit the baselines on the texts that a model was trained on, and compare it with the best of them.

    Args:
        evaluation: of the model.
        recipe: see `deni.baselines.Baseline.fit`.
        labels: names of the outputs.
        generator: draws the test texts again.
        device: where an encoder computes.
    """
    kind, tested = TASKS[recipe.task], evaluation.texts
    fitting = [name for name in BASELINES.built_in() if not BASELINES[name]().why_unfit(kind, train.pairs)]
    scores = []
    with ProgressBar("baselines", len(fitting), unit="fitted", shown=progress) as bar:
        for name in fitting:
            outputs, seconds = _outputs(name, train, tested, recipe, device)
            score = kind.scores(evaluation.gold, outputs, labels)[kind.headline]
            scores.append(BaselineScore(name, score, seconds, outputs))
            bar.advance()
    best = max(scores, key=lambda each: each.score)
    mine, other = (kind.headline_by_weight(evaluation.gold, each, labels) for each in (evaluation.votes, best.outputs))
    ends = other_texts(lambda weights: mine(weights) - other(weights), np.ones(len(tested)), generator=generator)
    return Beside(scores, Estimate(evaluation.metrics[kind.headline] - best.score, *ends))


def _outputs(name: str, train: Texts, tested: Texts, recipe: Recipe, device: Any) -> tuple[np.ndarray, float]:
    """Predictions and seconds of a baseline, kept in the process: a second model of the same texts need not wait."""
    how = [recipe.model, recipe.max_length, recipe.pooling, recipe.normalize_features, recipe.class_weights]
    texts = [train.task, list(train.order), list(train.texts), train.labels, list(tested.texts)]
    key = digest([name, how, str(device), texts])
    if key not in _OUTPUTS:
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = BASELINES[name]().fit(train, recipe, device).outputs(tested.texts)
        while len(_OUTPUTS) >= KEPT:
            del _OUTPUTS[next(iter(_OUTPUTS))]
        _OUTPUTS[key] = outputs, time.perf_counter() - began
    return _OUTPUTS[key]
