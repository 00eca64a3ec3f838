"""Whole runs on real texts: their seconds, 20 seeds in one population or one after another, and how good they are."""

from __future__ import annotations

import csv
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from members import Peak, Precision, Setting, autocast, model_of, products, tuning_of
from running import Case, forget
from sklearn.metrics import f1_score
from steps import arguments
from torch.utils.data import DataLoader, Dataset
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer

from deni import PopulationTrainer, Recipe, fine_tune
from deni.data import Texts, choose_balanced, names, read_data
from deni.models.loading import load_tokenizer
from deni.models.tokenizing import encode, tokenize
from deni.randomness import Sources
from deni.strategies import make_strategy

LENGTH = 32  # tokens of a text at most, and what a tutorial pads to
STUDIED = ("default", "deni", "linear_probe+best_practices", "ensemble")
TABULATED = ("trec", "sst2")


def whole_cases(setting: Setting) -> Iterator[Case]:
    for name in ("bert-base", "minilm"):
        yield Case(f"runs/{name}/full/warm", functools.partial(ours, setting, name, "default", 5), 6)
        for strategy in ("default", "deni"):
            yield Case(f"runs/{name}/full/{strategy}", functools.partial(ours, setting, name, strategy), 15)
        yield Case(f"runs/{name}/full/textbook", functools.partial(textbook, setting, name), 15)
        yield Case(f"runs/{name}/full/Trainer", functools.partial(expert, setting, name), 10)
        yield Case(f"runs/{name}/full/ensemble", functools.partial(ours, setting, name, "ensemble"), 15)


def pack_cases(setting: Setting) -> Iterator[Case]:
    for tuning, strategy, seconds in (("full", "default", 30), ("lora", "default", 30), ("full", "deni", 45)):
        yield Case(f"packs/{tuning}/{strategy}", functools.partial(pack, setting, tuning, strategy, seconds), seconds)


def claim_cases(setting: Setting) -> Iterator[Case]:
    for strategy in STUDIED:
        for dataset in TABULATED:
            seconds = 60 if strategy == "ensemble" else 25  # which has ten times the models to load
            yield Case(f"claims/{dataset}/{strategy}", functools.partial(claim, setting, dataset, strategy), seconds)


def study_cases(setting: Setting) -> Iterator[Case]:
    yield Case("study/trec", functools.partial(study, setting), 60)


@functools.cache
def texts_of(setting: Setting, dataset: str) -> tuple[Texts, Texts]:
    """Labelled texts to train on, as many of each class, and others to measure on; the same each time."""
    texts = read_data(dataset)
    chosen = choose_balanced(texts.labels or [], setting.sizes.labelled, Sources(0).numpy("label_choice"))
    others = np.setdiff1d(np.arange(len(texts)), chosen)
    measured = Sources(0).numpy("data_split").permutation(others)[: setting.sizes.test_texts]
    return texts.select(chosen), texts.select(np.sort(measured))


# ---- what a run takes ----------------------------------------------------------------------------------------------


def _tokens(setting: Setting) -> tuple[Any, Any, int]:
    """TREC, tokenized once; MiniLM's tokenizer; how many classes."""
    train, _ = texts_of(setting, "trec")
    tokenizer = load_tokenizer(str(setting.model))
    return tokenize(train, tokenizer, LENGTH, names(train)), tokenizer, len(names(train))


def ours(setting: Setting, name: str, strategy: str, steps: int = -1) -> dict[str, Any]:
    """A run of `PopulationTrainer` in bfloat16, from making the model to its end."""
    forget()
    began = time.perf_counter()
    rows, tokenizer, classes = _tokens(setting)
    peak = Peak(setting)
    with tempfile.TemporaryDirectory() as folder:
        trainer = PopulationTrainer(
            args=arguments(setting, folder, num_train_epochs=setting.sizes.epochs, max_steps=steps),
            model_init=lambda: model_of(setting, name, "full", classes=classes),
            strategy=make_strategy(strategy),
            train_dataset=rows,
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.remove_callback(PrinterCallback)
        started = time.perf_counter()
        trainer.train()
        setting.wait()
    ended = time.perf_counter()
    return {
        "seconds": ended - started,
        "with_loading": ended - began,
        "member_steps": trainer.member_steps,
        "steps": trainer.state.global_step,
        "engine": trainer.population.engine_name,
        "peak_mib": peak.mib,
    }


class Rows(Dataset):
    """Tokenises each text when it is asked for, as tutorials do."""

    def __init__(self, texts: Texts, tokenizer: Any) -> None:
        self.texts, self.tokenizer = texts, tokenizer
        self.labels = encode(texts, names(texts))

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        tokens = self.tokenizer(
            self.texts.texts[row], truncation=True, padding="max_length", max_length=LENGTH, return_tensors="pt"
        )
        return {**{key: value[0] for key, value in tokens.items()}, "labels": torch.tensor(self.labels[row])}


def textbook(setting: Setting, name: str, how: Precision = "float32") -> dict[str, Any]:
    """One model as a tutorial trains it: float32, Adam, padding to a fixed length, the loss read in each step."""
    forget()
    train, _ = texts_of(setting, "trec")
    model = model_of(setting, name, "full", classes=len(names(train)))
    peak, steps = Peak(setting), 0
    loader = DataLoader(Rows(train, load_tokenizer(str(setting.model))), batch_size=setting.sizes.rows, shuffle=True)
    total = setting.sizes.epochs * len(loader)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / total))
    setting.wait()
    began = time.perf_counter()
    with products(how):
        for _ in range(setting.sizes.epochs):
            for given in loader:
                batch = {key: value.to(setting.device) for key, value in given.items()}
                optimizer.zero_grad()
                with autocast(setting, how):
                    loss = model(**batch).loss
                loss.backward()
                optimizer.step()
                schedule.step()
                loss.item()
                steps += 1
    setting.wait()
    return {"seconds": time.perf_counter() - began, "member_steps": steps, "steps": steps, "peak_mib": peak.mib}


def expert(setting: Setting, name: str) -> dict[str, Any]:
    """One model by transformers' Trainer: bfloat16, fused AdamW, padding to the longest text of a batch."""
    forget()
    rows, tokenizer, classes = _tokens(setting)
    model = model_of(setting, name, "full", classes=classes)
    peak = Peak(setting)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=arguments(setting, folder, num_train_epochs=setting.sizes.epochs, optim="adamw_torch_fused"),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.remove_callback(PrinterCallback)
        began = time.perf_counter()
        trainer.train()
        setting.wait()
    steps = trainer.state.global_step
    return {"seconds": time.perf_counter() - began, "member_steps": steps, "steps": steps, "peak_mib": peak.mib}


# ---- seeds ---------------------------------------------------------------------------------------------------------


def _plan(setting: Setting, tuning: str, strategy: str) -> Any:
    own = {} if "epochs" in make_strategy(strategy).arguments() else {"epochs": setting.sizes.epochs}
    return Recipe.of(
        strategy=strategy,
        tuning=tuning_of(setting, tuning),
        model=str(setting.model),
        max_length=LENGTH,
        bf16=True,
        **own,
    )


def pack(setting: Setting, tuning: str, strategy: str, seconds: float) -> dict[str, Any]:
    """All seeds in one population against one after another, of which as many run as the time suffices for."""
    forget()
    train, _ = texts_of(setting, "trec")
    plan, seeds = _plan(setting, tuning, strategy), setting.sizes.seeds
    began = time.perf_counter()
    fitted = fine_tune(train, plan, seeds=range(seeds), progress=False)
    setting.wait()
    packed = time.perf_counter() - began
    at_a_time = fitted.trainer.at_a_time
    trained = fitted.seconds
    del fitted
    forget()
    alone: list[float] = []
    while len(alone) < seeds and (len(alone) < 2 or sum(alone) < seconds / 2):
        began = time.perf_counter()
        fine_tune(train, plan, seeds=[len(alone)], progress=False)
        setting.wait()
        alone.append(time.perf_counter() - began)
    whole = statistics.mean(alone) * seeds
    return {
        "packed": packed,
        "packed_training": trained,
        "alone_each": alone,
        "alone": whole,
        "extrapolated": len(alone) < seeds,
        "seeds": seeds,
        "at_a_time": at_a_time,
        "ratio": packed / whole,
    }


def claim(setting: Setting, dataset: str, strategy: str) -> dict[str, Any]:
    """Macro F1 of each seed on test texts; all seeds in one population, MiniLM in full, bfloat16."""
    forget()
    train, measured = texts_of(setting, dataset)
    began, peak = time.perf_counter(), Peak(setting)
    plan = _plan(setting, "full", strategy)
    fitted = fine_tune(train, plan, seeds=range(setting.sizes.seeds), progress=False)
    rows = tokenize(measured, fitted.tokenizer, fitted.max_length, fitted.labels)
    votes = np.asarray(fitted.trainer.predict(rows).predictions)  # (N, R, C)
    gold = encode(measured, fitted.labels)
    f1 = [float(f1_score(gold, votes[:, at].argmax(-1), average="macro")) for at in range(votes.shape[1])]
    return {
        "macro_f1": f1,
        "mean": statistics.mean(f1),
        "sd": statistics.stdev(f1),
        "lowest": min(f1),
        "labelled": len(train),
        "test_texts": len(measured),
        "steps": fitted.trainer.state.global_step,
        "member_steps": fitted.member_steps,
        "training": fitted.seconds,
        "seconds": time.perf_counter() - began,
        "at_a_time": fitted.trainer.at_a_time,
        "peak_mib": peak.mib,
    }


def study(setting: Setting) -> dict[str, Any]:
    """A small study by the command line, from start to table."""
    sizes = setting.sizes
    data = Path(os.environ["DENI_DATA"]) / "trec.csv.gz"
    lines = [
        f"datasets: [{{path: {data}}}]",
        f"models: [{setting.model}]",
        "tunings: [lora]",
        "strategies: [default, deni]",
        f"labelled: {sizes.labelled}",
        f"seeds: {sizes.study_seeds}",
        f"test_size: {min(sizes.test_texts, 200)}",
        f"recipe: {{epochs: {min(sizes.epochs, 3)}, bf16: true}}",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "study.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        store, table = str(folder / "study.db"), str(folder / "cells.csv")
        began = time.perf_counter()
        _deni("study", "run", str(folder / "study.yaml"), "--store", store, "--no-progress")
        took = time.perf_counter() - began
        _deni("study", "export", store, "--output", table)
        with open(table, encoding="utf-8", newline="") as opened:
            cells = list(csv.DictReader(opened))
    scores: dict[str, list[float]] = {}
    for cell in cells:
        scores.setdefault(cell["strategy.name"], []).append(float(cell["metrics.macro_f1"]))
    return {"seconds": took, "cells": len(cells), "macro_f1": scores}


def _deni(*words: str) -> None:
    command: Sequence[str] = [sys.executable, "-c", "from deni.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"deni {' '.join(words[:2])}: {done.stderr[-1500:]}")
