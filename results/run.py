"""Train what the studies of this folder have not yet, from where their archives end, and archive what came out.

python results/run.py claims --workers 4 --minutes 60
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
STUDIES = (
    *("claims", "recipes", "fork", "sensitivity", "confirmation"),
    *("features", "recipes2", "few_snips", "few_db_pedia", "pairs", "fork_full", "interpolation_full"),
    *("features_rest", "features_normalized", "features_bi", "features_full", "distillation", "other_pool"),
    *("precision", "few_distillation", "auto_students"),
)  # in the order in which they are run


def deni(*arguments: object) -> None:
    """Run the command line; raises CalledProcessError where it fails."""
    command = [sys.executable, "-c", "from deni.cli import main; main()", *map(str, arguments)]
    subprocess.run(command, check=True)


def run(name: str, workers: int, pack: int, minutes: float) -> None:
    """One study, for so many minutes; its packs that are under way then are finished."""
    study, archive, store = (HERE / f"{name}{suffix}" for suffix in (".yaml", ".parquet", ".db"))
    if archive.exists() and not store.exists():
        deni("study", "merge", store, archive)
    how = ["--runner", "processes", "--workers", workers, "--threads", 1, "--pack", pack, "--minutes", minutes]
    how += ["--trunks", HERE / "trunks"]
    try:
        deni("study", "run", study, "--store", store, *how)
    finally:
        deni("study", "export", store, "--archive", "--output", archive, "--overwrite")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", default=STUDIES, help=f"of {', '.join(STUDIES)}; all if none is named")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--pack", type=int, default=5, help="seeds that train in one population")
    parser.add_argument("--minutes", type=float, default=1e6, help="no pack begins after so many")
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes
    for name in args.studies:
        if (left := (end - time.monotonic()) / 60) > 0:
            run(name, args.workers, args.pack, left)


if __name__ == "__main__":
    main()
