"""Reading labelled or unlabelled texts from a file."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import itertools
import json
import math
import shlex
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from deni.errors import InputError, InputWarning, short

TEXT_FLAG, PAIR_FLAG, LABEL_FLAG = "--text-column", "--text-pair-column", "--label-column"
STDIN = "standard input"
DELIMITERS = {",": "comma", "\t": "tab"}
JSON_LINE = 'expected one JSON object a line such as {"text": "...", "label": "..."}'


TASKS = ("single_label", "multi_label", "regression")
Text = str | tuple[str, str]  # one text, or a pair


@dataclass(frozen=True)
class Texts:
    """Texts in the order of their file, with their labels if they have any.

    Attributes:
        texts: never blank; all of them strings, or all of them pairs of strings.
        labels: one a text, never blank; a tuple of labels for the task `multi_label`, a number for `regression`; `None`
            for unlabelled texts.
        source: the file's name as the user wrote it, for messages.
        frame: all columns as read, one row a text; its index is named and counts from 1: the `line` of the file on
            which the row begins (the header is line 1), or the `record` of a Parquet file.
        task: what the labels are, one of `TASKS`.
    """

    texts: Sequence[Text]
    labels: list[Any] | None
    source: str
    frame: pd.DataFrame = field(repr=False, compare=False)
    task: str = "single_label"

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.texts)

    def select(self, indices: Iterable[int]) -> Texts:
        """Keep the texts at these positions, counted from 0, in this order."""
        positions = list(indices)
        labels = None if self.labels is None else [self.labels[i] for i in positions]
        return Texts([self.texts[i] for i in positions], labels, self.source, self.frame.iloc[positions], self.task)


def read_texts(
    path: str | Path,
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str | None = "label",
    labels_required: bool = True,
    suffix: str | None = None,
    task: str = "single_label",
) -> Texts:
    """Read texts from a CSV, TSV, JSONL or Parquet file, each also gzipped, or from standard input.

    Every value of a CSV or TSV is a string: a text "null" or "NA" is that text. White space around a label is dropped;
    numbers become strings.

    Args:
        path: the file, its format told by its suffix; `-` is standard input.
        text_column: the column, or JSON key, of the texts.
        text_pair_column: the column of a second text, for pairs.
        label_column: the column of the labels; `None` reads no labels.
        labels_required: without it a file may lack the label column, and where a label is empty no labels are read.
        task: `single_label`, `multi_label` (labels separated by `;`, none where the field is empty) or `regression`.
        suffix: read as if the name ended so, such as ".jsonl.gz"; standard input is ".csv" unless told.

    Raises:
        InputError: one line that names the file, the row and the column, and says what to do.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "tickets.csv")
    ...     _ = file.write_text("text,label\\nWhere is my parcel?,delivery\\n")
    ...     read_texts(file).labels
    ['delivery']
    """
    source = STDIN if str(path) == "-" else str(path)
    frame = _frame_of(path, source, suffix, text_column)
    return texts_of(
        frame,
        source,
        text_column=text_column,
        text_pair_column=text_pair_column,
        label_column=label_column,
        labels_required=labels_required,
        task=task,
    )


def texts_of(
    frame: pd.DataFrame,
    source: str,
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str | None = "label",
    labels_required: bool = True,
    task: str = "single_label",
) -> Texts:
    """Check texts and labels of a table, as `read_texts` does it; the index of the table names its rows."""
    flags = {TEXT_FLAG: text_column, PAIR_FLAG: text_pair_column, LABEL_FLAG: label_column}
    for (flag, name), (other, second) in itertools.combinations(flags.items(), 2):
        if name is not None and name == second:
            raise InputError(f"{flag} and {other} both name {name!r}: name two different columns")
    texts = _column(frame, text_column, TEXT_FLAG, source).tolist()
    _check_texts(texts, frame, text_column, TEXT_FLAG, source)
    if text_pair_column is not None:
        seconds = _column(frame, text_pair_column, PAIR_FLAG, source).tolist()
        _check_texts(seconds, frame, text_pair_column, PAIR_FLAG, source)
        texts = list(zip(texts, seconds, strict=True))
    labels: list[Any] | None = None
    if label_column is not None and (labels_required or label_column in frame.columns):
        values = _column(frame, label_column, LABEL_FLAG, source).tolist()
        if task == "regression":
            labels = _numbers_of(values, frame, label_column, source)
        elif task == "multi_label":
            labels = _several_of(values, frame, label_column, source)
        else:
            labels = _labels_of(values, frame, label_column, source, labels_required)
    return Texts(texts, labels, source, frame, task)


def _frame_of(path: str | Path, source: str, suffix: str | None, text_column: str) -> pd.DataFrame:
    """Read all columns of a file."""
    ending = (suffix or (".csv" if str(path) == "-" else Path(path).name)).lower()
    plain = ending.removesuffix(".gz")
    reader = next((reader for known, reader in READERS.items() if plain.endswith(known)), None)
    data = _bytes_of(path)
    if reader is None:
        raise InputError(
            f"{source}: unknown file type {Path('x' + plain).suffix!r}; expected {', '.join(READERS)}, "
            "each also with .gz: convert or rename it"
        )
    if plain != ending:
        data = _decompressed(data, source)
    if not data.strip():
        raise InputError(f"{source}: the file is empty; expected a column {text_column!r} and at least one text")
    return reader(data, source)


def check_trainable(train: Texts, test: Texts | None = None) -> None:
    """Check that a model can be trained on these labelled texts, and tested on those.

    Raises:
        InputError: `train` has no labels or one class only, or `test` has a class that `train` lacks.

    Warns:
        InputWarning: a class of one text; equal texts with different labels; texts of `test` that are in `train`.
    """
    if train.labels is None:
        raise InputError(f"{train.source}: the texts have no labels; name their column with {LABEL_FLAG}")
    if train.task == "regression":
        if len(set(train.labels)) < 2:
            raise InputError(f"{train.source}: all texts have the number {train.labels[0]}: there is nothing to learn")
        unknown: list[str] = []
    else:
        unknown = _check_classes(train, test)
    _warn_of_contradictions(train)
    if test is None:
        return
    if unknown:
        raise InputError(
            f"{test.source}: no text of {train.source} has the label {_shown(unknown)}, so it cannot be learnt: "
            "add such texts to the training part or drop them from the test part"
        )
    known = set(train.texts)
    seen = np.flatnonzero([text in known for text in test.texts])
    if len(seen):
        _warn(
            f"{test.source}: {len(seen)} of {len(test)} test texts are also in the training part, the first at "
            f"{_row(test.frame, seen[0])}; scores on them say little, so drop them from one side"
        )


def names(texts: Texts) -> list[str]:
    """The different labels of texts, sorted."""
    if texts.task == "multi_label":
        return sorted({label for own in texts.labels or () for label in own})
    return sorted(set(texts.labels or ()))


def _check_classes(train: Texts, test: Texts | None) -> list[str]:
    """Raise where there is nothing to learn; the labels of `test` that `train` lacks."""
    several = train.task == "multi_label"
    given = [label for own in train.labels or () for label in own] if several else train.labels
    counts = pd.Series(given, dtype=object).value_counts(sort=False)
    if several and not len(counts):
        raise InputError(f"{train.source}: no text has a label; name their column with {LABEL_FLAG}")
    if len(counts) < 2 and not several:
        assert train.labels is not None
        raise InputError(
            f"{train.source}: all {len(train)} texts have the label {_shown(train.labels[:1])}; "
            f"training needs at least two classes: add texts of another class or name another {LABEL_FLAG}"
        )
    single = sorted(counts.index[counts == 1])
    if single:
        _warn(f"{train.source}: only one text has the label {_shown(single)}; add more or drop the class")
    return sorted(set(names(test)) - set(counts.index)) if test is not None else []


def _warn_of_contradictions(train: Texts) -> None:
    """Warn of equal texts that have different labels."""
    texts = pd.Series(list(train.texts), dtype=object)
    pairs = pd.DataFrame({"text": texts, "label": train.labels}, dtype=object)
    kinds = pairs.drop_duplicates().groupby("text", sort=False).size()
    contradictory = kinds.index[kinds > 1]
    if len(contradictory):
        same = [text == contradictory[0] for text in train.texts]
        labels = sorted(pairs.label[same].unique())
        _warn(
            f"{train.source}: {len(contradictory)} text(s) occur with different labels, such as "
            f"{short(contradictory[0])} with {_shown(labels)}; keep one label for each"
        )


def _bytes_of(path: str | Path) -> bytes:
    """Read the file, or standard input for `-`."""
    if str(path) == "-":
        return sys.stdin.buffer.read()
    file = Path(path)
    try:
        return file.read_bytes()
    except IsADirectoryError:
        raise InputError(f"{file}: is a folder; name a file in it") from None
    except FileNotFoundError:
        if not file.parent.is_dir():
            raise InputError(f"{file}: no such file, for there is no folder {file.parent}; check the path") from None
        near = difflib.get_close_matches(file.name, sorted(p.name for p in file.parent.iterdir()))
        hint = f"did you mean {' or '.join(str(file.parent / name) for name in near)}?" if near else "check the path"
        raise InputError(f"{file}: no such file; {hint}") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check the path and its permissions") from None


def _decompressed(data: bytes, source: str) -> bytes:
    """Undo gzip."""
    try:
        return gzip.decompress(data)
    except gzip.BadGzipFile:
        raise InputError(f"{source}: is not gzip although its name ends in .gz; rename it or compress it") from None
    except (EOFError, zlib.error):
        raise InputError(f"{source}: the gzip data is truncated or damaged; copy or download it again") from None


def _decoded(data: bytes, source: str) -> str:
    """Decode UTF-8, with or without a byte order mark."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from behind the byte order mark.
        at = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = 1 + data.count(b"\n", 0, at)
        encoding = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        file = "" if source == STDIN or source.endswith(".gz") else f" {shlex.quote(source)}"
        raise InputError(
            f"{source}, line {line}: not UTF-8 (byte 0x{data[at]:02x} at offset {at}); "
            f"convert the uncompressed text first: iconv -f {encoding} -t UTF-8{file}"
        ) from None


def _read_delimited(data: bytes, source: str, delimiter: str) -> pd.DataFrame:
    """Read CSV or TSV.

    With the csv module and not with pandas, which pads short rows, takes long ones for an index and loses line numbers.
    """
    records, lines = [], []
    reader = csv.reader(io.StringIO(_decoded(data, source), newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for record in reader:
            records.append(record)
            lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{source}, line {line}: {error}; look for a quote that is never closed: "
            'a field with a quote in it is written as "say ""hi"""'
        ) from None
    while records and not records[-1]:  # blank lines at the end
        records.pop(), lines.pop()
    header = records[0]
    # A blank line is nobody's row, except where the text is the only column: there it is an empty text.
    kept = [i for i in range(1, len(records)) if records[i] or len(header) == 1]
    rows = [records[i] or [""] for i in kept]
    index = pd.Index([lines[i] for i in kept], dtype=int, name="line")
    ragged = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if ragged is not None:
        raise InputError(
            f"{source}, line {index[ragged]}: {len(rows[ragged])} fields where the header has {len(header)}; "
            f"put double quotes around a text that contains a {DELIMITERS[delimiter]}"
        )
    return pd.DataFrame(rows, index=index, columns=pd.Index(header, dtype=object), dtype=object)


def _read_csv(data: bytes, source: str) -> pd.DataFrame:
    return _read_delimited(data, source, ",")


def _read_tsv(data: bytes, source: str) -> pd.DataFrame:
    return _read_delimited(data, source, "\t")


def _read_json_lines(data: bytes, source: str) -> pd.DataFrame:
    """Read one JSON object a line; a key that a line lacks becomes NaN."""
    records, lines = [], []
    # Not splitlines: a JSON string may hold U+2028 and other separators as they are.
    for line, content in enumerate(_decoded(data, source).split("\n"), start=1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise InputError(f"{source}, line {line}: {JSON_LINE}, but this is no JSON ({reason})") from None
        if not isinstance(record, dict):
            hint = "; a JSON array is converted by: jq -c '.[]'" if isinstance(record, list) else ""
            raise InputError(f"{source}, line {line}: {JSON_LINE}, but this is a {type(record).__name__}{hint}")
        records.append(record)
        lines.append(line)
    return pd.DataFrame(records, index=pd.Index(lines, dtype=int, name="line"), dtype=object)


def _read_parquet(data: bytes, source: str) -> pd.DataFrame:
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{source}: no readable Parquet file ({reason}); write, copy or download it again") from None
    frame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="record"))


READERS: dict[str, Callable[[bytes, str], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json_lines,
    ".parquet": _read_parquet,
}


def _column(frame: pd.DataFrame, name: str, flag: str, source: str) -> pd.Series:
    """Choose the column of this name; the error for a missing one lists the others."""
    found = int((frame.columns == name).sum())
    if found == 0:
        raise InputError(
            f"{source}: no column {name!r} among {_shown(frame.columns)}; "
            f"name the right one with {flag} (a CSV or TSV needs a header line)"
        )
    if found > 1:
        raise InputError(f"{source}: {found} columns are named {name!r}; rename all but one")
    if frame.empty:
        raise InputError(f"{source}: no rows below the header; expected at least one text in column {name!r}")
    return frame[name]


def _check_texts(texts: list[Any], frame: pd.DataFrame, column: str, flag: str, source: str) -> None:
    """Raise unless every text is a string with something in it."""
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            what = "no text (null)" if _is_null(text) else f"a {type(text).__name__} ({short(text)})"
            raise InputError(
                f"{source}, {_row(frame, i)}, column {column!r}: {what} where a string was expected; "
                f"fill it in, drop the row or name another {flag}"
            )
        if not text or text.isspace():
            raise InputError(f"{source}, {_row(frame, i)}, column {column!r}: empty text; fill it in or drop the row")
        if not text.isascii() and _has_surrogate(text):
            raise InputError(
                f"{source}, {_row(frame, i)}, column {column!r}: half a surrogate pair (such as \\ud83d) is no "
                "character; write the whole character"
            )


def _labels_of(values: list[Any], frame: pd.DataFrame, column: str, source: str, required: bool) -> list[str] | None:
    """Turn labels into stripped strings; where one is empty, raise if labels are required, else read none."""
    labels = []
    empty = None
    for i, value in enumerate(values):
        if isinstance(value, (list, dict, np.ndarray)):
            raise InputError(
                f"{source}, {_row(frame, i)}, column {column!r}: {short(value)} where one label was expected; "
                "each text has exactly one class"
            )
        label = "" if _is_null(value) else str(value).strip()
        if not label and empty is None:
            empty = i
        labels.append(label)
    if empty is None:
        return labels
    where = f"{source}, {_row(frame, empty)}, column {column!r}: empty label"
    if required:
        raise InputError(f"{where}; fill it in or drop the row")
    if any(labels):
        _warn(f"{where}, so no labels are read; fill it in to have the predictions scored")
    return None


def _numbers_of(values: list[Any], frame: pd.DataFrame, column: str, source: str) -> list[float]:
    """Turn labels into finite numbers."""
    numbers = []
    for i, value in enumerate(values):
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(
                f"{source}, {_row(frame, i)}, column {column!r}: {short(value)} is no finite number, which --task "
                "regression reads; write one such as 3.5, or drop the row"
            )
        numbers.append(number)
    return numbers


def _several_of(values: list[Any], frame: pd.DataFrame, column: str, source: str) -> list[tuple[str, ...]]:
    """Split labels at semicolons; sorted, each once."""
    several = []
    for i, value in enumerate(values):
        if isinstance(value, (list, dict, np.ndarray)):
            raise InputError(
                f"{source}, {_row(frame, i)}, column {column!r}: {short(value)} where labels separated by ; were "
                'expected; write "a;b"'
            )
        parts = "" if _is_null(value) else str(value)
        several.append(tuple(sorted({part.strip() for part in parts.split(";")} - {""})))
    return several


def _is_null(value: Any) -> bool:
    """Tell None, NaN and NA."""
    return bool(pd.isna(value)) if pd.api.types.is_scalar(value) else False


def sides(texts: Sequence[Text]) -> list[list[str]]:
    """What a tokenizer takes: the texts, or the first and the second text of each pair.

    >>> sides([("a", "b"), ("c", "d")])
    [['a', 'c'], ['b', 'd']]
    """
    if texts and not isinstance(texts[0], str):
        return [list(side) for side in zip(*texts, strict=True)]
    return [list(texts)]  # type: ignore[arg-type]


def why_no_text(value: Any) -> str | None:
    """Say why a value is no text for a model; None if it is one.

    >>> why_no_text(" ")
    'every text must be a string that is not empty'
    """
    if not isinstance(value, str) or not value or value.isspace():
        return "every text must be a string that is not empty"
    if not value.isascii() and _has_surrogate(value):
        return "half a surrogate pair is no character, write the whole one"
    return None


def _has_surrogate(text: str) -> bool:
    """Tell whether a string cannot be encoded: JSON can write half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _row(frame: pd.DataFrame, position: int) -> str:
    """Say where in its file a row is: "line 7" or "record 7"."""
    return f"{frame.index.name} {frame.index[position]}"


def _shown(names: Iterable[Any], most: int = 12) -> str:
    """List names on one line, the first few of many."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(short(name) for name in names[:most]) + more


def _warn(message: str) -> None:
    warnings.warn(message, InputWarning, stacklevel=3)
