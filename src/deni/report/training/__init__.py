"""One training: a page in the artifact, and a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deni.commands.train import TrainingRun
from deni.errors import InputError
from deni.outputs import as_utf8
from deni.randomness import derive
from deni.report.html.frame import check_packages
from deni.report.training.summary import TrainingSummary, summarize_training

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from deni.baselines import Baseline

PAGE = "report.html"


class TrainingReport:
    """What `deni.commands.train.train_file` takes as `extra_files`: it measures, and builds the page.

    Args:
        title: of the page.
        command: what was typed; None where it was not begun on the command line.
        model: the artifact's folder, as commands name it.
        baselines: which the model is put beside; None for those that run without being named, empty for none.

    Attributes:
        summary: what was found, when the training is over.
        left_out: why there is no page, or nothing.
    """

    def __init__(
        self,
        title: str,
        command: str | None = None,
        model: str = "MODEL",
        baselines: Sequence[Baseline] | None = None,
    ) -> None:
        self.title, self.command, self.model, self.baselines = title, command, model, baselines
        self.summary: TrainingSummary | None = None
        self.left_out = ""

    def __call__(self, done: TrainingRun) -> Mapping[str, bytes]:
        """The files that belong into the artifact."""
        generator = np.random.default_rng(derive(done.result.recipe.seed, "report"))
        self.summary = summarize_training(done, generator, self.command, self.model, self.baselines)
        try:
            check_packages()
        except InputError as error:
            self.left_out = str(error)
            return {}
        from deni.report.training.page import build_page  # with altair, which the summary does without

        return {PAGE: as_utf8(build_page(self.summary, self.title))}

    def print_on(self, table: Table, console: Console) -> None:
        """Print the verdict, and the table with the short form below the rows that it has."""
        from deni.report.training.terminal import print_summary

        if self.summary is None:  # it failed, and a warning said why
            console.print(table)
        else:
            print_summary(self.summary, table, console)

    def next_step(self) -> str:
        """What to do where the members agree: one line, or nothing."""
        from deni.report.training.verdict import export_command

        command = None if self.summary is None else export_command(self.summary)
        return f"One model would do: {command}" if command else ""


__all__ = ["PAGE", "TrainingReport", "TrainingSummary", "summarize_training"]
