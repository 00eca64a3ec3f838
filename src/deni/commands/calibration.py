"""Labeled texts that a trained model has not learned, in place of its out-of-fold predictions: `--calibration FILE`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from deni.artifact import Classifier, OutOfFold, digests_of
from deni.commands.reading import read_for_model
from deni.errors import InputError, InputWarning
from deni.models.tokenizing import encode
from deni.tasks import TASKS


def read_calibration(
    classifier: Classifier, file: str | Path, text_pair_column: str | None = None, **options: Any
) -> OutOfFold:
    """What a model predicts for labeled texts that it has not learned, as if all were of one fold.

    Args:
        text_pair_column: as in `deni.commands.reading.read_for_model`.
        options: of `deni.data.read_data`.

    Raises:
        InputError: texts without labels, or with one that training never saw; or all of them were trained on.
    """
    texts = read_for_model(classifier, file, text_pair_column, **options)
    if texts.labels is None:
        raise InputError(f"{texts.source} has no labels, which --calibration needs: name their column")
    digests, known = digests_of(texts.texts), classifier.out_of_fold
    seen = 0 if known is None else sum(digest in set(known.digests) for digest in digests)
    if seen == len(digests):
        raise InputError(f"{texts.source}: the model was trained on all of these texts: give others")
    if seen:
        message = f"{texts.source}: the model was trained on {seen} of these {len(digests)} texts: what holds for new"
        warnings.warn(f"{message} texts does not follow from them", InputWarning, stacklevel=2)
    gold: list[Any] = encode(texts, classifier.labels)
    words = None
    if TASKS[classifier.task].of_words:
        words = np.repeat(np.arange(len(gold)), [len(each) for each in gold])
        gold = [label for each in gold for label in each]
    votes = classifier.combined(classifier.members(texts.texts), calibrated=False)[None]
    folds = np.zeros(votes.shape[:2], dtype=int)
    return OutOfFold({"vote": votes}, folds, gold, digests, classifier.labels, words)
