"""Do two worktrees train the same? Every strategy, tuning, task and option is trained with the code of both.

    python benchmarks/golden.py ../deni-before . --json golden.json

Weights and predictions must be equal to the bit, metrics to 1e-12. Each worktree computes in a process of its own,
with its `src` on PYTHONPATH: a tiny random BERT with dropout on, float32, one thread. Most cases go through the command
line, which changes least; `find` knows where the rest may be.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

METRICS_TOLERANCE = 1e-12
EXTRA_FILES = ("scope.safetensors", "out_of_fold.safetensors")  # not weights of the model
LABELS = {
    "billing": ("invoice", "money", "charged", "refund", "card"),
    "delivery": ("parcel", "late", "courier", "box", "address"),
    "login": ("password", "account", "code", "reset", "locked"),
}
FILLERS = ("my", "the", "is", "a", "please", "not", "where", "why")
NAMES, PLACES = ("Anna", "Ben", "Clara"), ("Paris", "Oslo", "Vienna")
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
TASKS = ("single_label", "multi_label", "regression", "token")
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}

Result = dict[str, dict[str, Any]]  # arrays, texts and metrics, each by name
Case = Callable[[Path], Result]


# ---- where things are, in this layout and in others ------------------------------------------------------------------


def find(name: str, *modules: str) -> Any:
    """What is called so in the first of these modules that has it."""
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except AttributeError:
            continue
        except ModuleNotFoundError as error:
            if not module.startswith(str(error.name)):
                raise
    raise ImportError(f"none of {', '.join(modules)} has {name}: name its new module here")


def imports() -> dict[str, Any]:
    """All that is used of `deni`."""
    return {
        "main": find("main", "deni.cli"),
        "PopulationTrainer": find("PopulationTrainer", "deni", "deni.training.trainer", "deni.trainer"),
        "STRATEGIES": find("STRATEGIES", "deni.strategies", "deni.strategies.registry"),
        "make_strategy": find("make_strategy", "deni.strategies", "deni.strategies.registry"),
        "TUNINGS": find("TUNINGS", "deni.tuning", "deni.tuning.registry"),
        "make_tuning": find("make_tuning", "deni.tuning", "deni.tuning.registry"),
    }


# ---- data and model --------------------------------------------------------------------------------------------------


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts of different lengths, and their labels."""
    draw = random.Random(seed)
    rows = []
    for at in range(count):
        label = list(LABELS)[at % len(LABELS)]
        words = [*draw.sample(LABELS[label], draw.randint(2, 4)), *draw.sample(FILLERS, draw.randint(1, 5))]
        rows.append((" ".join(draw.sample(words, len(words))), label))
    return rows


def write_rows(file: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A CSV."""
    with open(file, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_data(part: str, count: int, seed: int) -> None:
    """A file of each task, and one of pairs."""
    first, second = sentences(count, seed), sentences(count, seed + 50)
    random.Random(seed).shuffle(second)
    write_rows(f"single_label.{part}.csv", ("text", "label"), first)
    both = [(f"{a} {b}", ";".join(sorted({x, y}))) for (a, x), (b, y) in zip(first, second, strict=True)]
    write_rows(f"multi_label.{part}.csv", ("text", "label"), both)
    numbers = [(text, list(LABELS).index(label) - 1 + 0.1 * (at % 5)) for at, (text, label) in enumerate(first)]
    write_rows(f"regression.{part}.csv", ("text", "label"), numbers)
    same = [(a, b, "same" if x == y else "other") for (a, x), (b, y) in zip(first, second, strict=True)]
    write_rows(f"pair.{part}.csv", ("text", "second", "label"), same)
    augmented = [(text, f"{text} {filler}") for text, _ in first for filler in FILLERS[:2]]
    write_rows(f"augmented.{part}.csv", ("seed", "text"), augmented)
    draw, tagged = random.Random(seed), []
    for _ in range(count):
        fillers = [f"{word} O" for word in draw.sample(FILLERS, draw.randint(1, 4))]
        tagged.append("\n".join([f"{draw.choice(NAMES)} B-PER", *fillers, f"{draw.choice(PLACES)} B-LOC"]))
    Path(f"token.{part}.conll").write_text("\n\n".join(tagged) + "\n", encoding="utf-8")


def write_model() -> None:
    """A tiny random BERT with its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = [*SPECIAL.values(), *(word for own in LABELS.values() for word in own), *FILLERS, *NAMES, *PLACES]
    plain = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    kinds = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=64, model_input_names=kinds, **SPECIAL)
    tokenizer.save_pretrained("model")
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), **SIZES)).save_pretrained("model")


# ---- what is trained -------------------------------------------------------------------------------------------------

# Settings under which a strategy does its work on 60 steps; `members` is 3 wherever a strategy has it.
SETTINGS: dict[str, dict[str, Any]] = {
    "all_data": {"most_texts": 40},
    "input_noise": {"noise_every": 0.05},
    "weight_noise": {"noise_every": 0.05},
    "ema": {"ema_decay": 0.9},
    "mixout": {"mixout": 0.5},
    "augmentation": {"augmented": "augmented.train.csv"},
    "denials": {"augmented": "augmented.train.csv"},
    "llrd": {"layer_decay": 0.5},
    "l2_sp": {"l2_strength": 1.0},
    "linear_probe": {"probe_c": 0.1},
}
TUNING_SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"lora_r": 4, "lora_alpha": 4},
    "prompt": {"prompt_tokens": 3},
    "unipelt": {"unipelt_r": 4, "unipelt_prefix": 5, "unipelt_reduction": 4},
}
SPELLINGS = {"--labelled": "--labeled"}  # flags that a layout may spell in another way
RATES = {"full": 5e-3, "lora": 1e-2, "ia3": 5e-2, "prompt": 1e-1, "unipelt": 1e-2}
# Case: the strategy, and its flags.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "prior_noise, noisytune": ("prior_noise", {"prior": "noisytune"}),
    "mixout, linear": ("mixout", {"mixout_layers": "linear"}),
    "input_noise, embeddings": ("input_noise", {"noise_where": "embeddings"}),
    "input_noise, NEFTune": ("input_noise", {"noise_where": "embeddings", "neftune_alpha": 5}),
    "swa, constant rate": ("swa", {"swa_rate": 0.5}),
    "soup, greedy": ("soup", {"ingredients": "greedy", "soup_from": 0.5, "dev": "single_label.test.csv"}),
    "ensemble, hard": ("ensemble", {"combine": "hard"}),
    "deni, hard": ("deni", {"combine": "hard"}),
    "deni, parent": ("deni", {"combine": "parent"}),
    "prior_noise+deni": ("prior_noise+deni", {}),
    "linear_probe+best_practices": ("linear_probe+best_practices", {}),
    "llrd+ensemble": ("llrd+ensemble", {}),
    "augmentation+swa": ("augmentation+swa", {"augmented": "augmented.train.csv"}),
}
FORKS: dict[str, dict[str, Any]] = {
    **{
        f"{optimizer}, {rate}": {"fork_optimizer": optimizer, "fork_rate": rate}
        for optimizer in ("fresh", "inherit")
        for rate in ("schedule", "constant", "restart")
    },
    "merge_optimizer mean": {"merge_optimizer": "mean"},
    "merge_lora product": {"merge_lora": "product", "tuning": "lora"},
    "antithetic": {"antithetic": True, "members": 4},
    "uniform": {"scale": "uniform", "variance": 0.01},
    "trainable": {"scope": "trainable"},
    "floor": {"scope": "trainable", "floor": 0.02, "tuning": "lora"},
    "shift": {"shift": 1},
    "member_order own": {"member_order": "own"},
    "member_order own, ia3": {"member_order": "own", "tuning": "ia3"},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "class weights": {"class_weights": True, "task": "pair"},
    "best epoch": {"dev": "single_label.test.csv"},
    "early stopping": {"dev": 0.3, "early_stopping_patience": 1, "epochs": 6},
    "clipping, decay, warm-up": {"max_grad_norm": 0.1, "weight_decay": 0.01, "warmup_ratio": 0.1},
    "accumulation": {"gradient_accumulation_steps": 2},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "two members at a time": {"members_at_a_time": 2},
    "Adafactor": {"optim": "adafactor"},
    "labelled, split": {"labelled": 24, "test": 0.3, "test_size": 9, "block": 2},
    "seeds of sources": {"seed_dropout": 7, "seed_noise": 8, "seed_sample_order": 9, "seed_initialisation": 10},
}


def cases(deni: Mapping[str, Any]) -> Iterator[tuple[str, Case]]:
    """All cases of a worktree by name."""
    members = {name for name in deni["STRATEGIES"] if "members" in deni["make_strategy"](name).settings()}

    def train(strategy: str = "deni", **flags: Any) -> Case:
        own = {"members": 3} if members & set(strategy.split("+")) else {}
        return partial(by_command, deni["main"], {"strategy": strategy, **own, **SETTINGS.get(strategy, {}), **flags})

    for name in deni["STRATEGIES"]:
        yield f"strategy: {name}", train(name)
    for name, (strategy, flags) in VARIANTS.items():
        yield f"strategy: {name}", train(strategy, **flags)
    for name in deni["TUNINGS"]:
        if name != "unipelt" or find_spec("adapters") is not None:
            yield f"tuning: {name}", train(tuning=name)
            yield f"tuning: {name}, pack", partial(by_trainer, deni, "deni", tuning=name, seeds=[4, 5])
    for task in (*TASKS, "pair"):
        for strategy in ("default", "deni", "ensemble"):
            yield f"task: {task}, {strategy}", train(strategy, task=task)
    for tuning in ("full", "lora"):
        for engine in ("loop", "stacked"):
            yield f"engine: {engine}, {tuning}", train(engine=engine, tuning=tuning)
    yield "engine: loop, own orders", train(engine="loop", member_order="own")
    for name, flags in FORKS.items():
        yield f"fork: {name}", train(**flags)
    for name, flags in OPTIONS.items():
        yield f"option: {name}", train(**flags)
    for preset in ("paper", "released"):
        for strategy in ("deni", "ensemble", "best_practices"):
            yield f"preset: {preset}, {strategy}", train(strategy, preset=preset)
    for engine in ("loop", "stacked"):
        pack = partial(by_trainer, deni, seeds=[4, 5, 6], engine=engine)
        yield f"pack: deni, {engine}", partial(pack, "deni")
        yield f"pack: ensemble, {engine}", partial(pack, "ensemble")
        yield f"pack: own orders, {engine}", partial(pack, "deni", member_order="own")
        yield f"pack: soup, lora, {engine}", partial(pack, "soup", tuning="lora")
        for strategy in ("deni", "mixout", "swa"):
            yield f"resume: {strategy}, {engine}", partial(by_trainer, deni, strategy, engine=engine, resume=True)
    yield "pack: swa", partial(by_trainer, deni, "swa", seeds=[4, 5, 6])
    yield "resume: a pack", partial(by_trainer, deni, "deni", seeds=[4, 5], resume=True)
    yield (
        "resume: command line",
        partial(by_command, deni["main"], {"strategy": "deni", "members": 3, "save_steps": 57}, resume=True),
    )


def by_command(main: Any, flags: dict[str, Any], folder: Path, resume: bool = False) -> Result:
    """`deni train`, `deni evaluate` and `deni predict` with these flags; of what they write, weights and numbers."""
    from click.testing import CliRunner

    def run(*words: Any) -> str:
        done = CliRunner().invoke(main, [str(word) for word in words])
        if done.exit_code:
            raise RuntimeError(f"deni {' '.join(map(str, words))}: {done.output[-500:]} {done.exception!r}")
        return done.stdout

    flags = dict(flags)
    task, tuning = flags.pop("task", "single_label"), flags.get("tuning", "full")
    suffix = "conll" if task == "token" else "csv"
    model, test = folder / "model", f"{task}.test.{suffix}"
    settings = {
        **{"model": "model", "output": model, "test": test, "epochs": 4, "batch_size": 4, "seed": 3},
        **{"learning_rate": RATES[tuning], "tuning": tuning, **TUNING_SETTINGS.get(tuning, {}), **flags},
        **({"text_pair_column": "second"} if task == "pair" else {"task": task}),
    }
    known = {word for option in main.get_command(None, "train").params for word in option.opts}
    words = [word for name, value in settings.items() for word in flag(name, value)]
    words = [word if word in known else SPELLINGS.get(word, word) for word in words]
    run("train", f"{task}.train.{suffix}", *words, "--no-progress")
    if resume:
        run("train", f"{task}.train.{suffix}", *words, "--no-progress", "--overwrite", "--resume")
    measured = json.loads(run("evaluate", model, test, "--json"))
    run("predict", model, test, "--output", folder / "predicted.jsonl")
    return {
        "arrays": {**tensors(model), **columns(folder / "predicted.jsonl", numbers=True)},
        "texts": columns(folder / "predicted.jsonl", numbers=False),
        "metrics": {
            **numbers_in(metrics_in(json.loads((model / "deni.json").read_text())), "trained"),
            **numbers_in(measured, "evaluated"),
        },
    }


def by_trainer(
    deni: Mapping[str, Any],
    strategy: str,
    folder: Path,
    tuning: str = "full",
    seeds: Sequence[int] = (3,),
    engine: str = "auto",
    resume: bool = False,
    **settings: Any,
) -> Result:
    """`PopulationTrainer`, for what the command line lacks: a pack of several seeds, any checkpoint."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoTokenizer,
        BertConfig,
        BertForSequenceClassification,
        DataCollatorWithPadding,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained("model")

    def rows(count: int, seed: int) -> Any:
        texts = sentences(count, seed)
        labels = [list(LABELS).index(label) for _, label in texts]
        return Dataset.from_dict({**tokenizer([text for text, _ in texts]), "labels": labels})

    def model_init() -> torch.nn.Module:
        config = BertConfig.from_pretrained("model", num_labels=len(LABELS))
        plain = BertForSequenceClassification.from_pretrained("model", config=config)
        return deni["make_tuning"](tuning, **TUNING_SETTINGS.get(tuning, {})).apply(plain)

    own = {**SETTINGS.get(strategy, {}), **settings}
    own |= {"members": 3} if "members" in deni["make_strategy"](strategy).settings() else {}
    args = TrainingArguments(
        str(folder / "run"),
        num_train_epochs=4,
        learning_rate=RATES[tuning],
        per_device_train_batch_size=4,
        logging_steps=5,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **({"save_strategy": "steps", "save_steps": 20} if resume else {"save_strategy": "no"}),
    )

    def trainer() -> Any:
        return deni["PopulationTrainer"](
            model_init=model_init,
            args=args,
            strategy=deni["make_strategy"](strategy, **own),
            engine=engine,
            seeds=list(seeds),
            train_dataset=rows(60, 1),
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
        )

    trained = trainer()
    metrics = trained.train().metrics
    if resume:  # step 20 is in the first phase of several members
        trained = trainer()
        metrics = trained.train(resume_from_checkpoint=str(folder / "run" / "checkpoint-20")).metrics
    trained.save_model(str(folder / "model"))
    test = rows(24, 2)
    log = [{name: row[name] for name in ("loss", "learning_rate") if name in row} for row in trained.state.log_history]
    evaluated = {name: value for name, value in trained.evaluate(test).items() if name == "eval_loss"}
    return {
        "arrays": {
            **tensors(folder / "model"),
            "vote": trained.predict(test).predictions,
            "members": trained.predict_members(test),
        },
        "texts": {},
        "metrics": {
            **numbers_in({name: metrics[name] for name in ("train_loss", "member_steps")}, "train"),
            **numbers_in(dict(enumerate(log)), "log"),
            **evaluated,
        },
    }


def flag(name: str, value: Any) -> list[str]:
    """A setting as words of a command line."""
    words = "--" + name.replace("_", "-")
    return [words] if value is True else [words, str(value)]


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of the models in a folder by their names, whichever files they are in."""
    from safetensors.numpy import load_file

    files = (file for file in sorted(folder.rglob("*.safetensors")) if file.name not in EXTRA_FILES)
    return {name: value for file in files for name, value in load_file(file).items()}


def columns(file: Path, numbers: bool) -> dict[str, Any]:
    """The columns of a JSONL file that hold numbers, or lists of them, as arrays; or the others."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found = {}
    for name in rows[0]:
        cells = [each for row in rows for each in (row[name] if isinstance(row[name], list) else [row[name]])]
        if all(isinstance(each, int | float) for each in cells) == numbers:
            found[f"predicted {name}"] = np.array(cells, dtype=np.float64) if numbers else cells
    return found


def metrics_in(info: Any) -> dict[str, Any]:
    """What is under the key `metrics`, wherever that is."""
    if not isinstance(info, dict):
        return {}
    if isinstance(info.get("metrics"), dict):
        return info["metrics"]
    return next(filter(None, map(metrics_in, info.values())), {})


def numbers_in(values: Any, name: str) -> dict[str, float]:
    """The numbers of nested dictionaries by their paths."""
    if isinstance(values, dict):
        return {path: x for key, each in values.items() for path, x in numbers_in(each, f"{name} {key}").items()}
    return {name: float(values)} if isinstance(values, int | float) else {}


# ---- a worktree ------------------------------------------------------------------------------------------------------


def work(source: Path, output: Path, only: str) -> None:
    """Train all cases with the code in `source`; of each a folder in `output`."""
    import torch
    import transformers

    import deni

    if not Path(deni.__file__).resolve().is_relative_to(source.resolve()):
        sys.exit(f"imported {deni.__file__}, which is not in {source}")
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    write_model()
    for part, count, seed in (("train", 60, 1), ("test", 24, 2)):
        write_data(part, count, seed)
    known = imports()
    for name, case in cases(known):
        if not fnmatch.fnmatch(name, only):
            continue
        began, folder = time.perf_counter(), Path("case")
        folder.mkdir()
        result: Result = {"arrays": {}, "texts": {}, "metrics": {}}
        error = ""
        try:
            result = case(folder=folder)
        except Exception as raised:
            traceback.print_exc()
            error = f"{type(raised).__name__}: {raised}"
        shutil.rmtree(folder)
        for left in Path().glob("case.*"):
            shutil.rmtree(left)
        target = output / f"{len(list(output.iterdir())):03}"
        target.mkdir()
        np.savez(target / "arrays.npz", **result["arrays"])
        rest = {"name": name, "error": error, "seconds": round(time.perf_counter() - began, 2)}
        rest |= {"texts": result["texts"], "metrics": result["metrics"]}
        (target / "rest.json").write_text(json.dumps(rest))


def results_of(worktree: Path, only: str, temporary: Path) -> dict[str, dict[str, Any]]:
    """What a worktree computes, case by case."""
    output, here = temporary / "results", temporary / "work"
    output.mkdir(parents=True)
    here.mkdir()
    source = (worktree / "src").resolve()
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    settings = {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}
    settings |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(source), str(output), "--only", only]
    log = temporary / "log.txt"
    with log.open("w") as stream:
        done = subprocess.run(
            command, cwd=here, env={**os.environ, **threads, **settings}, stdout=stream, stderr=stream, check=False
        )
    if done.returncode:
        sys.exit(f"{worktree}: {log.read_text()[-3000:]}")
    found = {}
    for folder in sorted(output.iterdir()):
        rest = json.loads((folder / "rest.json").read_text())
        with np.load(folder / "arrays.npz") as arrays:
            found[rest["name"]] = {**rest, "arrays": dict(arrays)}
    return found


# ---- the comparison --------------------------------------------------------------------------------------------------


def compare(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> dict[str, Any]:
    """Whether both are equal, the largest difference, and the first thing that differs.

    What only the new one has, such as another metric, is no difference; another tensor is.
    """
    if old is None:
        return {"equal": True, "difference": None, "first": "only in the new worktree"}
    if new is None:
        return {"equal": False, "difference": None, "first": "only in the old worktree"}
    if old["error"] or new["error"]:
        side = "old" if old["error"] else "new"
        return {"equal": False, "difference": None, "first": f"{side}: {old['error'] or new['error']}"[:300]}
    differing, largest = [], 0.0
    for name in sorted(old["arrays"].keys() | new["arrays"].keys()):
        a, b = old["arrays"].get(name), new["arrays"].get(name)
        if a is None and name.startswith("predicted "):
            continue
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            differing.append(f"{name}: {shape(a)}, then {shape(b)}")
        elif not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            differing.append(name)
            largest = max(largest, gap(a, b))
    for name, value in old["metrics"].items():
        other = new["metrics"].get(name)
        if other is None:
            differing.append(f"{name}: missing")
        elif not np.isclose(value, other, rtol=0, atol=METRICS_TOLERANCE, equal_nan=True):
            differing.append(name)
            largest = max(largest, gap(np.array(value), np.array(other)))
    differing += [name for name, value in old["texts"].items() if new["texts"].get(name) != value]
    if not old["arrays"]:
        differing.append("nothing was compared")
    return {"equal": not differing, "difference": largest, "first": differing[0] if differing else ""}


def shape(array: np.ndarray | None) -> str:
    """Type and shape of an array."""
    return "missing" if array is None else f"{array.dtype} {array.shape}"


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference; infinite where one is not finite and the other is."""
    with np.errstate(invalid="ignore"):
        way = np.abs(a.astype(np.float64) - b.astype(np.float64))
    way = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, way)  # inf - inf
    return float(np.where(np.isnan(way), np.inf, way).max())


def main() -> None:
    """Compare two worktrees, or be the worker of one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path, help="a worktree")
    parser.add_argument("new", type=Path, help="another")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases, such as 'fork: *'")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison there")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.old, args.new, args.only)
        return
    found, seconds = [], []
    with tempfile.TemporaryDirectory(prefix="golden.") as temporary:
        for side, worktree in (("old", args.old), ("new", args.new)):
            began = time.perf_counter()
            found.append(results_of(worktree, args.only, Path(temporary, side)))
            seconds.append(round(time.perf_counter() - began, 1))
    old, new = found
    rows = {name: compare(old.get(name), new.get(name)) for name in [*old, *(new.keys() - old.keys())]}
    if not rows:
        sys.exit(f"no case is called {args.only}")
    width = max(map(len, rows))
    for name, row in rows.items():
        result = "equal" if row["equal"] else "DIFFERS"
        largest = f"{row['difference']:.1e}" if row["difference"] else ""
        print(f"{name:{width}}  {result:7}  {largest:7}  {row['first']}".rstrip())
    if find_spec("adapters") is None:
        print("tuning: unipelt was skipped: the package adapters is not installed")
    wrong = sum(not row["equal"] for row in rows.values())
    print(f"{len(rows)} cases, {wrong} differ; {seconds[0]:.0f} s and {seconds[1]:.0f} s")
    if args.json:
        for name, row in rows.items():
            row["seconds"] = [side.get(name, {}).get("seconds") for side in found]
        args.json.write_text(json.dumps({"seconds": seconds, "cases": rows}, indent=1) + "\n", encoding="utf-8")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
