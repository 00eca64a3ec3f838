"""Do commands survive? `train`, `predict`, `export`, `augment` and `report` are killed at their file operations.

Part of `kills.py`, which says how to run it. Each command is run once undisturbed, and the operations on its outputs
are noted: what is opened, made, renamed, removed. Then it is run again and again, and gets a SIGKILL before one of
these operations, or a random time after it, in the middle of what it writes. Commands are forked from one process
that has imported everything: a kill takes the whole process that works, and a hundred of them take minutes.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

TIME = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
PATIENCE = 300  # seconds until a command counts as hung
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.chmod", "shutil.rmtree")
TINY = ["--batch-size", "8", "--labeled", "48", "--learning-rate", "0.001", "--no-progress", "--model"]
# All keep one checkpoint; with a dev split also the best, which the end of the training loads.
STOPPING = ["--dev", "0.2", "--early-stopping-patience", "3", "--learning-rate", "1e-8"]  # stops after four epochs
TRAININGS = {
    "train": ["--strategy", "deni", "--members", "2", "--epochs", "3", "--save-steps", "4"],
    "train, best checkpoint": ["--strategy", "delayed_ensemble", "--members", "2", "--epochs", "5", "--dev", "0.2"],
    "train, early stopping": ["--strategy", "default", "--epochs", "8", *STOPPING],
}


@dataclass(frozen=True)
class Operation:
    """A file operation of an undisturbed run.

    Args:
        number: counted from 1.
        path: of what; empty where it is relative to an open folder.
        seconds: until the next one.
    """

    number: int
    path: str
    seconds: float


@dataclass
class Counts:
    """What came of the kills of one command."""

    kills: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)  # how the command went on
    stuck: int = 0
    different: int = 0
    half_written: int = 0
    left: Counter[str] = field(default_factory=Counter)  # temporary files next to a finished output

    def result(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "kills": sum(self.kills.values()),
            "killed": dict(sorted(self.kills.items())),
            "went_on": dict(sorted(self.again.items())),
            "stuck": self.stuck,
            "different": self.different,
            "half_written": self.half_written,
            "left_behind": dict(sorted(self.left.items())),
        }


# ---- processes -------------------------------------------------------------------------------------------------------


def command_line(arguments: list[str]) -> int:
    """Run `deni`; its exit code."""
    from deni.cli import main

    sys.argv = ["deni", *arguments]
    try:
        main(arguments, prog_name="deni")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def fork(
    work: list[str] | Callable[[], int],
    folder: Path,
    log: Path,
    at: int = 0,
    delay: float = 0.0,
    notes: Path | None = None,
) -> tuple[int, str]:
    """Run a command in a process of its own.

    Args:
        work: the arguments of `deni`, or a function that returns an exit code.
        folder: whose file operations count.
        at: the operation before which it is killed; 0 for none.
        delay: seconds from then to the kill, in which it works on.
        notes: where to write the operations, as JSON.

    Returns:
        exit code, negative for a signal, and what it printed.
    """
    process = os.fork()
    if not process:
        _work(partial(command_line, work) if isinstance(work, list) else work, folder, log, at, delay, notes)
    deadline = time.monotonic() + PATIENCE
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), log.read_text(encoding="utf-8", errors="replace")
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return 124, "hung"
        time.sleep(0.005)


def _work(work: Callable[[], int], folder: Path, log: Path, at: int, delay: float, notes: Path | None) -> None:
    """In the new process: count file operations, kill it at one of them, run the command, end."""
    seen: list[tuple[float, str]] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in EVENTS:
            return
        path = os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else ""
        relative = event in ("os.remove", "os.rmdir") and not os.path.isabs(path)  # to a folder that is being removed
        if not relative and not path.startswith(str(folder)):
            return
        seen.append((time.monotonic(), "" if relative else path))
        if len(seen) == at:
            kill(delay)

    def kill(delay: float) -> None:
        own = os.getpid()
        if delay and os.fork():  # another process kills, also in the midst of a call
            return
        time.sleep(delay)
        os.kill(own, signal.SIGKILL)
        os._exit(0)

    code = 1
    try:
        opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, 1)
        os.dup2(opened, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        sys.addaudithook(hook)
        code = work()
        at = -1
        if notes is not None:
            notes.write_text(json.dumps([seen, sorted(sys.modules)]))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


# ---- what is there ---------------------------------------------------------------------------------------------------


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of a file, or of each file in a folder, the time of a page left out; nothing where there is none."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {
        each.relative_to(path).as_posix(): hashlib.sha256(TIME.sub(b"", each.read_bytes())).hexdigest()
        for each in files
        if each.is_file()
    }


def whole(checkpoint: Path) -> bool:
    """Whether a checkpoint has all that its manifest lists, read here by other code than deni's."""
    try:
        listed = json.loads((checkpoint / "manifest.json").read_text())["files"]
    except (OSError, ValueError, KeyError):
        return False
    found = digests(checkpoint)
    del found["manifest.json"]
    return found == {name: row["sha256"] for name, row in listed.items()} and "optimizer.pt" in found


def same_model(path: Path, other: Path) -> bool:
    """Whether two artifacts have the same weights to the bit, the same files, metrics and cost."""
    infos = [json.loads((each / "deni.json").read_text()) for each in (path, other)]
    keys = ("metrics", "member_steps", "schedule", "members", "runs", "labels")
    weights = ("population.safetensors", "base.safetensors")
    found = [digests(each) for each in (path, other)]
    return (
        found[0].keys() == found[1].keys()
        and all(found[0][name] == found[1][name] for name in weights)
        and all(infos[0].get(key) == infos[1].get(key) for key in keys)
        and infos[0]["files"].keys() == infos[1]["files"].keys()
    )


# ---- commands --------------------------------------------------------------------------------------------------------


class Killing:
    """Runs commands, kills them, and looks at what is there.

    Args:
        root: a folder with `model`, a tiny encoder, and `texts.csv`.
    """

    def __init__(self, root: Path, draw: random.Random, kills: int) -> None:
        self.root, self.draw = root, draw
        self.counts: dict[str, Counts] = {}
        self.bar = tqdm(total=kills, unit="kill")

    def undisturbed(self, name: str, arguments: list[str], folder: Path) -> list[Operation]:
        """Run a command to its end; its file operations."""
        folder.mkdir()
        notes = self.root / "notes.json"
        code, said = fork(arguments, folder, self.root / "log", notes=notes)
        if code:
            sys.exit(f"{name} fails undisturbed:\n{said}")
        seen, modules = json.loads(notes.read_text())
        for module in modules:  # what is imported here need not be imported in each process
            with suppress(Exception):
                import_module(module)
        gc.collect()
        gc.freeze()  # nor collected there
        times = [at for at, _ in seen]
        gaps = [after - at for at, after in zip(times, [*times[1:], times[-1]], strict=True)]
        return [Operation(at + 1, path, gap) for at, ((_, path), gap) in enumerate(zip(seen, gaps, strict=True))]

    def kill(self, counts: Counts, kind: str, arguments: list[str], folder: Path, operation: Operation) -> bool:
        """Run a command that is killed at an operation; whether it was, and did not end before."""
        delay = self.draw.choice([0.0, self.draw.uniform(0, 1.5 * min(operation.seconds, 1.0))])
        code, said = fork(arguments, folder, self.root / "log", operation.number, delay)
        if code == -signal.SIGKILL:
            counts.kills[kind] += 1
            self.bar.update()
            return True
        if code:
            self.stuck(counts, arguments, said)
        return False

    def stuck(self, counts: Counts, arguments: list[str], said: str) -> None:
        """A command that should have ended well."""
        counts.stuck += 1
        tqdm.write(f"{' '.join(arguments)}:\n{said[-2000:]}")

    def train(self, name: str, flags: list[str], kills: int) -> None:
        """Kill a training at its checkpoints and at its end, up to three times, and have it resumed."""
        counts = self.counts[name] = Counts()
        first = self.root / name.replace(",", "").replace(" ", "_")

        def command(folder: Path, *more: str) -> list[str]:
            own = ["--output", str(folder / "model"), *TINY, str(self.root / "model"), *flags, *more]
            return ["train", str(self.root / "texts.csv"), *own]

        operations = self.undisturbed(name, command(first), first)
        checkpoints = [each for each in operations if ".checkpoints" in each.path or not each.path]
        end = [each for each in operations if ".checkpoints" not in each.path]
        parts = {"at a checkpoint": checkpoints, "at the end": end}
        number = 0
        while sum(counts.kills.values()) < kills:
            number += 1
            folder = self.root / f"{first.name}.{number}"
            folder.mkdir()
            more: list[str] = []
            for _ in range(self.draw.randint(1, 3)):
                if sum(counts.kills.values()) < kills:
                    kind = self.draw.choice(["at a checkpoint", "at a checkpoint", "at the end"])
                    self.kill(counts, kind, command(folder, *more), folder, self.draw.choice(parts[kind]))
                    self.look(counts, folder, first)
                    more = ["--resume"] if list((folder / "model.checkpoints").glob("checkpoint-*")) else []
                if (folder / "model").exists():
                    break
            self.finish(counts, folder, command, first)
            shutil.rmtree(folder)

    def look(self, counts: Counts, folder: Path, undisturbed: Path) -> None:
        """What has its final name is whole."""
        for checkpoint in (folder / "model.checkpoints").glob("checkpoint-*"):
            counts.half_written += not whole(checkpoint)
        if (folder / "model").exists():
            counts.half_written += not same_model(folder / "model", undisturbed / "model")

    def finish(self, counts: Counts, folder: Path, command: Callable[..., list[str]], undisturbed: Path) -> None:
        """Have a killed training resumed to its end, as a user would."""
        if (folder / "model").exists():
            counts.again["was finished"] += 1
        else:
            there = list((folder / "model.checkpoints").glob("checkpoint-*"))
            code, said = fork(command(folder, "--resume"), folder, self.root / "log")
            how = "resumed"
            counts.again["passed over a checkpoint"] += "passed over" in said
            if code == 2 and "no checkpoint to resume from: omit --resume" in said and not there:
                code, said = fork(command(folder), folder, self.root / "log")
                how = "began again"
            counts.again[how] += 1
            if code:
                self.stuck(counts, command(folder), said)
                return
        self.look(counts, folder, undisturbed)
        counts.different += not same_model(folder / "model", undisturbed / "model")
        known = {"model", "model.checkpoints"}
        counts.left.update("a folder" for each in folder.iterdir() if each.name not in known)
        counts.left.update("a checkpoint's" for _ in folder.glob("model.checkpoints/_partial"))

    def write(
        self,
        name: str,
        arguments: Callable[[Path], list[str]],
        earlier: Callable[[Path], list[str]],
        output: str,
        kills: int,
    ) -> None:
        """Kill a command that writes one file or folder, new or over that of an earlier command, and give it again."""
        counts = self.counts[name] = Counts()
        first = self.root / name
        operations = self.undisturbed(name, arguments(first), first)
        want = digests(first / output)
        for number in range(10 * kills):
            if sum(counts.kills.values()) >= kills:
                break
            folder = self.root / f"{name}.{number}"
            folder.mkdir()
            kind, old, more = self.draw.choice(["new", "over another"]), {}, []
            if kind == "over another":
                code, said = fork(earlier(folder), folder, self.root / "log")
                if code:
                    self.stuck(counts, earlier(folder), said)
                old, more = digests(folder / output), ["--overwrite"]
            killed = self.kill(counts, kind, [*arguments(folder), *more], folder, self.draw.choice(operations))
            found = digests(folder / output)
            counts.half_written += found not in (old, want) if killed else found != want
            if found != want:
                code, said = fork([*arguments(folder), *more], folder, self.root / "log")
                counts.again["the same command again"] += 1
                if code:
                    self.stuck(counts, arguments(folder), said)
                counts.different += digests(folder / output) != want
            else:
                counts.again["was finished"] += 1
            counts.left.update("a file or folder" for each in folder.iterdir() if each.name != output)
            shutil.rmtree(folder)


def kill_commands(kills: int, others: int, seed: int, tiny: Callable[[Path, int], Path]) -> dict[str, Any]:
    """Kill each command.

    Args:
        kills: of `train`, in all.
        others: of each other command.
        tiny: makes the model, the texts and a study in a folder.
    """
    began = time.perf_counter()
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        root = Path(name)
        study = tiny(root, 4)
        killing = Killing(root, draw, kills + 4 * others)
        for number, (training, flags) in enumerate(TRAININGS.items()):
            killing.train(training, flags, kills // len(TRAININGS) + (number < kills % len(TRAININGS)))
        model, texts, store = str(root / "train" / "model"), str(root / "texts.csv"), str(root / "study.db")
        code, said = fork(["study", "run", str(study), "--store", store, "--no-progress"], root, root / "log")
        if code:
            sys.exit(f"the study fails:\n{said}")
        other = str(root / "train_early_stopping" / "model")

        def predict(of: str) -> Callable[[Path], list[str]]:
            return lambda to: ["predict", of, texts, "--output", str(to / "o.csv")]

        def export(how: str) -> Callable[[Path], list[str]]:
            return lambda to: ["export", model, str(to / "out"), "--as", how]

        def augment(draw: str) -> Callable[[Path], list[str]]:
            flags = ["--n", "2", "--operations", "swap,delete", "--no-progress", "--seed", draw]
            return lambda to: ["augment", texts, *flags, "--output", str(to / "o.csv")]

        def report(title: str) -> Callable[[Path], list[str]]:
            return lambda to: ["report", store, "--no-progress", "--title", title, "--output", str(to / "o.html")]

        killing.write("predict", predict(model), predict(other), "o.csv", others)
        killing.write("export", export("single"), export("members"), "out", others)
        killing.write("augment", augment("0"), augment("1"), "o.csv", others)
        killing.write("report", report("A study"), report("Another one"), "o.html", others)
    killing.bar.close()
    return {
        "commands": {name: counts.result() for name, counts in killing.counts.items()},
        "seconds": round(time.perf_counter() - began),
    }


warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*", category=DeprecationWarning)
