"""What a study file becomes with its data: cells of the strategy `auto`."""

import dataclasses

import pytest

from deni.auto import table
from deni.errors import InputError
from deni.study.plan import read_study
from deni.study.store.table import called
from tests.helpers.auto import ROW
from tests.helpers.studies import writer

NAMED = {"name": "linear_probe+best_practices", "probe_c": 0.001}


@pytest.fixture
def study(tmp_path, tickets, model_folder, monkeypatch):
    monkeypatch.setattr(table, "ROWS", [ROW])
    write = writer(tmp_path / "study.yaml", tickets, model_folder)
    return lambda **given: read_study(write(**{"tunings": ["lora"], **given})).jobs


def test_auto_has_the_cells_of_what_it_becomes_under_its_own_label(study):
    auto, named = study(strategies=["auto"]), study(strategies=[NAMED])
    assert [job.key for job in auto] == [job.key for job in named]
    assert [job.pack for job in auto] == [job.pack for job in named]
    assert auto[0].schedule == named[0].schedule
    assert {called(job.cell) for job in auto} == {"auto"}
    assert auto[0].recipe.chosen["row"] == "made"
    assert [job.recipe.seed for job in auto] == [0, 1, 2]


def test_another_table_makes_other_cells(study, monkeypatch):
    before = study(strategies=["auto"])
    monkeypatch.setattr(table, "ROWS", [dataclasses.replace(ROW, strategy_settings={"probe_c": 0.01})])
    assert not {job.key for job in before} & {job.key for job in study(strategies=["auto"])}


def test_the_tuning_and_the_recipe_of_the_study_count_as_given(study):
    (job, *_) = study(strategies=["auto"], tunings=["full"], recipe={"epochs": 4, "warmup_ratio": 0.2})
    assert (job.recipe.tuning.name, job.recipe.epochs, job.recipe.warmup_ratio) == ("full", 4, 0.2)
    assert job.steps == 4 * 3  # 18 labeled texts
    sources = {name: each["from"] for name, each in job.recipe.chosen["settings"].items()}
    assert {name for name, source in sources.items() if source == "given"} >= {"tuning", "epochs", "warmup_ratio"}


def test_the_facts_are_those_of_the_labeled_texts_of_the_block(study):
    facts = {
        job.cell.labelled: job.recipe.chosen["facts"]["examples"]
        for job in study(strategies=["auto"], labelled=[6, 18])
    }
    assert facts == {6: 6, 18: 18}


def test_auto_beside_what_it_becomes_is_the_same_cell_twice(study):
    with pytest.raises(InputError, match=r"means the same cells as strategies\[0\]"):
        study(strategies=["auto", NAMED])


def test_what_does_not_fit_what_auto_became_is_said_with_its_line(study, monkeypatch):
    monkeypatch.setattr(table, "ROWS", [dataclasses.replace(ROW, recipe={"pairs": "bi"})])
    with pytest.raises(InputError, match=r"study\.yaml, line \d+: .*pairs cannot be bi"):
        study(strategies=["auto"])
