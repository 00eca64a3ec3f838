"""benchmarks/studies: the rows that go on are the best of each dataset."""

import importlib.util
from pathlib import Path

import pytest

from deni.study.plan import read_study
from deni.study.spec.grid import read_grid

FOLDER = Path(__file__).parents[1] / "benchmarks" / "studies"
spec = importlib.util.spec_from_file_location("halve", FOLDER / "halve.py")
halve = importlib.util.module_from_spec(spec)
spec.loader.exec_module(halve)


@pytest.fixture
def study(tmp_path, tickets, model_folder):
    file = tmp_path / "study.yaml"
    file.write_text(
        f"datasets: [{tickets}]\nmodels: [{model_folder}]\nstrategies: [default, linear_probe]\nseeds: 3\n"
        "factor: {pooling: [auto, mean]}\nrecipe: {epochs: 1}\ntest_size: 6\n"
    )
    return file


def test_the_best_rows_go_on_to_more_seeds(study):
    jobs = read_study(study).jobs
    assert len(halve.chosen(jobs, {}, None, 1)) == 4
    first = [job for job in jobs if job.cell.seed == 0]
    scores = {job.key: score for job, score in zip(first, (0.1, 0.9, 0.5, 0.7), strict=True)}
    kept = halve.chosen(jobs, scores, 2, 3)
    assert {halve.row_of(job) for job in kept} == {halve.row_of(first[1]), halve.row_of(first[3])}
    assert sorted(job.cell.seed for job in kept) == [0, 0, 1, 1, 2, 2]
    # A row with more seeds is before a luckier one with fewer.
    scores |= {job.key: 0.6 for job in jobs if halve.row_of(job) == halve.row_of(first[3])}
    (rows,) = halve.ranked(jobs, scores).values()
    assert [(round(mean, 3), seeds) for mean, _, seeds in rows] == [(0.6, 3), (0.9, 1), (0.5, 1), (0.1, 1)]


def test_stages_are_trained_and_not_again(study, tmp_path, capsys):
    command = [str(tmp_path / "halved.db"), str(study), "--stages", "all:1", "1:2"]
    halve.main(command)
    said = capsys.readouterr().out
    assert "stage all:1: 4 cells, 4 to train" in said
    assert "stage 1:2: 2 cells, 1 to train" in said
    assert said.count("1 seeds") == 3
    halve.main(command)
    assert "stage 1:2: 2 cells, 0 to train" in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_studies_are_measured_on_dev_splits(file):
    points = list(read_grid(file).points())
    assert {point.cell.measure for point in points} == {"development"}
    assert {point.cell.dataset["name"] for point in points} == {"trec", "sst2", "ag_news", "mrpc"}
