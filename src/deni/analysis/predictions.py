"""Measures of a block's predictions beyond scores: agreement of the seeds, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deni.measures import (
    Reliability,
    calibration_scores,
    fleiss_kappa,
    jensen_shannon,
    pairwise_disagreement,
    reliability,
)
from deni.tasks.examining import BINS

NAN = float("nan")


@dataclass(frozen=True)
class PredictionMeasures:
    """Measures of the runs of one block; calibration is the mean over its seeds.

    Args:
        disagreement, kappa, jsd: see `deni.measures`; NaN for one seed.
        ece, brier, nll: of the vote.
        reliability: share, confidence and accuracy of each bin, of all runs together; None where answers are
            generated, of which only the disagreement is measured.
    """

    disagreement: float
    kappa: float = NAN
    jsd: float = NAN
    ece: float = NAN
    brier: float = NAN
    nll: float = NAN
    reliability: Reliability | None = None


def measure_answers(answers: np.ndarray) -> PredictionMeasures:
    """Measure the generated answers `(S, N)` of S runs to the same prompts; white space at the ends does not count."""
    if len(answers) < 2:
        return PredictionMeasures(NAN)
    # Only which answers to one prompt are equal counts, so each prompt has its own numbers.
    numbers = [np.unique(np.char.strip(each), return_inverse=True)[1] for each in answers.T]
    return PredictionMeasures(pairwise_disagreement(np.stack(numbers, 1)))


def measure_predictions(votes: np.ndarray, predictions: np.ndarray, gold: np.ndarray) -> PredictionMeasures:
    """Measure the log probabilities `(S, N, C)` and classes `(S, N)` of S runs on the same texts."""
    several = len(votes) > 1
    calibration = calibration_scores(votes, gold)
    return PredictionMeasures(
        disagreement=pairwise_disagreement(predictions) if several else NAN,
        kappa=fleiss_kappa(predictions) if several else NAN,
        jsd=jensen_shannon(votes) if several else NAN,
        ece=float(calibration.ece.mean()),
        brier=float(calibration.brier.mean()),
        nll=float(calibration.nll.mean()),
        reliability=reliability(votes.reshape(-1, votes.shape[-1]), np.tile(gold, len(votes)), BINS),
    )
