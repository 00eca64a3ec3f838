"""What augmented texts add, plainly and with DENI: MiniLM on 400 texts of ag_news, paraphrased or translated back.

python benchmarks/augmentation.py --workers 2
"""

from __future__ import annotations

import argparse

from common import data
from grid import run

TEXTS = ("para", "back")
# The length of the paper's protocol; bfloat16 takes half the time and chose the same classes in a trial.
SETTINGS = ("--max-length", "50", "--bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunings", nargs="+", choices=["lora", "full"], default=["lora", "full"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1, help="commands at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each command")
    args = parser.parse_args()
    folder = data("ag_news").parent / "augmented"
    file = {name: str(folder / f"ag_news_{name}.csv.gz") for name in ("seeds", "test", *TEXTS)}
    augmented = {texts: ["--augmented", file[texts]] for texts in TEXTS}
    strategies = {
        "default none": ["--strategy", "default"],
        "deni none": ["--strategy", "deni"],
        **{f"augmentation {t}": ["--strategy", "augmentation", "--augmentations", "1", *augmented[t]] for t in TEXTS},
        **{f"denials {t}": ["--strategy", "denials", *augmented[t]] for t in TEXTS},
    }
    cells = {
        f"{tuning} {name} {seed}": [
            *(file["seeds"], "--test", file["test"], "--tuning", tuning, "--seed", str(seed), *SETTINGS),
            *arguments,
        ]
        for seed in range(args.seeds)
        for tuning in args.tunings
        for name, arguments in strategies.items()
    }
    run(
        "augmentation",
        cells,
        {"dataset": "ag_news", "labelled": 400, "arguments": " ".join(SETTINGS)},
        args.workers,
        args.threads,
    )


if __name__ == "__main__":
    main()
