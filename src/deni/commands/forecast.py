"""What `deni forecast` does: scores on growing subsets of the labels, and what more labels would give."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deni.auto import decide
from deni.baselines.frozen import features_of, frozen_encoder, standardized
from deni.baselines.majority import outputs_of_shares
from deni.baselines.regression import Span, cross_validated, outputs_of
from deni.data import Texts, names, read_data
from deni.errors import InputError, SettingError
from deni.inputs import candidates
from deni.measures import Estimate
from deni.measures.learning_curve import RARE, PowerLaw, fit_power_law, forecast, sd_of_rare_classes
from deni.measures.resampling import draw_counts
from deni.models.tokenizing import encode
from deni.progress import ProgressBar
from deni.randomness import derive
from deni.recipe import Recipe
from deni.tasks import TASKS, Task
from deni.tasks.metrics import called

FOLDS, REPEATS, SIZES = 10, 2, 6  # of the probe
TUNED_FOLDS, TUNED_SIZES = 3, 4  # of fine-tuning, whose runs are long
LEAST, EACH = 10, 2  # texts of the smallest subset: in all, and for each class
RANGE = 3  # the largest subset is at least so many times the smallest
RESAMPLES = 500
FAR = 2.0  # times the labels up to which forecasts were tested

# Fits on rows of the texts, predicts others: outputs (N, C).
FitPredict = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class MoreLabels:
    """What a number of further labels would give.

    Args:
        more: how many.
        total: labels with them.
        score, gain: the score, and what it gains over that with the labels there are; with 90 % intervals.
    """

    more: int
    total: int
    score: Estimate
    gain: Estimate


@dataclass(frozen=True)
class LearningCurve:
    """Cross-validated scores on growing subsets, a power law through them, and what it says about more labels.

    Args:
        source: the file.
        task: see `deni.tasks.TASKS`.
        texts: how many labeled ones there are.
        how: what was trained: `frozen`, or `strategy, tuning` of a fine-tuning.
        model: the encoder.
        sizes: of the subsets, `(S,)`.
        scores: the headline score at each size, mean over repeats, with a 90 % interval over other texts: `(S,)`.
        law: the power law.
        now: the score with all labels, by the power law.
        forecasts: one for each number of further labels.
        rare: classes of fewer texts than tell how well they are learned.
        seconds: that it took.
    """

    source: str
    task: str
    texts: int
    how: str
    model: str
    sizes: np.ndarray
    scores: Estimate
    law: PowerLaw
    now: float
    forecasts: Sequence[MoreLabels]
    rare: Sequence[str]
    seconds: float

    @property
    def metric(self) -> str:
        """The name of the score."""
        return TASKS[self.task].headline

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        rows = zip(self.sizes.tolist(), *(np.asarray(each).tolist() for each in self.scores), strict=True)
        return {
            **{name: getattr(self, name) for name in ("source", "task", "texts", "how", "model", "metric")},
            "curve": [dict(zip(("texts", "score", "low", "high"), row, strict=True)) for row in rows],
            "power_law": {name: float(each) for name, each in self.law._asdict().items()},
            "now": self.now,
            "forecasts": [
                {"more": each.more, "total": each.total, "score": each.score._asdict(), "gain": each.gain._asdict()}
                for each in self.forecasts
            ],
            "rare": list(self.rare),
            "seconds": round(self.seconds, 1),
            "verdict": state_forecast(self),
        }


def forecast_file(
    file: str | Path,
    *,
    recipe: Recipe,
    more: Sequence[int] = (),
    fine_tune: bool = False,
    seeds: int | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    label_order: Sequence[str] = (),
    split: str | None = None,
    config_name: str | None = None,
    device: str | None = None,
    progress: bool = False,
) -> LearningCurve:
    """Forecast what more labels would give, from the labeled texts of a file.

    Args:
        file: as in `deni.commands.train.train_file`, and so are the columns, `split` and `config_name`.

    The other arguments are those of `forecast_texts`.
    """
    texts = read_data(
        file,
        text_column=text_column,
        text_pair_column=text_pair_column,
        label_column=label_column,
        label_order=label_order,
        split=split,
        config_name=config_name,
        task=recipe.task,
    )
    return forecast_texts(texts, recipe, more=more, fine_tune=fine_tune, seeds=seeds, device=device, progress=progress)


def forecast_texts(
    texts: Texts,
    recipe: Recipe,
    *,
    more: Sequence[int] = (),
    fine_tune: bool = False,
    seeds: int | None = None,
    device: str | None = None,
    progress: bool = False,
) -> LearningCurve:
    """Forecast what more labels would give, from labeled texts.

    Args:
        recipe: names the encoder and how it reads texts; with `fine_tune` the whole training. Its seed decides folds
            and subsets.
        more: numbers of further labels; empty for half as many, and as many, as there are.
        fine_tune: train each subset, in place of a regression on the features of the frozen encoder.
        seeds: repeats of the cross-validation; None for two, or one where it is fine-tuned.
        device: where to compute, see `deni.models.devices.find_device`.

    Raises:
        InputError: too few labels to fit anything to; the message says how many it takes.
        SettingError: a task without a frozen baseline, or a number below 1.
    """
    began, task, labels = time.perf_counter(), TASKS[texts.task], names(texts)
    if task.generates:
        raise SettingError(f"a forecast is for models that label texts, not for the task {texts.task}")
    repeats = seeds if seeds is not None else 1 if fine_tune else REPEATS
    if repeats < 1 or any(each < 1 for each in more):
        raise SettingError(f"seeds and more are at least 1, not {min([repeats, *more])}")
    if task.of_words and not fine_tune:
        raise SettingError(
            "the frozen encoder reads whole texts, and here each word has a tag: give --fine-tune to train each subset"
        )
    if not fine_tune and candidates(recipe.model):
        raise SettingError(f"a forecast is for one model: name it in place of {recipe.model}")
    totals = [len(texts) + each for each in more or default_more(len(texts))]
    if fine_tune:
        subset_sizes(texts, TUNED_FOLDS, TUNED_SIZES)  # too few texts are said before anything is decided
        recipe = decide(recipe, texts, device=device, progress=progress)
        found = forecast_with(
            _fine_tuned(texts, recipe, device),
            texts,
            totals,
            folds=TUNED_FOLDS,
            sizes=TUNED_SIZES,
            repeats=repeats,
            seed=recipe.seed,
            progress=progress,
        )
        how = f"{recipe.strategy.name}, {recipe.tuning.name}"
    else:
        subset_sizes(texts, FOLDS, SIZES)
        features = features_of(frozen_encoder(recipe, device), texts.texts, progress)
        fit_predict = probe(features, encode(texts, labels), task, len(labels), recipe.class_weights)
        found = forecast_with(fit_predict, texts, totals, repeats=repeats, seed=recipe.seed, progress=progress)
        how = "frozen"
    return dataclasses.replace(found, how=how, model=recipe.model, seconds=time.perf_counter() - began)


def forecast_with(
    fit_predict: FitPredict,
    texts: Texts,
    totals: Sequence[int],
    *,
    folds: int = FOLDS,
    sizes: int = SIZES,
    repeats: int = REPEATS,
    seed: int = 0,
    progress: bool = False,
) -> LearningCurve:
    """Forecast the scores of whatever can be fitted on rows of the texts and predicts others, see `probe`.

    Args:
        totals: numbers of labels to forecast for.
        folds, repeats: of the cross-validation.
        sizes: how many sizes the subsets have.
        seed: of folds, subsets and the bootstrap.
    """
    task, labels, grid = TASKS[texts.task], names(texts), subset_sizes(texts, folds, sizes)
    gold = encode(texts, labels)
    outputs = out_of_fold(fit_predict, gold, task, len(labels), grid, folds, repeats, seed, progress)
    scores, drawn = _scores(outputs, gold, task, labels, len(texts), seed)
    counts = Counter(label for each in texts.labels or () for label in task.classes_in(each))
    macro = task.one_class and task.headline == "macro_f1"
    rare = sd_of_rare_classes([counts[label] for label in labels]) if macro else 0.0
    seen, law = forecast(grid, scores, drawn, len(texts), totals, rare=rare), fit_power_law(grid, scores.mean(0))
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    return LearningCurve(
        source=texts.source,
        task=texts.task,
        texts=len(texts),
        how="",
        model="",
        sizes=grid,
        scores=Estimate(scores.mean(0), low, high),
        law=law,
        now=float(law.at([len(texts)])[0]),
        forecasts=[
            MoreLabels(total - len(texts), total, Estimate(*map(float, score)), Estimate(*map(float, gain)))
            for total, score, gain in zip(
                totals, zip(*seen.score, strict=True), zip(*seen.gain, strict=True), strict=True
            )
        ],
        rare=[label for label in labels if counts[label] < RARE] if macro else [],
        seconds=0.0,
    )


def default_more(texts: int) -> list[int]:
    """Half as many as there are, and as many, in round numbers.

    >>> default_more(200), default_more(63)
    ([100, 200], [30, 60])
    """
    step = 100 if texts >= 400 else 10
    return [max(step, round(share * texts / step) * step) for share in (0.5, 1.0)]


def subset_sizes(texts: Texts, folds: int, count: int) -> np.ndarray:
    """Sizes of the subsets, each larger than the one before by about the same factor, up to what a fold leaves.

    Raises:
        InputError: too few texts for a curve.
    """
    task = TASKS[texts.task]
    classes = len(names(texts)) if task.one_class else 0
    if task.one_class and classes < 2:
        raise InputError(f"{texts.source}: all texts have one label, and there is nothing to learn from more of them")
    least, most = max(LEAST, EACH * classes), int(len(texts) * (folds - 1) / folds)
    if most < RANGE * least:
        needed = -(-RANGE * least * folds // (folds - 1))
        of = f" of {classes} classes" if classes else ""
        raise InputError(
            f"{texts.source}: {len(texts)} labeled texts{of} are too few to fit a curve: label {needed} or more"
        )
    smallest = max(least, most // 8)
    return np.unique(np.geomspace(smallest, most, count).round().astype(int))


def out_of_fold(
    fit_predict: FitPredict,
    gold: Sequence[Any],
    task: Task,
    classes: int,
    sizes: np.ndarray,
    folds: int,
    repeats: int,
    seed: int,
    progress: bool = False,
) -> np.ndarray:
    """Outputs of each text by models that have not seen it, trained on subsets of each size: `(R, S, N, C)`.

    The subsets of a fold are nested: a larger one has all texts of the smaller ones.
    """
    rows = len(np.concatenate(gold)) if task.of_words else len(gold)
    starts = np.cumsum([0, *(len(each) for each in gold)]) if task.of_words else np.arange(rows + 1)
    found = np.empty((repeats, len(sizes), rows, classes))
    with ProgressBar("fit on subsets", repeats * folds * int(sizes.sum()), shown=progress) as bar:
        for repeat in range(repeats):
            generator = np.random.default_rng(derive(seed, "forecast", repeat))
            for seen, left_out in _parts(gold, task, folds, generator):
                order = generator.permutation(seen)
                for at, size in enumerate(sizes):
                    outputs = fit_predict(order[:size], left_out)
                    places = np.concatenate([np.arange(starts[each], starts[each + 1]) for each in left_out])
                    found[repeat, at, places] = outputs
                    bar.advance(int(size))
    return found


def _parts(
    gold: Sequence[Any], task: Task, folds: int, generator: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to train on and rows that are left out, by class where a class has a text for each fold."""
    from sklearn.model_selection import KFold, StratifiedKFold

    stratified = task.one_class and np.bincount(gold).max() >= folds
    splitter = (StratifiedKFold if stratified else KFold)(folds, shuffle=True, random_state=generator.integers(2**31))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # it is missing from some folds
        return list(splitter.split(np.zeros((len(gold), 1)), np.asarray(gold) if stratified else None))


def _scores(
    found: np.ndarray, gold: Sequence[Any], task: Task, labels: Sequence[str], texts: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The headline of each repeat and size `(R, S)`, and means over repeats on other texts `(B, S)`."""
    weights = draw_counts(texts, RESAMPLES, np.random.default_rng(derive(seed, "forecast", "texts")))
    weights = np.concatenate([np.ones((1, texts)), weights])
    each = np.array([[task.headline_by_weight(gold, own, labels)(weights) for own in repeat] for repeat in found])
    return each[..., 0], each[..., 1:].mean(0).T  # (R, S, 1 + B)


def probe(
    features: np.ndarray,
    gold: Sequence[Any],
    task: Task,
    outputs: int,
    balanced: bool = False,
    strength: float | None = None,
) -> FitPredict:
    """A regression on features `(N, D)` of the texts.

    Args:
        outputs: C.
        balanced: whether all classes count alike.
        strength: the inverse of the penalty's; None to choose it once, by cross-validation on all texts.
    """
    known = np.asarray(gold)
    c = cross_validated(standardized, features, gold, task, outputs, balanced).c if strength is None else strength

    def fit_predict(seen: np.ndarray, left_out: np.ndarray) -> np.ndarray:
        own = known[seen]
        if task.one_class and len(np.unique(own)) < 2:
            return np.tile(outputs_of_shares(task, own, outputs), (len(left_out), 1))
        transform = standardized(features[seen])
        span = Span(transform(features[seen]))
        counts = np.bincount(own, minlength=outputs) if balanced else None
        weight = None if counts is None else np.divide(1, counts, out=np.zeros(outputs), where=counts > 0)
        coefficients, bias = task.fit_output_layer(span(span.features), own, outputs, c, True, weight)
        return outputs_of(task, span(transform(features[left_out])) @ coefficients.T + bias)

    return fit_predict


def _fine_tuned(texts: Texts, recipe: Recipe, device: str | None) -> FitPredict:
    """Each subset trains a population; classes that a subset lacks are never chosen."""
    from deni.finetune import fine_tune

    labels, task, trained = names(texts), TASKS[texts.task], 0

    def fit_predict(seen: np.ndarray, left_out: np.ndarray) -> np.ndarray:
        nonlocal trained
        subset = texts.select(seen.tolist())
        others = texts.select(left_out.tolist())
        trained += 1
        if task.one_class and len(names(subset)) < 2:
            return np.tile(outputs_of_shares(task, encode(subset, labels), len(labels)), (len(others), 1))
        own = dataclasses.replace(recipe, seed=derive(recipe.seed, "forecast", "training", trained) % 2**31)
        result = fine_tune(subset, own, device=device, progress=False)
        votes = result.classifier().votes(others.texts)
        found = np.full((len(votes), len(labels)), -np.inf if task.chooses else 0.0)
        found[:, [labels.index(label) for label in result.labels]] = votes
        return found

    return fit_predict


def state_forecast(found: LearningCurve) -> list[str]:
    """The answer in sentences."""
    task = TASKS[found.task]
    factor, digits = (100, 1) if task.in_points else (1, 3)

    def signed(value: float) -> str:
        return f"{factor * value:+.{digits}f}"

    said, metric = [], called(found.metric)
    for each in found.forecasts:
        gain, low, high = (signed(float(value)) for value in each.gain)
        score = f"{factor * float(each.score.value):.{digits}f}"
        said.append(
            f"{each.more:,} more: {low} to {high} {metric} (90 %; most likely {gain}), so about {score} with "
            f"{each.total:,} labels."
        )
    if float(found.law.scale) == 0:
        said.append("The scores do not rise with the number of labels, so nothing is expected of more of them.")
    if found.rare:
        listed = ", ".join(found.rare[:5]) + (", ..." if len(found.rare) > 5 else "")
        said.append(f"Fewer than {RARE} texts have {listed}: how well that is learned with more is open.")
    if any(each.total > FAR * found.texts for each in found.forecasts):
        said.append(f"More than {FAR:g} times the labels there are is beyond what forecasts were tested on.")
    if found.how == "frozen":
        said.append("This is a regression on the frozen encoder; fine-tuning may gain more (--fine-tune measures it).")
    else:
        said.append("Intervals were tested with the frozen encoder only; fine-tuning varies more from seed to seed.")
    return said
