"""What a training step gains where the encoder leaves out padding: milliseconds per member-step, on CPU, one thread.

MiniLM on TREC texts, batch 8, as training does by itself (members in passes that save memory). Steps with and without
padding take turns in one training, so that other work on the machine meets both; means of processor time count. A pack
with LoRA had length-bucketed micro-batches before, and is compared with these.

    python benchmarks/padding.py
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from typing import Any

import torch
from common import environment, write
from member_step import WARM, texts_of
from transformers import TrainerCallback

from deni.engine import passes
from deni.engine.module import Compute, in_one_pass
from deni.engine.unpadded import Layout, text_tokens
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.strategies import Default, DelayedEnsemble

CASES = [(tuning, what, False) for tuning in ("full", "lora") for what in ("1 member", "10 members", "10 runs")]
CASES += [("lora", "1 member", True), ("lora", "10 members", True)]


class Turns(TrainerCallback):
    """Steps with padding and without in turns; processor seconds of each after a warm-up, and tokens."""

    def __init__(self, steps: int, padded: Compute) -> None:
        self.steps, self.ways = steps, (padded, text_tokens)
        self.seconds: tuple[list[float], list[float]] = ([], [])
        self.places, self.computed, self.tokens = 0, 0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        def look(module: Any, args: Any, given: dict[str, Any]) -> None:
            mask = given["attention_mask"] != 0
            layout = Layout.of(mask[:, None, None], len(module.in_focus))
            self.places, self.tokens = self.places + mask.numel(), self.tokens + int(mask.sum())
            self.computed += mask.numel() if layout is None else len(layout.source)

        self._hook = model.register_forward_pre_hook(look, with_kwargs=True)

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        model.compute = self.ways[state.global_step % 2]
        self._began = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step > WARM:
            self.seconds[(state.global_step - 1) % 2].append(time.process_time() - self._began)
        if state.global_step == self.steps:
            self._hook.remove()
            control.should_training_stop = True


def case(tuning: str, what: str, bf16: bool, steps: int) -> dict[str, Any]:
    """One training that takes turns."""
    runs, members = (10 if what == "10 runs" else 1), (1 if what == "1 member" else 10)
    strategy = DelayedEnsemble(ensemble_from=0.0) if what == "10 members" else Default()
    turns = Turns(
        steps if members > 1 else 4 * steps, passes.by_length if runs > 1 and tuning == "lora" else in_one_pass
    )
    recipe = Recipe.of(tuning=tuning, strategy=strategy, bf16=bf16, epochs=4)
    fine_tune(texts_of(400), recipe, seeds=range(runs), progress=False, callbacks=[turns])
    padded, without = (1e3 * statistics.mean(each) / members for each in turns.seconds)
    return {
        "tuning": tuning,
        "what": what,
        "bf16": bf16,
        "ms_padded": padded,
        "ms_without": without,
        "ratio": without / padded,
        "padded": turns.places / turns.tokens,
        "computed": turns.computed / turns.tokens,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="of ten members; of one four times as many")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = []
    for each in CASES:
        rows.append(case(*each, args.steps))
        print(
            {key: round(value, 3) if isinstance(value, float) else value for key, value in rows[-1].items()}, flush=True
        )
    write("padding", {**environment(), "settings": vars(args), "rows": rows})


if __name__ == "__main__":
    main()
