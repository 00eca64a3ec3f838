"""What a name of texts means: standard input, a named dataset, one of the Hub, or a file, which must be there."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from deni.data.hub import is_hub_id
from deni.data.named_datasets import DATASETS
from deni.errors import InputError
from deni.inputs import check_file

FOLDER = "DENI_DATA"  # environment variable: the folder with the named datasets


def local_file(name: str) -> Path | None:
    """Where the folder of DENI_DATA has a named dataset; None where it has not."""
    folder = os.environ.get(FOLDER)
    if not folder or name not in DATASETS:
        return None
    file = Path(folder) / f"{name}.csv.gz"
    return file if file.is_file() else None


def check_data(*names: str | Path | None) -> None:
    """Raise InputError for the first name that is neither a file nor a dataset; None is no name.

    Whether the Hub has a dataset is not asked here.
    """
    for name in map(str, filter(None, names)):
        if name in DATASETS or is_hub_id(name):
            continue
        file = Path(name)
        if name == "-" or file.suffix or file.name != name or os.path.exists(file):
            check_file(name)
            continue
        near = difflib.get_close_matches(name, [*DATASETS, *sorted(each.name for each in Path().iterdir())])
        hint = f"did you mean {' or '.join(near)}?" if near else f"the datasets are {', '.join(DATASETS)}"
        raise InputError(f"{name}: no such file, and no dataset of that name; {hint}")


def check_split(given: str | None) -> None:
    """The same for a split, `--test` or `--dev`, which may be a fraction, too."""
    try:
        float(given or 0)
    except ValueError:
        check_data(given)
