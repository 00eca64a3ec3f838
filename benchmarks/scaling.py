"""How does cost grow with texts, classes, tokens, members and cells? Curves, and the exponent of a power law.

Seconds of the processor on one thread, which other processes hardly change. What reads, plans and writes has a tiny
encoder with the vocabulary of MiniLM, so that the library's own work is seen and not the model's; steps of training
are MiniLM's, in batches of 8. The exponent is that of a power law through the last three points: 1 is linear.

    python benchmarks/scaling.py            # all curves: about 5 minutes
    python benchmarks/scaling.py --only cells --most 1000
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from common import RESULTS, environment, write
from transformers import AutoConfig, AutoModel, TrainerCallback

from deni.commands.inspect import inspect_file
from deni.commands.study import export_cells, plan_study, study_status
from deni.data import Texts, read_data
from deni.finetune import fine_tune
from deni.models.loading import load_tokenizer, locate
from deni.models.tokenizing import tokenize
from deni.recipe import Recipe
from deni.strategies import Default, DelayedEnsemble
from deni.study.store.database import Store

VALUES = {
    "texts": (100, 1000, 5000, 15_000, 50_000),
    "classes": (2, 10, 30, 100, 300, 1000),
    "tokens": (16, 32, 64, 128, 256, 512),
    "members": (1, 2, 5, 10, 20, 50),
    "cells": (10, 100, 1000, 10_000, 100_000),
}
ROWS = 4000  # texts of many classes
STEPS, WARM = 3, 1  # timed in a training, after others
SEEDS = 10_000  # the most that a study takes
LAST = 3  # points of an exponent
WORDS = "the parcel invoice my where is refund login screen late price again please not card court was and when who"

Seconds = dict[str, float]


# ---- what is measured ----------------------------------------------------------------------------------------------


def of_texts(count: int, folder: Path) -> Seconds:
    """A file of so many texts is read, looked at, tokenized, planned with, and predicted."""
    file, seconds = _file(folder, count, 4), Seconds()
    with _timed(seconds, "read"):
        texts = read_data(file)
    with _timed(seconds, "inspect"):
        inspect_file(file)
    tokenizer, labels = load_tokenizer("minilm"), sorted(set(texts.labels or ()))
    with _timed(seconds, "tokenize"):
        tokenize(texts, tokenizer, 64, labels)
    with _timed(seconds, "plan a training"):
        plan_study(_study(folder, file, 1), folder / "study.db")
    _predict(texts, folder, seconds)
    return seconds


def of_classes(count: int, folder: Path) -> Seconds:
    """4,000 texts of so many classes are read, looked at, planned with, trained on, predicted and scored."""
    file, seconds = _file(folder, ROWS, count), Seconds()
    with _timed(seconds, "read"):
        texts = read_data(file)
    with _timed(seconds, "inspect"):
        inspect_file(file)
    with _timed(seconds, "plan a training"):
        plan_study(_study(folder, file, 1), folder / "study.db")
    fitted = _predict(texts, folder, seconds)
    with _timed(seconds, "predict and score"):
        fitted.evaluate(texts)
    seconds["a step, LoRA"] = _step(texts, Default(), 64)
    return seconds


def of_tokens(count: int, folder: Path) -> Seconds:
    """A step of one member on texts of so many tokens."""
    long = " ".join(WORDS.split() * -(-count // len(WORDS.split())))
    texts = read_data(_file(folder, 200, 4, long))
    return {f"a step, {tuning}": _step(texts, Default(), count, tuning) for tuning in ("full", "LoRA")}


def of_members(count: int, folder: Path) -> Seconds:
    """A step of so many members."""
    texts = read_data(_file(folder, 200, 4))
    strategy = Default() if count == 1 else DelayedEnsemble(members=count, ensemble_from=0.0)
    return {"a step, LoRA": _step(texts, strategy, 64)}


def of_cells(count: int, folder: Path) -> Seconds:
    """A study of so many cells is planned, put into a store, and asked for its state; nothing is trained."""
    study, store, seconds = _study(folder, _file(folder, 1000, 4), count), folder / "study.db", Seconds()
    with _timed(seconds, "plan"):
        planned, _ = plan_study(study, store)
    with Store(store, create=True) as opened:
        with _timed(seconds, "put into a store"):
            opened.add(planned.jobs, planned.name)
    with _timed(seconds, "plan to resume"):
        plan_study(study, store)
    with _timed(seconds, "deni study status"):
        study_status(store)
    with _timed(seconds, "deni study export"):
        export_cells(store, folder / "cells.csv")
    return seconds


CURVES: dict[str, Callable[[int, Path], Seconds]] = {
    "texts": of_texts,
    "classes": of_classes,
    "tokens": of_tokens,
    "members": of_members,
    "cells": of_cells,
}


# ---- how -----------------------------------------------------------------------------------------------------------


@contextmanager
def _timed(seconds: Seconds, name: str) -> Iterator[None]:
    began = time.process_time()
    yield
    seconds[name] = time.process_time() - began


def _file(folder: Path, texts: int, classes: int, long: str = "") -> Path:
    """Texts of 12 words that differ, in classes of the same size."""
    draw, words = random.Random(0), WORDS.split()
    rows = (f"{row} {long or ' '.join(draw.choices(words, k=12))},class {row % classes}" for row in range(texts))
    file = folder / "texts.csv"
    file.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return file


def _study(folder: Path, file: Path, cells: int) -> Path:
    """Cells of as many seeds as a study takes; more are of other members."""
    seeds = min(cells, SEEDS)
    strategies = [{"name": "delayed_ensemble", "members": 2 + at} for at in range(cells // seeds)]
    grid = {"datasets": [{"path": str(file)}], "strategies": strategies, "seeds": seeds}
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(grid), encoding="utf-8")
    return study


def _tiny(folder: Path) -> str:
    """An encoder of one layer that reads what MiniLM reads."""
    model = folder / "tiny"
    if not model.exists():
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        config = AutoConfig.from_pretrained(locate("minilm"))
        config.update(sizes)
        AutoModel.from_config(config).save_pretrained(model)
        load_tokenizer("minilm").save_pretrained(model)
    return str(model)


def _predict(texts: Texts, folder: Path, seconds: Seconds) -> Any:
    """Texts are predicted by a model that was trained for one step."""
    few = texts.select(np.arange(len(set(texts.labels or ()))))
    options: dict[str, Any] = {"model": _tiny(folder), "epochs": 1, "batch_size": len(few), "max_length": 64}
    fitted = fine_tune(few, Recipe.of(strategy="default", tuning="full", **options), progress=False, device="cpu")
    classifier = fitted.classifier()
    with _timed(seconds, "predict"):
        classifier.predict(texts.texts)
    return fitted


class _Clock(TrainerCallback):
    """Seconds of the processor of each step."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps.append(time.process_time() - self._began)


def _step(texts: Texts, strategy: Any, length: int, tuning: str = "LoRA") -> float:
    """Seconds of a step of MiniLM, of all its members, on 8 texts: the median."""
    few = texts.select(np.arange(len(texts))[: max(8 * (STEPS + WARM), len(set(texts.labels or ())))])
    recipe = Recipe.of(
        strategy=strategy, tuning=tuning.lower(), epochs=8 * (STEPS + WARM) / len(few), max_length=length
    )
    clock = _Clock()
    fine_tune(few, recipe, progress=False, device="cpu", callbacks=[clock])
    return float(np.median(clock.steps[WARM : WARM + STEPS]))


def exponent(values: list[int], seconds: list[float]) -> float:
    """Of a power law through the last points, by least squares of the logarithms.

    >>> round(exponent([1, 10, 100, 1000], [5, 1, 10, 100]), 6)
    1.0
    """
    return float(np.polyfit(np.log(values[-LAST:]), np.log(seconds[-LAST:]), 1)[0])


def curve(name: str, values: list[int]) -> dict[str, Any]:
    """Seconds of each operation at each value, and their exponents."""
    rows = []
    for value in values:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows.append(CURVES[name](value, Path(folder)))
        print(name, value, {what: round(each, 4) for what, each in rows[-1].items()}, flush=True)
    seconds = {what: [row[what] for row in rows] for what in rows[0]}
    exponents = {what: exponent(values, each) for what, each in seconds.items()} if len(values) >= LAST else {}
    return {"values": values, "seconds": seconds, "exponents": exponents}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(CURVES), default=list(CURVES))
    parser.add_argument("--most", type=int, help="leave out larger values; the result is then not written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_texts(20, Path(folder))  # imports
    for name in given.only:
        found = curve(name, [each for each in VALUES[name] if each <= (given.most or each)])
        print(name, {what: round(each, 2) for what, each in found["exponents"].items()}, flush=True)
        if given.most is None:  # each curve is kept when it is whole, with where it was measured
            file = RESULTS / "scaling.json"
            curves = json.loads(file.read_text(encoding="utf-8"))["curves"] if file.exists() else {}
            write("scaling", {**environment(), "last": LAST, "curves": {**curves, name: {**found, **environment()}}})


if __name__ == "__main__":
    main()
