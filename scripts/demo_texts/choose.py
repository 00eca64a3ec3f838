"""How the task of `deni demo` was chosen: where plain fine-tuning varies the most over five seeds.

`python -m scripts.demo_texts.choose --output benchmarks/results/demo_task.json` compares four sets of classes. It
trains as the demo does, and measures on texts of the training file that are left over; the test texts play no part.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from deni.commands.demo import EPOCHS, LABELED, PLAIN, demo_texts
from deni.finetune import fine_tune
from deni.measures.scores import macro_f1
from deni.provenance import environment
from deni.recipe import Recipe

SEEDS = 5
TASKS = (
    ("billing", "refund", "delivery", "account", "technical", "cancellation"),
    ("billing", "refund", "cancellation"),  # those that words tell apart the least
    ("delivery", "account", "technical"),
    ("refund", "cancellation"),
)


def measure(labels: tuple[str, ...], model: str = "minilm", epochs: float = EPOCHS) -> dict[str, Any]:
    """Macro F1 of plain fine-tuning over seeds, on left over texts."""
    train, left, _ = demo_texts(LABELED, labels)
    recipe = Recipe.of(strategy=PLAIN, tuning="full", model=model, epochs=epochs)
    found = fine_tune(train, recipe, seeds=range(SEEDS), progress=False).test(left)
    scores = [float(each) for each in macro_f1(found.members.argmax(-1).T, found.gold)]
    return {
        "labels": list(labels),
        "dev_texts": len(left),
        "macro_f1": scores,
        "mean": statistics.mean(scores),
        "sd": statistics.stdev(scores),
    }


def main() -> None:
    """Measure all tasks and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    rows = [measure(labels) for labels in TASKS]
    settings = {"labelled": LABELED, "epochs": EPOCHS, "seeds": SEEDS, "model": "minilm"}
    result = {"environment": environment(), "settings": settings, "rows": rows}
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
