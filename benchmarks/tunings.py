"""Every tuning, plain and with DENI, through the command line: MiniLM on TREC with few labels.

python benchmarks/tunings.py --workers 2
python benchmarks/tunings.py --tunings unipelt      (where transformers is 4.57)
"""

from __future__ import annotations

import argparse

from common import data
from grid import run

TUNINGS = ("full", "lora", "ia3", "prompt")
STRATEGIES = ("default", "deni")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunings", nargs="+", choices=[*TUNINGS, "unipelt"], default=TUNINGS)
    parser.add_argument("--labelled", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="commands at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each command")
    args = parser.parse_args()
    cells = {
        f"{tuning} {strategy} {seed}": [
            str(data("trec")),
            *("--tuning", tuning, "--strategy", strategy),
            *("--labeled", str(args.labelled), "--seed", str(seed)),
        ]
        for seed in range(args.seeds)
        for tuning in args.tunings
        for strategy in STRATEGIES
    }
    run("tunings", cells, {"dataset": "trec", "labelled": args.labelled}, args.workers, args.threads)


if __name__ == "__main__":
    main()
