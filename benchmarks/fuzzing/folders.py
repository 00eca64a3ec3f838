"""Folders with a model, changed: artifacts, models of transformers, checkpoints."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

from fuzzing.case import Case
from fuzzing.changes import change_file, change_json, change_tensors, dumped
from fuzzing.code import MODULE, TEMPLATE, Payload
from fuzzing.whole import DENI, MODEL, STEP, TEXTS, TRAIN


def artifact(draw: random.Random, whole: Path, here: Path) -> Case:
    """An artifact with changed files, which predicts, is evaluated, exported or trained further."""
    source = draw.choice(sorted((whole / "artifacts").iterdir()))
    folder = here / "m"
    shutil.copytree(source, folder)
    pair, words = source.name == "pair", source.name == "token"
    regression, several = source.name == "regression", source.name == "multi_label"
    refused = False
    names = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")]
    names = [path for path in names if path.name != "expected.json"]
    kind = draw.random()
    if kind < 0.25:
        path = folder / "deni.json"
        path.write_bytes(dumped(change_json(draw, json.loads(path.read_bytes()))))
    elif kind < 0.5:
        refused = change_tensors(draw, folder / draw.choice(("population.safetensors", "base.safetensors")))
    elif kind < 0.62:
        _with_code(draw, folder)
    else:
        for path in draw.sample(names, draw.choice((1, 1, 2))):
            change_file(draw, path)
    columns = ["--text-pair-column", "second"] if pair and draw.random() < 0.5 else []
    if pair:
        (here / "texts.csv").write_text("text,second,text_pair,label\na parcel,b money,b money,delivery\nc,d,d,login\n")
    command = draw.choice(("predict", "predict", "predict", "predict", "evaluate", "export", "export"))
    if command == "export":
        return Case(
            ["export", "m", "out", "--as", draw.choice(("single", "members")), *draw.choice(([], ["--adapter"]))]
        )
    if command == "evaluate" and not (words or regression or several):
        return Case(["evaluate", "m", TEXTS, *columns], refused=refused)
    return Case(["predict", "m", TEXTS, "--output", "out.csv", *columns], refused=refused)


def _with_code(draw: random.Random, folder: Path) -> None:
    """Let a folder name code in one of the ways that there are, and hold it."""
    (folder / "code.py").write_text(MODULE)
    (folder / "modeling_code.py").write_text(MODULE)
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "tokenizer.pkl"):
        if draw.random() < 0.5:
            (folder / name).write_bytes(pickle.dumps(Payload()))
    classes = {
        "AutoConfig": "code.Config",
        "AutoModel": "code.Model",
        "AutoModelForSequenceClassification": "code.Model",
    }
    own: dict[str, list[dict[str, Any]]] = {
        "config.json": [
            {"model_type": "unheard_of", "auto_map": classes},
            {"auto_map": classes},
            {"_attn_implementation": "someone/kernel"},
            {"attn_implementation": "someone/kernel:function"},
            {"quantization_config": {"quant_method": "code", "modules_to_not_convert": []}},
            {"custom_pipelines": {"x": {"impl": "code.Model", "pt": ["AutoModel"]}}, "auto_map": classes},
            {"torch_dtype": "code.Model", "dtype": "code.Model"},
            {"transformers_weights": "code.py", "use_safetensors": False},
        ],
        "tokenizer_config.json": [
            {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]}},
            {"auto_map": {"AutoTokenizer": [None, "code.Tokenizer"]}},
            {"chat_template": TEMPLATE},
            {"processor_class": "code.Model", "auto_map": {"AutoProcessor": "code.Model"}},
            {"tokenizer_class": "code.Tokenizer"},
            {"tokenizer_file": "tokenizer.pkl", "vocab_file": "/etc/passwd"},
        ],
        "adapter_config.json": [
            {"megatron_config": {"a": 1}, "megatron_core": "code"},
            {"auto_mapping": {"base_model_class": "Model", "parent_library": "code"}},
            {"peft_type": "code.Model"},
            {"base_model_name_or_path": "../mine.txt", "task_type": None},
        ],
    }
    there = [name for name in own if (folder / name).exists()]
    for name in draw.sample(there, draw.randint(1, len(there))):
        path = folder / name
        path.write_bytes(dumped(json.loads(path.read_bytes()) | draw.choice(own[name])))


def model(draw: random.Random, whole: Path, here: Path) -> Case:
    """A folder of transformers with changed files, which predicts, or is what is trained."""
    source = draw.choice([*sorted((whole / "exported").iterdir()), whole / MODEL])
    folder = here / "m"
    shutil.copytree(source, folder)
    refused = False
    names = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")]
    if draw.random() < 0.2:
        _with_code(draw, folder)
    else:
        for path in draw.sample(names, draw.choice((1, 1, 2))):
            change_file(draw, path)
    if draw.random() < 0.55:
        return Case(["predict", "m", TEXTS, "--output", "out.csv"], refused=refused)
    if draw.random() < 0.5:
        return Case(["inspect", TEXTS, "--model", "m"])
    short = ["--epochs", "1", "--strategy", "default", "--test", "0", "--no-progress", "--output", "out"]
    return Case(["train", TEXTS, "--model", "m", *short])


def checkpoint(draw: random.Random, whole: Path, here: Path) -> Case:
    """A checkpoint with changed files, which predicts or is resumed."""
    tuning = draw.choice(("full", "lora"))
    folder = here / "out.checkpoints"
    shutil.copytree(whole / "checkpoints" / tuning, folder)
    (last,) = folder.glob("checkpoint-*")
    if draw.random() < 0.3:  # prediction opens no pickle
        for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
            (last / name).write_bytes(pickle.dumps(Payload()))
        if draw.random() < 0.5:
            change_file(draw, draw.choice([each for each in sorted(last.iterdir()) if each.is_file()]))
        return Case(["predict", f"out.checkpoints/{last.name}", TEXTS, "--output", "out.csv"])
    files = [each for each in sorted(last.iterdir()) if each.is_file()]
    for path in draw.sample(files, draw.choice((1, 1, 2))):
        if path.suffix in (".bin", ".pt", ".pth"):  # pickles are trusted, see docs/security.md: damage, no code
            data = path.read_bytes()
            path.write_bytes(draw.choice((b"", data[: draw.randrange(len(data))], bytes(50), data + b"x")))
            if draw.random() < 0.3:
                path.unlink()
        else:
            change_file(draw, path)
    more = DENI if tuning == "full" else ["--strategy", "default", "--lora-r", "2"]
    command = ["train", *TRAIN, "--tuning", tuning, *more, "--save-steps", str(STEP), "--output"]
    return Case([*command, "out", "--resume"])
