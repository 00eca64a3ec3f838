"""What a study file becomes with its data: cells of the strategy `auto`, and thousands of cells."""

import cProfile
import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from deni.auto import decide, table
from deni.data import read_texts
from deni.errors import InputError
from deni.models import loading
from deni.provenance import versions
from deni.study.execution.job import Job
from deni.study.library import steps_of
from deni.study.plan import read_study
from deni.study.store.database import Store
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


# ---- thousands of cells --------------------------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path, tickets, model_folder):
    write = writer(tmp_path / "study.yaml", tickets, model_folder)
    return lambda **given: read_study(write(**given))


@pytest.mark.parametrize(
    "given",
    [
        {"strategies": ["default", "deni"], "tunings": ["full", "lora"], "blocks": 2},
        {"vary": "all"},
        {"vary": ["data_split", "dropout"], "blocks": [0, 3]},
        {"vary": ["noise"], "strategies": ["deni"], "factor": {"members": [2, 3]}},
        {"measure": "development", "strategies": ["auto", "majority"]},
        {"recipe": {"max_length": 12}, "protocol": "paper", "labelled": [9, 18]},
    ],
    ids=lambda given: "-".join(given),
)
def test_a_cell_that_follows_another_is_what_it_is_by_itself(plan, given):
    planned = plan(**given)
    assert len(planned.jobs) >= 3
    for job in planned.jobs:
        recipe = job.cell.resolve()
        train, _ = planned.library.parts(job.cell, recipe.strategy)
        recipe = decide(recipe, train)
        fingerprints = planned.library.fingerprints(job.cell, recipe.strategy)
        assert job == Job.of(job.cell, fingerprints, versions(), steps_of(recipe, len(train)), recipe)


def test_a_model_is_read_once_for_a_study(plan, monkeypatch):
    read, config = [], loading.read_config
    monkeypatch.setattr(loading, "read_config", lambda *args, **options: read.append(args) or config(*args, **options))
    planned = plan(seeds=50, strategies=["default", "deni", "swa"], recipe={"pooling": "mean", "max_length": 12})
    assert len(planned.jobs) == 150
    assert len(read) == 1
    plan(seeds=50)  # the next one does not believe what the first one read
    assert len(read) == 2


def test_a_model_that_changes_between_two_plans_is_read_again(plan, model_folder, tmp_path):
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    (before, *_) = plan(models=[str(folder)]).jobs
    (folder / "1_Pooling").mkdir()
    modules = [
        {"type": f"sentence_transformers.models.{name}", "path": path}
        for name, path in (("Transformer", ""), ("Pooling", "1_Pooling"))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (after, *_) = plan(models=[str(folder)]).jobs
    assert before.decides["fingerprints"]["model"] != after.decides["fingerprints"]["model"]
    assert (before.decides["recipe"].get("pooling"), after.decides["recipe"].get("pooling")) == (None, "mean")


def test_augmented_texts_that_change_between_two_plans_are_read_again(plan, tickets, tmp_path):
    texts, file = read_texts(tickets).texts, tmp_path / "augmented.csv"
    given = {"datasets": [{"path": tickets, "augmented": str(file)}]}
    strategy = {"name": "augmentation", "augmentations": 1}
    pd.DataFrame({"seed": texts, "text": [f"{each} please" for each in texts]}).to_csv(file, index=False)
    (before, *_) = plan(**given, strategies=[strategy]).jobs
    pd.DataFrame({"seed": texts[:1], "text": ["please"]}).to_csv(file, index=False)
    with pytest.raises(InputError, match="has fewer than 1 augmented texts for"):
        plan(**given, strategies=[strategy])
    pd.DataFrame({"seed": texts, "text": [f"{each} now" for each in texts]}).to_csv(file, index=False)
    (after, *_) = plan(**given, strategies=[strategy]).jobs
    assert before.decides["fingerprints"]["augmented"] != after.decides["fingerprints"]["augmented"]


def calls_of(work) -> int:
    """How many functions of Python and C are called: a cost that no other process changes."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize(
    "given",
    [{}, {"vary": ["noise"], "strategies": ["deni"]}, {"listed": True}, {"strategies": ["majority"]}],
    ids=["counted", "one-source", "listed", "baseline"],
)
def test_a_cell_costs_the_same_in_a_larger_study(plan, given):
    def cost(cells: int) -> int:
        settings = {**given, "seeds": list(range(cells)) if given.get("listed") else cells}
        settings.pop("listed", None)
        return calls_of(lambda: plan(**settings))

    cost(10)
    few, more, many = (cost(cells) for cells in (100, 1100, 2100))
    assert many - more == pytest.approx(more - few, rel=0.02)
    assert (more - few) / 1000 < 600  # 8,300 when the config of a model was read for each cell


def test_a_store_takes_and_names_cells_at_the_same_cost(plan, tmp_path):
    def cost(cells: int) -> int:
        jobs = plan(seeds=cells).jobs
        with Store(tmp_path / f"{cells}.db", create=True) as store:

            def work() -> None:
                assert store.add(jobs) == cells
                assert store.add(jobs) == 0
                assert set(store.statuses(job.key for job in jobs).values()) == {"waiting"}
                assert sum(1 for _ in store.results(None)) == cells
                assert len(store.claim([job.key for job in jobs])) == cells

            return calls_of(work)

    few, more, many = (cost(cells) for cells in (10, 510, 1010))
    assert many - more == pytest.approx(more - few, rel=0.02)
