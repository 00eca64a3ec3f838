"""How well predicted probabilities match the observed frequencies, before and after temperature scaling."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, as_log_probabilities, check_least, check_positive, with_gold

TEMPERATURES = (0.05, 20.0)  # a dev split without an error has its best temperature at 0: the search stops here


class Reliability(NamedTuple):
    """Of each bin the `share` of examples in it, their mean `confidence` and `accuracy`: a reliability diagram."""

    share: Floats
    confidence: Floats
    accuracy: Floats


class Calibration(NamedTuple):
    """Expected calibration error, Brier score and negative log likelihood: numbers, or one for each seed."""

    ece: Any
    brier: Any
    nll: Any


class CrossFitted(NamedTuple):
    """A temperature fitted on all predictions, and what temperatures fitted without a fold make of that fold.

    Args:
        temperature: of all.
        outputs: log probabilities `(S, N, C)` after scaling; those of a fold by the temperature of the other folds.
        before, after: the calibration of both, mean over the S divisions.
    """

    temperature: float
    outputs: Floats
    before: Calibration
    after: Calibration


class Scaling(NamedTuple):
    """The temperature, and the calibration before and after dividing by it."""

    temperature: float
    before: Calibration
    after: Calibration


def reliability(log_probabilities: ArrayLike, gold: ArrayLike, bins: int = 15) -> Reliability:
    """Compare confidence and accuracy in bins of equal width over (0, 1].

    Args:
        log_probabilities: `(..., N, C)`.
        gold: `(N,)`.
        bins: how many; a confidence on an edge belongs to the bin below it.

    Returns:
        Three arrays `(..., bins)`; confidence and accuracy of an empty bin are 0.

    >>> reliability(np.log([[0.9, 0.1], [0.2, 0.8]]), [0, 0], bins=2).accuracy
    array([0. , 0.5])
    """
    array, right = with_gold(log_probabilities, gold)
    check_least("bins", bins, 1)
    confidence = np.exp(array.max(-1))  # (..., N)
    hits = (array.argmax(-1) == right).astype(np.float64)
    # 1e-9: a confidence that is an edge up to rounding belongs below it.
    place = np.clip(np.ceil(confidence * bins - 1e-9).astype(np.int64) - 1, 0, bins - 1)
    within = (place[..., None, :] == np.arange(bins)[:, None]).astype(np.float64)  # (..., bins, N)
    counts = within.sum(-1)
    least = np.maximum(counts, 1)
    mean = [np.einsum("...bn,...n->...b", within, each) / least for each in (confidence, hits)]
    return Reliability(counts / len(right), *mean)


def expected_calibration_error(log_probabilities: ArrayLike, gold: ArrayLike, bins: int = 15) -> Floats:
    """Mean over the examples of |confidence - accuracy| of their bin (Naeini et al. 2015; Guo et al. 2017).

    Confidence is the highest probability. The bins are of equal width; with few examples the error of a perfectly
    calibrated model is above 0, and more so with more bins: compare only with equal bins and examples.

    Args:
        log_probabilities: `(..., N, C)`.
        gold: `(N,)`.

    Returns:
        `(...)`, from 0 to 1.

    >>> round(float(expected_calibration_error(np.log([[0.9, 0.1], [0.2, 0.8]]), [0, 0], bins=2)), 3)
    0.35
    """
    share, confidence, hits = reliability(log_probabilities, gold, bins)
    return (share * np.abs(confidence - hits)).sum(-1)


def brier_score(log_probabilities: ArrayLike, gold: ArrayLike) -> Floats:
    """Squared distance of the probabilities from the right answer, over all classes; mean over examples (Brier 1950).

    Args:
        log_probabilities: `(..., N, C)`.
        gold: `(N,)`.

    Returns:
        `(...)`, from 0 to 2. (With two classes, half of it is what is often called the Brier score.)

    >>> round(float(brier_score(np.log([[0.9, 0.1], [0.2, 0.8]]), [0, 0])), 3)
    0.65
    """
    array, right = with_gold(log_probabilities, gold)
    return ((np.exp(array) - np.eye(array.shape[-1])[right]) ** 2).sum(-1).mean(-1)


def negative_log_likelihood(log_probabilities: ArrayLike, gold: ArrayLike) -> Floats:
    """Minus the log probability of the right class, mean over examples, in nats; infinite where one is impossible.

    Args:
        log_probabilities: `(..., N, C)`.
        gold: `(N,)`.

    Returns:
        `(...)`, at least 0.

    >>> round(float(negative_log_likelihood(np.log([[0.9, 0.1], [0.2, 0.8]]), [0, 0])), 3)
    0.857
    """
    array, right = with_gold(log_probabilities, gold)
    return -array[..., np.arange(len(right)), right].mean(-1)


def calibration_scores(log_probabilities: ArrayLike, gold: ArrayLike, bins: int = 15) -> Calibration:
    """All three measures of calibration of `(..., N, C)`, each `(...)`.

    >>> calibration_scores(np.log([[0.9, 0.1], [0.2, 0.8]]), [0, 0], bins=2).brier.round(3)
    np.float64(0.65)
    """
    return Calibration(
        expected_calibration_error(log_probabilities, gold, bins),
        brier_score(log_probabilities, gold),
        negative_log_likelihood(log_probabilities, gold),
    )


def temper(log_probabilities: ArrayLike, temperature: float) -> Floats:
    """Divide log probabilities `(..., N, C)` by the temperature and normalize; no prediction changes.

    The same as dividing the logits that they come from. Above 1 it lowers confidence.

    >>> np.exp(temper(np.log([[0.9, 0.1]]), 2.0)).round(2)
    array([[0.75, 0.25]])
    """
    check_positive("temperature", temperature)
    return scipy.special.log_softmax(
        as_log_probabilities("log_probabilities", log_probabilities) / temperature, axis=-1
    )


def fit_temperature(log_probabilities: ArrayLike, gold: ArrayLike, doubtful: float = 0.0) -> float:
    """Find the temperature with the lowest negative log likelihood on dev texts (Guo et al. 2017).

    Args:
        log_probabilities: of dev texts, `(N, C)`; never those of the test texts.
        gold: `(N,)`.
        doubtful: how many more texts, with the mean prediction and each class as likely, count with them (Platt 1999):
            few texts without an error do not make a model certain.

    Returns:
        From 0.05 to 20; the ends stand for "no finite minimum" (no error at all, or no better than chance).

    Raises:
        InputError: a right class has probability 0: no temperature makes it possible.

    >>> sure = np.log([[0.99, 0.01]] * 3 + [[0.01, 0.99]])
    >>> round(fit_temperature(sure, [0, 0, 0, 0]), 2)  # right three times out of four
    4.18
    """
    array, right = with_gold(as_log_probabilities("log_probabilities", log_probabilities, "N C"), gold)
    if np.isinf(negative_log_likelihood(array, right)):
        raise InputError("the right class of a dev text has probability 0: no temperature can be fitted")

    # The loss is convex in 1 / T, so that the search on a log scale has one minimum.
    def loss(at: float) -> float:
        scaled = scipy.special.log_softmax(array / np.exp(at), axis=-1)
        likely = float(negative_log_likelihood(scaled, right))
        return likely - doubtful / len(right) * float(scaled.mean()) if doubtful else likely

    found = scipy.optimize.minimize_scalar(
        loss,
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def temperature_scaling(
    log_probabilities: ArrayLike,
    gold: ArrayLike,
    development: ArrayLike,
    development_gold: ArrayLike,
    bins: int = 15,
) -> Scaling:
    """Calibration of a model before and after temperature scaling, fitted on dev texts.

    Args:
        log_probabilities: of test texts, `(N, C)`.
        gold: `(N,)`.
        development: log probabilities of dev texts, `(D, C)`.
        development_gold: `(D,)`.

    >>> sure = np.log([[0.99, 0.01]] * 3 + [[0.01, 0.99]])
    >>> scaled = temperature_scaling(sure, [0, 0, 0, 0], sure, [0, 0, 0, 0])
    >>> bool(scaled.after.nll < scaled.before.nll)
    True
    """
    array, right = with_gold(as_log_probabilities("log_probabilities", log_probabilities, "N C"), gold)
    temperature = fit_temperature(development, development_gold)
    return Scaling(
        temperature, calibration_scores(array, right, bins), calibration_scores(temper(array, temperature), right, bins)
    )


def cross_fit_temperature(log_probabilities: ArrayLike, gold: ArrayLike, folds: ArrayLike) -> CrossFitted:
    """Fit a temperature on out-of-fold predictions, and measure it where it was not fitted.

    One doubtful text is added to each fit, see `fit_temperature`.

    Args:
        log_probabilities: `(S, N, C)`, under each of S divisions into folds.
        gold: `(N,)`.
        folds: `(S, N)`: the fold of each text.

    >>> sure = np.log([[[0.99, 0.01]] * 6 + [[0.01, 0.99]] * 2])
    >>> found = cross_fit_temperature(sure, [0] * 8, [[0, 1, 0, 1, 0, 1, 0, 1]])
    >>> round(found.temperature, 2), bool(found.after.nll < found.before.nll)
    (4.81, True)
    """
    array, right = with_gold(as_log_probabilities("log_probabilities", log_probabilities, "S N C"), gold)
    parts = np.asarray(folds)
    if parts.shape != array.shape[:2]:
        raise InputError(f"folds (S, N) have shape {parts.shape}, but log_probabilities (S, N, C) have {array.shape}")
    after = np.empty_like(array)
    for division, part in enumerate(parts):
        if len(np.unique(part)) < 2:
            raise InputError("a temperature is cross-fitted over two or more folds, and there is one")
        for fold in np.unique(part):
            own = part == fold
            after[division, own] = temper(array[division, own], fit_temperature(array[division, ~own], right[~own], 1))
    every = np.tile(right, len(array))
    temperature = fit_temperature(array.reshape(-1, array.shape[-1]), every, len(array))
    before, measured = (
        Calibration(*(float(np.mean(each)) for each in calibration_scores(some, right))) for some in (array, after)
    )
    return CrossFitted(temperature, after, before, measured)
