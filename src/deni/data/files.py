"""Reading labeled or unlabeled texts from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from deni.data.columns import texts_of
from deni.data.formats import frame_of, is_conll
from deni.data.formats.content import STDIN
from deni.data.texts import Texts
from deni.errors import InputError
from deni.tasks import DEFAULT, TASKS, find_task


def read_texts(
    path: str | Path,
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str | None = "label",
    labels_required: bool = True,
    suffix: str | None = None,
    task: str = DEFAULT,
    label_order: Sequence[str] = (),
    on_blank: Callable[[int], None] | None = None,
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
        task: what the labels are, one of `deni.tasks.TASKS`. `multi_label`: separated by `;`, none where the field is
            empty; `token`: words, and as many tags: lists, or strings that are split at white space.
        label_order: the classes from the lowest to the highest, for tasks whose classes have an order; without it they
            are numbers.
        on_blank: rows without a text are left out, and this is called with how many; None refuses them.
        suffix: read as if the name ended so, such as ".jsonl.gz"; standard input is ".csv" unless told.

    Raises:
        InputError: one line that names the file, the row and the column, and what to do.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "tickets.csv")
    ...     _ = file.write_text("text,label\\nWhere is my parcel?,delivery\\n")
    ...     read_texts(file).labels
    ['delivery']
    """
    source = STDIN if str(path) == "-" else str(path)
    frame = frame_of(path, source, suffix, text_column)
    if is_conll(suffix or path):
        if not find_task(task).of_words:
            of_words = " or ".join(name for name, each in TASKS.items() if each.of_words)
            raise InputError(f"{source}: a CoNLL file has a tag for each word: give --task {of_words}")
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
        label_order=label_order,
        on_blank=on_blank,
    )
