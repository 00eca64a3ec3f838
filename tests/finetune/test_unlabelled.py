"""`fine_tune` with texts that have no labels."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from deni import DeniClassifier, fine_tune
from deni.commands.train import train_file
from deni.data import Texts, read_data
from deni.distillation import Distillation, make_student
from deni.distillation.teaching import train_teacher
from deni.errors import InputError, SettingError
from deni.finetune.unlabelled import as_pool
from deni.recipe import Recipe
from tests.helpers.tiny import toy_rows, write_csv

QUIET = {"progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Labeled texts, test texts, and a pool that has some of both, one twice, and a row without a text."""
    folder = tmp_path_factory.mktemp("unlabelled")
    labeled, test = toy_rows(4), toy_rows(2, seed=7)
    write_csv(folder / "labeled.csv", labeled)
    write_csv(folder / "test.csv", test)
    pool = [text for text, _ in [*toy_rows(4, seed=5), labeled[0], test[0], labeled[1]]]
    pd.DataFrame({"text": [*pool, pool[0], ""]}).to_csv(folder / "pool.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def recipe(model_folder):
    return Recipe.of(None, "default", "full", model=model_folder, max_length=20, epochs=1, learning_rate=1e-3)


def values_of(result, folder):
    return load_file(result.save(folder) / "population.safetensors")


def test_it_is_what_the_command_trains_to_the_bit(place, recipe, tmp_path):
    options = {"teachers": 2, "distillation": Distillation(held_out=1)}
    of_command = train_file(
        place / "labeled.csv",
        recipe=recipe,
        output=tmp_path / "command",
        test=str(place / "test.csv"),
        unlabelled=place / "pool.csv",
        **options,
        **QUIET,
    )
    train, test = read_data(place / "labeled.csv"), read_data(place / "test.csv")
    result = fine_tune(train, recipe, unlabelled=place / "pool.csv", test=test, **options, **QUIET)
    given, expected = values_of(result, tmp_path / "python"), load_file(tmp_path / "command" / "population.safetensors")
    assert given.keys() == expected.keys()
    assert all((given[name] == expected[name]).all() for name in given)
    found, of = (each.added["distillation"] for each in (result, of_command.result))
    assert found["pool"] == of["pool"]
    assert found["pool"]["left_out"] == {"empty": 1, "test": 1, "labeled": 2, "repeated": 1}

    listed = pd.read_csv(place / "pool.csv", keep_default_na=False)["text"]
    pool, empty = as_pool(listed, train)
    read, left = as_pool(place / "pool.csv", train)
    assert (list(pool.texts), empty) == (list(read.texts), left)


def test_augmented_texts_are_as_texts_of_the_pool(place, recipe, tmp_path):
    """Teacher, targets and student one after the other, with a pool that has the augmented texts in it."""
    train, test = read_data(place / "labeled.csv"), read_data(place / "test.csv")
    pool, options = [text for text, _ in toy_rows(4, seed=5)], Distillation(held_out=1)
    augmented = {text: [f"well, {text}", f"{text} then"] for text in (*train.texts, *test.texts)}
    table = [(seed, text) for seed, each in augmented.items() for text in each]
    pd.DataFrame(table, columns=["seed", "text"]).to_csv(tmp_path / "augmented.csv", index=False)
    given = {"unlabelled": pool, "test": test, "teachers": 2, "distillation": options, **QUIET}
    result = fine_tune(train, recipe, augmented=tmp_path / "augmented.csv", **given)

    teacher = train_teacher(train, recipe, members=2, **QUIET).classifier()
    both = Texts([*pool, *(new for text in train.texts for new in augmented[text])], None, "both", None)
    student = make_student(teacher, both, labeled=train, recipe=recipe, options=options)
    expected = fine_tune(student.texts, student.recipe, labels=student.labels, **QUIET)
    given, expected = values_of(result, tmp_path / "at_once"), values_of(expected, tmp_path / "in_turn")
    assert all((given[name] == expected[name]).all() for name in expected)
    found = result.added["distillation"]["pool"]
    assert (found["augmented"], found["left_out"]) == (len(table), {"test": 2 * len(test)})


def test_the_estimator_learns_from_it_as_fine_tune_does(place, recipe, model_folder):
    train = read_data(place / "labeled.csv")
    pool = [text for text, _ in toy_rows(4, seed=5)]
    settings = {"epochs": 1, "max_length": 20, "learning_rate": 1e-3}
    estimator = DeniClassifier(
        model_folder, "ensemble", "full", **settings, device="cpu", strategy_settings={"members": 2}
    )
    estimator.fit(train.texts, train.labels, unlabeled=pd.Series(pool))
    voting = Recipe.of(None, "ensemble", "full", {"members": 2}, model=model_folder, **settings)
    result = fine_tune(train, voting, unlabelled=pool, **QUIET)
    assert list(estimator.classes_) == result.labels
    assert estimator.fitted_.trainer.population.size == 1
    expected = result.classifier().predict_log_probabilities(pool)
    assert np.array_equal(estimator.predict_log_proba(pool), expected)
    alone = fine_tune(train, dataclasses.replace(recipe), **QUIET)
    assert np.abs(alone.classifier().predict_log_probabilities(pool) - expected).max() > 1e-4


PAIRS = Texts([("a", "b"), ("c", "d")], ["x", "y"], "pairs.csv", None)
WORDS = Texts([("a", "b"), ("c",)], [("O", "X"), ("O",)], "words.csv", None, "token")


def test_pairs_and_words_are_read_as_the_labeled_ones():
    assert as_pool([["e", "f"]], PAIRS)[0].texts == [("e", "f")]
    found, empty = as_pool([["e", "f", "g"], []], WORDS)
    assert (found.texts, found.task, empty) == ([("e", "f", "g")], "token", 1)
    assert as_pool(np.array([["e", "f"]]), PAIRS)[0].texts == [("e", "f")]


@pytest.mark.parametrize(
    ("unlabelled", "more", "message"),
    [
        (["a"], {"unlabeled": ["b"]}, "unlabelled and unlabeled are one argument"),
        (["a"], {"cv": 2}, "cv is for one training, and unlabelled has several"),
        (["a"], {"seeds": [1, 2]}, "seeds is for one training"),
        (["a"], {"start_from": "b"}, "start_from is for one training"),
        (["a"], {"initial": {}}, "initial is for one training"),
        (["a", 3], {}, r"unlabelled\[1\] is 3, not a text, as the labeled texts are"),
        ([("a", "b")], {}, r"unlabelled\[0\] is \('a', 'b'\), not a text"),
        ([" ", ""], {}, "unlabelled has no texts"),
        (["c"], {"augmented": "missing.csv"}, "missing.csv: no such file"),
        (None, {"augmented": {"one text": ["a text"]}}, "augmented is for texts without labels"),
        (None, {"teachers": 3}, "teachers is for texts without labels: give unlabelled, too"),
        (None, {"distillation": Distillation()}, "distillation is for texts without labels"),
    ],
)
def test_what_cannot_be_is_one_line_before_training(recipe, monkeypatch, unlabelled, more, message):
    monkeypatch.setattr("deni.distillation.teaching.fine_tune", None)
    train = Texts(["one text", "another"], ["x", "y"], "train.csv", None)
    with pytest.raises((InputError, SettingError), match=message):
        fine_tune(train, recipe, unlabelled=unlabelled, **more, **QUIET)
