"""How good the predictions of each seed are, and which runs failed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, Ints, as_classes, as_numbers, as_predictions, as_scores, check_share

# Not scikit-learn's, which score one run at a time: a bootstrap of 10,000 resamples of 20 seeds is 200,000 scores, 0.1
# seconds here and 260 there (500 texts, 6 classes, one core). Tests hold these to scikit-learn's.
Score = Callable[..., Floats]  # (predictions (S, N), gold (N,), weights (R, N) or None) -> (S,) or (R, S)


def _counts(predictions: ArrayLike, gold: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Count for each class what is rightly predicted `(R, S, C)`, predicted `(R, S, C)` and gold `(R, 1, C)`.

    A sparse product: each prediction falls into one class, so the cost does not grow with the number of classes.
    """
    chosen, right = as_predictions(predictions, gold)
    examples = len(right)
    counted = np.ones((1, examples)) if weights is None else as_numbers("weights", weights, "R N")
    if counted.shape[1] != examples:
        raise InputError(f"weights (R, N) have shape {counted.shape}, but there are {examples} test examples")
    if (counted < 0).any():
        raise InputError(f"weights of shape {counted.shape} count examples: at least 0, not {counted.min()}")
    classes = int(max(chosen.max(), right.max())) + 1
    columns = np.ascontiguousarray(counted.T)  # (N, R)

    def by_class(each: Ints, counts: Floats) -> Floats:
        place = each + classes * np.arange(len(each))[:, None]  # (S, N)
        index = (place.ravel(), np.tile(np.arange(examples), len(each)))
        table = scipy.sparse.csr_array((counts.ravel(), index), shape=(len(each) * classes, examples))
        return (table @ columns).T.reshape(-1, len(each), classes)

    return (
        by_class(chosen, (chosen == right).astype(np.float64)),
        by_class(chosen, np.ones(chosen.shape)),
        by_class(right[None], np.ones((1, examples))),
    )


def _of_seeds(scores: Floats, weights: ArrayLike | None) -> Floats:
    return scores[0] if weights is None else scores


def _divide(above: Floats, below: Floats) -> Floats:
    """Divide; where the divisor is 0 the score is 0, as in scikit-learn."""
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below > 0)


def macro_f1(predictions: ArrayLike, gold: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Mean over the classes of F1 = 2 TP / (predicted + gold), of each seed.

    A class that is neither predicted nor gold does not count, as in `sklearn.metrics.f1_score(average="macro")`.

    Args:
        predictions: class numbers, `(S, N)`.
        gold: the right classes, `(N,)`.
        weights: how often each example counts, `(R, N)`; of a bootstrap, say.

    Returns:
        `(S,)`, from 0 to 1; `(R, S)` with weights.

    >>> macro_f1([[0, 0, 1, 1], [0, 1, 1, 1]], [0, 0, 1, 1]).round(3)
    array([1.   , 0.733])
    """
    right, predicted, actual = _counts(predictions, gold, weights)
    seen = predicted + actual
    return _of_seeds(_divide(_divide(2 * right, seen).sum(-1), (seen > 0).sum(-1)), weights)


def accuracy(predictions: ArrayLike, gold: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Share of examples with the right class, of each seed; shapes as in `macro_f1`.

    >>> accuracy([[0, 0, 1, 1], [0, 1, 1, 1]], [0, 0, 1, 1])
    array([1.  , 0.75])
    """
    right, _, actual = _counts(predictions, gold, weights)
    return _of_seeds(_divide(right.sum(-1), actual.sum(-1)), weights)


def majority_score(gold: ArrayLike, score: Score = macro_f1) -> float:
    """Score of always predicting the most frequent class of `gold` `(N,)`; the lowest of equally frequent ones.

    >>> round(majority_score([0, 1, 1, 1]), 3)
    0.429
    """
    right = as_classes("gold", gold, "N")
    return float(score(np.full((1, len(right)), np.bincount(right).argmax()), right)[0])


def failed_runs(scores: ArrayLike, chance: float | None = None, share: float | None = None) -> np.ndarray:
    """Which runs failed: no better than `chance`, or below a `share` of the median.

    Failed runs are counted and shown, and they stay in mean and SD. A run that is no better than the majority class
    is the failed run of Mosbach et al. (2021, "On the Stability of Fine-tuning BERT").

    Args:
        scores: `(S,)` or `(S, ...)`.
        chance: see `majority_score`.
        share: of the median over the seeds, between 0 and 1.

    Returns:
        Booleans, shaped like the scores.

    >>> failed_runs([0.9, 0.1, 0.8, 0.4], chance=0.1, share=0.7)
    array([False,  True, False,  True])
    """
    each = as_scores("scores", scores)
    if chance is None and share is None:
        raise InputError("say which runs failed: give `chance` (see majority_score), a `share` of the median, or both")
    failed = np.zeros(each.shape, dtype=bool)
    if chance is not None:
        failed |= each <= chance
    if share is not None:
        check_share("share", share)
        failed |= each < share * np.median(each, axis=0)
    return failed
