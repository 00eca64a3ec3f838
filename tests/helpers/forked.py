"""Processes for Python code that begin in milliseconds: what is below deni is imported once, in a server that forks.

Code whose own imports are what is tested needs `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        *(
            "torch",
            "torch.distributed",
            "peft",
            "accelerate",
            "datasets",
            "pandas",
            "scipy.stats",
            "sklearn.linear_model",
        ),
        *("transformers.trainer", "transformers.models.auto.modeling_auto", "transformers.models.bert.modeling_bert"),
    ]
)


class Forked:
    """A process that was started; what it printed is known when it has ended."""

    def __init__(self, process: BaseProcess, folder: Path) -> None:
        self.process, self.folder = process, folder
        self.stdout = self.stderr = ""

    def wait(self, seconds: float = 240) -> int:
        """Its exit code, negative for a signal."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        self.stdout, self.stderr = ((self.folder / name).read_text() for name in ("stdout", "stderr"))
        shutil.rmtree(self.folder)
        code = self.process.exitcode
        assert code is not None
        return code


def start(code: str, *arguments: object, **environment: str) -> Forked:
    """Run Python code as `python -c` does, in this folder and environment, with more variables."""
    folder = Path(mkdtemp())
    for name in ("stdout", "stderr"):
        (folder / name).touch()
    words = ["-c", *map(str, arguments)]
    process = FORKED.Process(target=_run, args=(code, words, {**os.environ, **environment}, str(folder)))
    process.start()
    return Forked(process, folder)


def run(code: str, *arguments: object, **environment: str) -> Forked:
    """Run it to its end, which has to be a good one."""
    done = start(code, *arguments, **environment)
    assert done.wait() == 0, done.stderr[-3000:]
    return done


def _run(code: str, words: list[str], environment: dict[str, str], folder: str) -> None:
    import torch

    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(os.path.join(folder, name), os.O_WRONLY)
        os.dup2(file, number)
        os.close(file)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a test run in the background ignores
    sys.argv = words
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(code, "<string>", "exec"), main.__dict__)
