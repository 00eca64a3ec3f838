"""What the driver does with packs, with runners that behave as they are told."""

from dataclasses import replace

import numpy as np
import pytest

from deni.errors import InputError
from deni.study.cell import Cell, CellResult, Fingerprints, NamedSettings
from deni.study.execution.driver import ATTEMPTS, Pack, packs_of, run_packs
from deni.study.execution.job import Job
from deni.study.execution.progress import Progress
from deni.study.execution.runners.base import PackResult, Runner
from deni.study.store.database import Store

CELL = Cell(
    {"name": "tickets.csv"}, "some/model", NamedSettings("full"), NamedSettings("default"), 100, seed=0, block=0
)


def planned(count=4, **changed):
    cells = [replace(CELL, seed=seed, **changed) for seed in range(count)]
    return [Job.of(cell, Fingerprints("d", "m"), {"torch": "2"}, steps=10) for cell in cells]


def result(seed=0):
    draw = np.random.default_rng(seed)
    return CellResult(draw.normal(size=(5, 1, 2)), draw.integers(2, size=5), np.arange(5), ("no", "yes"), "d")


class Scripted(Runner):
    """Answers each pack as `says` tells: `(seeds of the pack, how often it was given) -> PackResult without number`."""

    def __init__(self, says, slots=2):
        super().__init__(slots, threads=1)
        self.says, self.given, self.open, self.closed = says, [], [], False

    def submit(self, number, jobs):
        assert len(self.open) < self.slots
        seeds = [job.cell.seed for job in jobs]
        self.given.append(seeds)
        self.open.append((number, seeds))

    def wait(self):
        number, seeds = self.open.pop()
        return replace(self.says(seeds, self.given.count(seeds)), number=number)

    def close(self):
        self.closed = True


def well(seeds, _):
    return PackResult(0, [result(seed) for seed in seeds])


def trained(store, cells, says, size=2, slots=2):
    store.add(cells)
    runner, news = Scripted(says, slots), []
    run_packs(packs_of(cells, lambda _: size), store, runner, news.append)
    assert runner.closed
    return runner, news


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "study.db", create=True) as opened:
        yield opened


def test_packs_hold_what_may_train_together_up_to_the_size():
    cells = [*planned(5), *planned(2, block=1)]
    packs = packs_of(cells, lambda _: 2)
    assert [[(each.cell.block, each.cell.seed) for each in pack.jobs] for pack in packs] == [
        [(0, 0), (0, 1)],
        [(0, 2), (0, 3)],
        [(0, 4)],
        [(1, 0), (1, 1)],
    ]


def test_every_cell_is_written_once(store):
    runner, news = trained(store, planned(5), well)
    assert sorted(map(len, runner.given)) == [1, 2, 2]
    assert store.status() == {"waiting": 0, "running": 0, "done": 5, "failed": 0}
    assert all(row.attempts == 1 for row in store.results())
    for row in store.results():
        assert np.array_equal(store.outputs(row.key).log_probs, result(row.cell.seed).log_probs)
    assert [each.what for each in news].count("done") == 5


def test_a_cell_whose_run_failed_is_recorded_and_the_others_go_on(store):
    def says(seeds, _):
        return PackResult(
            0, ["TrainingDivergedError: non-finite loss" if seed == 1 else result(seed) for seed in seeds]
        )

    trained(store, planned(4), says)
    assert store.status()["done"] == 3
    (row,) = store.results("failed")
    assert (row.cell.seed, row.reason) == (1, "TrainingDivergedError: non-finite loss")


def test_a_pack_that_raises_is_trained_cell_by_cell(store):
    def says(seeds, times):
        return PackResult(0, error="Traceback ...\nValueError: seed 1") if 1 in seeds else well(seeds, times)

    runner, _ = trained(store, planned(4), says, size=4)
    assert sorted(runner.given) == [[0], [0, 1, 2, 3], [1], [2], [3]]
    (row,) = store.results("failed")
    assert (row.cell.seed, row.reason) == (1, "ValueError: seed 1")
    assert store.status()["done"] == 3


def test_a_pack_whose_worker_died_is_tried_again(store):
    def says(seeds, times):
        return PackResult(0, died="killed by SIGKILL") if times < ATTEMPTS else well(seeds, times)

    runner, news = trained(store, planned(2), says)
    assert runner.given == [[0, 1]] * ATTEMPTS
    assert store.status()["done"] == 2
    assert [each.what for each in news].count("again") == ATTEMPTS - 1


def test_a_cell_that_kills_every_worker_fails_alone(store):
    def says(seeds, times):
        return PackResult(0, died="killed by SIGKILL") if 1 in seeds else well(seeds, times)

    trained(store, planned(3), says, size=3)
    (row,) = store.results("failed")
    assert row.cell.seed == 1
    assert "SIGKILL" in row.reason
    assert store.status()["done"] == 2


def test_what_is_under_way_waits_again_after_an_interrupt(store):
    def says(seeds, _):
        if 2 in seeds:
            raise KeyboardInterrupt
        return well(seeds, 1)

    store.add(planned(4))
    with pytest.raises(KeyboardInterrupt):
        run_packs(packs_of(planned(4), lambda _: 2), store, Scripted(says, slots=1), lambda _: None)
    assert store.status() == {"waiting": 2, "running": 0, "done": 2, "failed": 0}


def test_cells_of_another_driver_are_left_to_it(store):
    cells = planned(4)
    store.add(cells)
    store.claim([cells[0].key, cells[3].key], "elsewhere:1:2")
    runner = Scripted(well)
    run_packs([Pack(cells)], store, runner, lambda _: None)
    assert runner.given == [[1, 2]]
    assert store.status() == {"waiting": 0, "running": 2, "done": 2, "failed": 0}


def test_progress_counts_what_the_driver_tells(store, capsys):
    progress = Progress(planned(4), done=3, shown=False)

    def says(seeds, times):
        if times == 1 and 0 in seeds:
            return PackResult(0, died="killed")
        return PackResult(0, ["no" if seed == 3 else result(seed) for seed in seeds])

    cells = planned(4)
    store.add(cells)
    run_packs(packs_of(cells, lambda _: 2), store, Scripted(says), progress.tell)
    assert progress.line() == "6 of 7 done, 0 running, 1 failed, 0:00 left"
    assert capsys.readouterr() == ("", "")


def test_progress_counts_a_pack_that_is_split_once(store):
    def says(seeds, _):
        if 0 in seeds:
            return PackResult(0, died="killed")
        return PackResult(0, error="ValueError: seed 2") if 2 in seeds else well(seeds, 1)

    cells = planned(5)
    progress = Progress(cells, shown=False)
    store.add(cells)
    run_packs(packs_of(cells, lambda _: 2), store, Scripted(says), progress.tell)
    assert progress.line() == "3 of 5 done, 0 running, 2 failed, 0:00 left"


def test_when_it_is_time_no_pack_is_begun_and_those_under_way_are_finished(store):
    def says(seeds, times):  # seed 1 would be tried again
        return PackResult(0, died="killed by SIGKILL") if 1 in seeds else well(seeds, times)

    cells = planned(6)
    store.add(cells)
    runner = Scripted(says)
    run_packs(packs_of(cells, lambda _: 1), store, runner, lambda _: None, lambda: len(runner.given) >= 2)
    assert (runner.given, runner.open, runner.closed) == ([[0], [1]], [], True)
    assert [row.cell.seed for row in store.results()] == [0]
    assert store.status() == {"waiting": 5, "running": 0, "done": 1, "failed": 0}


def test_cells_wait_again_even_if_the_runner_does_not_close(store):
    class Broken(Scripted):
        def close(self):
            raise OSError("no cluster")

    def says(seeds, times):
        raise InputError("the cluster is gone")

    store.add(planned(4))
    with pytest.raises(OSError, match="no cluster"):
        run_packs(packs_of(planned(4), lambda _: 2), store, Broken(says), lambda _: None)
    assert store.status() == {"waiting": 4, "running": 0, "done": 0, "failed": 0}


def test_a_full_disk_ends_the_study_and_the_same_again_finishes_it(store):
    def large(seeds, _):
        draw = np.random.default_rng(seeds[0])
        log_probs = draw.normal(size=(50_000, 1, 2))
        return PackResult(
            0, [CellResult(log_probs, np.zeros(50_000), np.arange(50_000), ("no", "yes"), "d") for _ in seeds]
        )

    cells = planned(4)
    store.add(cells)
    pages = store._file.sqlite.execute("PRAGMA page_count").fetchone()[0]
    store._file.sqlite.execute(f"PRAGMA max_page_count = {pages + 200}")  # room for one cell
    with pytest.raises(InputError, match="the disk is full"):
        run_packs(packs_of(cells, lambda _: 1), store, Scripted(large), lambda _: None)
    assert store.status() == {"waiting": 3, "running": 0, "done": 1, "failed": 0}
    store._file.sqlite.execute("PRAGMA max_page_count = 1000000")
    run_packs(packs_of(cells, lambda _: 1), store, Scripted(large), lambda _: None)
    assert [row.attempts for row in store.results()] == [2, 1, 2, 1]
    assert store._file.sqlite.execute("PRAGMA integrity_check").fetchone() == ("ok",)
