import dataclasses
import json
import math

import pytest

from deni.auto import decide, table
from deni.commands.demo import EPOCHS, Row, run_demo
from deni.data import choose_balanced, read_texts
from deni.data.demo import demo_files
from deni.randomness import Sources
from deni.recipe import Recipe
from tests.helpers.auto import ROW


@pytest.fixture(scope="module")
def result(model_folder):
    return run_demo(model_folder, seeds=1, labelled=96, epochs=1)


def test_the_demo_has_a_row_for_each_strategy_with_scores_between_0_and_1(result):
    rows, _ = result
    assert [row.strategy for row in rows] == ["default", "auto", "deni"]
    for row in rows:
        assert len(row.macro_f1) == 1
        assert 0 <= row.macro_f1[0] <= 1
        assert row.mean == row.macro_f1[0]
        assert row.sd == 0
        assert row.seconds > 0


def test_the_demo_costs_what_the_schedules_say(result):
    rows, values = result
    steps = math.ceil(values["train_texts"] / 8)
    for row in rows:
        recipe = Recipe.of(strategy=row.strategy, model=values["settings"]["model"], epochs=1)
        became = decide(recipe, read_texts(demo_files()[0])).strategy
        assert row.member_steps == became.schedule(steps).cost


def test_in_the_demo_auto_chooses_what_is_not_given(model_folder, monkeypatch):
    monkeypatch.setattr(table, "ROWS", [dataclasses.replace(ROW, recipe={"epochs": EPOCHS + 2})])
    (row,), values = run_demo(model_folder, strategies=["auto"], seeds=1, labelled=24)
    assert row.member_steps == (EPOCHS + 2) * math.ceil(values["train_texts"] / 8)


def test_the_demo_shows_each_run(model_folder, monkeypatch, capsys):
    monkeypatch.setattr("deni.progress.EVERY", 0)
    monkeypatch.setattr("deni.progress.SHARE", 0)
    run_demo(model_folder, seeds=1, labelled=96, epochs=1, progress=True)
    lines = capsys.readouterr().err.splitlines()
    for name in ("default", "auto", "deni"):
        assert len([line for line in lines if f" {name}, seed 1 of 1: step " in line]) == 12  # ceil(96/8)


def test_the_demo_is_json_with_versions_and_settings(result, model_folder):
    rows, values = result
    again = json.loads(json.dumps(values))
    assert again["settings"] == {"model": model_folder, "tuning": None, "seeds": 1, "labelled": 96, "epochs": 1}
    assert {"torch", "transformers"} <= set(again["environment"])
    assert again["rows"][0]["macro_f1"] == rows[0].macro_f1
    assert again["test_texts"] == len(read_texts(demo_files()[1]))


def test_the_demo_trains_on_the_wanted_number_of_texts_of_every_class(result):
    _, values = result
    train = read_texts(demo_files()[0])
    chosen = choose_balanced(train.labels, 96, Sources(0).numpy("label_choice"))
    assert values["train_texts"] == len(chosen) == 96


def test_a_row_has_mean_and_sample_deviation():
    row = Row("default", [0.5, 0.7])
    assert row.mean == pytest.approx(0.6)
    assert row.sd == pytest.approx(math.sqrt(0.02))


def test_the_demo_with_too_few_steps_says_so(model_folder):
    with pytest.raises(ValueError, match="step"):
        run_demo(model_folder, strategies=["deni"], seeds=1, labelled=12, epochs=1)
