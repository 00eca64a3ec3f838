"""Odd inputs to every reader: files, folders, stores and flags that a command must take, or refuse in one line.

    python benchmarks/fuzz.py --minutes 60 --seed 0
    python benchmarks/fuzz.py --cases 300 --only artifact --keep kept
    python benchmarks/fuzz.py --cases 400 --only commands --name fuzz_commands

Whole inputs are made once; each case changes one of them and gives it to a command, in a process that has imported deni
and runs one after another. It is ended and begun again when it hangs. What came of a case is counted by kind:

- fine: exit code 0, or that of a closed pipe;
- one line: exit code 2 and one line that begins with "Error:";
- traceback: a fault of deni, another exit code, several lines, or the end of the process;
- hang: more than `--seconds` of processor time;
- silent: taken, although weights are missing, left over, not finite or of another shape;
- foreign file touched: a file that is no output was changed or removed, or a new one lies beside them;
- half-written: refused, although an output is there;
- code run: something in the input was executed.

Ends with exit code 1 where one of the last six is not zero. `--keep FOLDER` keeps the inputs of those cases, with the
command and what it printed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from common import environment, write
from fuzzing import KINDS, WEIGHTS
from fuzzing.case import Case
from fuzzing.code import RAN
from fuzzing.commands import KINDS as COMMANDS
from fuzzing.flags import options
from fuzzing.whole import MANY, MODEL, TEXTS, make_whole

HERE = Path(__file__).parent
ARTIFACTS = HERE.parent / "tests" / "artifact" / "format_1"
BAD = ("traceback", "hang", "silent", "foreign file touched", "half-written", "code run")
OUTCOMES = ("fine", "one line", *BAD)
RENEWED = 1500  # cases after which the process is a new one
MOST_MEMORY = 12 * 2**30
MINE = "mine"  # names of files that no command has to do with begin so; those of outputs with OUT
OUT = ("out", "tmp")


# ---- the process that runs commands --------------------------------------------------------------------------------


def work() -> None:
    """Run a command for each line of standard input, and say how it ended."""
    import resource

    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    import torch

    from deni.study.execution.run import Run

    for name in ("artifact", "cli", "commands.train", "commands.predict", "report"):
        importlib.import_module(f"deni.{name}")
    torch.set_num_threads(1)
    # `--dry-run` trains a few steps for its estimate, which takes minutes of a fuzzing and reads nothing odd.
    Run.estimate = lambda self: "not estimated"  # type: ignore[method-assign]
    from deni.serving import running

    running.run_app = lambda *_: None  # what is odd is read before; a server would wait for requests
    answers.write("ready\n")
    for line in requests:
        asked = json.loads(line)
        answers.write(json.dumps(_answer(asked)) + "\n")


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    from deni.cli import main

    os.chdir(asked["folder"])
    if "whole" in asked:
        try:
            make_whole(Path(asked["folder"]), ARTIFACTS, lambda argv: _run(main, argv)["code"])
            Path("options.json").write_text(json.dumps(options()))
        except SystemExit as error:
            return {"error": str(error)}
        return {}
    os.environ["TMPDIR"] = tempfile.tempdir = os.path.join(asked["folder"], "tmp")
    return _run(main, asked["argv"])


def _run(main: Any, argv: list[str]) -> dict[str, Any]:
    """The exit code, and what went to standard error."""
    streams = [
        os.open(".in", os.O_RDONLY | os.O_CREAT),
        *(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC) for name in (".out", ".err")),
    ]
    kept = [os.dup(number) for number in range(3)]
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    code: Any = 0
    try:
        main.main(args=argv, prog_name="deni")
    except SystemExit as error:
        code = error.code or 0
    except BaseException as error:  # what `boundary` lets through
        import traceback

        traceback.print_exception(error)
        code = "an exception"
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        sys.stdin, sys.stdout, sys.stderr = before
        for number, old in enumerate(kept):
            os.dup2(old, number)
            os.close(old)
        for stream in streams:
            os.close(stream)
    return {"code": code, "said": Path(".err").read_bytes().decode(errors="replace")}


class Worker:
    """The process, begun when it is needed."""

    def __init__(self, ran: Path, seconds: float) -> None:
        self.ran, self.seconds, self.done = ran, seconds, 0
        self.process: subprocess.Popen | None = None
        self.restarts = 0

    def ask(self, what: dict[str, Any], patience: float | None = None) -> dict[str, Any] | str:
        """Its answer; `hang` or `crash` where there is none."""
        if self.process is None or self.done >= RENEWED:
            self._begin()
        assert self.process is not None
        assert self.process.stdin is not None
        self.done += 1
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(what).encode() + b"\n")
            self.process.stdin.flush()
        answer = self._line(patience or self.seconds)
        if answer in ("hang", "crash"):
            self.end()
            return answer
        return json.loads(answer)

    def _begin(self) -> None:
        self.end()
        self.restarts += 1
        environ = {
            **os.environ,
            RAN: str(self.ran),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        environ |= {
            "TRANSFORMERS_VERBOSITY": "error",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_MODULES_CACHE": str(self.ran.parent / "modules"),
        }
        environ.pop("DENI_DATA", None)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, __file__, "--worker"], env=environ, **pipes)
        self.done = 0
        if (said := self._line(300)) != "ready\n":
            sys.exit(f"the process does not begin ({said}): run python {__file__} --worker")

    def _line(self, seconds: float) -> str:
        """The next line that it writes; a limit of processor time, and a wide one of time, since others work, too."""
        import select

        assert self.process is not None
        assert self.process.stdout is not None
        measured = psutil.Process(self.process.pid)
        began, at = time.monotonic(), self._used(measured)
        while not select.select([self.process.stdout], [], [], 0.5)[0]:
            if self._used(measured) - at > seconds or time.monotonic() - began > 6 * seconds:
                return "hang"
        line = self.process.stdout.readline().decode()
        return line or "crash"

    @staticmethod
    def _used(process: psutil.Process) -> float:
        with contextlib.suppress(psutil.NoSuchProcess):
            return sum(process.cpu_times()[:2])
        return 0.0

    def end(self) -> None:
        """Kill it."""
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            self.process.kill()
            self.process.wait()
        self.process = None


# ---- cases ---------------------------------------------------------------------------------------------------------


def files_in(folder: Path) -> dict[str, str]:
    """What lies in a folder, but for outputs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith((*OUT, ".in", ".out", ".err")):
            continue
        if path.is_symlink() or not path.is_file():
            found[name] = os.readlink(path) if path.is_symlink() else "a folder" if path.is_dir() else "no file"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def outputs_in(folder: Path) -> set[str]:
    """The names of outputs that are there."""
    return {path.name for path in folder.glob("out*")}


def outcome_of(case: Case, answer: dict[str, Any] | str, touched: bool, ran: bool) -> tuple[str, str]:
    """What came of a case, and what was said."""
    said = answer if isinstance(answer, str) else answer["said"]
    if ran:
        return "code run", said
    if touched:
        return "foreign file touched", said
    if answer == "hang":
        return "hang", said
    if isinstance(answer, str):
        return "traceback", "the process ended"
    errors = [line for line in said.splitlines() if line.startswith("Error:")]
    if answer["code"] in (0, 141) and "Traceback" not in said and not errors:
        return ("silent" if case.refused else "fine"), said
    if answer["code"] == 2 and len(errors) == 1 and said.rstrip("\n").endswith(errors[0]) and "Traceback" not in said:
        return "one line", said
    return "traceback", said


class Fuzzer:
    """Makes cases, has them run and counts.

    Args:
        folder: for whole inputs and the case at hand.
    """

    def __init__(self, folder: Path, seconds: float, keep: Path | None) -> None:
        self.folder, self.keep = folder, keep
        self.ran, self.whole = folder / "ran", folder / "whole"
        self.worker = Worker(self.ran, seconds)
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in KINDS}
        self.bad: Counter[str] = Counter()
        self.not_made: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.slowest: list[tuple[float, str, str]] = []
        self.whole.mkdir(parents=True)
        answer = self.worker.ask({"folder": str(self.whole), "whole": True}, 600)
        if answer:
            sys.exit(f"the whole inputs cannot be made: {answer}")

    def case(self, kind: str, seed: int, number: int) -> str:
        """Run one, and say what came of it."""
        here = self.folder / "case"
        shutil.rmtree(here, ignore_errors=True)
        (here / "tmp").mkdir(parents=True)
        for name in (TEXTS, MANY):
            shutil.copy(self.whole / name, here)
        shutil.copytree(self.whole / MODEL, here / MODEL)
        (here / f"{MINE}.txt").write_text("not to be touched")
        (here / MINE).mkdir()
        (here / MINE / "config.json").write_text("{}")
        draw = random.Random(f"{seed}/{kind}/{number}")
        try:
            case = KINDS[kind](draw, self.whole, here)
        except Exception as error:  # a fault of this script costs one case
            self.not_made[f"{kind}-{number}: {type(error).__name__}: {error}"[:200]] += 1
            return "not made"
        (here / ".in").write_bytes(case.stdin)
        before, outputs = files_in(here), outputs_in(here)
        spare = None
        if self.keep is not None:
            spare = self.folder / "spare"
            shutil.rmtree(spare, ignore_errors=True)
            subprocess.run(["cp", "-a", here, spare], check=True)
        self.ran.unlink(missing_ok=True)
        began = time.monotonic()
        answer = self.worker.ask({"folder": str(here), "argv": case.argv})
        took = time.monotonic() - began
        self.seconds[kind] += took
        self.slowest = sorted([*self.slowest, (round(took, 1), f"{kind}-{number}", shlex.join(case.argv)[:150])])[-8:]
        now = files_in(here)
        touched = [name for name in {**before, **now} if now.get(name) != before.get(name)]
        touched = [name for name in touched if not name.endswith((".db-wal", ".db-shm")) and name not in case.changes]
        outcome, said = outcome_of(case, answer, bool(touched), self.ran.exists())
        if outcome == "one line" and (left := outputs_in(here) - outputs - set(case.writes)):
            outcome, touched = "half-written", sorted(left)
        self.counts[kind][outcome] += 1
        if outcome in BAD:
            last = said.strip().splitlines()[-1:] or [""]
            self.bad[f"{kind}: {outcome}: {last[0][:200]}"] += 1
            if self.keep is not None and spare is not None:
                kept = self.keep / f"{kind}-{number}"
                shutil.rmtree(kept, ignore_errors=True)
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(spare, kept)
                log = "".join(each.read_text() for each in (here / "tmp").glob("deni-*.log"))
                (kept / "WHAT.txt").write_text(
                    f"{outcome}\n{shlex.join(['deni', *case.argv])}\n{touched or ''}\n{said}\n{log}", errors="replace"
                )
        return outcome

    def result(self) -> dict[str, Any]:
        """Counts by kind and outcome."""
        table = {kind: {name: counts[name] for name in OUTCOMES} for kind, counts in self.counts.items() if counts}
        return {
            "cases": sum(sum(each.values()) for each in table.values()),
            "outcomes": table,
            "not_made": len(self.not_made),
            "processes": self.worker.restarts,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="how long; without it and --cases: 1,000 cases")
    parser.add_argument("--cases", type=int, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only",
        choices=[*KINDS, "commands"],
        action="append",
        help="kind of input; may be repeated; commands: all those whose model, texts or start-up is odd",
    )
    parser.add_argument("--name", default="fuzz", help="of the result")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--part", default="0/1", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=30, help="processor time of a command that hangs")
    parser.add_argument("--keep", type=Path, help="folder for what failed")
    parser.add_argument("--output", default=None, help="JSON file in place of one among the results")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work()
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    result = side_by_side(args) if args.jobs > 1 else alone(args, began)
    result |= {"seconds": round(time.monotonic() - began)}
    if args.output is None:
        write(args.name, {**environment(), **result})
    else:
        Path(args.output).write_text(json.dumps(result, indent=1) + "\n")
    if any(each[name] for each in result["outcomes"].values() for name in BAD):
        sys.exit("some inputs were neither taken nor refused in one line")


def alone(args: argparse.Namespace, began: float) -> dict[str, Any]:
    """Run cases in one process, and print what came of them."""
    most = args.cases if args.cases is not None else (1000 if args.minutes is None else None)
    end = None if args.minutes is None else began + 60 * args.minutes
    part, parts = map(int, args.part.split("/"))
    kinds = [kind for each in args.only or KINDS for kind in (COMMANDS if each == "commands" else (each,))]
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as name:
        fuzzer = Fuzzer(Path(name), args.seconds, args.keep.absolute() if args.keep else None)
        order = random.Random(args.seed)
        number, told = 0, time.monotonic()
        try:
            while (most is None or number < most) and (end is None or time.monotonic() < end):
                (kind,) = order.choices(kinds, [WEIGHTS[each] for each in kinds])
                if number % parts == part:
                    fuzzer.case(kind, args.seed, number)
                number += 1
                if time.monotonic() - told > 30:
                    told = time.monotonic()
                    print(f"{number} cases, {dict(sum(fuzzer.counts.values(), Counter()))}", flush=True)
        except KeyboardInterrupt:
            pass
        finally:
            fuzzer.worker.end()
    print("slowest:", *fuzzer.slowest, sep="\n  ")
    for what in fuzzer.not_made:
        print(f"       not made: {what}")
    for what, times in fuzzer.bad.most_common():
        print(f"{times:5d}  {what}")
    result = fuzzer.result()
    lines = (f"{kind:10} {fuzzer.seconds[kind]:6.0f} s {counts}" for kind, counts in result["outcomes"].items())
    print("\n".join(lines), flush=True)
    return result


def side_by_side(args: argparse.Namespace) -> dict[str, Any]:
    """Run every n-th case in its own process, and sum the outcomes."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        files = [Path(name, f"{part}.json") for part in range(args.jobs)]
        own = [sys.executable, __file__, *sys.argv[1:], "--jobs", "1"]
        jobs = [
            subprocess.Popen([*own, "--part", f"{part}/{args.jobs}", "--output", str(file)])
            for part, file in enumerate(files)
        ]
        try:
            for job in jobs:
                job.wait()
        except KeyboardInterrupt:
            for job in jobs:
                job.terminate()
            for job in jobs:
                job.wait()
        found = [json.loads(file.read_text()) for file in files]
    outcomes = {
        kind: {name: sum(each["outcomes"].get(kind, {}).get(name, 0) for each in found) for name in OUTCOMES}
        for kind in KINDS
        if any(kind in each["outcomes"] for each in found)
    }
    totals = {name: sum(each[name] for each in found) for name in ("cases", "not_made", "processes")}
    return {"cases": totals.pop("cases"), "outcomes": outcomes, **totals}


if __name__ == "__main__":
    main()
