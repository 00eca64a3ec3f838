"""A store as one small file that a repository can hold: the vote of each cell in place of every member."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deni.data.write import bytes_of, write_bytes
from deni.errors import InputError
from deni.outputs import check_file
from deni.study.keys import task_of
from deni.study.store.database import Store
from deni.study.store.rows import Outputs, arrays_of, pack_arrays
from deni.study.vote import voter
from deni.tasks import TASKS

SUFFIX = ".parquet"


def write_archive(store: Store, output: str | Path, overwrite: bool = False) -> int:
    """Write the cells that are done or have failed as a Parquet file, a row a cell, whole or not at all.

    It has all that the store has but the members: of them the vote is kept, in half precision where a text has one
    label; what other votes would have scored is among the metrics. `deni report` and `deni study merge` read it.

    Returns:
        How many cells.

    Raises:
        InputError: nothing to write, or a file that is there or cannot be written.
    """
    output = Path(output)
    if output.suffix != SUFFIX:
        raise InputError(f"{output}: an archive is a Parquet file: call it {output.stem}{SUFFIX}")
    check_file(output, overwrite, [store.path])
    rows = [
        {**record, "arrays": None if arrays is None else _votes_alone(json.loads(record["decides"]), arrays)}
        for record, arrays in store.records(("done", "failed"))
    ]
    if not rows:
        raise InputError(f"{store.path}: no cell is done, so there is nothing to archive")
    write_bytes(output, bytes_of(pd.DataFrame(rows), SUFFIX))
    return len(rows)


def _votes_alone(decided: Mapping[str, Any], arrays: bytes) -> bytes:
    outputs = arrays_of(arrays)
    vote = voter(decided)(outputs.log_probs)  # (N, C)
    kept = _half(vote) if TASKS[task_of(decided)].one_class else vote
    return pack_arrays(Outputs(kept[:, None], outputs.gold, outputs.text_ids))


def _half(vote: np.ndarray) -> np.ndarray:
    """In half precision, with the same class on top: rounding makes ties."""
    kept, chosen = vote.astype(np.float16), vote.argmax(-1)
    rows = np.flatnonzero(kept.argmax(-1) != chosen)
    kept[rows, chosen[rows]] = np.nextafter(kept[rows].max(-1), np.float16(np.inf))
    return kept


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Store]:
    """A store, or an archive, its cells under the keys of today, as a store that is gone afterwards.

    Raises:
        InputError: a file that is neither.
    """
    if Path(path).suffix != SUFFIX:
        with Store(path) as store:
            yield store
        return
    with tempfile.TemporaryDirectory(prefix="deni.") as folder:
        with Store(Path(folder) / f"{Path(path).stem}.db", create=True) as store:
            frame = _read(Path(path))
            for record in frame.astype(object).where(frame.notna(), None).to_dict("records"):
                store.restore(
                    {str(name): value for name, value in record.items() if name != "arrays"}, record["arrays"]
                )
            store.rekey(Path(path))
            yield store


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no Parquet file ({str(error).splitlines()[0]})") from error
    if missing := {"key", "spec", "decides", "arrays"} - set(frame):
        raise InputError(f"{path} has no {min(missing)}: it is not an archive of `deni study export --archive`")
    return frame
