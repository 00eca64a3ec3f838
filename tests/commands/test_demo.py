import dataclasses
import json
import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from deni.auto import table
from deni.baselines import make_baseline
from deni.commands.demo import EPOCHS, LABELS, MEMBERS, STRATEGIES, Row, demo_texts, run_demo, state_differences
from deni.data import read_texts
from deni.data.demo import demo_files
from deni.finetune import fine_tune
from deni.measures.comparison import Difference
from deni.recipe import Recipe
from deni.strategies import make_strategy
from tests.helpers.auto import ROW


@pytest.fixture(scope="module")
def result(model_folder):
    return run_demo(model_folder, seeds=2, labelled=96, epochs=1)


def test_the_demo_has_a_row_for_each_strategy_with_a_score_for_each_seed(result):
    rows, _ = result
    assert [row.strategy for row in rows] == ["default", "frozen", "ensemble", "deni", "auto"] == list(STRATEGIES)
    assert [len(row.macro_f1) for row in rows] == [2, 1, 2, 2, 2]
    assert all(row.seconds > 0 for row in rows)


def test_the_demo_costs_what_the_schedules_say(result):
    rows, values = result
    steps = math.ceil(values["train_texts"] / 8)
    costs = {row.strategy: row.member_steps for row in rows}
    deni = make_strategy("deni", members=MEMBERS).schedule(steps).cost
    assert costs == {"default": steps, "frozen": 0, "ensemble": MEMBERS * steps, "deni": deni, "auto": steps}


def test_a_seed_of_the_pack_scores_as_it_does_alone(result, model_folder):
    rows, _ = result
    train, _, test = demo_texts(96)
    recipe = Recipe.of(strategy="default", tuning="full", model=model_folder, epochs=1, seed=1)
    alone = fine_tune(train, recipe, progress=False).test(test)
    chosen = alone.votes.argmax(-1)
    assert rows[0].macro_f1[1] == pytest.approx(f1_score(alone.gold, chosen, average="macro"))
    assert (rows[0].predictions[1] == chosen).all()


def test_the_frozen_row_is_the_frozen_baseline(result, model_folder):
    rows, _ = result
    train, _, test = demo_texts(96)
    fitted = make_baseline("frozen").fit(train, Recipe(model=model_folder))
    names = np.array(fitted.labels)[fitted.outputs(test.texts).argmax(-1)]
    assert rows[1].macro_f1 == [pytest.approx(f1_score(test.labels, names, average="macro"))]


def test_in_the_demo_auto_chooses_the_tuning_that_is_not_given(model_folder, monkeypatch):
    chosen = []
    monkeypatch.setattr(table, "ROWS", [dataclasses.replace(ROW, tuning="lora")])
    monkeypatch.setattr("deni.commands.demo.fine_tune", lambda *a, **k: chosen.append(a[1]) or fine_tune(*a, **k))
    (row,), values = run_demo(model_folder, strategies=["auto"], seeds=1, labelled=24)
    assert (chosen[0].tuning.name, chosen[0].epochs) == ("lora", EPOCHS)
    assert row.member_steps == EPOCHS * math.ceil(values["train_texts"] / 8) <= 75


def test_the_demo_shows_each_strategy(model_folder, monkeypatch, capsys):
    monkeypatch.setattr("deni.progress.EVERY", 0)
    monkeypatch.setattr("deni.progress.SHARE", 0)
    run_demo(model_folder, strategies=["default", "auto"], seeds=1, labelled=24, epochs=1, progress=True)
    lines = capsys.readouterr().err.splitlines()
    for name in ("default", "auto"):
        assert len([line for line in lines if f" {name}, 1 seed: step " in line]) == 3  # 24 / 8


def test_the_demo_is_json_with_versions_and_settings(result, model_folder):
    rows, values = result
    again = json.loads(json.dumps(values))
    settings = {"model": model_folder, "tuning": None, "seeds": 2, "labelled": 96, "epochs": 1}
    assert again["settings"] == settings
    assert {"torch", "transformers"} <= set(again["environment"])
    assert again["rows"][0]["macro_f1"] == rows[0].macro_f1
    assert again["rows"][0]["against_default"] is None
    assert again["rows"][4]["against_default"]["low"] == rows[4].against.low


def test_the_demo_takes_short_texts_of_every_class_and_none_twice():
    train, left, test = demo_texts(60)
    counts = [train.labels.count(label) for label in LABELS]
    assert (len(train), counts) == (60, [20] * 3)
    assert not {*train.texts} & {*left.texts}
    whole, other = (read_texts(file) for file in demo_files())
    known = [text for text, label in zip(whole.texts, whole.labels, strict=True) if label in LABELS and len(text) <= 80]
    assert sorted(train.texts + left.texts) == sorted(known)
    rows = zip(other.texts, other.labels, strict=True)
    assert len(test) == sum(label in LABELS and len(text) <= 80 for text, label in rows)


def test_a_row_has_mean_and_sample_deviation():
    gold = np.array([0, 0, 1, 1])
    row = Row("default", np.array([[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]]), gold)
    assert row.macro_f1 == [1, 0, 1]
    assert row.mean == pytest.approx(2 / 3)
    assert row.sd == pytest.approx(math.sqrt(1 / 3))


def stated(low, high):
    right = np.zeros((2, 4), int)
    against = Difference((low + high) / 2, low, high, None)
    return list(state_differences([Row("default", right, right[0]), Row("auto", right, right[0], against=against)]))


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.01, 0.09, "better"), (-0.09, -0.01, "worse"), (-0.05, 0.05, "no difference shown")],
)
def test_a_difference_is_stated_as_what_its_interval_shows(low, high, word):
    lines = stated(low, high)
    assert lines[1] == f"auto: {50 * (low + high):+.1f} ({100 * low:+.1f} to {100 * high:+.1f}), {word}."
    assert ("So nothing here is shown to differ from default." in lines) == (word == "no difference shown")


def test_a_real_difference_is_shown_and_equal_strategies_are_not():
    from deni.commands.demo import _compared

    gold = np.arange(200) % 4
    draw = np.random.default_rng(0)
    good, bad = (np.where(draw.random((5, 200)) < right, gold, (gold + 1) % 4) for right in (0.9, 0.6))
    same = np.where(draw.random((5, 200)) < 0.6, gold, (gold + 1) % 4)
    rows = _compared([Row("default", bad, gold), Row("auto", good, gold), Row("deni", same, gold)], 5)
    assert rows[1].against.low > 0.2
    assert rows[2].against.low < 0 < rows[2].against.high
    # 95 % of both together: each interval has 97.5 %.
    drawn = rows[1].against.high - rows[1].against.low
    alone = _compared([Row("default", bad, gold), Row("auto", good, gold)], 5)[1].against
    assert drawn > alone.high - alone.low


def test_one_seed_shows_no_difference(model_folder):
    rows, _ = run_demo(model_folder, strategies=["default", "frozen"], seeds=1, labelled=24, epochs=1)
    assert list(state_differences(rows)) == ["One seed shows no difference: more seeds do."]


def test_the_demo_with_too_few_steps_says_so(model_folder):
    with pytest.raises(ValueError, match="step"):
        run_demo(model_folder, strategies=["deni"], seeds=1, labelled=12, epochs=1)
