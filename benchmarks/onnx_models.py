"""Which architectures become an ONNX graph: one vote of each, and of each task; what the graph predicts is compared.

A tiny random model of each architecture gets three members, is saved as an artifact and exported. Texts are predicted
by the artifact, by `deni.load` of the export, and by onnxruntime and tokenizers alone. Decoders pad on the left.

python benchmarks/onnx_models.py --output benchmarks/results/onnx_models.json
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import architectures, tiny, tuned, why_in_a_loop
from common import environment
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

import deni
from deni.artifact import export, save
from deni.models.pairs import encode_separately
from deni.models.pooling import Pooling, attach
from deni.population import Population
from deni.randomness import Sources, generator

DECODERS = ("gemma", "gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3")
WORDS = [f"w{at}" for at in range(50)]
MEMBERS = 3


def tokenizer(side: str) -> PreTrainedTokenizerFast:
    """Words, with a first and a last token."""
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordLevel({token: at for at, token in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=32, padding_side=side, **dict(zip(names, special, strict=True))
    )


def artifact(
    folder: Path,
    architecture: str,
    tuning: str = "lora",
    task: str = "single_label",
    pooling: str | None = None,
    pairs: str | None = None,
    combine: str = "soft",
    temperature: float | None = 1.7,
) -> Path:
    """An artifact of a random model with members that differ."""
    words, labels = task == "token", {"regression": 1}.get(task, 3)
    problem = {"multi_label": "multi_label_classification", "regression": "regression"}.get(task)
    side = "left" if architecture in DECODERS else "right"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = tiny(architecture, words, num_hidden_layers=1, num_labels=labels, problem_type=problem)
        in_a_loop = why_in_a_loop(tuned(copy.deepcopy(model), tuning).to(torch.float64), side)
        draw = generator(0)
        for value in model.parameters():  # so large that texts differ
            value.data.add_(torch.randn(value.shape, generator=draw), alpha=0.1)
        if pairs == "bi":
            encode_separately(model)
        virtual = 3 if tuning == "prompt" else 0
        model = tuned(model, tuning).float()
        attach(model, Pooling(pooling, False, virtual) if pooling else None)  # type: ignore[arg-type]
    population = Population(model, [Sources(0)], "loop")
    draw = generator(1)
    values = {
        name: torch.stack([value[0] + 0.1 * torch.randn(value[0].shape, generator=draw) for _ in range(MEMBERS)])
        for name, value in population.values.items()
    }
    population.replace(values, MEMBERS)
    population.module.eval()
    info = {
        "vote": {"combine": combine},
        "engine": "loop" if in_a_loop else "stacked",
        "task": task,
        "max_length": 16,
        "padding": "longest",
        "text_pair_column": "other" if pairs else None,
        **({"calibration": {"vote": {"temperature": temperature}}} if temperature and task != "regression" else {}),
    }
    names = [f"label {at}" for at in range(labels)]
    return save(folder, population=population, tokenizer=tokenizer(side), labels=names, info=info)


def texts_for(task: str, pairs: str | None) -> list[Any]:
    """Texts of one to thirty words; the longest are cut."""
    rows = [WORDS[at : at + length] for at, length in ((0, 5), (7, 1), (12, 9), (3, 30), (40, 3))]
    if task == "token":
        return rows
    return [(" ".join(row), " ".join(row[:2])) if pairs else " ".join(row) for row in rows]


def alone(folder: Path, texts: list[Any], words: bool) -> np.ndarray:
    """What onnxruntime and tokenizers predict, without deni."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    batch = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(texts, is_pretokenized=words)
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    feed = {each.name: np.array([getattr(text, columns[each.name]) for text in batch]) for each in session.get_inputs()}
    return session.run(["logits"], feed)[0]


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest; a hard vote may be infinite, which then both must be."""
    return float(np.abs(np.subtract(found, expected, out=np.zeros_like(expected), where=found != expected)).max())


def measure(architecture: str, **options: Any) -> dict[str, Any]:
    """How far a graph is from the artifact that it was made of, or why there is none."""
    task, pairs = options.get("task", "single_label"), options.get("pairs")
    with tempfile.TemporaryDirectory() as work:
        source, out = artifact(Path(work, "artifact"), architecture, **options), Path(work, "out")
        began = time.process_time()
        try:
            export(source, out, "onnx")
        except deni.errors.InputError as error:
            return {"refused": str(error).replace(str(source), source.name)}
        seconds = time.process_time() - began
        model, graph, texts = deni.load(source, "cpu"), deni.load(out), texts_for(task, pairs)
        expected = model.votes(texts)
        found = {"deni.load": graph.votes(texts)}
        if task != "token" and pairs != "bi":  # these need to know where words begin, or two texts side by side
            found["onnxruntime"] = alone(out, texts, False)
        info = json.loads((out / "deni.json").read_text())
        return {
            "form": info["onnx"]["form"],
            "differences": {name: difference(votes, expected) for name, votes in found.items()},
            "members_differ_by": float(np.ptp(model.members(texts), axis=1).max()),
            "seconds": round(seconds, 1),
            "bytes": (out / "model.onnx").stat().st_size,
        }


CASES: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{f"{name}": (name, {}) for name in architectures()},
    "full members": ("bert", {"tuning": "full"}),
    "ia3 members": ("bert", {"tuning": "ia3"}),
    "prompt members": ("bert", {"tuning": "prompt", "pooling": "mean"}),
    "mean pooling": ("mpnet", {"pooling": "mean"}),
    "several labels": ("bert", {"task": "multi_label"}),
    "numbers": ("distilbert", {"task": "regression"}),
    "ordered classes": ("bert", {"task": "ordinal"}),
    "words": ("bert", {"task": "token"}),
    "words of a decoder": ("qwen2", {"task": "token"}),
    "pairs": ("roberta", {"pairs": "cross"}),
    "pairs encoded separately": ("bert", {"pairs": "bi", "pooling": "mean"}),
    "hard vote": ("electra", {"combine": "hard", "temperature": None}),
    "full members of deberta-v2": ("deberta-v2", {"tuning": "full"}),
    "full members of llama": ("llama", {"tuning": "full"}),
}


def results(names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each case and what was measured."""
    for name in names:
        architecture, options = CASES[name]
        yield name, {"architecture": architecture, **options, **measure(architecture, **options)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write; what it has of other cases stays")
    parser.add_argument("--only", help="cases, with commas between them")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    there = json.loads(arguments.output.read_text()) if arguments.output and arguments.output.exists() else {}
    names = arguments.only.split(",") if arguments.only else list(CASES)
    cases = there.get("cases", {})
    for name, row in results(names):
        print(name, row, flush=True)
        cases[name] = row
        if arguments.output:
            content = {
                **environment(),
                "cases": {each: cases[each] for each in CASES if each in cases},
            }
            arguments.output.write_text(f"{json.dumps(content, indent=1)}\n")


if __name__ == "__main__":
    main()
