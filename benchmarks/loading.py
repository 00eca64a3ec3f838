"""How long does it take to read, split and choose from a large file of labeled texts?

python benchmarks/loading.py
"""

from __future__ import annotations

import argparse
import csv
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from common import environment, write

from deni.data import check_trainable, choose_balanced, read_data, stratified_split
from deni.randomness import Sources

WORDS = 'the parcel invoice my where is refund login screen late price again please not card court was, and "when" who'


def make(file: Path, rows: int, classes: int) -> None:
    draw, words = random.Random(0), WORDS.split()
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["text", "label"])
        for row in range(rows):
            writer.writerow([f"{row} {' '.join(draw.choices(words, k=12))}", f"class {draw.randrange(classes)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--labelled", type=int, default=1000)
    given = parser.parse_args()
    process, seconds = psutil.Process(), {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        seconds[name] = time.perf_counter() - began
        return result

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.csv"
        make(file, given.rows, given.classes)
        size, before = file.stat().st_size, process.memory_info().rss
        sources = Sources(0)
        texts = timed("read", lambda: read_data(file))
        held = process.memory_info().rss - before
        rest, part = timed("split 80/20", lambda: stratified_split(texts.labels, 0.2, sources.numpy("data_split")))
        train, test = timed("take both parts", lambda: (texts.select(rest), texts.select(part)))
        chosen = timed(
            f"choose {given.labelled}",
            lambda: choose_balanced(train.labels, given.labelled, sources.numpy("label_choice")),
        )
        timed("check", lambda: check_trainable(train.select(chosen), test))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    write(
        "loading",
        {
            **environment(),
            "rows": given.rows,
            "mib": size / 2**20,
            "seconds": seconds,
            "held_mib": held / 2**20,
            "peak_mib": (peak - before) / 2**20,
        },
    )


if __name__ == "__main__":
    main()
