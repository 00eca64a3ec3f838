"""Does a study survive? Workers, drivers and Ray's head are killed at random moments until enough kills are done.

    python benchmarks/kills.py --kills 50
    python benchmarks/kills.py --of commands --kills 100 --others 10

A small study on a tiny random model is run over and over by its command: in processes, on a Ray that the command starts
itself, and on one that it is attached to. After each run no finished cell may be missing or written again, and the
store must pass SQLite's integrity check; a finished study must say what one says that nobody disturbed.

`--of commands` kills `train`, `predict`, `export`, `augment` and `report`, see `kills_of_commands.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from common import environment, write
from tqdm import tqdm

from deni.study.store.database import Store

STUDY = [sys.executable, "-c", "from deni.cli import main; main()", "study"]
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", "--block"]
WORDS = ("invoice money charged refund", "parcel courier box late", "password login reset account")
# What is killed under which runner, in equal parts; a run of processes begins fastest.
VICTIMS = {
    "processes": ("worker", "driver") * 8,
    "ray": ("worker", "driver", "head"),
    "ray, attached": ("worker", "driver", "head"),
}
MARKS = {"process": ("spawn_main",), "worker": ("ray::work",), "head": ("gcs_server", "raylet/raylet")}
PATIENCE = 240  # seconds until a driver without its head counts as hung


def tiny(folder: Path, cells: int) -> Path:
    """A study of a tiny random BERT on a few texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *" ".join(WORDS).split()]
    plain = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=plain, **names).save_pretrained(folder / "model")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder / "model")
    draw = random.Random(0)
    rows = [(" ".join(draw.choices(own.split(), k=6)), str(at)) for at, own in enumerate(WORDS) for _ in range(60)]
    lines = "".join(f"{text} {number},{label}\n" for number, (text, label) in enumerate(rows))
    (folder / "texts.csv").write_text(f"text,label\n{lines}")
    study = {"datasets": [{"path": str(folder / "texts.csv")}], "models": [str(folder / "model")]}
    study |= {
        "strategies": ["default", {"name": "deni", "members": 3}],
        "labelled": 60,
        "seeds": cells // 2,
        "recipe": {"epochs": 4},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder / "study.yaml"


def quota(kills: int, draw: random.Random) -> dict[str, list[str]]:
    """The victims of each runner, in random order."""
    each = [(runner, of) for runner, victims in VICTIMS.items() for of in victims]
    chosen = [each[at % len(each)] for at in range(kills)]
    draw.shuffle(chosen)
    return {runner: [of for its, of in chosen if its == runner] for runner in VICTIMS}


@contextmanager
def ray_head(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A Ray of its own, and where it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ["--port", str(port), "--num-cpus", "4", "--temp-dir", folder / "ray", "--include-dashboard", "false"]
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environ = {**os.environ, "RAY_AUTH_MODE": "disabled"}  # `ray start` asks for a token where ~/.ray has one
    head = subprocess.Popen([*RAY, "--node-ip-address", "127.0.0.1", *own], env=environ, **silent)
    process = psutil.Process(head.pid)
    try:
        while head.poll() is None and not any("raylet/raylet" in name for _, name in below(process)):
            time.sleep(0.1)
        yield process, f"127.0.0.1:{port}"
    finally:
        end([each for each, _ in below(process)], 0)
        head.kill()
        head.wait()


def below(*roots: psutil.Process) -> list[tuple[psutil.Process, str]]:
    """The processes that others started, and their command lines."""
    found = []
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            for each in root.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    found.append((each, " ".join(each.cmdline())))
    return found


def end(processes: list[psutil.Process], seconds: float) -> None:
    """Wait for processes; kill those that stay."""
    for each in psutil.wait_procs(processes, timeout=seconds)[1]:
        with suppress(psutil.NoSuchProcess):
            each.kill()


class Checked:
    """What a store must keep from one run to the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, tuple[str, int]] = {}
        self.lost, self.twice, self.damaged = 0, 0, 0

    def finished(self) -> int:
        """How many cells are done."""
        with suppress(sqlite3.OperationalError):  # no table yet
            return len(self._rows("SELECT 1 FROM cells WHERE status = 'done'"))
        return 0

    def running(self, driver: int, done: int) -> bool:
        """Whether a driver trains cells at present, and more than some are done."""
        with suppress(sqlite3.OperationalError):  # no table yet
            its = self._rows(f"SELECT 1 FROM cells WHERE status = 'running' AND worker LIKE '%:{driver}:%'")
            return bool(its) and self.finished() > done
        return False

    def look(self) -> None:
        """Compare with what was there before."""
        self.damaged += self._rows("PRAGMA integrity_check") != [("ok",)]
        select = "SELECT key, finished, attempts FROM cells JOIN outputs USING (key) WHERE status = 'done'"
        rows = self._rows(select) if self._rows("SELECT name FROM sqlite_master WHERE name = 'cells'") else []
        now = {key: (finished, attempts) for key, finished, attempts in rows}
        self.lost += len(self.done.keys() - now.keys())
        self.twice += len(rows) - len(now) + sum(now[key] != was for key, was in self.done.items() if key in now)
        self.done = now

    def _rows(self, select: str) -> list[tuple]:
        if not self.path.exists():
            return []
        connection = sqlite3.connect(self.path, timeout=30)
        try:
            return connection.execute(select).fetchall()
        finally:
            connection.close()


def said(path: Path) -> dict[str, np.ndarray]:
    with Store(path) as store:
        return {row.key: store.outputs(row.key).log_probs for row in store.results()}


class Killing:
    """Runs a study again and again, and kills what runs."""

    def __init__(self, folder: Path, study: Path, left: dict[str, list[str]], draw: random.Random) -> None:
        self.folder, self.study, self.left, self.draw = folder, study, left, draw
        self.environ = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_AUTH_MODE": "disabled"}
        self.kills: Counter[str] = Counter()
        self.runs, self.hung, self.tracebacks, self.retried, self.slowest = 0, 0, 0, 0, 0.0
        self.bar = tqdm(total=sum(map(len, left.values())), unit="kill")

    def command(self, store: Path, runner: str, *more: str) -> list[Any]:
        own = ["--runner", runner.partition(",")[0], "--workers", "2", "--pack", "2", "--threads", "1", "--no-progress"]
        return [*STUDY, "run", self.study, "--store", store, *own, *more]

    def run(self, store: Checked) -> None:
        """Run the study once, with kills while there are some to do."""
        self.runs += 1
        runner = self.draw.choice([name for name, victims in self.left.items() if victims] or ["processes"])
        if runner == "ray, attached":
            with ray_head(self.folder) as (head, address):
                self._attend(store, runner, ["--address", address], [head])
        else:
            self._attend(store, runner, [], [])
        with Store(store.path, create=True) as opened:  # three workers of one pack may have been killed
            self.retried += opened.retry()

    def _attend(self, store: Checked, runner: str, more: list[str], roots: list[psutil.Process]) -> None:
        log = self.folder / "stderr"
        with log.open("w") as file:
            silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": file}
            driver = subprocess.Popen(self.command(store.path, runner, *more), env=self.environ, **silent)
        roots = [psutil.Process(driver.pid), *roots]
        # Sometimes in the first moments, in which nothing is there yet, else while cells are trained.
        early = self.draw.random() < 0.3
        of, after, done = "", [], -1
        while driver.poll() is None and of in ("", "worker") and self.left[runner]:
            # A new worker gets the time to begin: one that is killed three times makes its cells fail.
            while driver.poll() is None and not early and not store.running(driver.pid, done):
                time.sleep(0.05)
            early, done = False, store.finished()
            moment = time.monotonic() + self.draw.uniform(0, 3)
            while driver.poll() is None and time.monotonic() < moment:
                time.sleep(0.05)
            after = [each for each, _ in below(*roots)]
            of = self._kill(self.left[runner], driver, roots, runner)
        try:
            began = time.monotonic()
            driver.wait(PATIENCE if of == "head" else None)
        except subprocess.TimeoutExpired:
            self.hung += 1
            driver.kill()
            driver.wait()
        if of == "head":
            self.slowest = max(self.slowest, time.monotonic() - began)
        end(after, 10)
        text = log.read_text()
        if "Traceback" in text or (of == "head" and driver.returncode not in (0, 1, 2)):
            self.tracebacks += 1
            tqdm.write(f"{runner} {of}: exit code {driver.returncode}\n{text[-3000:]}")

    def _kill(self, victims: list[str], driver: subprocess.Popen, roots: list[psutil.Process], runner: str) -> str:
        """Kill the next victim if it is there; who it was."""
        of = victims[-1]
        marks = MARKS.get("process" if (runner, of) == ("processes", "worker") else of, ())
        found = [each for each, name in below(*roots) if any(mark in name for mark in marks)]
        found = [psutil.Process(driver.pid)] if of == "driver" and driver.poll() is None else found
        if driver.poll() is not None or not found:
            return ""
        self.draw.choice(found).kill()
        victims.pop()
        self.kills[f"{runner}: {of}"] += 1
        self.bar.update()
        return of


def of_commands(args: argparse.Namespace) -> None:
    from kills_of_commands import kill_commands

    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    result = {**environment(), **kill_commands(args.kills, args.others, args.seed, tiny)}
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    else:
        write("kills_of_commands", result)
    bad = ("stuck", "different", "half_written")
    if any(each[name] for each in result["commands"].values() for name in bad):
        sys.exit("a command did not survive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", choices=["study", "commands"], default="study", help="what is killed")
    parser.add_argument("--kills", type=int, default=50, help="how often; of commands: how often train")
    parser.add_argument("--others", type=int, default=10, help="how often each other command is killed")
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="file to write, in place of one among the results")
    args = parser.parse_args()
    if args.of == "commands":
        return of_commands(args)
    draw = random.Random(args.seed)
    began = time.perf_counter()
    stores = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        killing = Killing(folder, tiny(folder, args.cells), quota(args.kills, draw), draw)
        undisturbed = folder / "undisturbed.db"
        command = killing.command(undisturbed, "processes")
        subprocess.run(command, env=killing.environ, check=True, stdout=subprocess.DEVNULL)
        want, apart = said(undisturbed), 0.0
        while any(killing.left.values()):
            store = Checked(folder / f"{len(stores)}.db")
            stores.append(store)
            while len(store.done) < args.cells:
                killing.run(store)
                store.look()
            have = said(store.path)
            apart = max([apart, *(float(np.abs(have[key] - want[key]).max()) for key in want)])
    killing.bar.close()
    result = {
        "kills": dict(sorted(killing.kills.items())),
        "runs": killing.runs,
        "studies": len(stores),
        "cells": args.cells * len(stores),
        "lost": sum(each.lost for each in stores),
        "twice": sum(each.twice for each in stores),
        "damaged": sum(each.damaged for each in stores),
        "failed_and_retried": killing.retried,
        "largest_difference": apart,
        "hung": killing.hung,
        "tracebacks": killing.tracebacks,
        "slowest_end_without_head": round(killing.slowest, 1),
        "seconds": round(time.perf_counter() - began),
    }
    found = environment()
    found["versions"]["ray"] = version("ray")
    write("kills", {**found, **result})
    if any(result[name] for name in ("lost", "twice", "damaged", "hung", "tracebacks")):
        sys.exit("a study did not survive")


if __name__ == "__main__":
    main()
