"""Reading a dataset of the hub."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deni.errors import InputError, InputWarning

if TYPE_CHECKING:
    import pandas as pd

_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_id(name: str) -> bool:
    """Whether a name is `user/dataset`, and cannot be a file because no folder `user` exists here.

    >>> is_hub_id("someone/animals"), is_hub_id("tickets.csv"), is_hub_id("someone/animals/train.csv")
    (True, False, False)
    """
    return _ID.fullmatch(name) is not None and not os.path.exists(Path(name).parent)


def read_hub(
    name: str,
    split: str,
    *,
    columns: Sequence[str],
    label: str | None,
    classes: Sequence[str] = (),
    config: str | None = None,
    revision: str | None = None,
    lists: bool = False,
    instead: str = "give a file",
) -> pd.DataFrame:
    """A dataset of the hub as a table, its index named `row`, from 1 on; numbers of classes become their names.

    Args:
        split: as `datasets.load_dataset` takes it, such as `train` or `train+test`.
        columns: those of the texts; a row without a text is left out.
        label: the column of the labels, or None.
        classes: names of the classes, in place of those that the hub knows.
        lists: whether several labels of a text stay a list, as those of words; else they are joined by `;`.
        instead: what to do without the hub, for the message.

    Raises:
        InputError: what the hub does not have, or cannot be reached; rows without a label.

    Warns:
        InputWarning: rows without a text.
    """
    import pandas as pd

    with _one_line(name, instead):
        from datasets import load_dataset

        dataset = load_dataset(name, config, split=split, revision=revision)
    frame = dataset.with_format("arrow")[:].to_pandas(ignore_metadata=True, integer_object_nulls=True)
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="row")
    if label in frame.columns:
        feature = dataset.features[label]
        inner = getattr(feature, "feature", feature)  # of a list, where a text has several labels
        known = list(classes) or getattr(inner, "names", None)
        if known:
            frame[label] = pd.Series(
                [_named(value, known, lists) for value in frame[label]], index=frame.index, dtype=object, name=label
            )
            if frame[label].isna().any():
                raise InputError(f"{name}: texts of split {split!r} have no label there: choose another --split")
    texts = [column for column in columns if column in frame.columns]
    blank = frame[texts].isna().any(axis=1) | frame[texts].map(_is_blank).any(axis=1)
    if blank.any():
        warnings.warn(
            f"{name}: {blank.sum()} of {len(frame)} rows have no text and are left out", InputWarning, stacklevel=3
        )
    return frame[~blank]


def _named(value: Any, classes: Sequence[str], lists: bool) -> Any:
    """The name of a class from its number; those of a list, separated by `;` or as one; None for -1, no label."""
    import pandas as pd

    if isinstance(value, str) or value is None or value is pd.NA:
        return value
    if hasattr(value, "__len__"):
        named = [classes[int(each)] for each in value]
        return named if lists else ";".join(named)
    return classes[int(value)] if 0 <= value < len(classes) else None


def _is_blank(value: Any) -> bool:
    """Tell a blank text, and a list without words."""
    import numpy as np

    return not value.strip() if isinstance(value, str) else isinstance(value, np.ndarray) and not len(value)


@contextmanager
def _one_line(name: str, instead: str) -> Iterator[None]:
    """Turn what `datasets` raises into one line; without a terminal it shows no bars."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    shown = not datasets.are_progress_bars_disabled() and sys.stderr.isatty()
    if not shown:
        datasets.disable_progress_bars()
    try:
        yield
    except DatasetNotFoundError:
        raise InputError(
            f"{name}: no such file, and no such dataset on the hub, or a private one: check the name"
        ) from None
    except (ConnectionError, TimeoutError) as error:
        raise InputError(
            f"{name}: no such file, and the hub cannot be reached ({_first_line(error)}): load it once where there is "
            f"a network, after which it is in the cache, or {instead}"
        ) from error
    except Exception as error:  # of httpx, pyarrow and others: what a server or file that is not as expected raises
        raise InputError(
            f"dataset {name} cannot be loaded: {_first_line(error)} (see --split and --config-name)"
        ) from error
    finally:
        if not shown:
            datasets.enable_progress_bars()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
