"""What `deni evaluate` and `deni predict` do: an artifact meets a file of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deni.artifact import Classifier, load
from deni.data import DATASETS, Texts, check_output, format_of, is_conll, read_data, write_table
from deni.errors import InputError, short
from deni.models.tokenising import encode
from deni.tasks import TASKS


def evaluate_file(
    model: str | Path,
    path: str | Path,
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Macro F1, accuracy, MCC and F1 of each class, of an artifact on a file or dataset with labels.

    Other tasks have their own metrics, `deni.tasks.Task.metrics`; of words F1 of each type of entity.

    Args:
        path: as in `deni.commands.train.train_file`, and so are the columns, `split` and `config_name`.

    Raises:
        InputError: a label that training never saw, or a file that cannot be read.
    """
    classifier = load(model)
    classifier.progress = progress
    columns = {"text_column": text_column, "label_column": label_column, "split": split, "config_name": config_name}
    texts = _read(classifier, path, text_pair_column, **columns)
    task = TASKS[classifier.task]
    gold, votes = encode(texts, classifier.labels), classifier.votes(texts.texts)
    by_class = task.scores_by_class(gold, votes, classifier.labels)
    scores = task.scores(gold, votes, classifier.labels)
    return {"texts": len(texts), **scores, **({"f1": by_class} if by_class or task.chooses else {})}


def predict_file(
    model: str | Path,
    path: str | Path,
    output: str | Path = "-",
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> int:
    """Write label, confidence, agreement and entropy of each text beside the columns that the file has.

    In regression: value and standard_deviation (of the members). With several labels: labels, separated by `;`, and
    probability_LABEL of each. Of words: labels, confidences and agreements, lists where the words are a list, else
    separated by blanks.

    Args:
        path: a file, `-` for standard input (CSV), or a dataset as in `deni.commands.train.train_file`.
        output: `.csv`, `.tsv`, `.jsonl` or `.parquet`, also with `.gz`; `-` for CSV on standard output. A column of
            the input with one of the new names is kept as `given_NAME` (`given_given_NAME` where that is taken).
            `.conll` for words: each with the tag that a CoNLL file gives it, and the predicted one.

    Returns:
        how many texts there were.

    Raises:
        InputError: the output exists and `overwrite` is False, has another suffix, or cannot be written.
    """
    check_output(output, overwrite, words=True)  # before the model is loaded
    classifier = load(model)
    classifier.progress = progress
    check_output(output, overwrite, words=TASKS[classifier.task].of_words)
    columns = {"text_column": text_column, "split": split, "config_name": config_name}
    texts = _read(classifier, path, text_pair_column, **columns, labels=False)
    frame = texts.frame.reset_index(drop=True)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{texts.source}: several columns are named {short(twice[0])}; rename all but one")
    predictions = TASKS[classifier.task].table(classifier(texts.texts), classifier.labels)
    own = [name for name in predictions.columns if name in frame.columns]
    frame = frame.rename(columns={name: _unused(name, frame.columns) for name in own})
    if TASKS[classifier.task].of_words:
        given = frame["label"] if is_conll(path) and "label" in frame else None
        table = _tagged(frame, predictions, texts, given, format_of(output))
    else:
        table = pd.concat([frame, predictions], axis=1)
    write_table(table, output)
    return len(texts)


def _read(classifier: Classifier, path: str | Path, text_pair_column: str | None, **options: Any) -> Texts:
    """Texts as the model was trained on: pairs or not; a named dataset knows its own columns."""
    if text_pair_column is not None and not classifier.pairs:
        raise InputError("the model was trained on one text a row: leave --text-pair-column away")
    if text_pair_column is None and str(path) not in DATASETS:
        text_pair_column = classifier.info.get("text_pair_column")
    return read_data(
        path,
        text_pair_column=text_pair_column,
        pairs=classifier.pairs,
        task=classifier.task,
        label_order=classifier.labels if TASKS[classifier.task].ordered else (),
        **options,
    )


def _tagged(
    frame: pd.DataFrame, predictions: pd.DataFrame, texts: Texts, given: pd.Series | None, suffix: str
) -> pd.DataFrame:
    """Words beside their predictions, in the form that the suffix says.

    Args:
        given: the tags of a CoNLL file, which another such file keeps.
    """
    if suffix == ".conll":
        columns = {"text": list(texts.texts), "label": given, "labels": predictions["labels"]}
        return pd.DataFrame({name: column for name, column in columns.items() if column is not None})
    table = pd.concat([frame, predictions], axis=1)
    if suffix in (".jsonl", ".parquet") and any(map(_is_list, frame.iloc[0])):
        return table
    words = (word for text in texts.texts for word in text)
    if (blank := next((word for word in words if word.split() != [word]), None)) is not None:
        raise InputError(f"{texts.source}: {suffix} cannot hold the word {short(blank)} with a blank: write .jsonl")
    return table.map(lambda cell: " ".join(map(_written, cell)) if _is_list(cell) else cell)


def _is_list(cell: Any) -> bool:
    return isinstance(cell, list | np.ndarray)


def _written(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _unused(name: str, columns: pd.Index) -> str:
    while name in columns:
        name = f"given_{name}"
    return name
