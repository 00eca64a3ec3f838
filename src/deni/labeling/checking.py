"""Labels of a file, checked by predictions of models that had not seen the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deni.artifact import OutOfFold, digests_of
from deni.artifact.out_of_fold import VOTE
from deni.baselines.frozen import features_of, frozen_encoder, standardized
from deni.baselines.regression import cross_validated, outputs_of
from deni.data import Text, Texts, names
from deni.errors import InputError
from deni.labeling.wrong import WrongLabel, combined, find_wrong_labels
from deni.models.tokenizing import encode
from deni.recipe import Recipe
from deni.tasks import TASKS


@dataclass(frozen=True)
class ListedLabel:
    """A label that is likely wrong, as it is shown.

    Args:
        row: where the text is in its file, such as `line 7`.
        text: the text; of words one string, of pairs both.
        word: the word, for token classification.
        given, suggested, confidence, quality: see `deni.labeling.wrong.WrongLabel`.
    """

    row: str
    text: str
    word: str | None
    given: str
    suggested: str
    confidence: float | None
    quality: float


def listed(texts: Texts, found: Sequence[WrongLabel]) -> list[ListedLabel]:
    """Labels that are likely wrong, with their texts."""
    of_words = TASKS[texts.task].of_words

    def text(at: int) -> str:
        own = texts.texts[at]
        return own if isinstance(own, str) else (" " if of_words else " | ").join(own)

    return [
        ListedLabel(
            texts.row(each.text),
            text(each.text),
            None if each.word is None else texts.texts[each.text][each.word],
            each.given,
            each.suggested,
            each.confidence,
            each.quality,
        )
        for each in found
    ]


def by_out_of_fold(
    kept: OutOfFold,
    texts: Texts,
    votes: Callable[[Sequence[Text]], np.ndarray] | None = None,
    temperature: float | None = None,
) -> list[WrongLabel]:
    """Labels that are likely wrong by the out-of-fold predictions of an artifact.

    Args:
        kept: predictions for the texts that it was trained on.
        texts: labeled, read as the model was trained on.
        votes: what the artifact predicts for texts that it was not trained on, `Classifier.votes`; None where there
            are none.
        temperature: of the out-of-fold predictions, see `deni.artifact.calibration`; None for none.

    Raises:
        InputError: a label that training never saw.
    """
    task = TASKS[texts.task]
    gold = encode(texts, kept.labels)
    outputs = combined(kept.outputs[VOTE].astype(float), task) / (temperature or 1)
    owners = np.arange(len(outputs)) if kept.texts is None else kept.texts
    places = {digest: at for at, digest in reversed(list(enumerate(kept.digests)))}
    known = [places.get(digest) for digest in digests_of(texts.texts)]
    others = [text for text, at in zip(texts.texts, known, strict=True) if at is None]
    own = votes(others) if votes is not None and others else outputs[:0]
    parts, start = [], 0
    for at, labels in zip(known, gold, strict=True):
        if at is None:
            rows = len(labels) if task.of_words else 1
            parts.append(own[start : start + rows])
            start += rows
        else:
            parts.append(outputs[owners == at])
    return find_wrong_labels(task, gold, np.concatenate(parts), kept.labels)


def by_encoder(model: str, texts: Texts, device: str | None = None, progress: bool = False) -> list[WrongLabel]:
    """Labels that are likely wrong by a cross-validated regression on the vectors of a frozen encoder.

    Args:
        model: the encoder: `minilm`, a folder, or a hub id.

    Raises:
        InputError: words, of which the encoder makes no vectors, or too few texts to leave some out.
    """
    task = TASKS[texts.task]
    if task.of_words:
        raise InputError(
            "an encoder reads whole texts, and here each word has a tag: train with --cv and check the labels with "
            "--model FOLDER"
        )
    labels = names(texts)
    gold = encode(texts, labels)
    features = features_of(frozen_encoder(Recipe.of(strategy="default", model=model), device), texts.texts, progress)
    outputs = cross_validated(standardized, features, gold, task, len(labels)).left_out
    if outputs is None or np.isnan(outputs).any():
        raise InputError(f"{texts.source}: too few texts of each class to leave some out: label more")
    return find_wrong_labels(task, gold, outputs_of(task, outputs), labels)
