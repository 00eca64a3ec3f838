"""What `deni suggest` does: from a pool of unlabeled texts, those to label next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from deni.artifact import load, read_out_of_fold
from deni.commands.reading import read_for_model
from deni.data import Texts, check_table, write_table
from deni.data.columns import given_name
from deni.errors import InputError, short
from deni.labeling.suggesting import Suggestions, suggest
from deni.outputs import check_output, format_of


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        suggested: how many texts.
        repeated: how many were left out because they repeat another text.
        out_of_scope: how many because they are unlike the labeled ones.
        pool: of how many.
    """

    suggested: int
    repeated: int
    out_of_scope: int
    pool: int


def suggest_file(
    model: str | Path,
    pool: str | Path,
    output: str | Path = "-",
    *,
    n: int = 50,
    labeled: str | Path | None = None,
    apart: str | Path | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Written:
    """Write the texts of a pool to label next, with its columns and rank, score and why.

    Args:
        model: what `deni train` or `deni export` wrote, or another model of transformers.
        pool: a file, `-` for standard input (CSV), or a dataset as in `deni.commands.train.train_file`.
        output: `.csv`, `.tsv`, `.jsonl` or `.parquet`, also with `.gz`; `-` for CSV on standard output. A column of
            the pool with one of the new names is kept as `given_NAME`.
        n: how many.
        labeled: the texts that the model was trained on, with the same columns: texts of the pool that repeat them are
            left out. What an artifact trained with cross-validation was trained on is left out without it.
        apart: a file for the texts that are left out, each with why; None for none.
        revision: of a model of the hub, see `deni.load`.
        device: where to compute, see `deni.models.devices.find_device`.

    Raises:
        InputError: a model that does not tell how sure it is, or an output that exists or cannot be written.
    """
    inputs = [pool, model, labeled]
    for each in (output, apart):  # before the model is loaded
        if each is not None:
            check_output(each, overwrite, inputs=inputs)
    if apart is not None and Path(apart).absolute() == Path(output).absolute():
        raise InputError(f"{apart}: --output and --apart name the same file: name two")
    classifier = load(model, device, revision=revision)
    classifier.progress = progress
    columns = {"text_column": text_column, "split": split, "config_name": config_name}
    texts = read_for_model(classifier, pool, text_pair_column, **columns, labels=False)
    twice = texts.frame.columns[texts.frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{texts.source}: several columns are named {short(twice[0])}; rename all but one")
    for each in (output, apart):
        if each is not None:
            check_table(_written(texts, [], {}, each), each)
    known = None
    if labeled is not None:
        known = read_for_model(classifier, labeled, text_pair_column, text_column=text_column, labels=False)
    kept = None if classifier.info.get("plain") else read_out_of_fold(classifier.source or model)
    found = suggest(classifier, texts, n, known, () if kept is None else kept.digests)
    new = {"rank": range(1, len(found.rows) + 1), "score": found.scores, "why": found.why}
    write_table(_written(texts, found.rows, new, output), output, overwrite, kept="the table is")
    if apart is not None:
        left_out = _written(texts, list(found.apart), {"why": found.apart.values()}, apart)
        write_table(left_out, apart, overwrite, kept="the table is")
    return _counted(found, len(texts))


def _written(texts: Texts, rows: list[int], new: Mapping[str, Iterable[Any]], output: str | Path) -> pd.DataFrame:
    """Rows of the pool with new columns, as a file of that suffix holds them."""
    frame = texts.frame.iloc[rows].reset_index(drop=True)
    frame = frame.rename(columns={name: given_name(name, frame.columns) for name in new if name in frame.columns})
    if format_of(output) not in (".jsonl", ".parquet"):
        frame = frame.map(lambda cell: " ".join(map(str, cell)) if isinstance(cell, list | tuple) else cell)
    return frame.assign(**{name: list(values) for name, values in new.items()})


def _counted(found: Suggestions, pool: int) -> Written:
    strange = sum(why.startswith("unlike") for why in found.apart.values())
    return Written(len(found.rows), len(found.apart) - strange, strange, pool)
