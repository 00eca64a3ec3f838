"""Texts, targets and weights of a student, computed a second time in NumPy."""

import dataclasses

import numpy as np
import pytest
from scipy.special import expit

from deni.data import Texts
from deni.distillation import Distillation, make_student
from deni.distillation.recipes import as_one_model, as_teacher, recipe_of, with_epochs
from deni.errors import InputError, SettingError
from deni.recipe import Recipe
from deni.strategies import make_strategy
from tests.distillation.conftest import toy_texts

TASKS = ["single_label", "multi_label", "regression", "token"]
EQUAL = Distillation(vote_temperature=2.0, held_out=0)


def scaled(outputs, task, temperature=2.0):
    """Probabilities of log probabilities, log odds or numbers."""
    if task == "regression":
        return outputs
    if task == "multi_label":
        return expit(outputs / temperature)
    powers = np.exp(outputs) ** (1 / temperature)
    return powers / powers.sum(-1, keepdims=True)


def voted(members, task):
    """The mean probability as log probabilities or log odds, the mean of numbers."""
    if task == "regression":
        return members.mean(1)
    if task == "multi_label":
        mean = expit(members.astype(float)).mean(1)
        return np.log(mean / (1 - mean))
    return np.log(np.exp(members.astype(float)).mean(1))


def flat(soft, task):
    return np.concatenate(list(soft)) if task == "token" else np.asarray(soft)


@pytest.mark.parametrize("task", TASKS)
def test_targets_are_the_scaled_vote_and_out_of_fold_predictions_mixed_with_labels(taught, task):
    options = Distillation(vote_temperature=None if task == "regression" else 2.0, held_out=0, labels_share=0.25)
    teacher, labeled, pool = taught(task).classifier(), toy_texts(task), toy_texts(task, 3, seed=5)
    student = make_student(teacher, pool, labeled=labeled, options=options)
    names, rows = teacher.labels, len(labeled)
    assert student.texts.texts == [*labeled.texts, *pool.texts]

    expected = scaled(voted(teacher.members(pool.texts), task), task)
    assert flat(student.texts.soft[rows:], task) == pytest.approx(expected, abs=1e-6)

    out_of_fold = scaled(teacher.out_of_fold.outputs["vote"][0].astype(float), task)
    if task == "regression":
        gold = np.array(labeled.labels)[:, None]
    elif task == "multi_label":
        gold = np.array([[name in label for name in names] for label in labeled.labels], float)
    else:
        flat_labels = [tag for tags in labeled.labels for tag in tags] if task == "token" else labeled.labels
        gold = np.array([[name == label for name in names] for label in flat_labels], float)
    assert flat(student.texts.soft[:rows], task) == pytest.approx(0.25 * gold + 0.75 * out_of_fold, abs=1e-6)
    assert student.info["labeled"] == {"texts": rows, "out_of_fold": rows}


@pytest.mark.parametrize("task", TASKS)
def test_texts_of_the_pool_weigh_as_much_as_members_agree(taught, task):
    options = Distillation(held_out=0)
    teacher, labeled, pool = taught(task).classifier(), toy_texts(task), toy_texts(task, 3, seed=5)
    weights = make_student(teacher, pool, labeled=labeled, options=options).texts.weights
    members = teacher.members(pool.texts)
    vote = voted(members, task)
    if task == "single_label":
        expected = [np.mean([m.argmax() == v.argmax() for m in each]) for each, v in zip(members, vote, strict=True)]
    elif task == "multi_label":
        expected = ((members > 0) == (vote > 0)[:, None]).mean((1, 2))
    elif task == "regression":
        expected = 1 / (1 + members[..., 0].astype(float).var(1) / vote.var())
    else:
        words = (members.argmax(-1) == vote.argmax(-1)[:, None]).mean(1)
        ends = np.cumsum([len(text) for text in pool.texts])
        expected = [words[end - len(text) : end].mean() for text, end in zip(pool.texts, ends, strict=True)]
    assert weights[: len(labeled)].tolist() == [1] * len(labeled)
    assert weights[len(labeled) :] == pytest.approx(np.asarray(expected), abs=1e-6)
    equal = make_student(teacher, pool, labeled=labeled, options=Distillation(held_out=0, weights="equal"))
    assert set(equal.texts.weights) == {1}


def test_a_teacher_of_a_student_in_bfloat16_votes_in_it(taught):
    teacher, pool = taught().classifier(), toy_texts("single_label", 30, seed=5)
    recipe = dataclasses.replace(recipe_of(teacher.info), bf16=True)
    options = Distillation(vote_temperature=1.0, held_out=4)
    student = make_student(teacher, pool, recipe=recipe, options=options)
    full = np.exp(teacher.combined(teacher.members(student.texts.texts), calibrated=False))
    away = np.abs(student.texts.soft - full).max()
    assert 1e-6 < away < 0.02
    held = np.exp(teacher.combined(teacher.members(student.held_out.texts), calibrated=False))
    assert 1e-6 < np.abs(np.exp(student.votes) - held).max() < 0.02


def test_one_member_has_weight_1(taught):
    teacher = taught(strategy="default").classifier()
    student = make_student(teacher, toy_texts("single_label", 3, seed=5), labeled=toy_texts("single_label"))
    assert set(student.texts.weights) == {1}


def test_without_out_of_fold_predictions_labels_stand_alone(taught):
    """Never the teacher's answers on texts that it was trained on."""
    teacher, labeled = taught(cv=None).classifier(), toy_texts("single_label")
    student = make_student(teacher, toy_texts("single_label", 3, seed=5), labeled=labeled, options=EQUAL)
    gold = [[float(name == label) for name in teacher.labels] for label in labeled.labels]
    assert student.texts.soft[: len(labeled)].tolist() == gold
    assert student.info["labeled"] == {"texts": 24, "out_of_fold": 0}


def test_labeled_texts_that_no_fold_left_out_have_their_labels_alone(taught):
    teacher, new = taught().classifier(), Texts(["my new box"], ["delivery"], "new.csv", None)
    student = make_student(teacher, toy_texts("single_label", 3, seed=5), labeled=new, options=EQUAL)
    assert student.texts.soft[0].tolist() == [0.0, 1.0, 0.0]
    assert student.info["labeled"] == {"texts": 1, "out_of_fold": 0}


def test_the_teacher_s_temperature_is_the_default(taught):
    teacher, pool = taught().classifier(), toy_texts("single_label", 3, seed=5)
    student = make_student(teacher, pool, options=Distillation(held_out=0))
    assert student.info["settings"]["vote_temperature"] == teacher.temperature != 1
    assert student.texts.soft == pytest.approx(np.exp(teacher.votes(pool.texts)), abs=1e-6)
    plain = make_student(taught(cv=None).classifier(), pool, labeled=toy_texts("single_label"))
    assert plain.info["settings"]["vote_temperature"] == 1


def test_nothing_that_is_measured_on_is_trained_on(taught):
    teacher, test = taught().classifier(), toy_texts("single_label", 2, seed=7)
    pool = toy_texts("single_label", 4, seed=5)
    pool = Texts([*pool.texts, *(text.upper() for text in test.texts), "  "], None, "pool.csv", None)
    labeled = toy_texts("single_label")
    labeled = Texts([*labeled.texts, test.texts[0]], [*labeled.labels, "login"], "labeled.csv", None)
    student = make_student(teacher, pool, labeled=labeled, test=test)
    assert not {each.lower() for each in student.texts.texts} & set(test.texts)
    assert student.pool.left_out == {"empty": 1, "test": len(test)}
    assert student.info["labeled"]["left_out"] == {"test": 1}


def test_texts_that_the_teacher_was_trained_on_are_found_by_their_digests(taught):
    teacher, known = taught().classifier(), toy_texts("single_label")
    pool = Texts([*toy_texts("single_label", 4, seed=5).texts, *known.texts[:5]], None, "pool.csv", None)
    student = make_student(teacher, pool)
    assert student.pool.left_out["labeled"] == 5
    assert not set(student.texts.texts) & set(known.texts)


@pytest.mark.parametrize("task", TASKS)
def test_held_out_texts_are_not_trained_on_and_have_the_teacher_s_votes(taught, task):
    teacher, pool = taught(task).classifier(), toy_texts(task, 10, seed=5)
    student = make_student(teacher, pool, options=Distillation(held_out=2, pool_size=7))
    assert len(student.held_out) == 2
    assert len(student.texts) == 7 == student.info["pool"]["used"]
    assert not set(student.held_out.texts) & set(student.texts.texts)
    assert student.votes == pytest.approx(voted(teacher.members(student.held_out.texts), task), abs=1e-5)


def test_a_student_has_at_most_twice_the_steps_of_the_labeled_texts(taught):
    """24 texts in batches of 8 for 2 epochs are 6 steps."""
    teacher, pool = taught().classifier(), toy_texts("single_label", 60, seed=5)
    student = make_student(teacher, pool, labeled=toy_texts("single_label"), options=EQUAL)
    assert student.length.steps == 12
    assert (student.recipe.epochs, len(student.texts)) == (1, 12 * 8)
    assert student.info["pool"]["used"] == 12 * 8 - 24
    alone = make_student(teacher, pool, options=EQUAL)
    assert (alone.length.steps, len(alone.texts)) == (12, 12 * 8)


# ---- recipes -------------------------------------------------------------------------------------------------------


def test_a_student_s_recipe_is_its_teacher_s_as_one_model(taught):
    result = taught(strategy="best_practices+ensemble", tuning="lora", learning_rate=3e-3)
    recipe = recipe_of(result.info())
    assert recipe.strategy == make_strategy("best_practices", epochs=2)
    assert recipe.tuning == result.recipe.tuning
    assert (recipe.model, recipe.rate, recipe.max_length) == (result.recipe.model, 3e-3, 20)
    assert recipe_of(result.info(), "another/model").max_length is None
    assert recipe_of(result.info(), "another/model").rate == 3e-3


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("default", "encoder", "default"),
        ("deni", "encoder", "default"),
        ("linear_probe+best_practices+ensemble", "encoder", "linear_probe+best_practices"),
        ("linear_probe+best_practices+ensemble", "merged", "best_practices"),
        ("swa+ensemble", "encoder", "swa"),
        ("soup", "encoder", "soup"),
    ],
)
def test_one_model_of_a_strategy(name, start, expected):
    assert as_one_model(make_strategy(name), start).name == expected


def test_a_teacher_votes():
    recipe = Recipe.of(None, "best_practices", "full")
    assert as_teacher(recipe, 4).strategy.schedule(10).cost == 40
    voting = Recipe.of(None, "deni", "full")
    assert as_teacher(voting, 4) is voting


def test_epochs_of_a_strategy_follow():
    recipe = with_epochs(Recipe.of(None, "best_practices+swa", "full"), 3.5)
    assert recipe.epochs == 3.5
    assert recipe.strategy.arguments()["epochs"] == 3.5


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vote_temperature": 0.0}, "vote_temperature must be above 0"),
        ({"labels_share": 1.5}, r"labels_share must be in \[0, 1\]"),
        ({"pool_size": 0}, "pool_size must be at least 1"),
        ({"held_out": -1}, "held_out must be at least 0"),
        ({"start": "head"}, "unknown start 'head'"),
        ({"weights": "entropy"}, "unknown weights 'entropy'"),
        ({"vote_temperature": float("nan")}, "vote_temperature must be a finite number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Distillation(**settings)


def test_what_does_not_fit_the_teacher_is_refused_before_it_predicts(taught, monkeypatch):
    teacher, pool = taught(cv=None).classifier(), toy_texts("single_label", 3, seed=5)
    monkeypatch.setattr(type(teacher), "members", None)
    labeled = toy_texts("single_label")
    with pytest.raises(InputError, match="how many labeled texts the teacher was trained on is not known"):
        make_student(teacher, pool)
    with pytest.raises(InputError, match="texts of regression for a teacher of single_label"):
        make_student(teacher, toy_texts("regression"))
    recipe = recipe_of(teacher.info)
    with pytest.raises(SettingError, match="a student of regression cannot learn"):
        make_student(teacher, pool, recipe=Recipe.of(None, "default", model=recipe.model, task="regression"))
    made = Recipe.of(None, "augmentation", strategy_settings={"augmented": "a.csv"}, model=recipe.model)
    with pytest.raises(SettingError, match="adds texts that the teacher has not seen"):
        make_student(teacher, pool, labeled=labeled, recipe=made)
    other = Recipe.of(None, "default", "ia3", model=recipe.model)
    with pytest.raises(SettingError, match="start merged needs the tuning of the teacher"):
        make_student(teacher, pool, labeled=labeled, recipe=other, options=Distillation(start="merged"))
    probe = Recipe.of(None, "linear_probe", "full", model=recipe.model)
    with pytest.raises(SettingError, match="start merged has an output layer, which the strategy linear_probe"):
        make_student(teacher, pool, labeled=labeled, recipe=probe, options=Distillation(start="merged"))
    with pytest.raises(SettingError, match="the strategy auto looks at labeled texts"):
        make_student(teacher, pool, recipe=Recipe(model=recipe.model))
    with pytest.raises(InputError, match="all labeled texts are measured on"):
        make_student(teacher, pool, labeled=labeled, test=labeled)
    with pytest.raises(SettingError, match="vote_temperature is for probabilities"):
        make_student(taught("regression").classifier(), toy_texts("regression", 3, seed=5), options=EQUAL)
    with pytest.raises(SettingError, match="name the student's with --model"):
        recipe_of({"task": "single_label"})
