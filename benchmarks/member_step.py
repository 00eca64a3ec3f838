"""What a member-step costs, against a textbook loop: seconds, ratios and peak memory, in one process run.

MiniLM, batch 8, real TREC texts. The baseline is what a first fine-tuning script looks like: one model after another,
`torch.optim.Adam`, padding to a fixed length, tokenising in `__getitem__`.

    python benchmarks/member_step.py            # seconds per member-step, and whole runs
    python benchmarks/member_step.py --quick    # fewer steps, no whole runs
"""

from __future__ import annotations

import argparse
import gc
import os
import threading
import time
import warnings
from typing import Any

import psutil
import torch
from common import data, environment, write
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback

from deni.data import Texts, choose_balanced, read_texts
from deni.finetune import Recipe, encode, fine_tune, load_tokenizer, locate, recipe
from deni.randomness import Sources
from deni.strategies import DENI, Default, DelayedEnsemble, Ensemble

WARM = 5


class Rows(Dataset):
    """Tokenises each text when it is asked for, as tutorials do."""

    def __init__(self, texts: Texts, tokenizer: Any, length: int) -> None:
        self.texts, self.tokenizer, self.length = texts, tokenizer, length
        self.labels = encode(texts, sorted(set(texts.labels or [])))

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        tokens = self.tokenizer(
            self.texts.texts[row], truncation=True, padding="max_length", max_length=self.length, return_tensors="pt"
        )
        return {**{key: value[0] for key, value in tokens.items()}, "labels": torch.tensor(self.labels[row])}


def textbook(texts: Texts, plan: Recipe, steps: int, length: int) -> dict[str, float]:
    """The baseline: seconds per step after a warm-up, and peak memory."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        locate(plan.model), num_labels=len(set(texts.labels or [])), classifier_dropout=0.3
    )
    model = plan.tuning.apply(model).train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=plan.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    loader = DataLoader(Rows(texts, load_tokenizer(plan.model), length), batch_size=8, shuffle=True)
    done, began = 0, 0.0
    with Peak() as peak:
        while done < steps:
            for batch in loader:
                if done == min(WARM, steps - 1):
                    began, counted = time.perf_counter(), done
                optimizer.zero_grad()
                model(**batch).loss.backward()
                optimizer.step()
                schedule.step()
                done += 1
                if done == steps:
                    break
        seconds = (time.perf_counter() - began) / (done - counted)
    return {"seconds_per_member_step": seconds, "peak_mib": peak.mib, "seconds": seconds * steps, "members": 1}


class Stopwatch(TrainerCallback):
    """Times the steps after a warm-up and ends the run."""

    def __init__(self, steps: int) -> None:
        self.steps, self.began, self.seconds = steps, 0.0, 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == WARM:
            self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.steps:
            self.seconds = (time.perf_counter() - self.began) / (self.steps - WARM)
            control.should_training_stop = True


class Peak:
    """The peak of the process's resident memory over what it was before, sampled each 20 ms."""

    def __enter__(self) -> Peak:
        gc.collect()
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self._most, self._stop = self._before, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self._most = max(self._most, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.mib = (self._most - self._before) / 2**20


def steps_of(texts: Texts, plan: Recipe, members: int, steps: int, seeds: int = 1) -> dict[str, float]:
    """Seconds per member-step of our trainer after a warm-up, and peak memory."""
    watch = Stopwatch(steps)
    with Peak() as peak:
        fine_tune(texts, plan, seeds=range(seeds), progress=False, callbacks=[watch])
    return {
        "seconds_per_member_step": watch.seconds / members / seeds,
        "peak_mib": peak.mib,
        "members": members * seeds,
    }


def case(name: str, tuning: str, texts: Texts, steps: int, length: int) -> dict[str, float]:
    """One measurement by its name."""
    forked = DelayedEnsemble(ensemble_from=0.0)
    # Enough epochs that the stopwatch, not the data, ends the run.
    common = {"tuning": tuning, "epochs": max(1, -(-(steps + 1) * 8 // len(texts)))}
    if name == "textbook":
        return textbook(texts, recipe(strategy=Default(), **common), steps, length)
    if name == "loop, 1 member":
        return steps_of(texts, recipe(strategy=Default(), **common), 1, steps)
    if name == "loop, 10 members":
        return steps_of(texts, recipe(strategy=forked, engine="loop", **common), 10, max(WARM + 5, steps // 4))
    if name == "stacked, 10 members":
        return steps_of(texts, recipe(strategy=forked, engine="stacked", **common), 10, max(WARM + 10, steps // 2))
    if name == "stacked, pack of 10 runs":
        plan = recipe(strategy=Default(), engine="stacked", **common)
        return steps_of(texts, plan, 1, max(WARM + 10, steps // 2), seeds=10)
    raise ValueError(name)


def whole(strategy: Any, tuning: str, texts: Texts, epochs: int) -> dict[str, float]:
    """A whole run of our trainer, start to end."""
    with Peak() as peak:
        began = time.perf_counter()
        fitted = fine_tune(texts, recipe(strategy=strategy, tuning=tuning, epochs=epochs), progress=False)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "member_steps": fitted.member_steps, "peak_mib": peak.mib}


CASES = ("textbook", "loop, 1 member", "loop, 10 members", "stacked, 10 members", "stacked, pack of 10 runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelled", type=int, default=400)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=3, help="of the whole runs")
    parser.add_argument("--length", type=int, default=25, help="fixed length of the baseline's padding")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    texts = read_texts(data("trec"))
    texts = texts.select(choose_balanced(texts.labels or [], args.labelled, Sources(0).numpy("label_choice")))
    result: dict[str, Any] = {**environment(), "settings": vars(args)}
    for tuning in ("full", "lora"):
        rows: dict[str, dict[str, float]] = {}
        for name in CASES:
            rows[name] = case(name, tuning, texts, 15 if args.quick else args.steps, args.length)
            base = rows["textbook"]["seconds_per_member_step"]
            rows[name]["ratio"] = rows[name]["seconds_per_member_step"] / base
            print(tuning, name, {key: round(value, 4) for key, value in rows[name].items()}, flush=True)
        result[tuning] = {"steps": rows}
        if args.quick:
            continue
        steps = args.epochs * -(-len(texts) // 8)
        runs = {"textbook": textbook(texts, recipe(strategy=Default(), tuning=tuning), steps, args.length)}
        for label, strategy in (("default", Default()), ("deni", DENI()), ("ensemble", Ensemble())):
            runs[label] = whole(strategy, tuning, texts, args.epochs)
        for run in runs.values():
            run["ratio_to_one_textbook"] = run["seconds"] / runs["textbook"]["seconds"]
            run["ratio_to_ten_textbook"] = run["ratio_to_one_textbook"] / 10
        runs["deni"]["memory_ratio_to_default"] = runs["deni"]["peak_mib"] / runs["default"]["peak_mib"]
        result[tuning]["runs"] = runs
        for label, run in runs.items():
            print(tuning, label, {key: round(value, 3) for key, value in run.items()}, flush=True)
    if not args.quick:
        write("member_step", result)


if __name__ == "__main__":
    main()
