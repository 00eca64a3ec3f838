"""Texts that a trained model is given: as it was trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deni.artifact import Classifier
from deni.data import DATASETS, Texts, read_data
from deni.errors import InputError
from deni.tasks import TASKS


def read_for_model(classifier: Classifier, file: str | Path, text_pair_column: str | None, **options: Any) -> Texts:
    """Read texts as the model was trained on: pairs or not, with its order of labels.

    Args:
        text_pair_column: None for the model's own; a named dataset knows its own columns.
        options: of `deni.data.read_data`.

    Raises:
        InputError: a second column for a model of single texts, or what `read_data` refuses.
    """
    if text_pair_column is not None and classifier.info.get("plain"):
        classifier.info["text_pair_column"] = text_pair_column  # its config does not say whether it read pairs
    if text_pair_column is not None and not classifier.pairs:
        raise InputError("the model was trained on one text a row: omit --text-pair-column")
    if text_pair_column is None and str(file) not in DATASETS:
        text_pair_column = classifier.info.get("text_pair_column")
    return read_data(
        file,
        text_pair_column=text_pair_column,
        pairs=classifier.pairs,
        task=classifier.task,
        label_order=classifier.labels if TASKS[classifier.task].ordered else (),
        **options,
    )
