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
from deni.data import DATASETS, Text, Texts, read_data
from deni.errors import InputError, short
from deni.finetune import scores_of
from deni.pretrained import PROBLEMS, encode
from deni.strategies.vote import NUMBER, ONE

COLUMNS = ("label", "confidence", "agreement", "entropy")


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

    Several labels and regression have the metrics of `deni.finetune.METRICS`.

    Args:
        path: as in `deni.train.train_file`, and so are the columns, `split` and `config_name`.

    Raises:
        InputError: a label that training never saw, or a file that cannot be read.
    """
    classifier = load(model)
    classifier.progress = progress
    task = next(task for task, problem in PROBLEMS.items() if problem == classifier.problem)
    columns = {"text_column": text_column, "label_column": label_column, "split": split, "config_name": config_name}
    texts = _read(classifier, path, text_pair_column, **columns, task=task)
    gold, votes = encode(texts, classifier.labels), classifier.votes(texts.texts)
    measured = {"texts": len(texts), **scores_of(task, gold, votes)}
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
    text_column: str | None = None,
    text_pair_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> int:
    """Write label, confidence, agreement and entropy of each text beside the columns that the file has.

    In regression: value and standard_deviation (of the members). With several labels: labels, separated by `;`, and
    probability_LABEL of each.

    Args:
        path: a file, `-` for standard input (CSV), or a dataset as in `deni.train.train_file`.
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
    columns = {"text_column": text_column, "split": split, "config_name": config_name}
    texts = _read(classifier, path, text_pair_column, **columns, labels=False)
    frame = texts.frame.reset_index(drop=True)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{texts.source}: several columns are named {short(twice[0])}; rename all but one")
    predictions = _predictions(classifier, texts.texts)
    own = [name for name in predictions.columns if name in frame.columns]
    frame = frame.rename(columns={name: _unused(name, frame.columns) for name in own})
    _write(pd.concat([frame, predictions], axis=1), output)
    return len(texts)


def _read(classifier: Classifier, path: str | Path, text_pair_column: str | None, **options: Any) -> Texts:
    """Texts as the model was trained on: pairs or not; a named dataset knows its own columns."""
    if text_pair_column is not None and not classifier.pairs:
        raise InputError("the model was trained on one text a row: leave --text-pair-column away")
    if text_pair_column is None and str(path) not in DATASETS:
        text_pair_column = classifier.info.get("text_pair_column")
    return read_data(path, text_pair_column=text_pair_column, pairs=classifier.pairs, **options)


def _predictions(classifier: Classifier, texts: Sequence[Text]) -> pd.DataFrame:
    said = classifier(texts)  # type: ignore[arg-type]
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
