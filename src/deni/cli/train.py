"""`deni train`: from a file of labeled texts to a model."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deni.baselines import BASELINES, make_baseline
from deni.cli import example
from deni.cli.options import training
from deni.cli.options.baselines import baseline_options, take_baselines
from deni.cli.options.choice import Choice
from deni.cli.options.data import LABEL, data_options, trained_task_options
from deni.cli.options.device import DEVICE
from deni.cli.options.distillation import NAMES as DISTILLED
from deni.cli.options.distillation import distillation_options, take_distillation
from deni.cli.options.fields import SettingsCommand, complete, field_options, taken
from deni.cli.options.numbers import COUNT, Number, Whole
from deni.cli.quick_imports import quick_imports
from deni.data import check_data, check_split
from deni.errors import SettingError
from deni.inputs import check_file, check_one_training, check_pretrained
from deni.outputs import check_folder
from deni.randomness import SOURCES
from deni.strategies import ARGUMENTS, STRATEGIES, has_setting
from deni.tasks import TASKS
from deni.terminal import console, say
from deni.training.curves import TOOLS, curves_folder
from deni.training.manifest import named
from deni.tuning import TUNINGS

if TYPE_CHECKING:
    from deni.recipe import Recipe

# What a seed of one source decides, for its help.
SEEDED = {
    "data_split": "choice of the test split",
    "label_choice": "choice of the labeled texts",
    "sample_order": "order of the texts",
    "initialisation": "initialization of new layers",
    "dropout": "dropout masks",
    "noise": "noise on weights and activations",
    "augmentation": "choice of augmented texts",
}
GROUPS = {
    "What everyone needs": "output model tuning strategy preset text_column label_column labelled test cv explain "
    "baselines no_baselines resume resume_from overwrite",
    "Data": "data task label_order text_pair_column dev test_size cv_seeds keep_folds split config_name protocol",
    "Training": "epochs learning_rate head_lr_scale batch_size max_length dropout pooling normalize_features pairs "
    "optim weight_decay warmup_ratio max_grad_norm class_weights early_stopping_patience",
    "Texts without labels": f"unlabelled augmented teachers {' '.join(DISTILLED)}",
    "Randomness": f"seed block {' '.join(f'seed_{source}' for source in SOURCES)}",
    "Compute, checkpoints and logs": "device engine members_at_a_time eval_batch_size gradient_accumulation_steps bf16 "
    "gradient_checkpointing save_steps report_to progress",
}
MORE = (
    "Strategies and tunings have settings, which are flags, too: deni strategies show NAME, deni tunings show NAME, or "
    "deni train --strategy NAME --tuning NAME --help."
)


def _seed_name(source: str) -> str:
    return f"seed_{source}"


def _seed_options(function: Any) -> Any:
    """A seed for each source of randomness."""
    for source in reversed(SOURCES):
        default = "--block" if source in ("data_split", "label_choice") else "--seed"
        text = f"Seed of the {SEEDED[source]} only.  [default: {default}]"
        flag = f"--seed-{source.replace('_', '-')}"
        function = click.option(flag, _seed_name(source), type=Whole(), metavar="SEED", help=text)(function)
    return function


class _Remembers(SettingsCommand):
    """Keeps what was typed, so that the report can say how to repeat it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["deni.typed"] = shlex.join(["deni", "train", *_without_resuming(args)])
        return super().parse_args(ctx, args)


def _without_resuming(args: list[str]) -> list[str]:
    """The command that does all of it: what goes on from a checkpoint ends as if it had not been stopped.

    >>> _without_resuming(["a.csv", "--resume-from", "b", "--output", "c", "--resume-from=d", "--resume"])
    ['a.csv', '--output', 'c']
    """
    after = ["", *args]
    return [
        each
        for each, before in zip(args, after, strict=False)
        if before != "--resume-from" and each not in ("--resume", "--resume-from") and "--resume-from=" not in each
    ]


@click.command(
    "train",
    cls=_Remembers,
    owners={"strategy": STRATEGIES, "tuning": TUNINGS, "baselines": BASELINES},
    groups=GROUPS,
    more=MORE,
    epilog=example("deni train tickets.csv --tuning lora --labeled 500 --output model/"),
)
@click.argument("file", required=False)
@click.option("--data", help="Training file or dataset, in place of FILE.")
@click.option("--output", required=True, help="Folder to write the model to; must not exist.")
@click.option("--overwrite", is_flag=True, help="Replace the output folder, if all in it was written by deni.")
@training.MODEL
@training.OPEN_TUNING
@click.option(
    "--strategy",
    default="auto",
    show_default=True,
    shell_complete=complete(STRATEGIES),
    help="Strategy, or several with + between them, see deni strategies; auto: what is best as far as is known, see "
    "deni show auto.",
)
@training.PRESET
@training.PROTOCOL
@training.LABELLED
@click.option(
    "--test",
    default="auto",
    show_default=True,
    help="Test split: a file, or a fraction of the texts; 0 for none; auto: 0.2, or none with --cv.",
)
@click.option(
    "--cv",
    type=Whole(),
    metavar="FOLDS",
    help="Estimate the score by cross-validation in so many folds, such as 5, and train the model on all texts.",
)
@click.option(
    "--cv-seeds", type=Whole(), help="How many times --cv divides the texts anew, with other seeds.  [default: 1]"
)
@click.option("--keep-folds", is_flag=True, help="Keep the models of --cv in the artifact, for deni predict --sets.")
@training.TEST_SIZE
@click.option("--dev", help="Dev split to choose the best epoch on: a file, or a fraction of the texts.")
@click.option(
    "--unlabeled",
    "--unlabelled",
    "unlabelled",
    metavar="FILE",
    help="Texts of the same source without labels: an ensemble is trained, and the model learns to predict as it votes "
    "on them, too.",
)
@click.option(
    "--augmented",
    metavar="FILE",
    help="Augmented texts, with the columns seed and text: a strategy that takes them trains on them; else they join "
    "--unlabeled.",
)
@click.option(
    "--teachers",
    type=COUNT,
    help="Members of that ensemble, where --strategy does not end in several members by itself.  [default: 10]",
)
@distillation_options
@data_options
@LABEL
@trained_task_options
@training.EPOCHS
@training.LEARNING_RATE
@training.HEAD_LR_SCALE
@training.BATCH_SIZE
@click.option("--eval-batch-size", type=Whole(), help="Texts of one forward pass in evaluation.  [default: 64]")
@click.option(
    "--gradient-accumulation-steps", type=Whole(), help="Parts of a batch that are computed one by one.  [default: 1]"
)
@training.MAX_LENGTH
@training.DROPOUT
@training.POOLING
@training.NORMALIZE_FEATURES
@training.PAIRS
@click.option("--seed", type=Whole(), help="Seed of all randomness but the choice of texts.  [default: 0]")
@training.BLOCK
@_seed_options
@click.option(
    "--engine",
    type=Choice(["auto", "stacked", "loop"]),
    help="How members are computed: side by side (stacked) or one by one (loop).  [default: auto]",
)
@click.option(
    "--members-at-a-time",
    type=Whole(),
    help="Members in one forward pass of the stacked engine.  [default: by memory]",
)
@click.option("--optim", help="Optimizer, by its name in transformers.  [default: adamw_torch_fused]")
@click.option("--weight-decay", type=Number(), help="Weight decay of AdamW.  [default: 0]")
@click.option("--warmup-ratio", type=Number(), help="Share of the steps with a rising learning rate.  [default: 0]")
@click.option(
    "--max-grad-norm",
    type=Number(),
    help="Norm to which each member's gradient is clipped; 0 for no clipping.  [default: 0]",
)
@DEVICE
@training.BF16
@click.option(
    "--gradient-checkpointing",
    is_flag=True,
    default=None,
    help="Recompute activations in the backward pass: less memory, more time.",
)
@click.option("--class-weights", is_flag=True, default=None, help="Weigh the loss so that all classes count alike.")
@click.option(
    "--early-stopping-patience",
    type=Whole(),
    help="Epochs without a better --dev score after which training stops.  [default: never]",
)
@click.option("--save-steps", type=COUNT, help="Steps between checkpoints.  [default: one on Ctrl-C]")
@click.option("--resume", is_flag=True, help="Continue from the last whole checkpoint of the same command.")
@click.option(
    "--resume-from",
    metavar="FOLDER",
    help="Continue from a checkpoint of another output: FOLDER is the checkpoint, the checkpoints, or that output.",
)
@click.option(
    "--report-to",
    type=Choice(TOOLS),
    default="none",
    show_default=True,
    help="Tool that shows the curves during training; tensorboard reads OUTPUT.runs.",
)
@click.option("--explain", is_flag=True, help="Print after training what the members did.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
@field_options(STRATEGIES, skip=(*ARGUMENTS, "augmented"))
@field_options(TUNINGS)
@baseline_options("majority, tfidf, frozen; of words majority, frequent_tag")
def command(
    file: str | None,
    data: str | None,
    tuning: str | None,
    strategy: str,
    preset: str | None,
    explain: bool,
    **given: Any,
) -> None:
    """Train a model on the labeled texts of FILE.

    FILE is CSV, TSV, JSONL, Parquet or CoNLL, also gzipped; - is standard input. It may be the name of a dataset, too
    (ag_news, trec, snips, db_pedia, sst2, mrpc, cola, boolq, rte), or
    user/dataset of the hub.
    """
    if (file is None) == (data is None):
        raise click.UsageError("give one FILE, or --data")
    file = str(file or data)
    if given["resume"] and given["resume_from"] is not None:
        raise click.UsageError("give --resume or --resume-from, not both")
    for name, least in (("cv", 2), ("cv_seeds", 1)):
        if given[name] is not None and given[name] < least:
            raise click.UsageError(f"--{name.replace('_', '-')} must be at least {least}, not {given[name]}")
    if given["cv"] is None and given["cv_seeds"] is not None:
        raise click.UsageError("--cv-seeds divides the texts of --cv anew: give --cv, too")
    if given["cv"] is None and given["keep_folds"]:
        raise click.UsageError("--keep-folds keeps the models of --cv: give --cv, too")
    if given["cv"] is not None and given["dev"] is not None:
        raise click.UsageError("--dev chooses the best epoch of one model, and the models of --cv have none: give one")
    learned = take_distillation(given)
    if given["unlabelled"] is None and (lost := [*learned, *(["teachers"] if given["teachers"] is not None else [])]):
        raise click.UsageError(f"--{lost[0].replace('_', '-')} is for texts without labels: give --unlabeled, too")
    if given["unlabelled"] is not None:
        of_one = {"--cv": given["cv"], "--resume-from": given["resume_from"]}
        check_one_training(of_one, _typed("--unlabelled", "--unlabeled"))
    start = None if given["resume_from"] is None else named(given["resume_from"])
    read = (file, *(given[name] for name in ("test", "dev", "model", "augmented", "unlabelled")), start)
    check_folder(given["output"], given["overwrite"], read)
    check_data(file)
    check_split(None if given["test"] == "auto" else given["test"])
    check_split(given["dev"])
    check_pretrained(given["model"])
    check_file(given["augmented"])
    if given["unlabelled"] is not None:
        check_data(given["unlabelled"])

    from deni.recipe import Recipe

    preset = preset or given["protocol"]
    chosen = take_baselines(given)
    seeds = {name: given.pop(_seed_name(name)) for name in SOURCES}
    joins = given["unlabelled"] is not None and not has_setting(strategy, "augmented")
    augmented = given.pop("augmented") if joins else None  # else the strategy trains on them
    own = {key: value for key, value in given.items() if key not in ARGUMENTS}
    fields = taken(own, STRATEGIES.values()), taken(given, TUNINGS.values())
    rest = {key: value for key, value in given.items() if key not in {**fields[0], **fields[1]}}
    names = (
        *("output", "test", "test_size", "dev", "cv", "cv_seeds", "keep_folds", "labelled", "block", "protocol"),
        *("text_column", "text_pair_column", "label_column", "label_order", "split", "config_name"),
        *("unlabelled", "teachers"),
        *("overwrite", "resume", "resume_from", "save_steps", "report_to", "device", "progress"),
    )
    files = {name: rest.pop(name) for name in names}
    rest["source_seeds"] = {name: seed for name, seed in seeds.items() if seed is not None}
    plan = Recipe.of(preset, strategy, tuning, fields[0], fields[1], data=file, **rest)

    if TASKS[plan.task].generates and chosen:
        raise SettingError(f"baselines are for models that label texts, not for the task {plan.task}: omit --baselines")
    baselines = None if chosen is None else [make_baseline(name, **own) for name, own in chosen.items()]
    for each in baselines or ():
        if why := each.why_unfit(TASKS[plan.task], False):
            raise SettingError(f"{each.name} {why}")

    from rich.table import Table
    from rich.text import Text

    if files["unlabelled"] is not None:
        from deni.distillation import Distillation

        files |= {"distillation": Distillation(**learned), "augmented": augmented}
    with quick_imports():  # seconds, for torch and transformers: what is wrong above is said first
        from deni.commands.train import train_file
    from deni.distillation.measuring import rows_of
    from deni.report.training import PAGE, TrainingReport

    report = TrainingReport(
        Path(files["output"]).name, click.get_current_context().meta["deni.typed"], str(files["output"]), baselines
    )
    done = train_file(file, recipe=plan, preset=preset, extra_files=report, on_recipe=_say_plan, **files)
    if done.output is None:
        last = done.result.checkpoint
        goes_on = f"Checkpoint: {last}. Give the same command with --resume to go on." if last else "No checkpoint."
        say(f"Interrupted. {goes_on}")
        raise SystemExit(130)
    page, measured = done.output / PAGE, TASKS[plan.task].metrics
    rows = {
        **{name.replace("_", " "): f"{done.metrics[name]:.4f}" for name in measured if name in done.metrics},
        "texts": f"{done.metrics['train_texts']} train, {done.metrics.get('test_texts', 0)} test"
        + (f", all left out once in {files['cv']} folds" if files["cv"] else ""),
        **(dict(rows_of(distilled, plan.task)) if (distilled := done.result.added.get("distillation")) else {}),
        "schedule": done.result.schedule,
        "member-steps": done.result.member_steps,
        "seconds": f"{done.result.seconds:.0f}",
        "model": done.output,
        "report": page if page.exists() else report.left_out or "none",
    }
    if files["report_to"] == "tensorboard":
        runs = curves_folder(done.output, resume=True).parent
        rows["curves"] = shlex.join(["tensorboard", "--logdir", str(runs)])
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))  # a name in brackets is no markup
    for failure in done.result.trainer.failures:
        table.add_row("failed run", Text(str(failure)))
    report.print_on(table, console())
    if explain:
        say(f"\n{done.result.trainer.diagnostics.story()}\n")
    if one_model := report.next_step():
        say(one_model)
    if TASKS[plan.task].generates:
        say(f"Next, in Python: deni.load({str(done.output)!r}).generate([...]), of prompts")
    else:
        say(f"Next: deni predict {done.output} FILE --output out.csv, where FILE has new texts")


def _typed(*spellings: str) -> str:
    """Which of the spellings of a flag was typed; the last one if none was."""
    typed = {word.partition("=")[0] for word in shlex.split(click.get_current_context().meta["deni.typed"])}
    return next((each for each in spellings if each in typed), spellings[-1])


def _say_plan(recipe: Recipe) -> None:
    """Print what `auto` became, if it was asked."""
    from deni.auto import as_lines
    from deni.auto.encoders import told

    if recipe.encoders is not None:
        say(told(recipe.encoders))
    if recipe.chosen is not None:
        for line in as_lines(recipe.chosen):
            say(line)
        say()
