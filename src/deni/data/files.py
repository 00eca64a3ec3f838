"""Reading labelled or unlabelled texts from a file."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import itertools
import json
import math
import re
import shlex
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from deni.data import keys
from deni.data.labels import misplaced, whole
from deni.errors import InputError, InputWarning, short, shown

TEXT_FLAG, PAIR_FLAG, LABEL_FLAG = "--text-column", "--text-pair-column", "--label-column"
STDIN = "standard input"
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
JSON_LINE = 'expected one JSON object a line such as {"text": "...", "label": "..."}, or one array of them'

Text = str | tuple[str, ...]  # one text, a pair, or words


@dataclass(frozen=True)
class Texts:
    """Texts in the order of their file, with their labels if they have any.

    Attributes:
        texts: never blank; all of them strings, or all of them pairs of strings; tuples of words for the task `token`.
        labels: one a text, never blank; a tuple of labels for the task `multi_label`, a number for `regression`, a
            tuple with a tag for each word for `token`; `None` for unlabelled texts.
        source: the file's name as the user wrote it, for messages.
        frame: all columns as read, one row a text; its index is named and counts from 1: the `line` of the file on
            which the row begins (the header is line 1), or the `record` of a Parquet file.
        task: what the labels are, one of `deni.data.TASKS`.
    """

    texts: Sequence[Text]
    labels: list[Any] | None
    source: str
    frame: pd.DataFrame = field(repr=False, compare=False)
    task: str = "single_label"

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.texts)

    @property
    def pairs(self) -> bool:
        """Whether each text is a pair."""
        return self.task != "token" and not isinstance(self.texts[0], str)

    @cached_property
    def exact_keys(self) -> list[str]:
        """One string a text; equal ones are the same text."""
        return [keys.exact(text) for text in self.texts]

    @cached_property
    def loose_keys(self) -> list[str]:
        """One string a text; equal ones differ by case, white space and punctuation only."""
        return [keys.loose(" ".join(text) if self.task == "token" else text) for text in self.texts]

    def shown(self, position: int) -> str:
        """A text for a message; words as a sentence."""
        text = self.texts[position]
        return short(" ".join(text) if self.task == "token" else text)

    def row(self, position: int) -> str:
        """Say where in its file a text is: "line 7", "record 7", or "text 7" without a file."""
        return f"text {position + 1}" if self.frame is None else _row(self.frame, position)

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
    """Read texts from a CSV, TSV, JSONL, Parquet or CoNLL file, each also gzipped, or from standard input.

    Every value of a CSV or TSV is a string: a text "null" or "NA" is that text. White space around a label is dropped;
    numbers become strings. A CoNLL file has a word and its tag on each line, separated by blanks or a tab, and an empty
    line after each sentence; the first column is the word, the last one the tag; lines of -DOCSTART- are skipped.

    Args:
        path: the file, its format told by its suffix; `-` is standard input.
        text_column: the column, or JSON key, of the texts.
        text_pair_column: the column of a second text, for pairs.
        label_column: the column of the labels; `None` reads no labels.
        labels_required: without it a file may lack the label column, and where a label is empty no labels are read.
        task: `single_label`, `multi_label` (labels separated by `;`, none where the field is empty), `regression`, or
            `token` (words, and as many tags: lists, or strings that are split at white space).
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
    if is_conll(suffix or path):
        if task != "token":
            raise InputError(f"{source}: a CoNLL file has a tag for each word: give --task token")
        if labels_required and label_column is not None and "label" not in frame.columns:
            raise InputError(f"{source}: the lines have one column; expected a word and its tag on each")
        frame = frame.rename(columns={"text": text_column, "label": label_column or "label"})
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
    if task == "token" and text_pair_column is not None:
        raise InputError(f"--task token has one text a row, not pairs: leave {PAIR_FLAG} away")
    texts = _column(frame, text_column, TEXT_FLAG, source).tolist()
    if task == "token":
        texts = _words_of(texts, frame, text_column, source)
    else:
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
        elif task == "token":
            labels = _tags_of(values, texts, frame, text_column, label_column, source)
        else:
            labels = _labels_of(values, frame, label_column, source, labels_required)
    return Texts(texts, labels, source, frame, task)


def is_conll(path: str | Path) -> bool:
    """Whether a file is in CoNLL format, by its name."""
    return str(path).lower().removesuffix(".gz").endswith(CONLL)


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


def names(texts: Texts) -> list[str]:
    """The different labels of texts, sorted; of words see `deni.data.labels.whole`."""
    if texts.task in ("multi_label", "token"):
        given = {label for own in texts.labels or () for label in own}
        return whole(given) if texts.task == "token" else sorted(given)
    return sorted(set(texts.labels or ()))


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
    for zeros, encoding in ((data[1:8:2], "UTF-16LE"), (data[:8:2], "UTF-16BE")):  # without a byte order mark
        if zeros and not any(zeros):
            raise _other_encoding(source, 1, "every second byte is 0", encoding)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from behind the byte order mark.
        at = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = 1 + data.count(b"\n", 0, at)
        encoding = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        raise _other_encoding(source, line, f"byte 0x{data[at]:02x} at offset {at}", encoding) from None


def _other_encoding(source: str, line: int, why: str, encoding: str) -> InputError:
    file = "" if source == STDIN or source.endswith(".gz") else f" {shlex.quote(source)}"
    return InputError(
        f"{source}, line {line}: not UTF-8 ({why}); "
        f"convert the uncompressed text first: iconv -f {encoding} -t UTF-8{file}"
    )


def _read_delimited(text: str, source: str, delimiter: str) -> pd.DataFrame:
    """Read CSV or TSV.

    With the csv module and not with pandas, which pads short rows, takes long ones for an index and loses line numbers.
    """
    records: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        with _fields_of_any_length():
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            for record in reader:
                if records or record:  # the header is the first line that is not blank
                    records.append(record)
                    lines.append(line)
                line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{source}, line {line}: {error}; look for a quote that is never closed: "
            'a field with a quote in it is written as "say ""hi"""'
        ) from None
    if not records:  # a byte order mark, and nothing else
        raise InputError(f"{source}: the file is empty; expected a header line and at least one text")
    while not records[-1]:  # blank lines at the end
        records.pop(), lines.pop()
    header = records[0]
    # A blank line is nobody's row, except where the text is the only column: there it is an empty text.
    kept = [i for i in range(1, len(records)) if records[i] or len(header) == 1]
    rows = [records[i] or [""] for i in kept]
    index = pd.Index([lines[i] for i in kept], dtype=int, name="line")
    ragged = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if ragged is not None:
        have, name = len(rows[ragged]), DELIMITERS[delimiter]
        cure = f"put double quotes around a text that contains a {name}" if have > len(header) else "fill in the others"
        raise InputError(
            f"{source}, line {index[ragged]}: {have} field{'s' * (have > 1)}, separated by {name}s, where the header "
            f"has {len(header)}; {cure}"
        )
    return pd.DataFrame(rows, index=index, columns=pd.Index(header, dtype=object), dtype=object)


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the limit of the csv module, 131,072 characters a field, which is one for the whole process."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _read_csv(data: bytes, source: str) -> pd.DataFrame:
    """Read CSV; where the header has no comma but semicolons or tabs, as spreadsheets write them, they separate."""
    text = _decoded(data, source)
    first = re.search(r"[^\r\n]+", text)
    header = re.sub('"[^"]*"', "", first[0]) if first else ""
    return _read_delimited(text, source, next((each for each in DELIMITERS if each in header), ","))


def _read_tsv(data: bytes, source: str) -> pd.DataFrame:
    return _read_delimited(_decoded(data, source), source, "\t")


def _read_json_lines(data: bytes, source: str) -> pd.DataFrame:
    """Read one JSON object a line; a key that a line lacks becomes NaN."""
    records, lines = [], []
    text = _decoded(data, source)
    if (array := _array_of(text)) is not None:
        return pd.DataFrame(array, index=pd.RangeIndex(1, len(array) + 1, name="record"), dtype=object)
    # Not splitlines: a JSON string may hold U+2028 and other separators as they are.
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise InputError(f"{source}, line {line}: {JSON_LINE}, but this is no JSON ({reason})") from None
        if not isinstance(record, dict):
            raise InputError(f"{source}, line {line}: {JSON_LINE}, but this is a {type(record).__name__}")
        records.append(record)
        lines.append(line)
    return pd.DataFrame(records, index=pd.Index(lines, dtype=int, name="line"), dtype=object)


def _array_of(text: str) -> list[dict[str, Any]] | None:
    """The objects of a file that is one JSON array of them, None for any other."""
    if text.lstrip()[:1] != "[":
        return None
    try:
        array = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return array if array and all(isinstance(each, dict) for each in array) else None


def _read_conll(data: bytes, source: str) -> pd.DataFrame:
    """Read sentences into the columns `text` and, where the lines have more than one column, `label`."""
    rows, starts = [], []
    words: list[list[str]] = []  # the first and the last column of each line of the sentence
    width = 0
    for number, line in enumerate([*_decoded(data, source).split("\n"), ""], start=1):
        line = line.strip(" \t\r")
        if line and not line.startswith("-DOCSTART-"):
            fields = [field.strip(" ") for field in re.split(r"\t+" if "\t" in line else " +", line)]
            width = width or len(fields)
            if len(fields) != width:
                raise InputError(
                    f"{source}, line {number}: {len(fields)} columns where the lines above have {width}; "
                    "write a word and its tag on each line, and an empty line between sentences"
                )
            if not words:
                starts.append(number)
            words.append([fields[0], fields[-1]])
        elif words:
            rows.append([list(column) for column in zip(*words, strict=True)])
            words = []
    frame = pd.DataFrame({"text": [row[0] for row in rows]}, index=pd.Index(starts, dtype=int, name="line"))
    return frame.assign(label=[row[1] for row in rows]) if width > 1 else frame


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
    (CONLL := ".conll"): _read_conll,
}


def _column(frame: pd.DataFrame, name: str, flag: str, source: str) -> pd.Series:
    """Choose the column of this name; the error for a missing one lists the others."""
    found = int((frame.columns == name).sum())
    if found == 0:
        raise InputError(
            f"{source}: no column {name!r} among {shown(frame.columns)}; "
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
            others = sum(isinstance(each, str) and not each.strip() for each in texts) - 1
            raise InputError(
                f"{source}, {_row(frame, i)}, column {column!r}: empty text{_and_others(others)}; "
                "fill it in or drop the row"
            )
        if not text.isascii() and _has_surrogate(text):
            raise InputError(
                f"{source}, {_row(frame, i)}, column {column!r}: half a surrogate pair (such as \\ud83d) is no "
                "character; write the whole character"
            )


def _listed(value: Any) -> list[Any] | None:
    """A list as it is, a string split at white space; None for anything else."""
    if isinstance(value, str):
        return value.split()
    return list(value) if isinstance(value, list | tuple | np.ndarray) else None


def _words_of(values: list[Any], frame: pd.DataFrame, column: str, source: str) -> list[Text]:
    """Turn lists or strings into words."""
    texts: list[Text] = []
    for i, value in enumerate(values):
        words = _listed(value)
        if why := "words are needed" if words is None else why_no_words(words):
            raise InputError(
                f"{source}, {_row(frame, i)}, column {column!r}: {short(value)} where a list of words, or a string of "
                f"words, was expected: {why}; fill it in, drop the row or name another {TEXT_FLAG}"
            )
        texts.append(tuple(words))  # type: ignore[arg-type]
    return texts


def why_no_words(words: Sequence[Any]) -> str | None:
    """Say why a list is no sentence; None if it is one.

    >>> why_no_words(["Anna", ""])
    "word 2 is '': every text must be a string that is not empty"
    """
    if not len(words):
        return "an empty sentence has no words"
    reasons = ((at, word, why_no_text(word)) for at, word in enumerate(words, start=1))
    return next((f"word {at} is {short(word)}: {why}" for at, word, why in reasons if why), None)


def _tags_of(
    values: list[Any], texts: list[Any], frame: pd.DataFrame, words: str, column: str, source: str
) -> list[tuple[str, ...]]:
    """Turn lists or strings into a tag for each word; warn where they are not IOB2."""
    labels: list[tuple[str, ...]] = []
    odd: list[tuple[int, str]] = []
    for i, (value, text) in enumerate(zip(values, texts, strict=True)):
        where, tags = f"{source}, {_row(frame, i)}, column {column!r}", _listed(value)
        if tags is None:
            raise InputError(f"{where}: {short(value)} where a list of tags, or a string of tags, was expected")
        for at, tag in enumerate(tags, start=1):
            if not isinstance(tag, str) or not tag or tag.split() != [tag]:
                raise InputError(
                    f"{where}: tag {at} is {short(tag)}, not a name such as B-PER or O; write names without blanks "
                    "(numbers of Hugging Face's ner_tags have theirs in the features of the dataset)"
                )
        if len(tags) != len(text):
            raise InputError(
                f"{where}: {len(tags)} tags for the {len(text)} words of {words!r}; give each word one tag"
            )
        if (first := misplaced(tags)) is not None:
            odd.append((i, tags[first]))
        labels.append(tuple(tags))
    if odd:
        i, tag = odd[0]
        _warn(
            f"{source}: the tags of {len(odd)} text(s) are not IOB2 (B-TYPE begins an entity, I-TYPE goes on, O is "
            f"outside), such as {short(tag)} at {_row(frame, i)}; scores of entities take them as seqeval does"
        )
    return labels


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
        raise InputError(f"{where}{_and_others(labels.count('') - 1)}; fill it in or drop the row")
    if any(labels):
        _warn(f"{where}, so no labels are read; fill it in to have the predictions scored")
    return None


def _and_others(count: int) -> str:
    """How many more rows have the same fault."""
    return f" (and {count} more such row{'s' if count > 1 else ''})" if count else ""


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


def fed(texts: Sequence[Text], task: str) -> dict[str, Any]:
    """What a tokenizer takes: the texts, the two sides of pairs, or words.

    >>> fed([("a", "b")], "single_label"), fed([("a", "b")], "token")
    ({'text': ['a'], 'text_pair': ['b']}, {'text': [['a', 'b']], 'is_split_into_words': True})
    """
    if task == "token":
        return {"text": [list(words) for words in texts], "is_split_into_words": True}
    return dict(zip(("text", "text_pair"), sides(texts), strict=False))


def sides(texts: Sequence[Text]) -> list[list[str]]:
    """The texts, or the first and the second text of each pair.

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


def _warn(message: str) -> None:
    warnings.warn(message, InputWarning, stacklevel=3)
