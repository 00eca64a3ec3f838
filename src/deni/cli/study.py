"""`deni study`: many runs over strategies, data and seeds, kept in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deni.cli import example
from deni.cli.options.choice import Choice
from deni.cli.options.groups import GroupedCommand
from deni.cli.options.numbers import Finite
from deni.cli.options.running import running_options
from deni.inputs import check_file, check_store
from deni.terminal import console, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deni.study.execution.job import Job
    from deni.study.store.rows import Row

GROUPS = {
    "What everyone needs": "store dry_run minutes trunks report_to",
    "Compute": "device runner workers pack threads address gpus_per_worker progress",
}
FORMATS = ("csv", "parquet", "jsonl")
SHOWN = 20  # failures that are listed


@click.group("study", epilog=example("deni study run study.yaml --store study.db --dry-run"))
def command() -> None:
    """Compare strategies over seeds, datasets, models and tunings."""


@command.command(
    "run",
    cls=GroupedCommand,
    groups=GROUPS,
    epilog=example("deni study run study.yaml --store study.db --runner processes --workers 4"),
)
@click.argument("file")
@click.option("--store", required=True, help="File of the study's results; it is created if it does not exist.")
@running_options
@click.option(
    "--minutes",
    type=Finite(min=0, min_open=True),
    help="Minutes after which no pack begins; those that train are finished.  [default: no limit]",
)
@click.option("--trunks", help="Folder for what strategies that differ only in their forks share; it is trained once.")
@click.option(
    "--report-to",
    type=Choice(("none", "mlflow")),
    default="none",
    show_default=True,
    help="Tool that gets the cells that are done, one run each.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and print the cost, without training.")
def run(file: str, store: str, dry_run: bool, **how: Any) -> None:
    """Train the cells of the study FILE that STORE has not yet.

    After Ctrl-C, a kill or --minutes the same command goes on. Failed cells stay failed until `deni study retry`.
    """
    check_file(file)
    from deni.commands.study import plan_study, run_study

    study, planned = plan_study(file, store, **how)
    packs = f"{len(study.packs)} packs" if len(study.packs) > 1 else "1 pack"
    vary = study.jobs[0].cell.vary
    others = "" if vary == "optimisation" else f"; seeds vary {vary}, another experiment than the paper's"
    if study.jobs[0].cell.measure == "development":
        others += "; measured on a dev split; the test split is not touched"
    say(f"{study.name}: {len(study.jobs)} cells in {packs}, {len(planned.left)} of them to train{others}")
    if dry_run:
        _print_costs(study.jobs, {each.key for each in planned.left})
        say(planned.estimate())
        return
    done = run_study(study, planned, store)
    say(f"{done.done} of {done.cells} done, {len(done.running)} running, {done.failed} failed")
    _say_who_trains(done.running, store)
    if done.waiting:
        say(f"{done.waiting} of {done.cells} cells are left: the same command goes on")
    if done.failed:
        see = f"see `deni study status {store}`, then `deni study retry {store}`"
        say(f"{done.failed} cells failed: {see}", err=True)
        raise SystemExit(1)
    say(f"Next: deni study status {store}")


@command.command("status", epilog=example("deni study status study.db"))
@click.argument("store")
def status(store: str) -> None:
    """Say how far the study in STORE is, and what failed."""
    from deni.commands.study import study_status

    counts, rows = study_status(store)
    say(", ".join(f"{count} {name}" for name, count in counts.items()))
    if developed := sum(row.cell.measure == "development" for row in rows):
        say(f"measured on a dev split, not on test texts: {developed} of {len(rows)} cells")
    if rows:
        _print_status(rows)
    _say_who_trains([row for row in rows if row.status == "running"], store)
    failed = [row for row in rows if row.status == "failed"]
    for row in failed[:SHOWN]:
        cell = row.cell
        labelled = "all" if cell.labelled is None else cell.labelled
        say(
            f"failed: {row.key[:12]} {cell.strategy.name}, {cell.dataset['name']}, {labelled} labeled, "
            f"seed {cell.seed} (attempt {row.attempts}): {row.reason}"
        )
    if len(failed) > SHOWN:
        say(f"and {len(failed) - SHOWN} more, see `deni study export`")
    if failed:
        say(f"Next: deni study retry {store}")


@command.command("retry", epilog=example("deni study retry study.db"))
@click.argument("store")
@click.option(
    "--key", "keys", multiple=True, help="Key of a failed cell, as status shows it; may be repeated.  [default: all]"
)
@click.option(
    "--running", is_flag=True, help="Release cells that run on other machines, or no longer, instead of failed ones."
)
def retry(store: str, keys: tuple[str, ...], running: bool) -> None:
    """Let the failed cells of STORE wait again."""
    from deni.commands.study import retry_cells

    if running and keys:
        raise click.UsageError("--key is of failed cells: omit it or --running")
    say(f"{retry_cells(store, keys, running)} cells wait again")


@command.command("export", epilog=example("deni study export study.db --output cells.csv"))
@click.argument("store")
@click.option("--output", required=True, help="File to write.")
@click.option(
    "--format", "kind", type=Choice(FORMATS), help="Format of the table.  [default: by the suffix of the output]"
)
@click.option("--archive", is_flag=True, help="Write a small copy for `study merge` and `report`, as Parquet.")
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
def export(store: str, output: str, kind: str | None, archive: bool, overwrite: bool) -> None:
    """Write a table of STORE: a row a cell with all settings, metrics and costs."""
    check_store(store)
    from deni.commands.study import export_cells

    say(f"wrote {export_cells(store, output, kind, archive, overwrite)} cells to {output}")


@command.command("check", epilog=example("deni study check study.db --output whole.db"))
@click.argument("store")
@click.option("--output", help="Store to write with all cells that are not damaged.")
@click.option("--overwrite", is_flag=True, help="Replace the output file, if it is a store.")
def check(store: str, output: str | None, overwrite: bool) -> None:
    """List the damaged cells of STORE.

    The exit code is 2 if there are any.
    """
    check_store(store)
    from deni.commands.study import damaged_cells
    from deni.errors import InputError

    damaged = damaged_cells(store, output, overwrite)
    for what in list(damaged.values())[:SHOWN]:
        say(what)
    if len(damaged) > SHOWN:
        say(f"and {len(damaged) - SHOWN} more")
    if output is not None:
        say(f"wrote {output}, without the damaged cells")
    if not damaged:
        say("no cell is damaged")
        return
    cells = "1 cell is" if len(damaged) == 1 else f"{len(damaged)} cells are"
    what = "" if output else "; a copy without them: --output FILE"
    raise InputError(f"{store}: {cells} damaged{what}")


@command.command("merge", epilog=example("deni study merge all.db monday.db tuesday.db"))
@click.argument("store")
@click.argument("others", nargs=-1, required=True)
def merge(store: str, others: tuple[str, ...]) -> None:
    """Take the cells of OTHERS, stores or archives, over into STORE, which is made if it is not there.

    Where both have a result of a cell, the one in STORE stays; where only one has, it is taken.
    """
    for other in others:
        check_store(other)
    from deni.commands.study import merge_stores

    for other, merged in merge_stores(store, others):
        say(f"{other}: {merged.new} new cells, {merged.completed} others done now")
        if merged.conflicts:
            shown = ", ".join(key[:12] for key in merged.conflicts[:5]) + (" ..." if len(merged.conflicts) > 5 else "")
            say(
                f"Warning: {other} has another result of {len(merged.conflicts)} cells ({shown}): kept the first",
                err=True,
            )


def _say_who_trains(rows: Iterable[Row], store: str) -> None:
    """Who works on the cells that run, and what to do where nobody does."""
    from deni.study.store.workers import split_worker, worker_state

    workers: dict[str, list[Row]] = {}
    for row in rows:
        workers.setdefault(row.worker, []).append(row)
    advice = {
        "here": "",
        "gone": ", which is gone: `deni study run` trains them again",
        "elsewhere": f"; if it is gone, `deni study retry {store} --running` lets them wait again",
    }
    for worker, cells in workers.items():
        machine, pid, _ = split_worker(worker)
        since = min(row.started for row in cells)
        who = f"process {pid} of {machine}" if machine else "nobody"
        say(f"running: {len(cells)} since {since}, by {who}{advice[worker_state(worker)]}")


def _print_costs(jobs: Iterable[Job], left: set[str]) -> None:
    from rich.table import Table

    from deni.study.store.table import called

    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((called(job.cell), job.cell.tuning.name), []).append(job)
    table = Table()
    table.add_column("strategy")
    table.add_column("tuning", no_wrap=True)
    for name in ("cells", "packs", "steps", "member-steps", "left"):
        table.add_column(name, justify="right", no_wrap=True)  # no figure is cut short
    total = [0, 0, 0, 0]
    for (strategy, tuning), cells in groups.items():
        steps = sorted({each.steps for each in cells})
        span = str(steps[0]) if len(steps) == 1 else f"{steps[0]}-{steps[-1]}"
        sums = [len(cells), len({each.pack for each in cells})]
        costs = [sum(each.member_steps for each in some) for some in (cells, [c for c in cells if c.key in left])]
        table.add_row(strategy, tuning, *map(str, sums), span, *map(str, costs))
        total = [one + other for one, other in zip(total, [*sums, *costs], strict=True)]
    table.add_section()
    table.add_row("all", "", *map(str, total[:2]), "", *map(str, total[2:]))
    console().print(table)


def _print_status(rows: Iterable[Row]) -> None:
    from rich.table import Table

    from deni.study.store.table import called

    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((called(row.cell), Path(row.cell.dataset["name"]).name), []).append(row)
    table = Table()
    for name in ("strategy", "dataset"):
        table.add_column(name)
    for name in ("done", "running", "failed", "waiting"):
        table.add_column(name, justify="right", no_wrap=True)  # no figure is cut short
    for (strategy, dataset), cells in groups.items():
        counts = [sum(row.status == name for row in cells) for name in ("done", "running", "failed", "waiting")]
        table.add_row(strategy, dataset, *map(str, counts))
    console().print(table)
