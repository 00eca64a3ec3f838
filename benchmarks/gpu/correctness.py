"""Whether a GPU computes members as if each were alone: engines, packs, streams of dropout."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from members import Precision, Setting, Step, batch_of, become, population_of
from running import Case
from torch import Tensor

from deni.population import Population
from deni.randomness import generator

MEMBERS, STEPS = 3, 3
# Largest difference of logits in units of the largest logit, after steps of plain gradient descent.
TOLERANCE: dict[Precision, float] = {"float64": 1e-9, "float32": 1e-3, "bf16": 0.1}
DESCENT = functools.partial(torch.optim.SGD, lr=0.01)  # Adam would make large what is a rounding error of a gradient


def cases(setting: Setting) -> Iterator[Case]:
    for tuning in ("full", "lora"):
        for how in TOLERANCE:
            yield Case(f"correct/engines/{tuning}/{how}", functools.partial(engines, setting, tuning, how), 4)
        yield Case(f"correct/pack/{tuning}", functools.partial(pack, setting, tuning), 4)
    yield Case("correct/streams", functools.partial(streams, setting), 3)


def off(a: Tensor, b: Tensor) -> float:
    """Largest difference in units of the largest value."""
    return float((a - b).abs().max() / b.abs().max())


def engines(setting: Setting, tuning: str, how: Precision) -> dict[str, Any]:
    """The stacked engine against the loop: members with noise, dropout on, some steps; then what they say."""
    said, losses = [], []
    for engine in ("loop", "stacked"):
        population = _made(setting, tuning, (0,), how)
        become(population, MEMBERS, engine)  # type: ignore[arg-type]
        # One sees other batches than the next, so that steps are no repetition.
        for at in range(STEPS):
            losses.append(Step(setting, population, _batch(setting, population, at), how, optimizer=DESCENT)())
        said.append(says(setting, population, how))
    wrong = off(said[1], said[0])
    first = off(losses[STEPS], losses[0])
    return {"off": wrong, "loss_off": first, "tolerance": TOLERANCE[how], "equal": max(wrong, first) <= TOLERANCE[how]}


def says(setting: Setting, population: Population, how: Precision) -> Tensor:
    """What the members say of a batch without dropout, `(M, B, C)`."""
    module, every = population.module, []
    batch = _batch(setting, population, 99)
    module.eval()
    with torch.no_grad():
        for chunk in module.chunks:
            module.focus(chunk)
            rows = module.fold({key: value for key, value in batch.items() if key != "labels"})
            with torch.autocast(setting.device.type, torch.bfloat16, enabled=how == "bf16"):
                every.append(module(**rows)["logits"].unflatten(0, (len(chunk), -1)))
    module.train()
    return torch.cat(every).double()


def pack(setting: Setting, tuning: str) -> dict[str, Any]:
    """Three seeds in one population against each alone, in float64: rows and lengths of their own, dropout on."""
    seeds = (5, 6, 7)
    tokens = setting.sizes.tokens
    lengths = [tokens, tokens - 2, tokens - 3]  # each run's batch is padded to its own longest text
    together = _made(setting, tuning, seeds, "float64")
    alone = {seed: _made(setting, tuning, (seed,), "float64") for seed in seeds}
    if setting.sizes.fork > 1:
        for population in (together, *alone.values()):
            become(population, 2)
    for at in range(STEPS):
        rows = [
            _cut(_batch(setting, together, 10 * at + seed), length) for seed, length in zip(seeds, lengths, strict=True)
        ]
        padded = [_padded(each, tokens) for each in rows]
        batch = {key: torch.cat([each[key] for each in padded]) for key in padded[0]}
        Step(setting, together, batch, "float64", groups=3, lengths=lengths, optimizer=DESCENT)()
        for seed, own in zip(seeds, rows, strict=True):
            Step(setting, alone[seed], own, "float64", optimizer=DESCENT)()
    said = says(setting, together, "float64").unflatten(0, (3, -1))
    worst = max(off(said[at], says(setting, alone[seed], "float64")) for at, seed in enumerate(seeds))
    return {"off": worst, "tolerance": TOLERANCE["float64"], "equal": worst <= TOLERANCE["float64"]}


def _cut(batch: dict[str, Tensor], tokens: int) -> dict[str, Tensor]:
    return {key: value[:, :tokens] if value.dim() == 2 else value for key, value in batch.items()}


def _padded(batch: dict[str, Tensor], tokens: int) -> dict[str, Tensor]:
    def pad(value: Tensor) -> Tensor:
        return torch.nn.functional.pad(value, [0, tokens - value.shape[1]]) if value.dim() == 2 else value

    return {key: pad(value) for key, value in batch.items()}


def streams(setting: Setting) -> dict[str, Any]:
    """Dropout follows each run's stream: equal states give equal losses, others give others."""
    population = _made(setting, "full", (0, 1, 2), "float64")
    batch = _batch(setting, population, 0)
    module = population.module
    for stream, seed in zip(population.streams, (0, 0, 1), strict=True):
        stream.set_state(generator(seed, stream.device).get_state())
    losses = Step(setting, population, batch, "float64", optimizer=DESCENT).losses()
    module.zero_grad()
    same, other = off(losses[0], losses[1]), off(losses[0], losses[2])
    return {"same": same, "other": other, "equal": same < 1e-9 < 1e-6 < other}


def _made(setting: Setting, tuning: str, seeds: tuple[int, ...], how: Precision) -> Population:
    population = population_of(setting, "minilm", tuning, seeds)
    if how == "float64":
        population.module.double()
    return population


def _batch(setting: Setting, population: Population, seed: int) -> dict[str, Tensor]:
    return batch_of(setting, population.model, seed=seed)
