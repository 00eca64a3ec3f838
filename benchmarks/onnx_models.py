"""Which architectures become an ONNX graph: one vote of each, and of each task; what the graph predicts is compared.

A tiny random model of each architecture gets three members, is saved as an artifact and exported. Texts are predicted
by the artifact, by `deni.load` of the export, and by onnxruntime and tokenizers alone. Decoders pad on the left.

python benchmarks/onnx_models.py --output benchmarks/results/onnx_models.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import environment
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast
from transformers.utils import logging

import deni
from deni.artifact import export, save
from deni.models.architectures import HEADS, auto_class
from deni.models.pairs import encode_separately
from deni.models.pooling import Pooling, attach
from deni.population import Population
from deni.randomness import Sources, generator, global_generators
from deni.tuning import make_tuning

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
OWN: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 48},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "electra": {"embedding_size": 16},
    "gemma": {"head_dim": 8, "num_key_value_heads": 2},
    "gpt2": {"n_inner": 48, "n_positions": 40, "n_embd": 32, "n_layer": 1, "n_head": 4},
    "llama": {"num_key_value_heads": 2},
    "mistral": {"head_dim": 8, "num_key_value_heads": 2},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"head_dim": 8, "num_key_value_heads": 2},
}
DECODERS = ("gemma", "gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3")
SMALL: dict[str, dict[str, Any]] = {"lora": {"lora_r": 4, "lora_alpha": 4}, "prompt": {"prompt_tokens": 3}}
# Which members training computes one after another (docs/models.md), by architecture: with these tunings.
LOOP = {"deberta": ("full", "lora"), "deberta-v2": ("full", "lora"), "mpnet": ("full",), "opt": ("full", "lora")}
WORDS = [f"w{at}" for at in range(50)]
MEMBERS = 3


def tokenizer(side: str) -> PreTrainedTokenizerFast:
    """Words, with a first and a last token."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordLevel({token: at for at, token in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
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
    config = CONFIG_MAPPING[architecture](**{**SIZES, **OWN.get(architecture, {})}, num_labels=labels)
    config.problem_type = problem
    with global_generators(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = auto_class(words).from_config(config)
        for value in model.parameters():  # so large that texts differ
            value.data.add_(torch.randn_like(value), alpha=0.1)
        if pairs == "bi":
            encode_separately(model)
        virtual = 3 if tuning == "prompt" else 0
        model = make_tuning(tuning, **SMALL.get(tuning, {})).apply(model).float()
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
        "engine": "loop" if tuning in LOOP.get(architecture, ()) else "stacked",
        "task": task,
        "max_length": 16,
        "padding": "longest",
        "text_pair_column": "other" if pairs else None,
        **({"calibration": {"vote": {"temperature": temperature}}} if temperature and task != "regression" else {}),
    }
    side = "left" if architecture in DECODERS else "right"
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


def measure(architecture: str, **options: Any) -> dict[str, Any]:
    """How far a graph is from the artifact that it was made of."""
    task, pairs = options.get("task", "single_label"), options.get("pairs")
    with tempfile.TemporaryDirectory() as work:
        source, out = artifact(Path(work, "artifact"), architecture, **options), Path(work, "out")
        began = time.process_time()
        export(source, out, "onnx")
        seconds = time.process_time() - began
        model, graph, texts = deni.load(source, "cpu"), deni.load(out), texts_for(task, pairs)
        expected = model.votes(texts)
        found = {"deni.load": graph.votes(texts)}
        if task != "token" and pairs != "bi":  # these need to know where words begin, or two texts side by side
            found["onnxruntime"] = alone(out, texts, False)
        info = json.loads((out / "deni.json").read_text())
        return {
            "form": info["onnx"]["form"],
            "differences": {name: float(np.abs(votes - expected).max()) for name, votes in found.items()},
            "members_differ_by": float(np.ptp(model.members(texts), axis=1).max()),
            "seconds": round(seconds, 1),
            "bytes": (out / "model.onnx").stat().st_size,
        }


CASES: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{f"{name}": (name, {}) for name in sorted(HEADS)},
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
    """Each case and what was measured, or why it was refused."""
    for name in names:
        architecture, options = CASES[name]
        try:
            yield name, {"architecture": architecture, **options, **measure(architecture, **options)}
        except deni.errors.InputError as error:
            yield name, {"architecture": architecture, **options, "refused": str(error)}


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
