"""What `deni predict` does: an artifact labels a file of texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deni.artifact import Conformal, load
from deni.commands.calibration import read_calibration
from deni.commands.reading import read_for_model
from deni.data import Texts, check_table, is_conll, read_data, write_table
from deni.data.columns import given_name
from deni.data.write import bytes_of
from deni.errors import InputError, short
from deni.generation.generator import Vote
from deni.measures import Selection
from deni.outputs import check_output, format_of
from deni.tasks import TASKS
from deni.terminal import write_data


def predict_file(
    model: str | Path,
    file: str | Path,
    output: str | Path = "-",
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    accuracy: float | None = None,
    sets: float | None = None,
    calibration: str | None = None,
    label_column: str | None = None,
    calibrated: bool = True,
    scope: bool = False,
    revision: str | None = None,
    device: str | None = None,
    vote: Vote | None = None,
    max_new_tokens: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
    on_selection: Callable[[Selection], None] | None = None,
    on_sets: Callable[[Conformal], None] | None = None,
) -> int:
    """Write label, confidence, agreement and entropy of each text next to the file's columns.

    In regression: value and standard_deviation (of the members). With several labels: labels, separated by `;`, and
    probability_LABEL of each. Of words: labels, confidences and agreements, lists where the words are a list, else
    separated by blanks.

    A model that generates answers prompts: what `deni.generation.generator.Answer.row` has of each.

    Args:
        file: a file, `-` for standard input (CSV), or a dataset as in `deni.commands.train.train_file`.
        output: `.csv`, `.tsv`, `.jsonl` or `.parquet`, also with `.gz`; `-` for CSV on standard output. A column of
            the input with one of the new names is kept as `given_NAME` (`given_given_NAME` where that is taken).
            `.conll` for words: each with the tag that a CoNLL file gives it, and the predicted one.
        accuracy: answer only where this accuracy is supported, see `deni.artifact.Classifier.selection`; other texts
            have no label, and True in the column `abstained`.
        sets: add `set`, the labels of which one is right so often, separated by `;` or as a list, see
            `deni.artifact.Classifier.conformal`; in regression `low` and `high`.
        calibration: a file of labeled texts that the model has not learned, to tell these by, in place of its
            out-of-fold predictions; `label_column` is its column of labels.
        calibrated: whether probabilities are calibrated, see `deni.artifact.load`.
        scope: add `out_of_scope`: how unlike the labeled texts each text is, see `deni.artifact.Classifier.scope`.
        revision: of a model of the hub, see `deni.load`.
        device: where to compute, see `deni.models.devices.find_device`.
        vote: of members that generate, see `deni.generation.generator.Generator.generate`; None for `tokens`.
        max_new_tokens: tokens of an answer, at most; None for those of the longest answer in training.
        on_selection, on_sets: called before the texts are predicted, with where answers are given, and with what sets
            promise.

    Returns:
        how many texts there were.

    Raises:
        SavedElsewhereError: the output could not be written, and is in the temporary directory.
        InputError: the output exists and `overwrite` is False, has another suffix, or cannot be written.
    """
    read = [file, model, calibration]
    check_output(output, overwrite, words=True, inputs=read)  # before the model is loaded
    if calibration is not None and accuracy is None and sets is None:
        raise InputError("--calibration is for --accuracy and --sets: give --accuracy or --sets, or omit it")
    if calibration is not None and str(calibration) == str(file) == "-":
        raise InputError("standard input cannot be both the texts and the file of --calibration: name one of them")
    if label_column is not None and calibration is None:
        raise InputError("--label-column is of the file of --calibration: omit it")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise InputError(f"--max-new-tokens must be at least 1, not {max_new_tokens}")
    classifier = load(model, device, calibrated=calibrated, revision=revision)
    columns = {"text_column": text_column, "split": split, "config_name": config_name}
    generation = {"--vote": vote, "--max-new-tokens": max_new_tokens}
    if TASKS[classifier.task].generates:
        of_labels = {"--accuracy": accuracy, "--sets": sets, "--text-pair-column": text_pair_column, "--scope": scope}
        _refuse(f"{model} generates texts and labels none", {**of_labels, "--uncalibrated": not calibrated})
        check_output(output, overwrite, inputs=read)
        options = {"vote": vote or "tokens", "max_new_tokens": max_new_tokens, "progress": progress}
        return _answer(classifier, file, output, overwrite, columns, options)
    _refuse(f"{model} labels texts and generates none", generation)
    classifier.progress = progress
    check_output(output, overwrite, words=TASKS[classifier.task].of_words, inputs=read)
    if scope:
        classifier.check_scope()
    labeled = selection = conformal = None
    if calibration is not None:
        of_labels = {"text_column": text_column, "label_column": label_column}
        labeled = read_calibration(classifier, calibration, text_pair_column, **of_labels)
    if sets is not None:
        conformal = classifier.conformal(sets, labeled)
        if on_sets is not None:
            on_sets(conformal)
    if accuracy is not None:
        selection = classifier.selection(accuracy, labeled)
        if on_selection is not None:
            on_selection(selection)
    texts = read_for_model(classifier, file, text_pair_column, **columns, labels=False)
    frame = texts.frame.reset_index(drop=True)
    _refuse_twice(frame, texts.source)
    check_table(frame, output)
    found = classifier(texts.texts, accuracy=selection)
    predictions = TASKS[classifier.task].table(found, classifier.labels)
    if selection is not None:
        predictions["abstained"] = [each["abstained"] for each in found]
    if conformal is not None:
        predictions = predictions.assign(**_columns(conformal, texts, format_of(output)))
    if scope:
        predictions["out_of_scope"] = classifier.scope(texts.texts).round(1)
    frame = _renamed(frame, predictions)
    if TASKS[classifier.task].of_words:
        given = frame["label"] if is_conll(file) and "label" in frame else None
        table = _tagged(frame, predictions, texts, given, format_of(output))
    else:
        table = pd.concat([frame, predictions], axis=1)
    write_table(table, output, overwrite, kept="the table is")
    return len(texts)


def _refuse(why: str, given: Mapping[str, Any]) -> None:
    """Raise InputError where an option is given that the model has no use for."""
    if flags := [flag for flag, value in given.items() if value is not None and value is not False]:
        raise InputError(f"{why}: omit {' and '.join(flags)}")


def _answer(
    generator: Any,
    file: str | Path,
    output: str | Path,
    overwrite: bool,
    columns: Mapping[str, Any],
    options: Mapping[str, Any],
) -> int:
    """Write the answer to each prompt next to the file's columns."""
    texts = read_data(file, task=generator.task, labels=False, **columns)
    frame = texts.frame.reset_index(drop=True)
    _refuse_twice(frame, texts.source)
    found = pd.DataFrame([each.row() for each in generator.generate(texts.texts, **options)])
    lines = str(output) == "-" or format_of(output) in (".jsonl", ".parquet")
    if "answers" in found and not lines:
        found["answers"] = [json.dumps(each, ensure_ascii=False) for each in found["answers"]]
    table = pd.concat([_renamed(frame, found), found], axis=1)
    if str(output) == "-":
        write_data(bytes_of(table, ".jsonl").decode())
    else:
        write_table(table, output, overwrite, kept="the table is")
    return len(texts)


def _refuse_twice(frame: pd.DataFrame, source: str) -> None:
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{source}: several columns are named {short(twice[0])}; rename all but one")


def _renamed(frame: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The table with other names for columns that are named as new ones."""
    own = [name for name in new.columns if name in frame.columns]
    return frame.rename(columns={name: given_name(name, frame.columns) for name in own})


def _columns(conformal: Conformal, texts: Texts, suffix: str) -> dict[str, list[Any]]:
    """Sets, or intervals, as the columns of a file of this suffix."""
    found = conformal(texts.texts)
    if conformal.of_numbers:
        return {"low": [low for low, _ in found], "high": [high for _, high in found]}
    return {"set": found if suffix in (".jsonl", ".parquet") else [";".join(labels) for labels in found]}


def _tagged(
    frame: pd.DataFrame, predictions: pd.DataFrame, texts: Texts, given: pd.Series | None, suffix: str
) -> pd.DataFrame:
    """Words with their predictions, in the format of the suffix.

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
