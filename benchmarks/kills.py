"""Does a study survive? Workers, the driver and Ray's head are killed at random moments until enough kills are done.

    python benchmarks/kills.py --kills 50

A small study on a tiny random model is run over and over by its command; afterwards no cell may be missing, none may
have been written twice, and the store must pass SQLite's integrity check.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import yaml
from common import environment, write
from tqdm import tqdm

COMMAND = [sys.executable, "-c", "from deni.cli import main; main()", "study", "run"]
WORDS = ("invoice money charged refund", "parcel courier box late", "password login reset account")


def tiny(folder: Path) -> tuple[str, str]:
    """A tiny random BERT with its tokenizer, and a table of texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *" ".join(WORDS).split()]
    plain = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=plain, **names).save_pretrained(folder / "model")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    BertForSequenceClassification(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder / "model")
    draw = random.Random(0)
    rows = [(" ".join(draw.choices(own.split(), k=6)), str(at)) for at, own in enumerate(WORDS) for _ in range(60)]
    lines = "".join(f"{text} {number},{label}\n" for number, (text, label) in enumerate(rows))
    (folder / "texts.csv").write_text(f"text,label\n{lines}")
    return str(folder / "model"), str(folder / "texts.csv")


def counts(store: Path) -> dict[str, int]:
    """Cells of each status; none while there is no table yet."""
    if not store.exists():
        return {}
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=30) as connection:
            return dict(connection.execute("SELECT status, count(*) FROM cells GROUP BY status").fetchall())
    except sqlite3.OperationalError:
        return {}


def victims(driver: subprocess.Popen, of: str) -> list[psutil.Process]:
    """The processes that may be killed."""
    if of == "driver":
        return [psutil.Process(driver.pid)]
    below = psutil.Process(driver.pid).children(recursive=True)
    names = {each: " ".join(each.cmdline()) for each in below if each.is_running()}
    marks = {"worker": ("spawn_main", "ray::"), "head": ("gcs_server", "raylet")}[of]
    return [
        each for each, name in names.items() if any(mark in name for mark in marks) and "resource_tracker" not in name
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--ray", type=int, default=5, help="of them, with the runner ray: half of its head")
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    plan = ["worker", "driver"] * ((args.kills - args.ray + 1) // 2)
    plan = [("processes", of) for of in plan[: args.kills - args.ray]]
    plan += [("ray", ("worker", "head")[at % 2]) for at in range(args.ray)]
    draw.shuffle(plan)
    done: dict[str, int] = {}
    studies = 0
    began = time.perf_counter()
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    bar = tqdm(total=len(plan))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, texts = tiny(folder)
        study = {"datasets": [{"path": texts}], "models": [model], "strategies": ["default", "deni"], "labelled": 60}
        study |= {"seeds": args.cells // 2, "recipe": {"epochs": 4}}
        (folder / "study.yaml").write_text(yaml.safe_dump(study))
        while plan:
            studies += 1
            store = folder / f"{studies}.db"
            finished: dict[str, str] = {}
            while counts(store).get("done", 0) < args.cells:
                runner, of = plan[-1] if plan else ("processes", "")
                how = ["--runner", runner, "--workers", "2", "--pack", "2", "--threads", "1", "--no-progress"]
                driver = subprocess.Popen(
                    [*COMMAND, folder / "study.yaml", "--store", store, *how],
                    env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                # Sometimes in the first moments, in which nothing is there yet, else while cells are trained.
                early = draw.random() < 0.2
                while of and not early and driver.poll() is None and not counts(store).get("running"):
                    time.sleep(0.05)
                moment = time.perf_counter() + draw.uniform(0, 6)
                while of and driver.poll() is None and time.perf_counter() < moment:
                    time.sleep(0.05)
                if of and driver.poll() is None and (found := victims(driver, of)):
                    draw.choice(found).send_signal(signal.SIGKILL)
                    plan.pop()
                    done[f"{runner} {of}"] = done.get(f"{runner} {of}", 0) + 1
                    bar.update()
                    if of != "worker":
                        with suppress(subprocess.TimeoutExpired):
                            driver.wait(20)
                        for each in psutil.Process().children(recursive=True):  # what a killed head leaves
                            each.kill()
                driver.wait()
                if counts(store).get("failed"):  # three workers of one pack were killed
                    subprocess.run([*COMMAND[:-1], "retry", store], env=environ, check=True, capture_output=True)
                with sqlite3.connect(store) as connection:
                    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
                    there = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'cells'").fetchone()[0]
                    select = "SELECT key, finished FROM cells WHERE status = 'done'"
                    rows = dict(connection.execute(select).fetchall()) if there else {}
                again = [key for key, at in finished.items() if rows.get(key) != at]
                assert not again, f"lost or written twice: {again}"
                finished = rows
            assert len(finished) == args.cells
    bar.close()
    said = {"kills": done, "studies": studies, "cells": args.cells, "lost": 0, "twice": 0, "integrity_check": "ok"}
    write("kills", {**environment(), **said, "seconds": round(time.perf_counter() - began)})


if __name__ == "__main__":
    main()
