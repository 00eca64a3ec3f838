"""Odd inputs for `fuzz.py`: whole ones, and what is done to them."""

from __future__ import annotations

import base64
import copy
import gzip
import io
import json
import os
import pickle
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

RAN = "FUZZ_RAN"  # environment variable: the file that code from an input makes
WORDS = ("invoice money charged refund", "parcel courier box late", "password login reset account")
LABELS = ("billing", "delivery", "login")
TEXTS, MANY, MODEL = "texts.csv", "many.csv", "model"
STEPS, STEP = 40, 33  # of the training whose checkpoint is resumed
TRAIN = [TEXTS, "--model", MODEL, "--epochs", "10", "--batch-size", "4", "--test", "0", "--no-progress"]
DENI = ["--strategy", "deni", "--members", "2"]
TEXT_ROWS = 16


class Payload:
    """Unpickled, it makes the file that `RAN` names."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (CODE,)


CODE = f"import os; open(os.environ[{RAN!r}], 'w').close()"
HIDDEN = base64.b64encode(CODE.encode()).decode()  # for places without quotes
MODULE = f"""{CODE}
from transformers import BertConfig as Config, BertForSequenceClassification as Model
from transformers import PreTrainedTokenizerFast as Tokenizer
"""
TEMPLATE = "{{ cycler.__init__.__globals__.os.popen('touch ' + cycler.__init__.__globals__.os.environ['FUZZ_RAN']) }}"
YAML_TAG = f'!!python/object/apply:builtins.exec ["{CODE}"]'

HUGE = (2**31, 2**63, 2**64, 10**30, 10**400)
NUMBERS: tuple[Any, ...] = (0, -1, 1, 2, 3, 7, 0.5, -0.0, 1e308, -1e308, 1e-320, *HUGE, *(-each for each in HUGE))
ODD_TEXTS = ("", " ", "\0", "a" * 300, "../../mine.txt", "/etc/passwd", "\ud800", "\u202e", "\x1b]0;x\x07", "[red]x[/]")
ODD_TEXTS += ("NaN", "null", "1e309", "TRUE", "ü" * 130, "{}", "%s%n", "a\nb", "nul", "\ufeff", "x" * 70_000)


@dataclass
class Case:
    """A command on an odd input.

    Args:
        argv: of `deni`.
        stdin: what it may read.
        refused: whether it must not be taken.
        changes: files that it may change: a store of an earlier version is migrated when it is opened.
    """

    argv: list[str]
    stdin: bytes = b"y\nyes\n1\n"
    refused: bool = False
    changes: tuple[str, ...] = ()


# ---- whole inputs, made by the worker -----------------------------------------------------------------------------


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


# ---- what is done to bytes, JSON and tensors ----------------------------------------------------------------------


def change_bytes(draw: random.Random, data: bytes) -> bytes:
    """Cut, flip, insert, repeat, replace."""
    at = draw.randrange(len(data) + 1)
    other = draw.choice(
        (b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\x1b[2J", b"\r", b'"', b"[" * 100_000, b"\n\n", b"9" * 5000)
    )
    kind = draw.randrange(8)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + other + data[at:]
    if kind == 2:
        return data[:at] + other + data[at + len(other) :]
    if kind == 3:
        return data[at:] + data[:at]
    if kind == 4:
        return data[:at] + data[at : at + draw.randrange(100)] * draw.randrange(1, 50) + data[at:]
    if kind == 5:
        return draw.choice((b"", b" ", b"null", b"[]", b"{}", b"0", b'""', b"\xef\xbb\xbf", b"[" * 200_000, bytes(100)))
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 3, 20))):
        if found:
            found[draw.randrange(len(found))] = draw.randrange(256)
    return bytes(found)


def odd_value(draw: random.Random, old: Any = None) -> Any:
    """A JSON value that does not fit."""
    choice = draw.randrange(9)
    if choice < 3:
        return draw.choice(NUMBERS)
    if choice == 3:
        return draw.choice((None, True, False, float("nan"), float("inf"), [], {}, [[]], {"": None}))
    if choice == 4:
        return draw.choice(ODD_TEXTS)
    if choice == 5:
        return [old, old]
    if choice == 6:
        return _shortened(old)
    if choice == 7 and isinstance(old, list | dict | str) and old:
        return old[: len(old) // 2] if isinstance(old, list | str) else dict(list(old.items())[: len(old) // 2])
    value: Any = old
    for _ in range(draw.choice((1, 20, 900, 5000))):
        value = [value] if draw.random() < 0.99 else {"a": value}
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values are in a JSON value; those far down less often."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        if len(path) < 6:
            yield from places(each, (*path, key))


def change_json(draw: random.Random, value: Any) -> Any:
    """Put an odd value somewhere, take one away, or add one."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        shallow = draw.random() < 0.6
        found = [path for path in places(value) if not shallow or len(path) == 1]
        if not found:
            return odd_value(draw, value)
        *above, key = draw.choice(found)
        parent = value
        for each in above:
            parent = parent[each]
        if draw.random() < 0.2:
            del parent[key]
        elif draw.random() < 0.1 and isinstance(parent, dict):
            parent[draw.choice(ODD_TEXTS)] = parent.pop(key)
        else:
            parent[key] = odd_value(draw, parent[key])
    return value


def dumped(value: Any) -> bytes:
    """JSON, with NaN and half surrogates as Python writes them, of any depth and length."""
    import sys

    limits = sys.getrecursionlimit(), sys.get_int_max_str_digits()
    sys.setrecursionlimit(50_000)
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value, indent=None).encode()
    finally:
        sys.setrecursionlimit(limits[0])
        sys.set_int_max_str_digits(limits[1])


def change_file(draw: random.Random, path: Path) -> None:
    """Change a file's content by its kind, or what it is."""
    kind = draw.random()
    if kind < 0.04:
        path.unlink()
        other = draw.randrange(4)
        if other == 1:
            path.mkdir()
        elif other == 2:
            path.symlink_to(draw.choice((path.name, "../mine.txt", "/dev/zero", "nowhere")))
        elif other == 3:
            os.mkfifo(path)
        return
    if kind < 0.75 and path.suffix == ".json":
        path.write_bytes(dumped(change_json(draw, json.loads(path.read_bytes()))))
    elif kind < 0.75 and path.suffix == ".safetensors":
        change_tensors(draw, path)
    else:
        path.write_bytes(change_bytes(draw, path.read_bytes()))


def _equal(one: Any, other: Any) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def change_tensors(draw: random.Random, path: Path) -> bool:
    """Change a file of tensors, which stays one; whether it can never be that of the same model."""
    from safetensors.numpy import load_file, save_file

    try:
        tensors = load_file(path)
    except Exception:  # changed before
        return False
    if not tensors:
        return False
    name = draw.choice(sorted(tensors))
    value = tensors[name]
    kind = draw.randrange(12)
    fatal = True
    if kind == 0:
        del tensors[name]
        # A tied weight has several names, of which one will do.
        fatal = not any(key.endswith(name) or name.endswith(key) for key in tensors if _equal(tensors[key], value))
    elif kind == 1:
        tensors[draw.choice(("x", "", "../x", name + ".x", name[:-1]))] = tensors.pop(name)
    elif kind == 2:
        tensors[draw.choice(("x", "x@ids", "classifier.other"))] = value.copy()
    elif kind == 3:
        tensors[name] = value[: len(value) // 2].copy() if value.ndim else value.copy()
        fatal = bool(value.ndim)
    elif kind == 4:
        tensors[name] = value[:0].copy() if value.ndim else value.copy()
        fatal = bool(value.ndim)
    elif kind == 5 and value.dtype.kind == "f":
        odd = value.copy()
        odd.reshape(-1)[draw.randrange(odd.size)] = draw.choice((np.nan, np.inf, -np.inf))
        tensors[name] = odd
    elif kind == 6 and value.dtype.kind == "f":
        tensors[name] = value.astype(draw.choice((np.int64, np.int8, np.bool_)))
    elif kind == 7 and value.dtype.kind == "f":
        tensors[name] = value.astype(np.float64)
        fatal = False
    elif kind == 8:
        tensors = {key: each[: max(1, len(each) // 2)].copy() if each.ndim else each for key, each in tensors.items()}
        fatal = any(each.ndim and len(each) > 1 for each in (value,))
    elif kind == 9:
        tensors[name] = np.expand_dims(value, draw.randrange(value.ndim + 1)).copy()
        fatal = True
    elif kind == 10:
        tensors = {}
    elif kind == 11 and value.dtype.kind == "i":
        tensors[name] = value + draw.choice((-(10**6), 10**6, -(2**62), 1))
        fatal = False
    else:
        fatal = False
    save_file(tensors, path, metadata={"format": "pt"})
    return fatal


# ---- kinds ----------------------------------------------------------------------------------------------------------


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


def _odd_frame(draw: random.Random) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for at in range(draw.choice((1, 3, 16, 60))):
        row: dict[str, Any] = {"text": f"{WORDS[at % 3]} {at}", "label": LABELS[at % 3]}
        for name in ("text", "label"):
            if draw.random() < 0.08:
                row[name] = odd_value(draw, row[name])
        if draw.random() < 0.05:
            row.pop(draw.choice(("text", "label")))
        rows.append(row)
    return rows


def _written(draw: random.Random, path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as the suffix says, with whatever they hold."""
    import csv

    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    if suffix in ("csv", "tsv"):
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, ["text", "label"], delimiter="\t" if suffix == "tsv" else ",", restval="")
        writer.writeheader()
        writer.writerows({key: _shortened(value) for key, value in row.items()} for row in rows)
        data = buffer.getvalue().encode("utf-8", "surrogatepass")
    elif suffix == "conll":
        data = "".join(f"{_shortened(row.get('text'))[:200]} {_shortened(row.get('label'))}\n" for row in rows).encode(
            "utf-8", "replace"
        )
    elif suffix == "parquet":
        data = _parquet(draw, rows)
    elif suffix == "json":
        data = dumped(rows)
    else:
        data = b"".join(dumped(row) + b"\n" for row in rows)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def _shortened(value: Any) -> str:
    if isinstance(value, int):
        return "9" * 400 if abs(value) > 10**300 else str(value)
    try:
        return str(value)
    except (RecursionError, ValueError):  # nested too deep, or too many digits
        return "["


def _parquet(draw: random.Random, rows: list[dict[str, Any]]) -> bytes:
    kinds = [
        *(pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("s", "Europe/Paris"), pa.timestamp("s", "Nowhere/Else")),
        *(pa.date32(), pa.date64(), pa.time64("ns"), pa.duration("s"), pa.decimal128(38, 10), pa.int64(), pa.uint64()),
        *(pa.float16(), pa.float64(), pa.bool_(), pa.binary(), pa.null(), pa.large_string(), pa.list_(pa.string())),
        *(pa.list_(pa.date32()), pa.struct([("a", pa.timestamp("us"))]), pa.map_(pa.string(), pa.int64())),
        pa.dictionary(pa.int32(), pa.string()),
    ]
    count = len(rows)
    columns = {
        "text": pa.array([f"text {at} {WORDS[at % 3]}" for at in range(count)]),
        "label": pa.array([LABELS[at % 3] for at in range(count)]),
    }
    for _ in range(draw.choice((1, 1, 2))):
        name = draw.choice(("text", "label", "when", "a\nb", "\x1b"))
        kind = draw.choice(kinds)
        columns[name] = _odd_array(draw, kind, count)
    if draw.random() < 0.2:  # bytes that are no UTF-8 in a column of strings
        bad = [draw.choice((b"ok", b"\xff\xfe", b"\xed\xa0\x80", None)) for _ in range(count)]
        binary = pa.array(bad, pa.binary())
        columns[draw.choice(("text", "label", "more"))] = pa.Array.from_buffers(
            pa.string(), count, binary.buffers(), binary.null_count
        )
    return _parquet_of(columns, store_schema=draw.random() < 0.7)


def _parquet_of(columns: dict[str, Any], **how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(pa.table(columns), sink, **how)
    except pa.ArrowException:  # such as seconds, which Parquet does not have and which overflow as milliseconds
        return _parquet_of({name: values for name, values in columns.items() if not pa.types.is_temporal(values.type)})
    return sink.getvalue().to_pybytes()


def _odd_array(draw: random.Random, kind: pa.DataType, count: int) -> pa.Array:
    whole = pa.array(
        [draw.choice((0, 1, -1, 2**40, -(2**40), 2**62, -(2**63), None)) for _ in range(count)], pa.int64()
    )
    try:
        if pa.types.is_temporal(kind):
            base = whole
            if kind.bit_width == 32:
                base = pa.array([draw.choice((0, -(2**31), 2**31 - 1, 10**7, None)) for _ in range(count)], pa.int32())
            return base.view(kind)
        if pa.types.is_list(kind) and kind.value_type == pa.date32():
            inner = pa.array([2**31 - 1] * count, pa.int32()).view(pa.date32())
            return pa.ListArray.from_arrays(pa.array(range(count + 1), pa.int32()), inner)
        if pa.types.is_struct(kind):
            return pa.StructArray.from_arrays([whole.view(pa.timestamp("us"))], ["a"])
        if pa.types.is_floating(kind):
            return pa.array(
                [draw.choice((0.0, float("nan"), float("inf"), None)) for _ in range(count)], pa.float64()
            ).cast(kind)
        if pa.types.is_decimal(kind):
            return pa.array([None] * count, kind)
        if kind == pa.bool_():
            return pa.array([draw.choice((True, False, None)) for _ in range(count)], kind)
        if kind == pa.uint64():
            return whole.view(kind)
        if kind == pa.int64():
            return whole
        if pa.types.is_binary(kind):
            return pa.array([draw.choice((b"", b"a", b"\xff", None)) for _ in range(count)], kind)
        if pa.types.is_map(kind):
            return pa.array([[("a", 1)]] * count, kind)
        if pa.types.is_list(kind):
            return pa.array([draw.choice((["a", "b"], [], None, [""], [None])) for _ in range(count)], kind)
        return pa.array([draw.choice(("a", "", " ", None, "\u202e")) for _ in range(count)], pa.string()).cast(kind)
    except (pa.ArrowException, TypeError, ValueError):
        return pa.array([None] * count, pa.string())


def data(draw: random.Random, whole: Path, here: Path) -> Case:
    """A file of texts, odd by its values or its bytes."""
    suffix = draw.choice(("csv", "csv", "tsv", "jsonl", "jsonl", "json", "parquet", "parquet", "conll"))
    file = here / f"given.{suffix}{draw.choice(('', '', '', '.gz'))}"
    _written(draw, file, _odd_frame(draw))
    if draw.random() < 0.4:
        file.write_bytes(change_bytes(draw, file.read_bytes()))
    stdin, name = b"y\n", file.name
    if suffix == "csv" and file.suffix == ".csv" and draw.random() < 0.1:
        stdin, name = file.read_bytes(), "-"
    task = ["--task", draw.choice(("multi_label", "regression", "token", "ordinal", "single_label"))]
    more = task if suffix == "conll" or draw.random() < 0.4 else []
    kind = draw.random()
    if kind < 0.45:
        return Case(["inspect", name, "--model", MODEL, *more], stdin)
    if kind < 0.6:
        return Case(["inspect", TEXTS, "--test", name, "--model", MODEL], stdin)
    output = draw.choice(("out.csv", "out.tsv", "out.jsonl", "out.parquet", "-"))
    shutil.copytree(whole / "artifacts" / ("token" if suffix == "conll" else "2_full"), here / "m")
    if kind < 0.85:
        return Case(["predict", "m", name, "--output", output], stdin)
    if kind < 0.95:
        return Case(["evaluate", "m", name], stdin)
    short = ["--epochs", "1", "--strategy", "default", "--no-progress", "--output", "out"]
    return Case(["train", name, "--model", MODEL, *short, *more], stdin)


def journal(draw: random.Random, whole: Path, here: Path) -> Case:
    """What an unfinished augmentation left, changed; or a changed file of augmented texts."""
    if draw.random() < 0.25:
        suffix = draw.choice(("csv", "jsonl", "parquet"))
        rows = [{"seed": row.get("text"), **row} for row in _odd_frame(draw)] if suffix == "jsonl" else []
        file = here / f"a.{suffix}"
        if suffix == "csv":
            file.write_bytes(change_bytes(draw, (whole / "augmented.csv").read_bytes()))
        elif suffix == "jsonl":
            file.write_bytes(b"".join(dumped({**row, "seed": odd_value(draw, row["seed"])}) + b"\n" for row in rows))
        else:
            table = pa.table(
                {"seed": _odd_array(draw, draw.choice((pa.int64(), pa.date32(), pa.string())), 5), "text": ["a"] * 5}
            )
            file.write_bytes(_parquet_of(dict(zip(table.column_names, table.columns, strict=True))))
        short = ["--epochs", "1", "--test", "0", "--no-progress", "--output", "out"]
        return Case(["train", TEXTS, "--model", MODEL, "--strategy", "augmentation", "--augmented", file.name, *short])
    file = here / "out.csv.partial.jsonl"
    raw = (whole / "journal.jsonl").read_bytes()
    lines = raw.splitlines()
    at = draw.randrange(len(lines))
    kind = draw.random()
    if kind < 0.6:
        lines[at] = dumped(change_json(draw, json.loads(lines[at])))
    elif kind < 0.7:
        lines.insert(at, draw.choice(lines))
    elif kind < 0.8:
        draw.shuffle(lines)
    else:
        lines[at] = change_bytes(draw, lines[at])
    file.write_bytes(b"\n".join(lines) + draw.choice((b"\n", b"", b"\n{")))
    return Case(["augment", MANY, *EASY, "--output", "out.csv"])


def store(draw: random.Random, whole: Path, here: Path) -> Case:
    """A store or archive, changed in its values or its bytes."""
    archive = draw.random() < 0.35
    file = here / ("s.parquet" if archive else "s.db")
    shutil.copy(whole / ("study.parquet" if archive else "study.db"), file)
    if draw.random() < 0.4:
        file.write_bytes(change_bytes(draw, file.read_bytes()))
    elif archive:
        _change_archive(draw, file)
    else:
        _change_store(draw, file)
    report = ["report", file.name, "--output", "out.html", "--csv", "out.csv", "--markdown", "out.md", "--no-progress"]
    merge = ["study", "merge", "out.db", file.name]
    commands = [report, merge, ["study", "export", file.name, "--output", "out.csv"]]
    if not archive:
        commands += [["study", "status", file.name], ["study", "check", file.name, "--output", "out.db"]]
    return Case(draw.choice(commands), changes=(file.name,))


def _changed_cell(draw: random.Random, value: Any) -> Any:
    if isinstance(value, bytes):
        return change_bytes(draw, value)
    if isinstance(value, str) and value[:1] in "{[" and draw.random() < 0.7:
        return dumped(change_json(draw, json.loads(value))).decode()
    if isinstance(value, str) and draw.random() < 0.5:
        return change_bytes(draw, value.encode()).decode(errors="replace")
    return draw.choice((None, "", 0, -1, 2**62, 1e308, "x", b"\xff", "\0"))


def _change_store(draw: random.Random, file: Path) -> None:
    with sqlite3.connect(file) as base:
        tables = ("cells", "outputs")
        table = draw.choice(tables)
        names = [row[1] for row in base.execute(f"PRAGMA table_info({table})")]
        kind = draw.random()
        try:
            if kind < 0.7:
                name = draw.choice(names)
                rows = base.execute(f'SELECT rowid, "{name}" FROM {table}').fetchall()
                number, value = draw.choice(rows)
                base.execute(f'UPDATE {table} SET "{name}" = ? WHERE rowid = ?', (_changed_cell(draw, value), number))
            elif kind < 0.8:
                odd = draw.choice(('x"; DROP TABLE cells; --', "x", "key2", "status) VALUES (1", "\x1b[2J"))
                base.execute(f'ALTER TABLE {table} ADD COLUMN "{odd.replace(chr(34), chr(34) * 2)}" TEXT')
            elif kind < 0.87:
                base.execute(f'ALTER TABLE {table} DROP COLUMN "{draw.choice(names)}"')
            elif kind < 0.92:
                base.execute(
                    f"PRAGMA {draw.choice(('user_version', 'application_id'))} = {draw.choice((0, 1, 99, -1))}"
                )
            elif kind < 0.96:
                base.execute(f"DROP TABLE {table}")
            else:
                base.execute(f"CREATE TRIGGER t AFTER UPDATE ON {table} BEGIN DELETE FROM {table}; END")
        except sqlite3.Error:
            base.execute("DELETE FROM outputs")
    base.close()


def _change_archive(draw: random.Random, file: Path) -> None:
    table = pq.read_table(file)
    name = draw.choice(table.column_names)
    at = table.column_names.index(name)
    kind = draw.random()
    if kind < 0.7:
        values = table.column(name).to_pylist()
        row = draw.randrange(len(values))
        values[row] = _changed_cell(draw, values[row])
        try:
            table = table.set_column(at, name, pa.array(values, table.column(name).type))
        except (pa.ArrowException, TypeError, OverflowError, ValueError):
            table = table.set_column(at, name, pa.array([str(each) for each in values]))
    elif kind < 0.85:
        table = table.drop_columns([name])
    else:
        odd = draw.choice(('x"; DROP TABLE cells; --', "x", name.upper(), ""))
        table = table.append_column(odd, pa.array(["1"] * table.num_rows))
    pq.write_table(table, file)


def study(draw: random.Random, whole: Path, here: Path) -> Case:
    """A study file, changed in its values or its text; it is only planned."""
    file = here / "study.yaml"
    kind = draw.random()
    if kind < 0.55:
        value = change_json(draw, STUDY)
        try:
            file.write_bytes(yaml.safe_dump(value, sort_keys=False).encode("utf-8", "surrogatepass"))
        except (RecursionError, ValueError):
            file.write_bytes(b"a: " + b"[" * 5000)
    elif kind < 0.75:
        file.write_bytes(change_bytes(draw, (whole / "study.yaml").read_bytes()))
    elif kind < 0.9:
        text = (whole / "study.yaml").read_text().splitlines()
        at = draw.randrange(len(text))
        name, colon, _ = text[at].partition(":")
        odd = (YAML_TAG, "!!binary eA==", "&a [*a]", "!!set {a, b}", "2001-02-31", "0o7", "1_0", "0x10", ".nan", ".inf")
        odd += ("!!python/name:os.system", "*a", "<<: *b", "1:30", "~", "1e400", "9" * 5000, "!!int x", "!!float y")
        text[at] = f"{name}{colon} {draw.choice(odd)}"
        file.write_text("\n".join(text) + "\n")
    else:
        bomb = ["a0: &a0 [x, x]", *(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]" for at in range(1, 30))]
        file.write_text("\n".join([*bomb, "datasets: *a29", "models: [model]", ""]))
    return Case(["study", "run", file.name, "--store", "out.db", "--dry-run", *draw.choice(([], ["--workers", "1"]))])


# Numbers that are refused, or small enough to be trained with at once.
FLAG_VALUES = (
    "0",
    "-1",
    "-0",
    "1",
    "2",
    "nan",
    "inf",
    "-inf",
    "1e30",
    "1e308",
    "1e309",
    "1e-320",
    "",
    " ",
    "x",
    "0x10",
    "1_0",
)
FLAG_VALUES += (
    "\u0663",
    "9" * 20,
    "9" * 400,
    "9" * 5000,
    "-" + "9" * 30,
    str(2**31),
    str(2**63),
    "1.5",
    ".5",
    "--",
    "true",
)
FLAG_VALUES += (
    "None",
    "\ud800",
    "\u202e",
    "a,b,c",
    "a" * 300,
    "\x1b[2J",
    "[x]",
    "0.2",
    "3",
    "1e",
    "1e400",
    "+1",
    "1 2",
)


def commands() -> dict[tuple[str, ...], Any]:
    """All commands of deni, by their names."""
    import click

    from deni.cli import main

    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                yield from below(command.get_command(context, name), (*path, name))
        else:
            yield path, command

    return dict(below(main, ()))


def options() -> dict[str, list[tuple[str, bool]]]:
    """The flags of each command that is tried, and whether they take a value."""
    found = {}
    for path, command in commands().items():
        flags = [(each.opts[0], not each.is_flag) for each in command.params if each.param_type_name == "option"]
        found[" ".join(path)] = flags
    return found


WAITS = (
    "--address",
    "--runner",
    "--workers",
    "--yes",
    "--base-url",
    "--llm-model",
    "--report-to",
    "--via",
    "--debug",
    "--gpus-per-worker",
)
WAITS += (
    "--processes",
    "--json",
    "--as-json",
    "--cache",
    "--trunks",
    "--store",
    "--output",
    "--csv",
    "--markdown",
    "--latex",
    "--figures",
)
WAITS += ("--minutes",)


def flags(draw: random.Random, whole: Path, here: Path) -> Case:
    """A command with odd values of its flags."""
    known = json.loads((whole / "options.json").read_text())
    shutil.copytree(whole / "artifacts" / "2_full", here / "m")
    shutil.copy(whole / "study.db", here / "s.db")
    shutil.copy(whole / "study.yaml", here / "study.yaml")
    quick = ["--model", MODEL, "--no-progress"]
    given = {
        "train": [TEXTS, *quick, "--epochs", "1", "--strategy", draw.choice(STRATEGIES), "--tuning",
                  draw.choice(TUNINGS), "--output", "out"],
        "strategies show": [draw.choice(STRATEGIES)],
        "strategies list": [],
        "tunings show": [draw.choice(TUNINGS)],
        "augment": [TEXTS, *EASY, "--output", "out.csv", "--no-progress"],
        "inspect": [TEXTS, "--model", MODEL],
        "predict": ["m", TEXTS, "--output", "out.csv"],
        "evaluate": ["m", TEXTS],
        "export": ["m", "out"],
        "study run": ["study.yaml", "--store", "out.db", "--dry-run"],
        "study export": ["s.db", "--output", "out.csv"],
        "study retry": ["s.db"],
        "report": ["s.db", "--output", "out.html", "--no-progress"],
        "diagnose": [TEXTS, *quick, "--labeled", "9", "--epochs", "1", "--store", "out.db", "--dry-run"],
    }  # fmt: skip
    weights = [
        6 if name == "train" else 2 if name in ("diagnose", "strategies show", "study run") else 1 for name in given
    ]
    (name,) = draw.choices([each for each in given if each in known], weights[: len(given)])
    argv = [*name.split(), *given[name]]
    choice = [(flag, value) for flag, value in known[name] if flag not in WAITS]
    for flag, takes in draw.sample(choice, min(len(choice), draw.choice((1, 1, 1, 2, 3)))):
        argv += [flag, draw.choice(FLAG_VALUES)] if takes else [flag]
    if draw.random() < 0.1:
        places_ = [at for at, word in enumerate(argv) if not word.startswith("--") and at >= len(name.split())]
        at = draw.choice(places_) if places_ else 0
        before = argv[at - 1] if at else ""
        if at and before not in ("--output", "--store", "--epochs") and argv[at] != "out":
            argv[at] = draw.choice(FLAG_VALUES)
    return Case(argv)


STRATEGIES = (
    "default",
    "deni",
    "ensemble",
    "swa",
    "ema",
    "mixout",
    "prior_noise",
    "input_noise",
    "noisy_interpolation",
    "l2_sp",
    "llrd",
)
STRATEGIES += ("weight_noise", "delayed_ensemble", "best_practices", "linear_probe", "reinit", "soup", "swa+deni")
TUNINGS = ("full", "lora", "ia3", "prompt")

KINDS: dict[str, Callable[[random.Random, Path, Path], Case]] = {
    "artifact": artifact,
    "model": model,
    "checkpoint": checkpoint,
    "data": data,
    "journal": journal,
    "store": store,
    "study": study,
    "flags": flags,
}
