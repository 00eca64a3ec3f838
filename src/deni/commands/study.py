"""What `deni study` does: a study's cells are trained into a store, looked at, tried again, exported, merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deni.errors import InputError
from deni.outputs import check_file, check_store
from deni.study.spec.grid import read_grid

if TYPE_CHECKING:
    from deni.study.execution.run import Run
    from deni.study.plan import Study
    from deni.study.store.database import MergeResult
    from deni.study.store.rows import Row

FORMATS = ("csv", "parquet", "jsonl")


@dataclass(frozen=True)
class Progress:
    """What is left of a study after a run.

    Args:
        cells: how many it has.
        waiting: how many are not trained yet.
        failed: how many failed.
        running: those that another driver trains.
    """

    cells: int
    waiting: int
    failed: int
    running: tuple[Row, ...]

    @property
    def done(self) -> int:
        """How many have a result."""
        return self.cells - self.waiting - self.failed - len(self.running)


def plan_study(file: str | Path, store: str | Path, **how: Any) -> tuple[Study, Run]:
    """Read and check a study, and see what of it a store lacks; nothing is trained.

    Args:
        file: the study.
        store: its results; it may not be there yet.
        how: as `deni.study.execution.run.Run` takes it: device, runner, workers, pack, ...

    Raises:
        InputError: one line that names the file, the line, and what is wrong there.
    """
    check_store(store, [file])
    grid = read_grid(file)  # what is misspelled is reported before seconds of imports

    from deni.study.execution.run import Run
    from deni.study.plan import resolve
    from deni.study.store.database import Store

    study = resolve(grid)
    have = {}
    if Path(store).exists():
        with Store(store) as opened:
            have = opened.statuses(each.key for each in study.jobs)
    left = [each for each in study.jobs if have.get(each.key) not in ("done", "failed")]
    return study, Run(study, left, **how)


def run_study(study: Study, run: Run, store: str | Path) -> Progress:
    """Train what is left of a study into its store, which is made if it is not there."""
    from deni.study.store.database import Store

    with Store(store, create=True) as opened:
        failed = run.into(opened)
        keys = {each.key for each in study.jobs}
        waiting = list(opened.statuses(keys).values()).count("waiting")
        running = tuple(row for row in opened.results("running") if row.key in keys)
    return Progress(len(keys), waiting, failed, running)


def study_status(store: str | Path) -> tuple[dict[str, int], list[Row]]:
    """How many cells of a store wait, run, are done and failed; and the cells."""
    from deni.study.store.database import Store

    with Store(store) as opened:
        return {str(name): count for name, count in opened.status().items()}, list(opened.results(None))


def retry_cells(store: str | Path, keys: Sequence[str] = (), running: bool = False) -> int:
    """Let failed cells wait again; how many do.

    Args:
        keys: the beginnings of their keys; none for all.
        running: in place of failed cells those that run on other machines, or no more.

    Raises:
        InputError: a key of no failed cell.
    """
    from deni.study.store.database import Store

    with Store(store) as opened:
        if running:
            return opened.release_stale(elsewhere=True)
        failed = [row.key for row in opened.results("failed")]
        for key in keys:
            if not any(each.startswith(key) for each in failed):
                raise InputError(f"{store}: no failed cell {key}: see `deni study status {store}`")
        return opened.retry([each for each in failed if not keys or each.startswith(tuple(keys))])


def damaged_cells(store: str | Path, output: str | Path | None = None, overwrite: bool = False) -> dict[int, str]:
    """The rows of a store that are damaged, by their number, with what is wrong.

    Args:
        output: a file for a store with all other rows, written whole or not at all; None for none.
        overwrite: replace a store that is there, but no other file.

    Raises:
        InputError: no store, or an output that is there or cannot be written.
    """
    if output is not None:
        check_file(output, overwrite, [store], kind="store")
    from deni.study.store.database import Store
    from deni.study.store.merge import whole_copy

    with Store(store) as opened:
        damaged = opened.damaged()
        if output is not None:
            whole_copy(opened, Path(output), overwrite)
        return damaged


def export_cells(
    store: str | Path, output: str | Path, kind: str | None = None, archive: bool = False, overwrite: bool = False
) -> int:
    """Write a row a cell with all settings, metrics and costs; how many there are.

    Args:
        kind: `csv`, `parquet` or `jsonl`; None: by the suffix of the output.
        archive: a small copy that `deni study merge` and `deni report` read, as Parquet.

    Raises:
        InputError: a format that does not exist or fit, an output that is there or cannot be written.
    """
    if archive and kind not in (None, "parquet"):
        raise InputError(f"an archive is a Parquet file: omit --format {kind}")
    kind = kind or Path(output).suffix[1:]
    if not archive and kind not in FORMATS:
        raise InputError(f"which format is {output}? give --format, one of {', '.join(FORMATS)}")
    check_file(output, overwrite, [store], kind="archive" if archive else "file")
    from deni.study.store.archive import write_archive
    from deni.study.store.database import Store
    from deni.study.store.table import write_table

    with Store(store) as opened:
        if archive:
            return write_archive(opened, output, overwrite)
        return write_table(opened.results(None), output, kind, overwrite)


def merge_stores(store: str | Path, others: Sequence[str | Path]) -> Iterator[tuple[str, MergeResult]]:
    """Take the cells of other stores, or archives, over into a store; what came of each.

    Where both have a result of a cell, the one in `store` stays; where only one has, it is taken.
    """
    from deni.study.store.merge import merge_files

    check_store(store, others)
    yield from merge_files(store, others)
