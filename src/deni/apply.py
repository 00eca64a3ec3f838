"""What `deni evaluate` and `deni predict` do: an artifact meets a file of texts."""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from sklearn.metrics import classification_report

from deni.artifact import Classifier, load
from deni.data import read_texts
from deni.errors import InputError, short
from deni.finetune import scores
from deni.pretrained import encode
from deni.strategies.vote import ONE

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

    Raises:
        InputError: a label that training never saw, or a file that cannot be read.
    """
    classifier = load(model)
    classifier.progress = progress
    columns = _columns(model, classifier, text_column, text_pair_column)
    texts = read_texts(path, **columns, label_column=label_column)
    gold = encode(texts, classifier.labels)
    predicted = classifier.predict_log_probabilities(texts.texts).argmax(-1)
    every = list(range(len(classifier.labels)))
    report = classification_report(
        gold, predicted, labels=every, target_names=classifier.labels, output_dict=True, zero_division=0
    )
    per_class = {label: report[label]["f1-score"] for label in classifier.labels}
    return {"texts": len(texts), **scores(gold, predicted), "f1": per_class}


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

    Args:
        path: a file, or `-` for standard input (CSV).
        output: `.csv`, `.tsv`, `.jsonl` or `.parquet`, also with `.gz`; `-` for CSV on standard output. A column of
            the input with one of the new names is kept as `given_NAME` (`given_given_NAME` where that is taken).

    Returns:
        how many texts there were.

    Raises:
        InputError: the output exists and `overwrite` is False, has another suffix, or cannot be written.
    """
    if str(output) != "-":
        _format(Path(output))
        if Path(output).exists() and not overwrite:
            raise InputError(f"{output} exists: choose another file or give --overwrite")
        if Path(output).is_dir():
            raise InputError(f"{output} is a folder: name a file in it")
    classifier = load(model)
    classifier.progress = progress
    columns = _columns(model, classifier, text_column, text_pair_column)
    texts = read_texts(path, **columns, label_column=None, labels_required=False)
    frame = texts.frame.reset_index(drop=True)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{texts.source}: several columns are named {short(twice[0])}; rename all but one")
    frame = frame.rename(columns={name: _unused(name, frame.columns) for name in COLUMNS if name in frame.columns})
    predictions = pd.DataFrame(classifier(texts.texts), columns=list(COLUMNS))
    _write(pd.concat([frame, predictions], axis=1), output)
    return len(texts)


def _columns(
    model: str | Path, classifier: Classifier, text_column: str, text_pair_column: str | None
) -> dict[str, Any]:
    """The columns of the texts; that of second texts is the one that was trained on, unless another is given."""
    if classifier.problem != ONE:
        raise InputError(f"{model} is a model of {classifier.problem}: use deni.load in Python")
    if text_pair_column is not None and not classifier.pairs:
        raise InputError("the model was trained on one text a row: leave --text-pair-column away")
    pair = text_pair_column or classifier.info.get("text_pair_column")
    return {"text_column": text_column, "text_pair_column": pair}


def _unused(name: str, columns: pd.Index) -> str:
    while name in columns:
        name = f"given_{name}"
    return name


def _format(path: Path) -> str:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in (".csv", ".tsv", ".jsonl", ".parquet"):
        raise InputError(f"{path}: unknown suffix {suffix!r}, write .csv, .tsv, .jsonl or .parquet (.gz works, too)")
    return suffix


def _write(frame: pd.DataFrame, output: str | Path) -> None:
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
        if suffix == ".jsonl":
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
