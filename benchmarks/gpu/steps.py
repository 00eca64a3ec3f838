"""What a step of M members costs: seconds and peak memory, against the loop and against plain training."""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from members import (
    Peak,
    Precision,
    Setting,
    Step,
    autocast,
    batch_of,
    become,
    model_of,
    population_of,
    products,
    timed,
)
from running import Case, forget
from torch import nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, default_data_collator

from deni import Default, DelayedEnsemble, PopulationTrainer
from deni.population import Population

MODELS = (("bert-base", "full"), ("bert-base", "lora"), ("minilm", "full"), ("minilm", "lora"))
DECODER = ("qwen2-0.5b", "lora")


def cases(setting: Setting) -> Iterator[Case]:
    """Encoders in bfloat16 and float32, and what they are compared with."""
    for name, tuning in MODELS:
        for how in ("bf16", "float32"):
            yield from _all_members(setting, name, tuning, how)
        yield from _references(setting, name, tuning)


def more_cases(setting: Setting) -> Iterator[Case]:
    """A decoder; TF32."""
    for how in ("bf16", "float32"):
        yield from _all_members(setting, *DECODER, how)  # type: ignore[arg-type]
    for name, tuning in (DECODER, *MODELS):
        for count in (1, setting.sizes.fork):
            yield _step(setting, name, tuning, "tf32", "stacked", count)


def _all_members(setting: Setting, name: str, tuning: str, how: Precision) -> Iterator[Case]:
    more = setting.sizes.more_members if tuning == "lora" else ()
    for count in (*setting.sizes.members, *more):
        yield _step(setting, name, tuning, how, "stacked", count)
    yield _step(setting, name, tuning, how, "loop", setting.sizes.fork)


def _step(
    setting: Setting, name: str, tuning: str, how: Precision, engine: Literal["stacked", "loop"], members: int
) -> Case:
    measure = functools.partial(step, setting, name, tuning, how, engine, members)
    return Case(f"steps/{name}/{tuning}/{how}/{engine}/{members}", measure, 3)


def _references(setting: Setting, name: str, tuning: str) -> Iterator[Case]:
    where = f"steps/{name}/{tuning}"
    yield Case(f"{where}/float32/textbook", functools.partial(plain, setting, name, tuning, "float32"), 3)
    yield Case(f"{where}/bf16/fused", functools.partial(plain, setting, name, tuning, "bf16"), 3)
    yield Case(f"{where}/bf16/Trainer", functools.partial(trainer, setting, name, tuning, None), 4)
    yield Case(f"{where}/bf16/PopulationTrainer/1", functools.partial(trainer, setting, name, tuning, 1), 5)
    many = setting.sizes.fork
    yield Case(f"{where}/bf16/PopulationTrainer/{many}", functools.partial(trainer, setting, name, tuning, many), 8)


# ---- the engine alone ----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _kept(setting: Setting, name: str, tuning: str) -> Population:
    """One population serves all numbers of members."""
    return population_of(setting, name, tuning)


def let_go() -> None:
    """Make the next case start from a new population."""
    _kept.cache_clear()
    forget()


def step(
    setting: Setting, name: str, tuning: str, how: Precision, engine: Literal["stacked", "loop"], members: int
) -> dict[str, Any]:
    """Seconds of one step of all members; peak memory; how the step divides; the rate of its products."""
    if _kept.cache_info().currsize and _last and _last[-1] != (name, tuning):
        let_go()
    _last[:] = [(name, tuning)]
    population = _kept(setting, name, tuning)
    become(population, members, engine)
    batch = batch_of(setting, population.model)
    one = Step(setting, population, batch, how)
    peak = Peak(setting)
    few = members > setting.sizes.fork or engine == "loop"  # which are slow
    found = timed(setting, one, 2 if few else setting.sizes.warm, streamed=engine == "stacked")
    found |= {"per_member": found["seconds"] / members, "peak_mib": peak.mib, **_size(population, batch, tuning)}
    if engine == "stacked":
        found["split"] = _split(setting, one)
    # Forward and backward are 2 products, of which full tuning has one more, for the weights.
    flops = (6 if tuning == "full" else 4) * found["weights"] * batch["input_ids"].numel() * members
    found["tflops"] = flops / found["seconds"] / 1e12
    return found


_last: list[tuple[str, str]] = []


def _size(population: Population, batch: dict[str, Any], tuning: str) -> dict[str, int]:
    """Of one member: weights of its linear layers, those that train; real tokens of the batch."""
    with population.alone(0) as model:
        linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"weights": linear, "trained": trained, "text_tokens": int(batch["attention_mask"].sum())}


def _split(setting: Setting, one: Step, times: int = 5) -> dict[str, float]:
    """Median seconds of forward and backward together, and of the optimizer."""
    parts: dict[str, list[float]] = {"passes": [], "optimizer": []}
    with products(one.how):
        for _ in range(times):
            setting.wait()
            marks = [time.perf_counter()]
            one.module.zero_grad()
            one.losses()
            setting.wait()
            marks.append(time.perf_counter())
            one.optimizer.step()
            setting.wait()
            marks.append(time.perf_counter())
            for name, a, b in zip(parts, marks, marks[1:], strict=False):
                parts[name].append(b - a)
    return {name: statistics.median(each) for name, each in parts.items()}


# ---- plain training ------------------------------------------------------------------------------------------------


def plain(setting: Setting, name: str, tuning: str, how: Precision) -> dict[str, Any]:
    """A loop as in a tutorial, `Adam` and the loss read in each step (float32); with bfloat16 what an expert writes."""
    let_go()
    model = model_of(setting, name, tuning)
    rows = rows_of(setting, model, 64)
    loader = DataLoader(rows, batch_size=setting.sizes.rows, shuffle=True)  # type: ignore[arg-type]
    trained = [p for p in model.parameters() if p.requires_grad]
    textbook = how == "float32"
    optimizer = torch.optim.Adam(trained, lr=1e-5) if textbook else torch.optim.AdamW(trained, lr=1e-5, fused=True)
    endless = (batch for _ in iter(int, 1) for batch in loader)

    def one() -> None:
        batch = {key: value.to(setting.device) for key, value in next(endless).items()}
        optimizer.zero_grad()
        with autocast(setting, how):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        if textbook:
            loss.item()

    peak = Peak(setting)
    with products(how):
        return {**timed(setting, one), "peak_mib": peak.mib}


def rows_of(setting: Setting, model: nn.Module, count: int) -> list[dict[str, torch.Tensor]]:
    """Texts of random tokens as a dataset, on the processor."""
    batch = {key: value.cpu() for key, value in batch_of(setting, model, count).items()}
    return [{key: value[row] for key, value in batch.items()} for row in range(count)]


class Stopwatch(TrainerCallback):
    """When each step has ended, on the device, too."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.setting.wait()
        self.ends.append(time.perf_counter())

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)]


def arguments(setting: Setting, folder: str, how: Precision = "bf16", **more: Any) -> TrainingArguments:
    """What trainers share."""
    given: dict[str, Any] = {
        "per_device_train_batch_size": setting.sizes.rows,
        "learning_rate": 1e-5,
        "bf16": how == "bf16",
        "max_grad_norm": 0.0,
        "use_cpu": not setting.on_gpu,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
    return TrainingArguments(folder, **{**given, **more})


def trainer(setting: Setting, name: str, tuning: str, members: int | None) -> dict[str, Any]:
    """transformers' Trainer where `members` is None, else ours with so many members from the first step on."""
    let_go()
    model = model_of(setting, name, tuning)
    watch, steps = Stopwatch(setting), setting.sizes.trainer_steps
    peak = Peak(setting)
    with tempfile.TemporaryDirectory() as folder:
        common: dict[str, Any] = {
            "args": arguments(setting, folder, max_steps=steps),
            "train_dataset": rows_of(setting, model, 64),
            "data_collator": default_data_collator,
            "callbacks": [watch],
        }
        made: Callable[..., Any] = Trainer
        if members is not None:
            strategy = Default() if members == 1 else DelayedEnsemble(ensemble_from=0.0, members=members)
            made = functools.partial(PopulationTrainer, strategy=strategy)
        trains = made(model, **common)
        trains.remove_callback(PrinterCallback)
        trains.train()
    gaps = watch.gaps[len(watch.gaps) // 4 :]
    seconds = statistics.median(gaps)
    return {"seconds": seconds, "per_member": seconds / (members or 1), "steps": len(gaps), "peak_mib": peak.mib}
