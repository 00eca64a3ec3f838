"""A trained model beside the baselines, on the same test texts."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from deni.baselines import Baseline, usual_baselines
from deni.errors import InputError
from deni.measures import Estimate, other_texts
from deni.progress import ProgressBar
from deni.provenance import digest
from deni.tasks import TASKS

if TYPE_CHECKING:
    from deni.data import Texts
    from deni.finetune import Evaluation
    from deni.recipe import Recipe

# Digest of what is fitted and predicted -> outputs, seconds, what else is said of it.
_OUTPUTS: dict[str, tuple[np.ndarray, float, str]] = {}
KEPT = 16


@dataclass(frozen=True)
class BaselineScore:
    """A baseline on the test texts.

    Args:
        name: of the baseline.
        score: the headline of the task.
        seconds: of its fit and its predictions.
        outputs: as those of a vote.
        remark: what else there is to say, such as a price.
    """

    name: str
    score: float
    seconds: float
    outputs: np.ndarray
    remark: str = ""


@dataclass(frozen=True)
class Beside:
    """The baselines, and how far the model is from the best of them.

    Args:
        scores: of each baseline that makes sense for the task.
        difference: the model's headline minus that of the best, with the interval of 95 % over other test texts, which
            both share; None where none has a score.
        left_out: baselines that were named and could not be asked, and why.
        as_good: other baselines that the model is not shown to be better than -> the same difference to them.
    """

    scores: Sequence[BaselineScore]
    difference: Estimate | None
    left_out: Mapping[str, str] = field(default_factory=dict)
    as_good: Mapping[str, Estimate] = field(default_factory=dict)

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
    baselines: Sequence[Baseline] | None = None,
) -> Beside:
    """Fit the baselines on the texts that a model was trained on, and compare it with the best of them.

    Args:
        evaluation: of the model.
        recipe: see `deni.baselines.Baseline.fit`.
        labels: names of the outputs.
        generator: draws the test texts again.
        device: where an encoder computes.
        baselines: to fit; None for those that make sense for the task and run without being named.
    """
    kind, tested = TASKS[recipe.task], evaluation.texts
    fitting = usual_baselines(kind, train.pairs) if baselines is None else baselines
    scores, left_out = [], {}
    with ProgressBar("baselines", len(fitting), unit="fitted", shown=progress) as bar:
        for baseline in fitting:
            try:
                outputs, seconds, remark = _outputs(baseline, train, tested, recipe, device)
            except (InputError, click.Abort) as error:
                if not baseline.on_request:
                    raise
                # The training is done, and a server that does not answer must not take its report away.
                left_out[baseline.name] = str(error) or "nothing was sent"
            else:
                score = kind.scores(evaluation.gold, outputs, labels)[kind.headline]
                scores.append(BaselineScore(baseline.name, score, seconds, outputs, remark))
            bar.advance()
    if not scores:
        return Beside(scores, None, left_out)
    mine = kind.headline_by_weight(evaluation.gold, evaluation.votes, labels)

    def minus(baseline: BaselineScore) -> Estimate:
        other = kind.headline_by_weight(evaluation.gold, baseline.outputs, labels)
        ends = other_texts(lambda weights: mine(weights) - other(weights), np.ones(len(tested)), generator=generator)
        return Estimate(evaluation.metrics[kind.headline] - baseline.score, *ends)

    best = max(scores, key=lambda each: each.score)
    difference = minus(best)
    others = {each.name: minus(each) for each in scores if each is not best}
    as_good = {name: each for name, each in others.items() if each.low <= 0}
    return Beside(scores, difference, left_out, as_good)


def _outputs(
    baseline: Baseline, train: Texts, tested: Texts, recipe: Recipe, device: Any
) -> tuple[np.ndarray, float, str]:
    """Predictions and seconds of a baseline, kept in the process: a second model of the same texts need not wait."""
    how = [recipe.model, recipe.max_length, recipe.pooling, recipe.normalize_features, recipe.class_weights]
    texts = [train.task, list(train.order), list(train.texts), train.labels, list(tested.texts)]
    key = digest([baseline.name, baseline.settings(), how, str(device), texts])
    if key not in _OUTPUTS:
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = baseline.fit(train, recipe, device)
            outputs = fitted.outputs(tested.texts)
        while len(_OUTPUTS) >= KEPT:
            del _OUTPUTS[next(iter(_OUTPUTS))]
        _OUTPUTS[key] = outputs, time.perf_counter() - began, baseline.remark(fitted.notes)
    return _OUTPUTS[key]
