"""What `deni evaluate` and `deni predict` do: an artifact meets a file of texts."""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.metrics import classification_report, f1_score

from deni.artifact import Classifier, load
from deni.data import Text, is_conll, read_texts
from deni.errors import InputError, short
from deni.finetune import entity_scores, scores_of
from deni.pretrained import encode
from deni.strategies.vote import NUMBER, ONE, TOKENS

COLUMNS = ("label", "confidence", "agreement", "entropy")


def evaluate_file(
    model: str | Path,
    path: str | Path,
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str = "label",
    progress: bool = False,
) -> dict[str, Any]:
    """Macro F1, accuracy, MCC and F1 of each class, of an artifact on a file with labels.

    Other tasks have the metrics of `deni.finetune.METRICS`; of words F1 of each type of entity.

    Raises:
        InputError: a label that training never saw, or a file that cannot be read.
    """
    classifier = load(model)
    classifier.progress = progress
    columns = _columns(classifier, text_column, text_pair_column)
    task = classifier.task
    texts = read_texts(path, **columns, label_column=label_column, task=task)
    gold, votes = encode(texts, classifier.labels), classifier.votes(texts.texts)
    measured = {"texts": len(texts), **scores_of(task, gold, votes, classifier.labels)}
    if task == "token":
        report = entity_scores(gold, votes, classifier.labels)
        types = sorted(kind for kind in report if not kind.endswith(" avg"))
        return {**measured, "f1": {kind: report[kind]["f1-score"] for kind in types}}
    if task == "regression":
        return measured
    if task == "multi_label":
        each = f1_score(np.asarray(gold).astype(int), (votes > 0).astype(int), average=None, zero_division=0)
        return {**measured, "f1": dict(zip(classifier.labels, each.tolist(), strict=True))}
    predicted = votes.argmax(-1)
    every = list(range(len(classifier.labels)))
    report = classification_report(
        gold, predicted, labels=every, target_names=classifier.labels, output_dict=True, zero_division=0
    )
    per_class = {label: report[label]["f1-score"] for label in classifier.labels}
    return {**measured, "f1": per_class}


def predict_file(
    model: str | Path,
    path: str | Path,
    output: str | Path = "-",
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> int:
    """Write label, confidence, agreement and entropy of each text beside the columns that the file has.

    In regression: value and standard_deviation (of the members). With several labels: labels, separated by `;`, and
    probability_LABEL of each. Of words: labels, confidences and agreements, lists where the words are a list, else
    separated by blanks.

    Args:
        path: a file, or `-` for standard input (CSV).
        output: `.csv`, `.tsv`, `.jsonl` or `.parquet`, also with `.gz`; `-` for CSV on standard output. A column of
            the input with one of the new names is kept as `given_NAME` (`given_given_NAME` where that is taken).
            `.conll` for words: each with the tag that a CoNLL file gives it, and the predicted one.

    Returns:
        how many texts there were.

    Raises:
        InputError: the output exists and `overwrite` is False, has another suffix, or cannot be written.
    """
    if str(output) != "-":
        _format(Path(output))  # before the model is loaded
        if Path(output).exists() and not overwrite:
            raise InputError(f"{output} exists: choose another file or give --overwrite")
        if Path(output).is_dir():
            raise InputError(f"{output} is a folder: name a file in it")
    classifier = load(model)
    classifier.progress = progress
    columns = _columns(classifier, text_column, text_pair_column)
    suffix = _format(Path(output)) if str(output) != "-" else ".csv"
    if suffix == ".conll" and classifier.problem != TOKENS:
        raise InputError(f"{output}: a CoNLL file has a tag for each word, which this model does not give: write .csv")
    texts = read_texts(path, **columns, label_column=None, labels_required=False, task=classifier.task)
    frame = texts.frame.reset_index(drop=True)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{texts.source}: several columns are named {short(twice[0])}; rename all but one")
    predictions = _predictions(classifier, texts.texts, isinstance(frame[text_column].iloc[0], str))
    own = [name for name in predictions.columns if name in frame.columns]
    frame = frame.rename(columns={name: _unused(name, frame.columns) for name in own})
    frame = pd.concat([frame, predictions], axis=1)
    if classifier.problem == TOKENS and suffix in (".csv", ".tsv", ".conll"):
        words = (word for text in texts.texts for word in text)
        if (blank := next((word for word in words if word.split() != [word]), None)) is not None:
            raise InputError(f"{texts.source}: {suffix} cannot hold the word {short(blank)} with a blank: write .jsonl")
        frame = frame.map(lambda cell: " ".join(map(str, cell)) if isinstance(cell, list | np.ndarray) else cell)
    given = ["label"] if is_conll(path) and "label" in frame else []
    _write(frame, output, [text_column, *given, "labels"])
    return len(texts)


def _columns(classifier: Classifier, text_column: str, text_pair_column: str | None) -> dict[str, Any]:
    """The columns of the texts; that of second texts is the one that was trained on, unless another is given."""
    if text_pair_column is not None and not classifier.pairs:
        raise InputError("the model was trained on one text a row: leave --text-pair-column away")
    pair = text_pair_column or classifier.info.get("text_pair_column")
    return {"text_column": text_column, "text_pair_column": pair}


def _predictions(classifier: Classifier, texts: Sequence[Text], strings: bool) -> pd.DataFrame:
    """The new columns; those of words as strings, if the words are one."""
    said = classifier(texts)  # type: ignore[arg-type]
    if classifier.problem == TOKENS:
        columns = ["labels", "confidences", "agreements"]
        tagged = pd.DataFrame(said, columns=columns)
        if not strings:
            return tagged
        return tagged.map(lambda own: " ".join(f"{each:.4f}" if isinstance(each, float) else each for each in own))
    if classifier.problem == ONE:
        return pd.DataFrame(said, columns=list(COLUMNS))
    if classifier.problem == NUMBER:
        return pd.DataFrame(said, columns=["value", "standard_deviation"])
    rows = [
        {"labels": ";".join(each["labels"])}
        | {f"probability_{label}": probability for label, probability in each["probabilities"].items()}
        for each in said
    ]
    return pd.DataFrame(rows, columns=["labels", *(f"probability_{label}" for label in classifier.labels)])


def _unused(name: str, columns: pd.Index) -> str:
    while name in columns:
        name = f"given_{name}"
    return name


def _format(path: Path) -> str:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in (".csv", ".tsv", ".jsonl", ".parquet", ".conll"):
        raise InputError(
            f"{path}: unknown suffix {suffix!r}, write .csv, .tsv, .jsonl, .parquet or .conll (.gz works, too)"
        )
    return suffix


def _write(frame: pd.DataFrame, output: str | Path, words: Sequence[str] = ()) -> None:
    """Write the frame; for CoNLL only the columns of words and tags."""
    if str(output) == "-":
        frame.to_csv(sys.stdout, index=False)
        return
    path = Path(output)
    suffix = _format(path)
    compression = "gzip" if path.suffix == ".gz" else None
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        if suffix == ".conll":
            with gzip.open(temporary, "wb") if compression else temporary.open("wb") as file:
                for row in frame[list(words)].to_numpy():
                    lines = zip(*(column.split() for column in row), strict=True)
                    file.write("".join(f"{' '.join(line)}\n" for line in [*lines, ()]).encode())
        elif suffix == ".jsonl":
            frame.to_json(temporary, orient="records", lines=True, force_ascii=False, compression=compression)
        elif suffix == ".parquet":
            with gzip.open(temporary, "wb") if compression else temporary.open("wb") as file:
                frame.to_parquet(file, index=False)
        else:
            frame.to_csv(temporary, index=False, sep="\t" if suffix == ".tsv" else ",", compression=compression)
        temporary.chmod(0o644)
        temporary.replace(path)
    except (pa.ArrowException, OverflowError) as error:
        first = short(str(error).splitlines()[0])
        raise InputError(f"{path}: {suffix} cannot hold these columns ({first}): write .csv instead") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"{path} cannot be written ({why}): free space or choose another") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
