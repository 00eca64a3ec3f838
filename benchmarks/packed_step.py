"""What a pack in bfloat16 gains: its steps by casting frozen weights once and by passes of rows of like length, and
its predictions by fewer rows a pass and by texts of like length.

MiniLM with LoRA on real texts, batch 8. The ways take turns from step to step of one training, so that other work on
the machine meets all of them; processor time counts, of the medians.

    python benchmarks/packed_step.py --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from typing import Any

import torch
from common import data, environment, write
from tqdm import tqdm
from transformers import TrainerCallback

from deni.data import choose_balanced, read_texts
from deni.engine import passes
from deni.engine.frozen import CastOnce
from deni.engine.module import PopulationModule, in_one_pass
from deni.finetune import fine_tune
from deni.models.tokenizing import tokenize
from deni.randomness import Sources
from deni.recipe import Recipe
from deni.strategies import Default, DelayedEnsemble
from deni.training import evaluation

WAYS = {"as autocast does": (False, False), "cast once": (True, False), "cast once, in passes": (True, True)}
CASES = (("trec", 1), ("trec", 10), ("sst2", 1), ("sst2", 10))  # dataset, members of each run
CAST = CastOnce.cast


class Turns(TrainerCallback):
    """Each step in the next way; processor seconds of each."""

    def __init__(self, rounds: int, bar: tqdm) -> None:
        self.rounds, self.bar = rounds, bar
        self.times: dict[str, list[float]] = defaultdict(list)

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Switch to the way of this step."""
        members = next(module for module in model.modules() if isinstance(module, PopulationModule))
        self.way = list(WAYS)[state.global_step % len(WAYS)]
        once, by_length = WAYS[self.way]
        members.compute = passes.by_length if by_length else in_one_pass
        CastOnce.cast = CAST if once else lambda self, value: value  # type: ignore[method-assign]
        self.began = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the time, after a round to warm up."""
        if state.global_step > len(WAYS):
            self.times[self.way].append(time.process_time() - self.began)
        self.bar.update()
        control.should_training_stop = state.global_step == (1 + self.rounds) * len(WAYS)


def measure(name: str, members: int, runs: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a member-step in each way."""
    texts = read_texts(data(name))
    texts = texts.select(choose_balanced(texts.labels or [], 400, Sources(0).numpy("label_choice")))
    strategy = Default() if members == 1 else DelayedEnsemble(members=members, ensemble_from=0)
    plan = Recipe.of(strategy=strategy, tuning="lora", epochs=1 + (1 + rounds) * len(WAYS) // 50, bf16=True)
    with tqdm(total=(1 + rounds) * len(WAYS), desc=f"{name}, {runs} x {members}") as bar:
        turns = Turns(rounds, bar)
        fine_tune(texts, plan, seeds=range(runs), progress=False, callbacks=[turns])
    cost = {way: 1000 * statistics.median(turns.times[way]) / members / runs for way in WAYS}
    return _row(name, members, runs, cost)


def predictions(name: str, members: int, runs: int, rounds: int) -> dict[str, Any]:
    """Processor milliseconds of what one member says of one text, in each way; the best round counts."""
    texts = read_texts(data(name))
    train, tested = (
        texts.select(choose_balanced(texts.labels or [], count, Sources(seed).numpy("label_choice")))
        for seed, count in enumerate((100, 192))
    )
    plan = Recipe.of(strategy=DelayedEnsemble(members=members, ensemble_from=0), tuning="lora", epochs=0.1, bf16=True)
    fitted = fine_tune(train, plan, seeds=range(runs), progress=False)
    tokens = tokenize(tested, fitted.tokenizer, fitted.max_length, fitted.labels)
    by_length = tokens.select(sorted(range(len(tokens)), key=lambda row: len(tokens[row]["input_ids"])))
    rows = evaluation.ROWS
    ways = {
        "64 texts a pass": (10**9, tokens),
        f"{rows} rows a pass": (rows, tokens),
        f"{rows} rows a pass, by length": (rows, by_length),
    }
    cost = dict.fromkeys(ways, float("inf"))
    for _ in tqdm(range(rounds), desc=f"{name}, predictions"):
        for way, (evaluation.ROWS, given) in ways.items():
            began = time.process_time()
            fitted.trainer.predict_members(given)
            spent = 1000 * (time.process_time() - began) / members / runs / len(tokens)
            cost[way] = min(cost[way], spent)
    evaluation.ROWS = rows
    return _row(name, members, runs, cost)


def _row(name: str, members: int, runs: int, cost: dict[str, float]) -> dict[str, Any]:
    first = next(iter(cost.values()))
    return {
        "dataset": name,
        "runs": runs,
        "members": members,
        "milliseconds": {way: round(value, 2) for way, value in cost.items()},
        "ratio": {way: round(value / first, 2) for way, value in cost.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5, help="seeds of the pack")
    parser.add_argument("--rounds", type=int, default=20, help="steps measured in each way; a quarter with ten members")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [
        measure(name, members, args.runs, max(1, args.rounds // (4 if members > 1 else 1))) for name, members in CASES
    ]
    said = [predictions(name, 10, args.runs, 2) for name in ("trec", "sst2")]
    write("packed_step", {**environment(), "rounds": args.rounds, "rows": rows, "predictions": said})


if __name__ == "__main__":
    main()
