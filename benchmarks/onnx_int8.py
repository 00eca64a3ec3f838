"""What int8 costs: macro F1 of an ONNX graph with the base's weights in int8 and in float32, on two datasets.

Frozen MiniLM with a fitted output layer, 300 labels, 1,000 test texts: others than the 500 by which the way to quantize
was chosen.

python benchmarks/onnx_int8.py --output benchmarks/results/onnx_int8.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import data, environment

import deni
from deni.artifact import export
from deni.data import names, read_data
from deni.finetune import fine_tune
from deni.models.tokenizing import encode
from deni.recipe import Recipe
from deni.tasks import TASKS

DATASETS = ("sst2", "trec")
LABELED, SEEN, TEST = 300, 500, 1000


def scores(name: str) -> dict[str, Any]:
    """Macro F1 on test texts of the artifact, its graph, and the graph in int8."""
    data(name)
    read = read_data(name)
    order = np.random.default_rng(0).permutation(len(read))
    train, test = read.select(order[:LABELED]), read.select(order[LABELED + SEEN :][:TEST])
    recipe = Recipe.of(strategy="linear_probe", tuning="full", model="minilm", max_length=64, epochs=0)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        artifact = fine_tune(train, recipe, progress=False).save(work / "model")
        graphs = {"onnx": work / "graph", "int8": work / "int8"}
        for form, graph in graphs.items():
            export(artifact, graph, "onnx", int8=form == "int8")
        models = {"torch": deni.load(artifact, "cpu"), **{form: deni.load(graph) for form, graph in graphs.items()}}
        votes = {form: model.votes(test.texts) for form, model in models.items()}
        sizes = {form: (graph / "model.onnx").stat().st_size for form, graph in graphs.items()}
    labels = names(train)
    gold = encode(test, labels)
    return {
        "labeled": LABELED,
        "test": TEST,
        "macro_f1": {form: TASKS["single_label"].scores(gold, vote)["macro_f1"] for form, vote in votes.items()},
        "changed_labels": int((votes["int8"].argmax(1) != votes["onnx"].argmax(1)).sum()),
        "largest_difference": {
            form: float(np.abs(np.exp(votes[form]) - np.exp(votes["torch"])).max()) for form in ("onnx", "int8")
        },
        "bytes": sizes,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {}
    for name in DATASETS:
        result[name] = scores(name)
        content = {**environment(), "datasets": result}
        arguments.output.write_text(f"{json.dumps(content, indent=1)}\n")


if __name__ == "__main__":
    main()
