"""A teacher, folds and a student from labeled and unlabeled texts."""

import numpy as np
import pytest
from scipy.special import softmax

from deni.cross_validation.training import plan_folds
from deni.data import Texts
from deni.distillation import Distillation
from deni.distillation.teaching import folds_of, teach
from deni.errors import InputError, SettingError
from deni.finetune import fine_tune
from deni.recipe import Recipe
from tests.distillation.conftest import toy_texts

QUIET = {"progress": False, "device": "cpu"}


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression", "token"])
def test_a_teacher_votes_and_one_model_is_the_student(model_folder, task):
    train, pool = toy_texts(task, 4), toy_texts(task, 4, seed=5)
    recipe = Recipe.of(None, "best_practices", "full", {"epochs": 1}, model=model_folder, task=task, max_length=20)
    lesson = teach(train, pool, recipe, members=2, distillation=Distillation(held_out=1), **QUIET)
    assert lesson.teacher.population.size == 2
    assert lesson.student.trainer.population.size == 1
    assert lesson.student.recipe.strategy.name == "best_practices"
    info = lesson.student.added["distillation"]
    assert info["labeled"] == {"texts": 12, "out_of_fold": 12}
    assert info["pool"]["used"] == 11
    assert info["teacher"]["strategy"] == "best_practices+ensemble"
    folds = 4 if task == "single_label" else 5
    assert info["teacher"]["folds"]["member_steps"] == folds * 2  # 9 or 10 texts in batches of 8


def test_out_of_fold_targets_are_those_of_single_models(model_folder):
    """Each fold, trained alone by hand, predicts what the teacher keeps."""
    train, pool = toy_texts("single_label", 4), toy_texts("single_label", 4, seed=5)
    recipe = Recipe.of(None, "default", "full", model=model_folder, max_length=20, epochs=1, learning_rate=3e-3)
    lesson = teach(train, pool, recipe, members=2, distillation=Distillation(held_out=0), **QUIET)
    kept = lesson.teacher.out_of_fold.outputs["vote"][0]
    assert folds_of(train) == 4
    for fold in plan_folds(train, 4, 1, recipe.seed):
        seeded = Recipe.of(
            None, "default", "full", model=model_folder, max_length=20, epochs=1, learning_rate=3e-3, seed=fold.seed
        )
        alone = fine_tune(train.select(fold.rows), seeded, labels=lesson.teacher.labels, **QUIET)
        expected = alone.classifier().votes([train.texts[row] for row in fold.left_out])
        assert softmax(kept[fold.left_out], -1) == pytest.approx(np.exp(expected), abs=1e-4)


def test_a_strategy_that_votes_teaches_by_itself(model_folder):
    train, pool = toy_texts("single_label", 4), toy_texts("single_label", 4, seed=5)
    recipe = Recipe.of(None, "deni", "full", {"members": 2}, model=model_folder, max_length=20, epochs=5)
    lesson = teach(train, pool, recipe, members=7, **QUIET)
    assert lesson.teacher.info["strategy"]["name"] == "deni"
    assert lesson.teacher.population.size == 2
    assert lesson.student.recipe.strategy.name == "default"


def test_folds_follow_the_largest_class():
    def labeled(*labels):
        return Texts([f"text {at}" for at in range(len(labels))], list(labels), "a.csv", None)

    assert folds_of(labeled(*"aaaaaaabbbbbbb")) == 5
    assert folds_of(labeled(*"aaabbbcc")) == 3
    assert folds_of(labeled(*"abcdef")) is None
    assert folds_of(toy_texts("regression", 2)) == 3


def test_without_folds_labels_stand_alone(model_folder):
    train = Texts(["my parcel", "a card", "the code"], ["delivery", "billing", "login"], "a.csv", None)
    recipe = Recipe.of(None, "default", "full", model=model_folder, max_length=20, epochs=2)
    lesson = teach(train, toy_texts("single_label", 4, seed=5), recipe, members=2, **QUIET)
    assert lesson.student.added["distillation"]["labeled"] == {"texts": 3, "out_of_fold": 0}


def test_what_cannot_be_is_said_before_anything_is_trained(model_folder, monkeypatch):
    monkeypatch.setattr("deni.distillation.teaching.fine_tune", None)
    train = toy_texts("single_label", 4)
    recipe = Recipe.of(None, "default", "full", model=model_folder, epochs=1)
    with pytest.raises(InputError, match=r"none of 12 texts can serve \(12 labeled already\)"):
        teach(train, train, recipe, **QUIET)
    made = Recipe.of(None, "augmentation", "full", {"augmented": "a.csv"}, model=model_folder, epochs=1)
    with pytest.raises(SettingError, match="augmentation trains the teacher on augmented texts, which it then knows"):
        teach(train, toy_texts("single_label", 4, seed=5), made, augmented={"a": ["b"]}, **QUIET)
    numbers = Recipe.of(None, "default", "full", model=model_folder, task="regression")
    with pytest.raises(SettingError, match="vote_temperature is for probabilities"):
        teach(toy_texts("regression"), train, numbers, distillation=Distillation(vote_temperature=2.0), **QUIET)
