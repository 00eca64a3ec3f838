"""Are the texts of a pool like the labeled ones? From texts of another source a student learns less than from none."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np

from deni.artifact.scope import Scope
from deni.baselines.frozen import features_of, frozen_encoder
from deni.data import Texts
from deni.distillation.sampling import draw
from deni.errors import InputError, InputWarning, SettingError
from deni.recipe import Recipe
from deni.tasks import TASKS
from deni.tasks.remarks import percent

logger = logging.getLogger(__name__)

LEAST = 50  # labeled texts: the median distance of fewer is too rough
MOST = 200  # texts that are read of each
FAR = 0.8  # share of the pool; benchmarks/pool_source.py says what pools of the same and of another source have


def check_source(labeled: Texts | None, pool: Texts, recipe: Recipe, device: Any = None) -> None:
    """Warn where most texts of a pool are unlike the labeled ones, see `share_far`; without labeled ones not.

    Warns:
        InputWarning: says how many, and what to do.
    """
    far = None if labeled is None else share_far(labeled, pool, recipe, device)
    if far is not None and far > FAR:
        message = (
            f"{pool.source}: {percent(far)} of its texts are farther from the labeled texts than half of these are; of "
            "the same source about half would be. A student of other texts can be worse than plain training: take "
            "texts like those that you will predict"
        )
        warnings.warn(message, InputWarning, stacklevel=3)


def share_far(labeled: Texts, pool: Texts, recipe: Recipe, device: Any = None) -> float | None:
    """The share of a pool that is farther from the labeled texts than half of these are, each left out.

    It is near 0.5 for a pool of the same source, a little above it with few labels. Distances are those of
    `deni.artifact.Scope`, on vectors of length 1 of the encoder as it is, pooled as its files declare whatever the
    recipe pools by: to a model that has learned the labeled texts all others are farther off.

    Args:
        labeled, pool: of more than `MOST` texts, so many are drawn.
        recipe: names the encoder.

    Returns:
        None with fewer than `LEAST` labeled texts, for words, and where the encoder has no vector for a text.
    """
    if len(labeled) < LEAST or TASKS[labeled.task].of_words:
        return None
    read = [each.select(draw(len(each), min(MOST, len(each)), recipe.seed)) for each in (labeled, pool)]
    try:
        plain = Recipe.of(strategy="default", model=recipe.model, max_length=recipe.max_length, normalize_features=True)
        encoder = frozen_encoder(plain, device)
        known, new = (features_of(encoder, each.texts) for each in read)
        return far_from(Scope.of(known), new)
    except (InputError, SettingError) as error:
        logger.debug("whether the pool is of the same source is not known: %s", error)
        return None


def far_from(scope: Scope, vectors: np.ndarray) -> float:
    """The share of vectors `(N, D)` that are farther off than half of the labeled ones."""
    return float((scope.percentiles(vectors) >= 50).mean())
