"""A stacked step as a CUDA graph, and compiled."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from correctness import off
from members import Precision, Setting, Step, batch_of, become, population_of, timed
from running import Case, said_of

from deni.engine.dropout import MemberDropout
from deni.population import Population

WARM = 3


def graph_cases(setting: Setting) -> Iterator[Case]:
    yield Case("graphs/check", functools.partial(check, setting), 25, apart=True)
    for name, tuning in (("bert-base", "full"), ("minilm", "full"), ("minilm", "lora")):
        measure = functools.partial(graphs, setting, name, tuning)
        yield Case(f"graphs/{name}/{tuning}", measure, 30, apart=setting.on_gpu)


def compile_cases(setting: Setting) -> Iterator[Case]:
    for name in ("minilm", "bert-base"):
        for dropout in (False, True):
            measure = functools.partial(compiled, setting, name, dropout)
            yield Case(f"compiled/{name}/{'with' if dropout else 'without'} dropout", measure, 50, apart=setting.on_gpu)


def graph_step(setting: Setting, population: Population, how: Precision = "bf16") -> Step:
    """A step that can be captured: of a mask `(B, T)` transformers would make one `(B, 1, T, T)` in each."""
    batch = batch_of(setting, population.model)
    mask = batch["attention_mask"].bool()
    batch["attention_mask"] = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1).contiguous()
    return Step(setting, population, batch, how, capturable=setting.on_gpu)


def captured(
    setting: Setting, population: Population, how: Precision = "bf16"
) -> tuple[Step, Callable[[], None], float]:
    """A step, what replays it as a graph after WARM steps without, and the seconds that making it took."""
    one = graph_step(setting, population, how)
    began = time.perf_counter()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            one()
    torch.cuda.current_stream().wait_stream(side)
    population.module.zero_grad()
    graph = torch.cuda.CUDAGraph()
    for stream in population.streams:
        graph.register_generator_state(stream)
    with torch.cuda.graph(graph):
        one()
    setting.wait()
    return graph.replay, time.perf_counter() - began


def graphs(setting: Setting, name: str, tuning: str) -> dict[str, Any]:
    """Seconds of a step with one member and with many, as they are and as graphs; padded to one length."""
    found: dict[str, Any] = {}
    for members in (1, setting.sizes.fork):
        population = population_of(setting, name, tuning)
        become(population, members)
        eager = timed(setting, graph_step(setting, population))
        own: dict[str, Any] = {"eager": eager["seconds"]}
        if setting.on_gpu:
            try:
                replay, making = captured(setting, population)
                own |= {**timed(setting, replay), "making": making}
            except Exception as error:
                own |= said_of(error)
        found[str(members)] = own
        del population
        torch.cuda.empty_cache()
    return found if setting.on_gpu else {**found, "skipped": "no CUDA"}


def check(setting: Setting) -> dict[str, Any]:
    """Whether replaying moves members as steps without a graph do, dropout included: float32, largest difference."""
    moved, replays = [], 2
    for graph in (False, True):
        population = population_of(setting, "minilm", "full")
        become(population, 3)
        before = {name: value.clone() for name, value in population.values.items()}
        if graph and setting.on_gpu:
            replay, _ = captured(setting, population, "float32")
            for _ in range(replays):
                replay()
        else:
            one = graph_step(setting, population, "float32")
            for _ in range(WARM + replays):
                one()
        setting.wait()
        moved.append(torch.cat([(value - before[name]).flatten() for name, value in population.values.items()]))
    size = float(moved[0].norm())
    far = float((moved[1] - moved[0]).norm()) / size
    return {"off": far, "worst": off(moved[1], moved[0]), "equal": far < 0.02, "on_gpu": setting.on_gpu}


def compiled(setting: Setting, name: str, dropout: bool) -> dict[str, Any]:
    """Seconds of a stacked step whose model torch.compile made, against the same as it is; full tuning, bfloat16."""
    if not setting.on_gpu:
        return {"skipped": "no CUDA"}
    import torch._dynamo.utils

    plain = population_of(setting, name, "full", dropout=dropout)
    become(plain, setting.sizes.fork)
    found: dict[str, Any] = {"eager": timed(setting, Step(setting, plain, batch_of(setting, plain.model), "bf16"))}
    population = population_of(setting, name, "full", dropout=dropout)
    become(population, setting.sizes.fork)
    made = torch.compile(population.module.model, dynamic=False)

    def compute(model: Any, inputs: Any, streams: Any, focus: Any = None) -> Any:
        if not dropout:
            return made(**inputs)
        with MemberDropout(streams):
            return made(**inputs)

    population.module.compute = compute  # type: ignore[assignment]
    one = Step(setting, population, batch_of(setting, population.model), "bf16")
    began = time.perf_counter()
    one()
    setting.wait()
    found["making"] = time.perf_counter() - began
    found["compiled"] = timed(setting, one)
    found["ratio"] = found["compiled"]["seconds"] / found["eager"]["seconds"]
    found["graph_breaks"] = {key[:200]: count for key, count in torch._dynamo.utils.counters["graph_break"].items()}
    return found
