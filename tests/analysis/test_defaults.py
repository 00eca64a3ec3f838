"""A default that changes between two versions leaves what is read of stored cells alone."""

import dataclasses

import numpy as np
import pytest

from deni.analysis.runs import mean_score, read_runs
from deni.auto.table import ROWS
from deni.strategies import STRATEGIES
from deni.strategies.default import Default
from deni.strategies.deni import DENI
from deni.study.cell import CellResult
from deni.study.keys import key_of
from deni.study.store.database import Store
from tests.helpers.made import cell_of, job_of

# Two of three members are for the first class of the first text, by a little.
VOTES = np.log([[[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]], [[0.1, 0.9]] * 3])
RESULT = CellResult(VOTES, [0, 1], [0, 1], ("a", "b"), "", {"macro_f1": 0.0})


def another(job, kind, **values):
    """The same cell, resolved on a day with other defaults."""
    named = job.decides[kind]
    settings = {"settings": {**named["settings"], **values}} if kind != "recipe" else values
    decided = {**job.decides, kind: {**named, **settings}}
    return dataclasses.replace(job, decides=decided, key=key_of(decided))


@pytest.fixture
def read(tmp_path):
    def read(*jobs):
        with Store(tmp_path / "study.db", create=True) as store:
            store.add(jobs)
            for job in jobs:
                store.finish(job.key, RESULT)
            return read_runs(store)

    return read


def test_members_vote_as_when_they_were_trained(read, monkeypatch):
    today = job_of(cell_of("deni"))
    earlier = another(today, "strategy", combine="hard")
    monkeypatch.setattr(DENI, "__init__", lambda *_, **__: 1 / 0)
    monkeypatch.setitem(STRATEGIES._classes, "deni", Default)
    scores = {group.strategy: mean_score(group) for group in read(today, earlier).groups}
    assert scores == {"deni, combine=soft": pytest.approx(1 / 3), "deni, combine=hard": pytest.approx(1)}


def test_cells_with_another_value_of_the_recipe_or_tuning_are_another_setting(read):
    cell = job_of(cell_of("deni"))
    runs = read(cell, another(cell, "recipe", batch_size=4), another(cell, "tuning", lora_dropout=0.5))
    assert len(runs.settings) == 3
    assert len({setting.label for setting in runs.settings}) == 3
    assert runs.strategies == ["deni"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_auto_decides_of_the_recipe_is_no_other_setting(read, row):
    plain = job_of(cell_of("default"))
    chosen = another(job_of(cell_of(row.strategy, label="auto")), "recipe", **row.recipe)
    runs = read(plain, chosen)
    assert len(runs.settings) == 1
    assert runs.strategies == ["default", "auto"]
    (setting,) = runs.settings
    assert setting.other == ""


def test_what_a_strategy_may_decide_of_the_recipe_tells_strategies_apart(read):
    plain, others = job_of(cell_of("default")), job_of(cell_of("best_practices"))
    runs = read(plain, others, another(plain, "recipe", epochs=20))
    assert len(runs.settings) == 1  # best_practices decides its own epochs, and is compared all the same
    assert runs.strategies == ["default, recipe.epochs=10", "best_practices", "default, recipe.epochs=20"]
