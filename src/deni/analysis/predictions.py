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
        reliability: share, confidence and accuracy of each bin, of all runs together.
    """

    disagreement: float
    kappa: float
    jsd: float
    ece: float
    brier: float
    nll: float
    reliability: Reliability


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
