"""How much memory a training needs, and how near the estimate of it is: peaks of fresh processes over all tunings.

MiniLM, real TREC texts. Each case is a separate process, which trains for a few steps; its peak is the most resident
memory until the last of them, over what it held when the data were read and the code was imported. A run that forks to
ten members at its first step is set against one that never forks, and what training adds to the loaded model is set
against the estimate that chooses the passes.

    python benchmarks/memory.py
    python benchmarks/memory.py --tunings lora --passes 1 2 5 10    # and with other passes, with their seconds
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from typing import Any

import psutil
import torch
from common import environment, write
from member_step import Peak, texts_of
from transformers import TrainerCallback

import deni.training.trainer  # noqa: F401 - what every case needs is no part of its memory
from deni.engine import memory
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.strategies import Default, DelayedEnsemble
from deni.tuning import TUNINGS

MEMBERS, MIB = 10, 2**20


class Watch(TrainerCallback):
    """Ends a run after some steps, and notes what the process held before the first, and processor time.

    Args:
        steps: how many.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.before = steps, 0
        self.times: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.before = psutil.Process().memory_info().rss

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.times.append(time.process_time())
        control.should_training_stop = state.global_step == self.steps


def case(tuning: str, members: int, batch: int, passes: int | None, steps: int) -> dict[str, Any]:
    """What the process of a case measures."""
    texts, watch, estimates = texts_of(160), Watch(steps), []
    measured = memory.estimate

    def noted(*args: Any, **options: Any) -> memory.Estimate:
        estimates.append(measured(*args, **options))
        return estimates[-1]

    memory.estimate = noted
    strategy = Default() if members == 1 else DelayedEnsemble(ensemble_from=0.0, members=members)
    epochs = -(-(steps + 1) * batch // len(texts))
    recipe = Recipe.of(
        tuning=tuning, strategy=strategy, batch_size=batch, epochs=epochs, engine="stacked", members_at_a_time=passes
    )
    with Peak() as most:
        fitted = fine_tune(texts, recipe, progress=False, callbacks=[watch])
    plan, each = fitted.trainer.engine_plan, watch.times
    row: dict[str, Any] = {
        "tuning": tuning,
        "members": members,
        "batch": batch,
        "at_a_time": (plan.at_a_time or members) if plan else 1,
        "peak_mib": most.mib,
        "training_mib": most.mib - (watch.before - most.before) / MIB,
        "cpu_seconds_per_member_step": (each[-1] - each[2]) / (len(each) - 3) / members,
    }
    if estimates:
        need = estimates[0]
        row["estimate"] = {"parameters": need.parameters, "activations": need.activations, "frozen": need.frozen}
    return row


def measure(tuning: str, members: int, batch: int, passes: int | None, steps: int) -> dict[str, Any]:
    """One case, in a separate process."""
    values = (tuning, members, batch, passes or 0, steps)
    command = [sys.executable, __file__, "--case", *map(str, values)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{values}: {done.stderr.strip().splitlines()[-1]}")
    row = json.loads(done.stdout.splitlines()[-1])
    print(
        json.dumps({key: round(each, 4) if isinstance(each, float) else each for key, each in row.items()}), flush=True
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunings", nargs="*", default=list(TUNINGS))
    parser.add_argument("--passes", nargs="*", type=int, default=[], help="sizes to try besides the default")
    parser.add_argument("--batches", nargs="*", type=int, default=[8, 32])
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if args.case:
        tuning, *numbers = args.case
        members, batch, passes, steps = map(int, numbers)
        print(json.dumps(case(tuning, members, batch, passes or None, steps)))
        return
    rows = []
    for tuning in args.tunings:
        for batch in args.batches:
            plain = measure(tuning, 1, batch, None, args.steps)
            rows.append(plain)
            for passes in [None, *args.passes]:
                rows.append(measure(tuning, MEMBERS, batch, passes, args.steps))
                rows[-1]["ratio"] = rows[-1]["peak_mib"] / plain["peak_mib"]
    write("memory", {**environment(), "rows": rows})


if __name__ == "__main__":
    main()
