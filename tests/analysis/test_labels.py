"""Labels of strategies: from the study to the tables, and through archives."""

import dataclasses

import pytest

from deni.analysis.runs import read_runs
from deni.study.cell import NamedSettings
from deni.study.store.archive import opened, write_archive
from deni.study.store.database import Store
from tests.helpers.made import job_of, make, runs

DENI = NamedSettings("deni", {"members": 3})


def labeled(cells, label):
    return [(dataclasses.replace(cell, label=label), result) for cell, result in cells]


@pytest.fixture
def store_file(tmp_path):
    cells = [*runs("default", 0.6, 3), *labeled(runs(DENI, 0.8, 3, shift=1), "three members")]
    return make(tmp_path / "study.db", cells)


def strategies(path, **how):
    with opened(path) as store:
        return read_runs(store, **how).strategies


def test_runs_are_called_by_the_label(store_file):
    assert strategies(store_file) == ["default", "three members"]


def test_an_archive_keeps_the_label(store_file, tmp_path):
    with Store(store_file) as store:
        write_archive(store, tmp_path / "study.parquet")
    assert strategies(tmp_path / "study.parquet") == ["default", "three members"]


def test_a_study_that_is_read_again_gives_its_label_to_cells_that_are_done(store_file):
    with Store(store_file) as store:
        before = [row.key for row in store.results()]
        cells = labeled(list(runs(DENI, 0.8, 3, shift=1)), "a trio")
        assert store.add([job_of(cell) for cell, _ in cells]) == 0
        assert [row.key for row in store.results()] == before
    assert strategies(store_file) == ["default", "a trio"]


def test_a_study_without_the_label_takes_none_away_and_its_seeds_are_of_the_same_strategy(store_file):
    with Store(store_file) as store:
        for cell, result in runs(DENI, 0.8, 5, shift=1):
            store.add([job_of(cell)])
            store.finish(job_of(cell).key, result)
    with opened(store_file) as store:
        found = read_runs(store)
    assert found.strategies == ["default", "three members"]
    assert [len(group.scores) for group in found.groups] == [3, 5]


def test_labels_that_are_given_replace_those_of_the_cells(store_file):
    assert strategies(store_file, labels={"deni (members=3)": "small"}) == ["default", "small"]


def test_strategies_that_two_studies_call_the_same_are_told_apart(tmp_path):
    cells = [*labeled(runs("swa", 0.6, 3), "mine"), *labeled(runs(DENI, 0.8, 3, shift=1), "mine")]
    first, second = strategies(make(tmp_path / "study.db", cells))
    assert first.startswith("mine, strategy=swa")
    assert second.startswith("mine, strategy=deni")


def test_what_a_recipe_says_makes_settings_or_strategies(tmp_path):
    pairs = zip(runs("default", 0.6, 3), runs("default", 0.8, 3, shift=1), strict=True)
    cells = [
        (dataclasses.replace(cell, recipe={"bf16": half}, factor={"bf16": half}), result)
        for pair in pairs
        for half, (cell, result) in zip((False, True), pair, strict=True)
    ]
    with opened(make(tmp_path / "study.db", cells)) as store:
        apart, compared = read_runs(store), read_runs(store, as_strategies=["bf16"])
    assert ([each.other for each in apart.settings], apart.strategies) == (["bf16=False", "bf16=True"], ["default"])
    assert [each.other for each in compared.settings] == [""]
    assert compared.strategies == ["default, bf16=False", "default, bf16=True"]
    assert [list(group.scores) for group in compared.groups] == [list(group.scores) for group in apart.groups]
