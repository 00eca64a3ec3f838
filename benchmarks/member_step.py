"""What a member-step costs, against a textbook loop: seconds, ratios and peak memory, in one process run.

MiniLM, batch 8, real TREC texts. The baseline is what a first fine-tuning script looks like: one model after another,
`torch.optim.Adam`, padding to a fixed length, tokenizing in `__getitem__`. Its sister is what an expert runs:
transformers' Trainer with fused AdamW, padding to the longest text of a batch, and, as in our cases "in bfloat16",
bfloat16 where the CPU multiplies it. The cases take turns for some rounds and the best round counts, since other work
on the machine only ever adds time. Peak memory is that of a separate process for each case, over what the process held
when the data were read.

    python benchmarks/member_step.py            # seconds per member-step, and whole runs
    python benchmarks/member_step.py --quick    # fewer steps, no whole runs
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from typing import Any

import psutil
import torch
from common import data, environment, write
from torch.utils.data import DataLoader, Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from deni.data import Texts, choose_balanced, read_texts
from deni.finetune import fine_tune
from deni.finetune.precision import multiplies_bfloat16
from deni.models.loading import load_tokenizer, locate
from deni.models.tokenizing import encode, tokenize
from deni.randomness import Sources
from deni.recipe import Recipe
from deni.strategies import DENI, Default, DelayedEnsemble, Ensemble

WARM, MOST_TOKENS = 5, 64


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
    """The baseline: seconds per step after a warm-up, and of all steps."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        locate(plan.model), num_labels=len(set(texts.labels or [])), classifier_dropout=0.3
    )
    model = plan.tuning.apply(model).train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=plan.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    loader = DataLoader(Rows(texts, load_tokenizer(plan.model), length), batch_size=8, shuffle=True)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < steps:
        for batch in loader:
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
            schedule.step()
            times.append(-began + (began := time.perf_counter()))
            if len(times) == steps:
                break
    return {"seconds_per_member_step": statistics.median(times[WARM:]), "seconds": sum(times)}


class Stopwatch(TrainerCallback):
    """Times the steps after a warm-up and ends the run."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.ends.append(time.perf_counter())
        if state.global_step == self.steps:
            control.should_training_stop = True

    @property
    def seconds(self) -> float:
        return statistics.median(b - a for a, b in zip(self.ends[WARM:], self.ends[WARM + 1 :], strict=False))


class Peak:
    """The peak of the process's resident memory over what it was before, sampled each 20 ms."""

    def __enter__(self) -> Peak:
        gc.collect()
        self._process = psutil.Process()
        self.before = self._process.memory_info().rss
        self._most, self._stop = self.before, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self._most = max(self._most, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.mib = (self._most - self.before) / 2**20


def expert(texts: Texts, plan: Recipe, steps: int) -> dict[str, float]:
    """The baseline's sister: seconds per step after a warm-up, and of all steps."""
    tokenizer, labels = load_tokenizer(plan.model), sorted(set(texts.labels or []))
    model = AutoModelForSequenceClassification.from_pretrained(locate(plan.model), num_labels=len(labels))
    watch = Stopwatch(steps)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            max_steps=steps,
            learning_rate=plan.rate,
            per_device_train_batch_size=8,
            optim="adamw_torch_fused",
            bf16=HALF,
            use_cpu=True,
            disable_tqdm=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
        )
        trainer = Trainer(
            plan.tuning.apply(model),
            args,
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=tokenize(texts, tokenizer, MOST_TOKENS, labels),
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        began = time.perf_counter()
        trainer.train()
    return {"seconds_per_member_step": watch.seconds, "seconds": time.perf_counter() - began}


def steps_of(texts: Texts, plan: Recipe, members: int, steps: int, seeds: int = 1) -> dict[str, float]:
    """Seconds per member-step of our trainer after a warm-up."""
    watch = Stopwatch(steps)
    fine_tune(texts, plan, seeds=range(seeds), progress=False, callbacks=[watch])
    return {"seconds_per_member_step": watch.seconds / members / seeds}


def case(name: str, tuning: str, texts: Texts, steps: int, length: int) -> dict[str, float]:
    """One measurement by its name."""
    forked = DelayedEnsemble(ensemble_from=0.0)
    # Enough epochs that the stopwatch, not the data, ends the run.
    common: dict[str, Any] = {"tuning": tuning, "epochs": max(1, -(-(steps + 1) * 8 // len(texts)))}
    if name == "textbook":
        return textbook(texts, Recipe.of(strategy=Default(), **common), steps, length)
    if name == "Trainer":
        return expert(texts, Recipe.of(strategy=Default(), **common), steps)
    if name.endswith(IN_BFLOAT16):
        name, common["bf16"] = name.removesuffix(IN_BFLOAT16), True
    if name == "loop, 1 member":
        return steps_of(texts, Recipe.of(strategy=Default(), **common), 1, steps)
    if name == "loop, 10 members":
        return steps_of(texts, Recipe.of(strategy=forked, engine="loop", **common), 10, max(WARM + 5, steps // 4))
    if name == "stacked, 10 members":
        return steps_of(texts, Recipe.of(strategy=forked, engine="stacked", **common), 10, max(WARM + 10, steps // 2))
    if name == "stacked, pack of 10 runs":
        plan = Recipe.of(strategy=Default(), engine="stacked", **common)
        return steps_of(texts, plan, 1, max(WARM + 10, steps // 2), seeds=10)
    raise ValueError(name)


def whole(name: str, tuning: str, texts: Texts, epochs: int) -> dict[str, float]:
    """A whole run of our trainer, start to end, or of transformers' one."""
    if name == "Trainer":
        steps = epochs * -(-len(texts) // 8)
        return {**expert(texts, Recipe.of(strategy=Default(), tuning=tuning), steps), "member_steps": steps}
    began = time.perf_counter()
    plan = Recipe.of(tuning=tuning, epochs=epochs, **RUNS[name])
    fitted = fine_tune(texts, plan, progress=False)
    return {"seconds": time.perf_counter() - began, "member_steps": fitted.member_steps}


HALF = multiplies_bfloat16(torch.device("cpu"))
IN_BFLOAT16 = ", in bfloat16"
OURS = ("loop, 1 member", "loop, 10 members", "stacked, 10 members", "stacked, pack of 10 runs")
CASES = (
    *("textbook", "Trainer", *OURS),
    *(f"{name}{IN_BFLOAT16}" for name in OURS if HALF and name != "loop, 10 members"),
)
OF_RUNS: dict[str, dict[str, Any]] = {"default": {"strategy": Default()}, "deni": {"strategy": DENI()}}
RUNS: dict[str, dict[str, Any]] = {
    "Trainer": {},
    **OF_RUNS,
    **({f"{name}{IN_BFLOAT16}": {**how, "bf16": True} for name, how in OF_RUNS.items()} if HALF else {}),
    "deni, 2 members at a time": {"strategy": DENI(), "members_at_a_time": 2},
    "ensemble": {"strategy": Ensemble()},
}


def peak(name: str, tuning: str, args: argparse.Namespace) -> float:
    """Peak memory of a case or a whole run in MiB, in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", name, "--tuning", tuning, "--length", str(args.length)]
    done = subprocess.run([*command, "--threads", str(args.threads)], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mib"])


def measure_peak(texts: Texts, name: str, tuning: str, length: int) -> None:
    """What the process for `peak` does: a short run, and its peak on standard output."""
    with Peak() as most:
        if name in CASES:
            case(name, tuning, texts, WARM + 5, length)
        else:
            whole(name, tuning, texts, 1)
    print(json.dumps({"peak_mib": most.mib}))


def texts_of(labelled: int) -> Texts:
    texts = read_texts(data("trec"))
    return texts.select(choose_balanced(texts.labels or [], labelled, Sources(0).numpy("label_choice")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelled", type=int, default=1000, help="of the whole runs")
    parser.add_argument("--epochs", type=int, default=10, help="of the whole runs")
    parser.add_argument("--runs", nargs="*", choices=RUNS, default=list(RUNS)[:-2], help="which whole runs")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--length", type=int, default=25, help="fixed length of the baseline's padding")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="one round, no whole runs, nothing written")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--tuning", default="full", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    if args.peak_of:
        measure_peak(texts_of(160), args.peak_of, args.tuning, args.length)
        return
    result: dict[str, Any] = {**environment(), "settings": vars(args)}
    for tuning in ("full", "lora"):
        result[tuning] = {"steps": steps_table(tuning, args)}
        if not args.quick:
            result[tuning]["runs"] = runs_table(tuning, args)
    if not args.quick:
        write("member_step", result)


def steps_table(tuning: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds per member-step and peak memory of each case."""
    texts, best = texts_of(160), dict.fromkeys(CASES, float("inf"))
    for _ in range(1 if args.quick else args.rounds):
        for name in CASES:
            best[name] = min(best[name], case(name, tuning, texts, args.steps, args.length)["seconds_per_member_step"])
    rows = {}
    for name in CASES:
        most = peak(name, tuning, args)
        rows[name] = {
            "seconds_per_member_step": best[name],
            "ratio": best[name] / best["textbook"],
            "peak_mib": most,
        }
        print(tuning, name, {key: round(value, 4) for key, value in rows[name].items()}, flush=True)
    return rows


def runs_table(tuning: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds and peak memory of whole runs, each against one and against ten textbook runs."""
    texts = texts_of(args.labelled)
    steps = args.epochs * -(-len(texts) // 8)
    base = textbook(texts, Recipe.of(strategy=Default(), tuning=tuning), steps, args.length)
    runs = {"textbook": {"seconds": base["seconds"], "member_steps": steps, "peak_mib": peak("textbook", tuning, args)}}
    for name in args.runs:
        runs[name] = {
            **whole(name, tuning, texts, args.epochs),
            "peak_mib": peak(name, tuning, args),
        }
    for name, run in runs.items():
        run["ratio_to_one_textbook"] = run["seconds"] / base["seconds"]
        run["ratio_to_ten_textbook"] = run["ratio_to_one_textbook"] / 10
        run["memory_ratio_to_textbook"] = run["peak_mib"] / runs["textbook"]["peak_mib"]
        print(tuning, name, {key: round(value, 3) for key, value in run.items()}, flush=True)
    return runs


if __name__ == "__main__":
    main()
