"""Writes artifacts of format 1 and what they predict, with the code of commit 1655121, which writes this format.

    git worktree add ../deni-1655121 1655121
    PYTHONPATH=../deni-1655121/src python tests/artifact/format_1/write.py

Every case becomes a folder beside this script; `expected.json` in it has texts and what `deni.load(folder)` predicts.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from deni.trainer import PopulationTrainer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
    TrainingArguments,
)

import deni
from deni.data import read_texts
from deni.finetune import fine_tune
from deni.recipe import recipe
from deni.strategies import DENI

HERE = Path(__file__).parent
WORDS = {
    "billing": ("invoice", "money", "charged", "refund"),
    "delivery": ("parcel", "late", "courier", "box"),
    "login": ("password", "account", "code", "reset"),
}
NAMES, PLACES = ("Anna", "Ben"), ("Paris", "Oslo")
FILLERS = ("my", "is", "a", "lives", "in")
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
MODEL = "tiny-bert"  # relative, as the data are: the artifacts say nothing about the machine
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 24,
    "initializer_range": 0.3,  # so that texts differ from the start
}


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts of two words of a class and two that say nothing, and the class."""
    draw = random.Random(seed)
    labels = [list(WORDS)[at % len(WORDS)] for at in range(count)]
    return [(" ".join([*draw.sample(WORDS[label], 2), *draw.sample(FILLERS, 2)]), label) for label in labels]


def write_data() -> None:
    """The tiny model, and a file for each kind of labels."""
    words = [*SPECIAL.values(), *(word for own in WORDS.values() for word in own), *NAMES, *PLACES, *FILLERS]
    plain = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    kinds = ["input_ids", "token_type_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=plain, model_max_length=24, model_input_names=kinds, **SPECIAL
    ).save_pretrained(MODEL)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), **SIZES)).save_pretrained(MODEL)
    one, other = sentences(24, 1), sentences(24, 2)[::2] * 2
    pd.DataFrame(one, columns=["text", "label"]).to_csv("single_label.csv", index=False)
    both = [(f"{a} {b}", ";".join(sorted({x, y}))) for (a, x), (b, y) in zip(one, other, strict=True)]
    pd.DataFrame(both, columns=["text", "label"]).to_csv("multi_label.csv", index=False)
    numbers = [(text, list(WORDS).index(label) - 1 + 0.1 * (at % 3)) for at, (text, label) in enumerate(one)]
    pd.DataFrame(numbers, columns=["text", "label"]).to_csv("regression.csv", index=False)
    same = [(a, b, "same" if x == y else "other") for (a, x), (b, y) in zip(one, other, strict=True)]
    pd.DataFrame(same, columns=["text", "second", "label"]).to_csv("pair.csv", index=False)
    tagged = [(name, place) for name in NAMES for place in PLACES] * 4
    Path("token.conll").write_text(
        "\n\n".join(f"{name} B-PER\nlives O\nin O\n{place} B-LOC" for name, place in tagged) + "\n"
    )


TEXTS: dict[str, list[Any]] = {
    "single_label": [text for text, _ in sentences(6, 3)],
    "multi_label": [f"{a} {b}" for (a, _), (b, _) in zip(sentences(6, 3), sentences(9, 4)[::-1], strict=False)],
    "pair": [(a, b) for (a, _), (b, _) in zip(sentences(6, 3), sentences(9, 4)[::-1], strict=False)],
    "token": [["Anna", "lives", "in", "Oslo"], ["my", "parcel", "is", "in", "Paris"], ["Ben"]],
}
TEXTS["regression"] = TEXTS["single_label"]

# Folder: task, strategy, tuning, settings of the strategy, settings of the tuning, settings of the recipe.
CASES: dict[str, tuple[str, str, str, dict, dict, dict]] = {
    "full_deni": ("single_label", "deni", "full", {"members": 3}, {}, {}),
    "full_ensemble_hard": ("single_label", "ensemble", "full", {"members": 3, "combine": "hard"}, {}, {}),
    "lora_deni": ("single_label", "deni", "lora", {"members": 3}, {"lora_r": 2, "lora_alpha": 2}, {}),
    "ia3_default": ("single_label", "default", "ia3", {}, {}, {"learning_rate": 0.05}),
    "prompt_delayed_ensemble": (
        *("single_label", "delayed_ensemble", "prompt"),
        *({"members": 3}, {"prompt_tokens": 2}, {"learning_rate": 0.1}),
    ),
    "multi_label": ("multi_label", "deni", "full", {"members": 2}, {}, {}),
    "regression": ("regression", "deni", "full", {"members": 2}, {}, {}),
    "token": ("token", "deni", "full", {"members": 2}, {}, {}),
    "pair": ("pair", "deni", "full", {"members": 2}, {}, {}),
    "soup": ("single_label", "soup", "full", {"members": 3}, {}, {}),
    "linear_probe_best_practices": ("single_label", "linear_probe+best_practices", "full", {"epochs": 12}, {}, {}),
}


def train(name: str) -> None:
    """Fine-tune and save a case in the folder of its name."""
    task, strategy, tuning, settings, own, options = CASES[name]
    columns = {"text_pair_column": "second"} if task == "pair" else {}
    kind = "single_label" if task == "pair" else task
    options = {"learning_rate": 1e-2, "epochs": 10, "batch_size": 4, **options}
    plan = recipe(None, strategy, tuning, settings, own, model=MODEL, task=kind, **options)
    texts = read_texts("token.conll" if task == "token" else f"{task}.csv", task=kind, **columns)
    fitted = fine_tune(texts, plan, progress=False, **columns)
    fitted.data = {"data": texts.source, "test": None, "block": 0}
    fitted.save(name, fitted.evaluate(texts))


def train_by_hand() -> None:
    """The same by `PopulationTrainer` and its `save_model`."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(MODEL, num_labels=3)
    model = BertForSequenceClassification.from_pretrained(MODEL, config=config)
    rows = [{**tokenizer(text), "labels": list(WORDS).index(label)} for text, label in sentences(24, 1)]
    args = TrainingArguments("out", num_train_epochs=12, learning_rate=1e-2, report_to=[], disable_tqdm=True)
    trainer = PopulationTrainer(model, args, strategy=DENI(members=2), train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.save_model("population_trainer")


def expected(folder: str, texts: list[Any]) -> dict[str, Any]:
    """What an artifact predicts: of members and vote, `(N, M, C)` and `(N, C)` or of words, and as a user sees it."""
    classifier = deni.load(folder, "cpu")
    return {
        "texts": texts,
        "task": classifier.task,
        "labels": classifier.labels,
        "members": classifier.members(texts).astype(np.float64).tolist(),
        "votes": classifier.votes(texts).astype(np.float64).tolist(),
        "predict": classifier.predict(texts),
        "call": classifier(texts),
    }


def main() -> None:
    """Write all cases."""
    torch.set_num_threads(1)
    work = HERE / "work"
    work.mkdir()
    os.chdir(work)
    write_data()
    for name in CASES:
        train(name)
    train_by_hand()
    for name in [*CASES, "population_trainer"]:
        values = expected(name, TEXTS[CASES[name][0] if name in CASES else "single_label"])
        Path(name, "expected.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.move(name, HERE / name)
    os.chdir(HERE)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
