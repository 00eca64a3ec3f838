"""Whole inputs of all kinds, from which odd ones are made."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

WORDS = ("invoice money charged refund", "parcel courier box late", "password login reset account")
LABELS = ("billing", "delivery", "login")
TEXTS, MANY, MODEL = "texts.csv", "many.csv", "model"
STEPS, STEP = 40, 33  # of the training whose checkpoint is resumed
TRAIN = [TEXTS, "--model", MODEL, "--epochs", "10", "--batch-size", "4", "--test", "0", "--no-progress"]
DENI = ["--strategy", "deni", "--members", "2"]
TEXT_ROWS = 16
POOL, TEST, ANSWERS, PROMPTS = "pool.csv", "test.csv", "answers.jsonl", "prompts.jsonl"
LANGUAGE_MODEL, GENERATOR = "language_model", "generator"


def make_whole(folder: Path, artifacts: Path, deni: Callable[[list[str]], int]) -> None:
    """Write whole inputs of all kinds.

    Args:
        artifacts: the committed artifacts of format 1.
        deni: runs a command in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    _tiny(Path(MODEL))
    draw = random.Random(0)
    rows = [(" ".join(draw.choices(WORDS[at % 3].split(), k=6)), LABELS[at % 3]) for at in range(TEXT_ROWS)]
    Path(TEXTS).write_text("text,label\n" + "".join(f"{text} {at},{label}\n" for at, (text, label) in enumerate(rows)))
    many = "".join(f"{text} {at} {again},{label}\n" for again in range(10) for at, (text, label) in enumerate(rows))
    Path(MANY).write_text(f"text,label\n{many}")  # three parts of an augmentation
    Path("artifacts").mkdir()
    for each in sorted(artifacts.glob("*/deni.json")):
        shutil.copytree(each.parent, Path("artifacts", each.parent.name))
    for tuning, more in (("full", DENI), ("lora", ["--strategy", "default", "--lora-r", "2"])):
        command = ["train", *TRAIN, "--tuning", tuning, *more, "--save-steps", str(STEP), "--output", tuning]
        if deni(command):
            raise SystemExit(f"cannot make a whole input: deni {' '.join(command)}")
        Path(tuning).rename(f"artifacts/2_{tuning}")
        Path("checkpoints").mkdir(exist_ok=True)
        Path(f"{tuning}.checkpoints").rename(f"checkpoints/{tuning}")
    for name, how in (("full", []), ("lora", []), ("lora", ["--adapter"])):
        if deni(["export", f"artifacts/2_{name}", f"exported/{name}{'-adapter' * len(how)}", *how]):
            raise SystemExit("cannot export a whole artifact")
    _store(Path("study.db"))
    if deni(["study", "export", "study.db", "--archive", "--output", "study.parquet"]):
        raise SystemExit("cannot export a whole archive")
    if deni(["augment", TEXTS, *EASY, "--output", "augmented.csv"]):
        raise SystemExit("cannot augment")
    test = [(f"{text} test {at}", label) for at, (text, label) in enumerate(rows)]
    Path(TEST).write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in test))
    pool = [f"{text} pool {at} {again}" for again in range(4) for at, (text, _) in enumerate(rows)]
    Path(POOL).write_text("text\n" + "".join(f"{text}\n" for text in pool))
    if deni(["export", "artifacts/2_full", "graph", "--as", "onnx"]):
        raise SystemExit("cannot export a graph")
    _language_model(Path(LANGUAGE_MODEL))
    lines = [{"prompt": " ".join(words.split()[:2]), "completion": words.split()[2]} for words in WORDS * 4]
    Path(ANSWERS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path(PROMPTS).write_text("".join(json.dumps({"prompt": line["prompt"]}) + "\n" for line in lines[:3]))
    how = ["--task", "generation", "--strategy", "ensemble", "--members", "2", "--epochs", "1", "--test", "0"]
    if deni(["train", ANSWERS, *how, "--model", LANGUAGE_MODEL, "--no-progress", "--output", GENERATOR]):
        raise SystemExit("cannot train a model that writes")
    Path("study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    _journal(Path("journal.jsonl"), deni)


EASY = ["--method", "easy", "--operations", "swap,delete", "--synonyms", "none"]
STUDY = {
    "name": "made",
    "datasets": [{"path": TEXTS}],
    "models": [MODEL],
    "strategies": ["default", {"name": "deni", "members": 3}, {"name": "swa"}],
    "tunings": ["full", {"name": "lora", "lora_r": 2}],
    "labelled": [9],
    "test_size": 3,
    "seeds": 2,
    "recipe": {"epochs": 4, "batch_size": 2},
}


def _tiny(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *" ".join(WORDS).split()]
    plain = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=24, **names).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=24, **sizes)).save_pretrained(folder)


def _language_model(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "user", "assistant", *" ".join(WORDS).split()]
    plain = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=64, **names)
    turn = "{{ message['role'] }} {{ message['content'] }} {% if message['role'] == 'assistant' %}[EOS]{% endif %}"
    asked = "{% if add_generation_prompt %}assistant {% endif %}"
    tokenizer.chat_template = "{% for message in messages %}" + turn + "{% endfor %}" + asked
    tokenizer.save_pretrained(folder)
    ids = {"vocab_size": len(words), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, **ids)).save_pretrained(folder)


def _store(path: Path) -> None:
    """A study with made-up results."""
    from deni.study.cell import Cell, CellResult, Fingerprints, NamedSettings
    from deni.study.execution.job import Job
    from deni.study.store.database import Store

    draw = np.random.default_rng(0)
    with Store(path, create=True) as store:
        for name in ("default", "swa"):
            for seed in range(2):
                full, strategy = NamedSettings("full"), NamedSettings(name)
                cell = Cell({"name": "trec"}, "minilm", full, strategy, 100, seed=seed, block=0)
                job = Job.of(cell, Fingerprints("d", "m"), {"torch": "2"}, 10)
                store.add([job], "made")
                gold = np.arange(9) % 3
                probabilities = draw.dirichlet(np.ones(3), (9, 1))
                cost, environment = {"member_steps": 10, "seconds": 1.5}, {"python": "3.11", "threads": 1}
                scores = {"macro_f1": 0.5}
                made = CellResult(
                    np.log(probabilities), gold, np.arange(9), LABELS, "data", scores, cost, {}, environment
                )
                store.finish(job.key, made)


def _journal(path: Path, deni: Callable[[list[str]], int]) -> None:
    """What an augmentation leaves that is stopped: all but its last part."""
    from deni.augmentation import journal

    kept = journal.Journal.remove

    def keep(self: Any) -> None:
        lines = self.path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]))
        kept(self)

    journal.Journal.remove = keep  # type: ignore[method-assign]
    try:
        if deni(["augment", MANY, *EASY, "--output", "o.csv"]) or not path.exists():
            raise SystemExit("cannot make a journal")
    finally:
        journal.Journal.remove = kept  # type: ignore[method-assign]
        Path("o.csv").unlink()
