"""Reading labeled or unlabeled texts from a file, a named dataset or the Hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from deni.data.columns import texts_of
from deni.data.files import read_texts
from deni.data.hub import is_hub_id, read_hub
from deni.data.named_datasets import DATASETS, NamedDataset
from deni.data.naming import FOLDER, check_data, local_file
from deni.data.pairs import joined, parted
from deni.data.texts import Texts
from deni.errors import InputError
from deni.tasks import DEFAULT, find_task


def read_data(
    data: str | Path,
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    labels: bool = True,
    labels_required: bool = True,
    pairs: bool = True,
    split: str | None = None,
    config_name: str | None = None,
    task: str = DEFAULT,
    label_order: Sequence[str] = (),
    on_blank: Callable[[int], None] | None = None,
) -> Texts:
    """Read texts from a file, a dataset of `deni.data.DATASETS`, or any dataset of the hub.

    Args:
        data: a file, or `-` for standard input; the name of a dataset, which is read from `NAME.csv.gz` in the folder
            that the environment variable DENI_DATA names, else from the hub; or `user/dataset` of the hub.
        text_column: None for the dataset's own, or `text`.
        text_pair_column: the column of a second text; None for the dataset's own, or none.
        label_column: None for the dataset's own, or `label`.
        labels: whether to read labels.
        labels_required: as in `read_texts`.
        pairs: whether a named dataset of pairs gives pairs; False for one text as in the released code.
        split: of the hub, such as `train` or `train+test`; None for all splits with labels of a named dataset, else
            `train`.
        config_name: of the hub, where a dataset has several configurations.
        task, label_order, on_blank: as in `read_texts`.

    Raises:
        InputError: one line that names what is wrong, and what to do.
    """
    name = str(data)
    both = {
        "labels_required": labels_required,
        "task": task,
        "label_order": label_order,
        **({} if on_blank is None else {"on_blank": on_blank}),
    }
    of_texts, of_labels = find_task(task).columns
    given = {"text_column": text_column or of_texts, "text_pair_column": text_pair_column, **both}
    given["label_column"] = (label_column or of_labels) if labels else None
    dataset = DATASETS.get(name)
    if dataset is None and not is_hub_id(name):
        if split or config_name:
            raise InputError(f"{name}: --split and --config-name are for datasets of the Hub: omit them for a file")
        check_data(name)
        return read_texts(data, **given)  # type: ignore[arg-type]
    own_columns = text_column is None and dataset is not None
    local = local_file(name)
    if local is not None and not split and not config_name:
        texts = read_texts(local, **given)  # type: ignore[arg-type]
        part = dataset is not None and dataset.pair is not None and own_columns and text_pair_column is None
        return parted(texts) if part and pairs else texts
    if dataset is None:
        dataset = NamedDataset(name, "text", "label", (), splits=("train",))
    text, label = text_column or dataset.text, label_column or dataset.label
    pair = text_pair_column or (dataset.pair if own_columns else None)
    frame = read_hub(
        dataset.hub,
        split or dataset.split,
        columns=[text, *([pair] if pair else [])],
        label=label if labels else None,
        classes=dataset.classes if label == dataset.label else (),
        config=config_name or dataset.config,
        revision=dataset.revision,
        lists=find_task(task).of_words,
        instead=f"put {name}.csv.gz into a folder and name it with {FOLDER}" if name in DATASETS else "give a file",
    )
    columns = {"text_column": text, "text_pair_column": pair, "label_column": label if labels else None}
    texts = texts_of(frame, name, **columns, **both)  # type: ignore[arg-type]
    return joined(texts) if own_columns and dataset.pair and not text_pair_column and not pairs else texts
