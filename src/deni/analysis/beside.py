"""A trained model beside the baselines, on the same test texts."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from deni.artifact.out_of_fold import VOTE, OutOfFold
from deni.baselines import Baseline, usual_baselines
from deni.cross_validation.estimating import contributions, texts_of
from deni.data import names
from deni.errors import InputError
from deni.measures import Estimate, other_texts
from deni.measures.folds import of_delivered
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

IMPOSSIBLE = -30.0  # log probability of a class, and log odds of a label, that a baseline has not seen


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
        difference: the model's headline minus that of the best, with the interval of 95 % over other test texts, or
            over folds, which both share; None where none has a score.
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
    scores, left_out = _scored(
        fitting,
        lambda baseline: _outputs(baseline, train, tested, recipe, device),
        lambda outputs: kind.scores(evaluation.gold, outputs, labels)[kind.headline],
        progress,
    )
    mine = kind.headline_by_weight(evaluation.gold, evaluation.votes, labels)

    def minus(baseline: BaselineScore) -> Estimate:
        other = kind.headline_by_weight(evaluation.gold, baseline.outputs, labels)
        ends = other_texts(lambda weights: mine(weights) - other(weights), np.ones(len(tested)), generator=generator)
        return Estimate(evaluation.metrics[kind.headline] - baseline.score, *ends)

    return _beside(scores, left_out, minus)


def compare_out_of_fold(
    train: Texts,
    found: OutOfFold,
    recipe: Recipe,
    device: Any = None,
    progress: bool = False,
    baselines: Sequence[Baseline] | None = None,
) -> Beside:
    """Fit the baselines on the texts of each fold, and compare the model with the best of them out of fold.

    Args:
        found: of the model; of several divisions the first counts.
        recipe, device, baselines: as of `compare_with_baselines`.

    The interval of the difference is that of the estimate: a corrected t over folds, which both share.
    """
    kind = TASKS[recipe.task]
    fitting = usual_baselines(kind, train.pairs) if baselines is None else baselines
    gold, folds = texts_of(found)
    parts = [np.flatnonzero(folds[0] == fold) for fold in range(int(folds.max()) + 1)]

    def predict(baseline: Baseline) -> tuple[np.ndarray, float, str]:
        outputs, seconds = np.full(found.outputs[VOTE].shape[1:], IMPOSSIBLE), 0.0
        for left_out in parts:
            kept, rows = train.select(np.setdiff1d(np.arange(len(train)), left_out)), left_out
            if found.texts is not None:
                rows = np.flatnonzero(np.isin(found.texts, np.unique(found.texts)[left_out]))
            columns = np.array([found.labels.index(name) for name in names(kept)])  # a class may be in one fold alone
            own, spent, _ = _outputs(baseline, kept, train.select(left_out), recipe, device)
            outputs[np.ix_(rows, columns)], seconds = own, seconds + spent
        return outputs, seconds, ""

    def score_of(outputs: np.ndarray) -> tuple[float, np.ndarray]:
        return contributions(gold, folds[:1], outputs[None], found.labels, kind)

    mine, by_fold = score_of(found.outputs[VOTE][0])

    def minus(baseline: BaselineScore) -> Estimate:
        other, others = score_of(baseline.outputs)
        low, high = of_delivered(by_fold - others, 1 / (len(parts) - 1))
        shift = (mine - other) - float((by_fold - others).mean())
        return Estimate(mine - other, low + shift, high + shift)

    scores, left_out = _scored(fitting, predict, lambda outputs: score_of(outputs)[0], progress)
    return _beside(scores, left_out, minus)


def _scored(
    fitting: Sequence[Baseline],
    predict: Callable[[Baseline], tuple[np.ndarray, float, str]],
    score: Callable[[np.ndarray], float],
    progress: bool,
) -> tuple[list[BaselineScore], dict[str, str]]:
    """The score of each baseline, and why some have none."""
    scores, left_out = [], {}
    with ProgressBar("baselines", len(fitting), unit="fitted", shown=progress) as bar:
        for baseline in fitting:
            try:
                outputs, seconds, remark = predict(baseline)
            except (InputError, click.Abort) as error:
                if not baseline.on_request:
                    raise
                # The training is done, and a server that does not answer must not take its report away.
                left_out[baseline.name] = str(error) or "nothing was sent"
            else:
                scores.append(BaselineScore(baseline.name, score(outputs), seconds, outputs, remark))
            bar.advance()
    return scores, left_out


def _beside(
    scores: Sequence[BaselineScore], left_out: Mapping[str, str], minus: Callable[[BaselineScore], Estimate]
) -> Beside:
    if not scores:
        return Beside(scores, None, left_out)
    best = max(scores, key=lambda each: each.score)
    others = {each.name: minus(each) for each in scores if each is not best}
    as_good = {name: each for name, each in others.items() if each.low <= 0}
    return Beside(scores, minus(best), left_out, as_good)


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
