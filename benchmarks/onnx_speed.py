"""How many texts a second does an ONNX graph answer, with one member and as the vote of ten, in float32 and in int8?

MiniLM with LoRA, adapters at random, 64 questions of TREC, one by one and 32 at a time. The forms take turns, so that
other work on the machine slows all of them; of each the best round counts.

python benchmarks/onnx_speed.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import data, environment, write

import deni
from deni.artifact import export, save
from deni.artifact.classifier import Classifier
from deni.data import read_data
from deni.finetune import fine_tune
from deni.randomness import generator
from deni.recipe import Recipe

TEXTS, MEMBERS, SIZES = 64, (1, 10), (1, 32)
SPREAD = 0.01  # of the adapters' values, by which members differ


def forms(members: int, work: Path) -> dict[str, Classifier]:
    """One model as an artifact, as a graph, and as a graph in int8."""
    recipe = Recipe.of(strategy="default", tuning="lora", model="minilm", max_length=64, epochs=0.01)
    fitted = fine_tune(read_data("trec").select(range(100)), recipe, progress=False)
    population, draw = fitted.trainer.population, generator(0)
    values = {
        name: value[:1] + SPREAD * torch.randn(members, *value.shape[1:], generator=draw)
        for name, value in population.values.items()
    }
    population.replace(values, members)
    artifact = save(
        work / "model",
        population=population,
        tokenizer=fitted.tokenizer,
        labels=fitted.labels,
        info={**fitted.info(), "members": members},
    )
    (graph,) = export(artifact, work / "graph", "onnx")
    (small,) = export(artifact, work / "small", "onnx", int8=True)
    return {"torch": deni.load(artifact, "cpu"), "onnx": deni.load(graph), "int8": deni.load(small)}


def speed(members: int, rounds: int) -> list[dict[str, Any]]:
    """Texts a second of each form, a row for each batch size."""
    texts = list(read_data("trec").texts[:TEXTS])
    with tempfile.TemporaryDirectory() as folder:
        models = forms(members, Path(folder))
        rows = []
        for size in SIZES:
            seconds: dict[str, list[float]] = {form: [] for form in models}
            for _ in range(rounds + 1):  # the first one warms up
                for form, model in models.items():
                    start = time.perf_counter()
                    model.votes(texts, size)
                    seconds[form].append(time.perf_counter() - start)
            rows.append({"members": members, "batch": size} | {f: TEXTS / min(s[1:]) for f, s in seconds.items()})
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    data("trec")
    torch.set_num_threads(given.threads)
    rows = [row for members in MEMBERS for row in speed(members, given.rounds)]
    write("onnx_speed", {**environment(), "texts": TEXTS, "rounds": given.rounds, "rows": rows})


if __name__ == "__main__":
    main()
