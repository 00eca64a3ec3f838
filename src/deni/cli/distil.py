"""`deni distil`: one model that predicts as many do."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deni.cli import example
from deni.cli.options import training
from deni.cli.options.choice import Choice
from deni.cli.options.data import LABEL, data_options
from deni.cli.options.device import DEVICE
from deni.cli.options.distillation import distillation_options, take_distillation
from deni.cli.options.fields import complete
from deni.cli.options.groups import GroupedCommand
from deni.cli.options.numbers import COUNT, Number, Whole
from deni.data import check_data
from deni.inputs import check_file, check_named_model, check_pretrained
from deni.outputs import check_folder
from deni.strategies import STRATEGIES
from deni.terminal import console, say
from deni.tuning import TUNINGS

if TYPE_CHECKING:
    from deni.distillation import Student

GROUPS = {
    "What everyone needs": "texts output labeled test overwrite as_json resume",
    "Data": "dev augmented text_column text_pair_column label_column split config_name",
    "The student": "model strategy tuning start epochs learning_rate batch_size max_length dropout seed",
    "What it learns": "vote_temperature labels_share weights pool_size held_out",
    "Compute and checkpoints": "device bf16 save_steps progress",
}


class _Remembers(GroupedCommand):
    """Keeps what was typed, so that the report can say how to repeat it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["deni.typed"] = shlex.join(["deni", "distil", *(each for each in args if each != "--resume")])
        return super().parse_args(ctx, args)


def _as_the_teacher(option: Any, text: str) -> Any:
    """An option of the student whose default is the teacher's."""
    return click.option(
        option, type=Number() if "rate" in option else Whole(), help=f"{text}  [default: the teacher's]"
    )


@click.command(
    "distil",
    cls=_Remembers,
    groups=GROUPS,
    epilog=example("deni distil model/ --texts pool.csv --labeled train.csv --test test.csv --output student/"),
)
@click.argument("teacher", metavar="MODEL")
@click.option(
    "--texts",
    required=True,
    metavar="FILE",
    help="Unlabeled texts to learn from, of the source of the labeled ones: a file or a dataset.",
)
@click.option("--output", required=True, help="Folder to write the student to; must not exist.")
@click.option("--overwrite", is_flag=True, help="Replace the output folder, if all in it was written by deni.")
@click.option("--labeled", metavar="FILE", help="Labeled examples that MODEL was trained on.")
@click.option(
    "--test", metavar="FILE", help="Labeled texts to measure both models on: those among others are left out."
)
@click.option(
    "--dev", metavar="FILE", help="Labeled texts to choose the best epoch and the temperature on; also left out."
)
@click.option(
    "--augmented", metavar="FILE", help="Augmented texts, with the columns seed and text: they join the unlabeled ones."
)
@data_options
@LABEL
@click.option(
    "--model", help="Pre-trained model of the student: minilm, a folder, or a hub id.  [default: the teacher's]"
)
@click.option(
    "--strategy",
    shell_complete=complete(STRATEGIES),
    help="Strategy of the student.  [default: the teacher's without what makes several members]",
)
@click.option("--tuning", type=Choice(list(TUNINGS)), help="Which parameters train.  [default: as of the teacher]")
@click.option("--epochs", type=Number(), help="Passes over the texts, at most.  [default: the teacher's]")
@_as_the_teacher("--learning-rate", "Peak learning rate.")
@_as_the_teacher("--batch-size", "Texts of one optimizer step.")
@_as_the_teacher("--max-length", "Tokens after which a text is cut.")
@click.option("--dropout", type=Number(), help="Dropout in front of the output layer.  [default: the teacher's]")
@_as_the_teacher("--seed", "Seed of all randomness.")
@distillation_options
@DEVICE
@training.BF16
@click.option("--save-steps", type=COUNT, help="Steps between checkpoints.  [default: one on Ctrl-C]")
@click.option("--resume", is_flag=True, help="Continue from the last whole checkpoint of the same command.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(teacher: str, texts: str, output: str, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Train one model to predict as the members of MODEL vote.

    The student learns from texts without labels, which MODEL answers, and from the labeled ones: each with its label,
    mixed with what models predict that had not seen it (MODEL trained with --cv), never with what MODEL itself says.
    """
    read = [texts, *(given[name] for name in ("labeled", "test", "dev", "augmented", "model"))]
    check_folder(output, overwrite, [teacher, *read])
    check_named_model(teacher)
    check_data(texts)
    for name in ("labeled", "test", "dev", "augmented"):
        check_file(given[name])
    check_pretrained(given["model"])

    from rich.table import Table
    from rich.text import Text

    from deni.commands.distil import distil_file
    from deni.distillation import Distillation
    from deni.distillation.measuring import rows_of
    from deni.report.training import PAGE, TrainingReport

    typed = click.get_current_context().meta["deni.typed"]
    report = TrainingReport(Path(output).name, typed, output, [])
    done = distil_file(
        teacher,
        texts=texts,
        output=output,
        overwrite=overwrite,
        distillation=Distillation(**take_distillation(given)),
        extra_files=report,
        on_student=None if as_json else _say_student,
        **given,
    )
    if done.output is None:
        last = done.result.checkpoint
        goes_on = f"Checkpoint: {last}. Give the same command with --resume to go on." if last else "No checkpoint."
        say(f"Interrupted. {goes_on}")
        raise SystemExit(130)
    info = done.result.added["distillation"]
    if as_json:
        say(json.dumps({**info, "metrics": done.metrics, "output": str(done.output)}, indent=1, ensure_ascii=False))
        return
    table = Table(show_header=False, box=None)
    page = done.output / PAGE
    rows = [*rows_of(info, done.result.recipe.task), ("model", str(done.output))]
    for name, value in [*rows, ("report", str(page) if page.exists() else report.left_out or "none")]:
        table.add_row(name, Text(value))
    console().print(table)
    if not given["test"]:
        say("No --test was given: a text of the pool that is tested on later makes that score too good.")
    say(f"Next: deni predict {done.output} FILE --output out.csv, where FILE has new texts")


def _say_student(student: Student) -> None:
    """Print what is trained on, before the training."""
    from deni.data.pool import sentence

    pool = student.info["pool"]
    told = sentence(pool["left_out"], pool["read"], pool["used"], pool["held_out"])
    say(f"Pool: {told}. {student.length.steps:,} steps.")
