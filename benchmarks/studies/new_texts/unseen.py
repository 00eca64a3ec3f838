"""Write the texts that no study has measured on, for a study whose test texts must be new; or check that they were.

python benchmarks/studies/new_texts/unseen.py                          # unseen/trec.csv and so on, of the datasets
python benchmarks/studies/new_texts/unseen.py --check ARCHIVE.parquet  # of the study that ran on them
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from deni.data import read_data

HERE = Path(__file__).parent
RESULTS = HERE.parents[2] / "results"
BEFORE = (
    *("claims", "recipes", "confirmation", "fork", "sensitivity"),
    *("features", "recipes2", "few_snips", "few_db_pedia", "pairs"),
    *("fork_full", "interpolation_full"),
)  # the archives that were there when the test texts were set aside
UNSEEN = HERE / "unseen"


def measured_on(archive: Path) -> dict[str, set[int]]:
    """Rows of each dataset that some cell of an archive was measured on."""
    found: dict[str, set[int]] = defaultdict(set)
    table = pd.read_parquet(archive, columns=["spec", "arrays"])
    for spec, arrays in zip(table["spec"], table["arrays"], strict=True):
        with np.load(io.BytesIO(arrays)) as opened:
            found[json.loads(spec)["dataset"]["name"]] |= set(opened["text_ids"].tolist())
    return found


def read(name: str | Path) -> pd.DataFrame:
    """A dataset as studies read it; the index has the rows that `text_ids` of an archive names."""
    return read_data(str(name)).frame


def seen() -> dict[str, set[int]]:
    """Rows of each dataset that the earlier archives were measured on."""
    found: dict[str, set[int]] = defaultdict(set)
    for name in BEFORE:
        for dataset, rows in measured_on(RESULTS / f"{name}.parquet").items():
            found[dataset] |= rows
    return found


def write() -> None:
    """The files of the texts that nobody has measured on."""
    UNSEEN.mkdir(exist_ok=True)
    for name, rows in sorted(seen().items()):
        frame = read(name)
        left = frame.drop(index=sorted(rows))
        left.to_csv(UNSEEN / f"{name}.csv", index=False)
        print(f"{name}: {len(left)} of {len(frame)} texts")


def check(archive: Path) -> None:
    """Exit where a text that an archive was measured on is one that an earlier archive was measured on."""
    before = {name: set(read(name)["text"].loc[sorted(rows)]) for name, rows in seen().items()}
    for file, rows in measured_on(archive).items():
        name = Path(file).stem
        tested = set(read(file if name == file else UNSEEN / Path(file).name)["text"].loc[sorted(rows)])
        if both := tested & before[name]:
            sys.exit(f"{name}: {len(both)} test texts are not new, such as {min(both)!r}")
        print(f"{name}: none of {len(tested)} test texts was measured on before")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="ARCHIVE")
    archive = parser.parse_args().check
    write() if archive is None else check(archive)


if __name__ == "__main__":
    main()
