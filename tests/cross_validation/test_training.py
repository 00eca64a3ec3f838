"""The models of the folds are those that would be trained alone, and the delivered model knows nothing of them."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from deni.artifact import FOLDS, Classifier, digests_of, load, read_out_of_fold
from deni.cross_validation import cross_validate, training
from deni.cross_validation.training import plan_folds
from deni.data import Texts, read_texts
from deni.errors import InputError, InputWarning, SettingError, TrainingDivergedError
from deni.finetune import fine_tune, making, running
from deni.models.tokenizing import encode
from deni.population import Population, mean_of_members
from deni.randomness import Sources
from deni.recipe import Recipe
from deni.tasks import find_task
from deni.tuning import Lora
from tests.helpers.tiny import toy_rows, write_csv

FORK = {"members": 3, "ensemble_from": 0.5}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return read_texts(write_csv(tmp_path_factory.mktemp("cv") / "texts.csv", toy_rows(6)))  # 18 texts of 3 classes


@pytest.fixture
def doubled(monkeypatch):
    """Models of float64, whatever the tuning."""
    plain = making.load_model
    monkeypatch.setattr(making, "load_model", lambda *given: plain(*given).double())
    lora = Lora.apply
    monkeypatch.setattr(Lora, "apply", lambda self, model: lora(self, model).double())


def recipe(model_folder, strategy="default", tuning="full", epochs=2.0, settings=None, **given):
    own = {"lora_r": 4, "lora_alpha": 4} if tuning == "lora" else None
    return Recipe.of(None, strategy, tuning, settings, own, model=model_folder, epochs=epochs, **given)


def alone(texts, fold, result):
    """What the model of a fold predicts for the texts that it left out, trained by itself: its vote, its mean."""
    plan = dataclasses.replace(result.recipe, seed=fold.seed, max_length=result.max_length)
    trained = fine_tune(texts.select(fold.rows), plan, progress=False)
    assert trained.labels == result.labels
    left_out = [texts.texts[row] for row in fold.left_out]
    population = trained.trainer.population
    mean = population.copy_of(population.full(mean_of_members(population.values)))
    merged = Classifier(Population(mean, [Sources(0)]), trained.tokenizer, trained.labels, trained.info())
    return trained, trained.classifier().votes(left_out), merged.members(left_out)[:, 0]


def check_folds_alone(texts, result, planned, rows=lambda fold: fold.left_out):
    found = result.out_of_fold
    for fold in planned:
        trained, vote, merged = alone(texts, fold, result)
        assert trained.schedule.steps == math.ceil(math.ceil(len(fold.rows) / 8) * result.recipe.epochs)
        at = rows(fold)
        assert (found.folds[fold.division, at] == fold.fold).all()
        np.testing.assert_allclose(found.outputs["vote"][fold.division, at], vote, atol=1e-6)
        if "merged" in found.outputs:
            np.testing.assert_allclose(found.outputs["merged"][fold.division, at], merged, atol=1e-6)
            member = trained.classifier().members([texts.texts[row] for row in fold.left_out])[:, 0]
            np.testing.assert_allclose(found.outputs["member"][fold.division, at], member, atol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "settings", "tuning", "engine", "votes"),
    [
        ("default", None, "lora", "auto", False),
        ("de", FORK, "full", "auto", True),
        ("de", FORK, "lora", "loop", True),
        ("ensemble", {"members": 2}, "lora", "auto", True),
        ("linear_probe+ema", None, "full", "auto", False),
        ("refit", None, "lora", "loop", False),
    ],
)
def test_folds_are_what_they_would_be_alone(texts, model_folder, doubled, strategy, settings, tuning, engine, votes):
    plan = recipe(model_folder, strategy, tuning, settings=settings, engine=engine, seed=5)
    result = fine_tune(texts, plan, cv=3, progress=False)
    found = result.out_of_fold
    assert found.outputs["vote"].dtype == np.float64
    assert set(found.outputs) == ({"vote", "merged", "member"} if votes else {"vote"})
    check_folds_alone(texts, result, plan_folds(texts, 3, 1, 5)[:2])
    assert found.gold == encode(texts, result.labels)
    assert found.digests == digests_of(texts.texts)
    assert result.trainer.engine_plan is None or result.trainer.seeds == [5]


def test_folds_of_unequal_sizes_take_the_steps_of_the_largest(texts, model_folder, doubled):
    fewer = texts.select(range(17))  # trained on are 11, 11 and 12
    result = fine_tune(fewer, recipe(model_folder), cv=3, progress=False)
    planned = plan_folds(fewer, 3, 1, 0)
    assert {len(fold.rows) for fold in planned} == {12}
    assert sorted(len(set(fold.rows.tolist())) for fold in planned) == [11, 11, 12]
    check_folds_alone(fewer, result, planned)


def test_each_division_has_other_folds_and_seeds(texts, model_folder, doubled):
    result = fine_tune(texts, recipe(model_folder, seed=3), cv=2, cv_seeds=2, block=4, progress=False)
    planned = plan_folds(texts, 2, 2, 3, 4)
    assert [fold.seed for fold in planned] == [3, 4, 5, 6]
    first, second = result.out_of_fold.folds
    assert (first != second).any()
    assert (first != plan_folds(texts, 2, 1, 3, 0)[0].division).any()
    check_folds_alone(texts, result, planned[1:3])
    assert result.added["cross_validation"]["divisions"] == 2


def test_auto_is_decided_once_and_its_probe_is_fitted_on_each_folds_own_texts(texts, model_folder, doubled):
    result = fine_tune(texts, Recipe.of(model=model_folder, epochs=0.3), cv=3, progress=False)
    assert result.recipe.strategy.name == "linear_probe+best_practices"
    check_folds_alone(texts, result, plan_folds(texts, 3, 1, 0)[:1])


def test_the_delivered_model_is_the_one_without_cross_validation(texts, model_folder):
    plan = recipe(model_folder, "de", "lora", settings=FORK)
    plain, crossed = (fine_tune(texts, plan, cv=cv, progress=False) for cv in (None, 3))
    for name, value in plain.trainer.population.values.items():
        assert torch.equal(value, crossed.trainer.population.values[name])
    np.testing.assert_array_equal(*(each.classifier().members(texts.texts) for each in (plain, crossed)))
    assert plain.out_of_fold is None
    assert "cross_validation" not in plain.added


# ---- other tasks ---------------------------------------------------------------------------------------------------


def others(texts, task):
    """The toy texts with labels of another task."""
    numbers = {name: at for at, name in enumerate(sorted(set(texts.labels)))}
    labels = {
        "ordinal": texts.labels,
        "multi_label": [(label, "odd") if at % 2 else (label,) for at, label in enumerate(texts.labels)],
        "regression": [numbers[label] + at / 100 for at, label in enumerate(texts.labels)],
    }[task]
    order = sorted(set(texts.labels)) if task == "ordinal" else ()
    return Texts(texts.texts, labels, "other", texts.frame, task, order)


@pytest.mark.parametrize("task", ["ordinal", "multi_label", "regression"])
def test_other_tasks_have_folds_and_an_estimate(texts, model_folder, doubled, task):
    given = others(texts, task)
    result = fine_tune(given, recipe(model_folder, task=task, epochs=1.0), cv=3, progress=False)
    check_folds_alone(given, result, plan_folds(given, 3, 1, 0)[:2])
    found, estimated = result.out_of_fold, result.added["cross_validation"]
    expected = find_task(task).scores(found.gold, found.outputs["vote"][0], result.labels)
    assert estimated["metrics"]["vote"] == pytest.approx(expected)
    assert estimated["metric"] == find_task(task).headline
    assert estimated["low"] <= estimated["score"] <= estimated["high"]


def test_words_are_rows_and_their_texts_are_known(model_folder, doubled):
    words = [tuple(text.split()) for text, _ in toy_rows(4)]
    tags = [tuple("B-X" if at == row % 2 else "O" for at in range(len(own))) for row, own in enumerate(words)]
    given = Texts(words, tags, "words", read_frame(words), "token")
    result = fine_tune(given, recipe(model_folder, task="token", epochs=1.0), cv=3, progress=False)
    found = result.out_of_fold
    assert found.texts.tolist() == [row for row, own in enumerate(words) for _ in own]
    assert len(found.gold) == sum(map(len, words))
    assert len(found.digests) == len(words)
    planned = plan_folds(given, 3, 1, 0)[:1]
    check_folds_alone(given, result, planned, lambda fold: np.flatnonzero(np.isin(found.texts, fold.left_out)))
    by_text = [[found.gold[at] for at in np.flatnonzero(found.texts == row)] for row in range(len(words))]
    expected = find_task("token").scores(by_text, found.outputs["vote"][0], result.labels)
    assert result.added["cross_validation"]["metrics"]["vote"] == pytest.approx(expected)


def read_frame(rows):
    import pandas as pd

    return pd.DataFrame({"text": range(len(rows))}, index=pd.RangeIndex(1, len(rows) + 1, name="line"))


def test_pairs_that_are_encoded_separately_have_folds(texts, model_folder, doubled):
    pairs = [(text, texts.texts[at - 1]) for at, text in enumerate(texts.texts)]
    given = Texts(pairs, [str(at % 2) for at in range(len(pairs))], "pairs", texts.frame)
    result = fine_tune(given, recipe(model_folder, pairs="bi", epochs=1.0), cv=2, progress=False)
    check_folds_alone(given, result, plan_folds(given, 2, 1, 0)[:1])


# ---- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cv": 1}, "cv must be at least 2 folds, not 1"),
        ({"cv": 7}, "no class has 7 texts, one for each fold: choose at most 6 folds"),
        ({"cv": 3, "cv_seeds": 0}, "cv_seeds must be from 1 to 100, not 0"),
        ({"cv": 12}, "12 folds need at least 24 different texts, and there are 18"),
        ({"cv": 3, "seeds": [0, 1]}, "not of 2 seeds"),
    ],
)
def test_what_cannot_be_divided_is_refused_before_training(texts, model_folder, monkeypatch, given, said):
    monkeypatch.setattr(running, "make_trainer", None)  # nothing gets as far
    with pytest.raises(SettingError, match=said):
        fine_tune(texts, recipe(model_folder), progress=False, **given)


def test_a_dev_split_is_refused(texts, model_folder):
    with pytest.raises(SettingError, match="give dev or cv"):
        fine_tune(texts, recipe(model_folder), dev=texts, cv=3, progress=False)


def test_folds_that_cannot_be_a_pack_are_trained_one_by_one(texts, model_folder, monkeypatch, caplog):
    plan = recipe(model_folder)
    expected = fine_tune(texts, plan, cv=3, progress=False).out_of_fold
    train, asked = training.Packs.train, []

    def refuse(packs, planned, *rest):
        asked.append(len(planned))
        if len(planned) > 1:
            raise SettingError("6 members need about 9 GiB, 1 GiB are free")
        return train(packs, planned, *rest)

    monkeypatch.setattr(training.Packs, "train", refuse)
    found = fine_tune(texts, plan, cv=3, progress=False).out_of_fold
    assert asked == [3, 1, 1, 1]
    assert "9 GiB" in caplog.text
    np.testing.assert_allclose(found.outputs["vote"], expected.outputs["vote"], atol=1e-4)


def test_a_fold_that_diverges_is_named(texts, model_folder):
    result = fine_tune(texts, recipe(model_folder), progress=False)
    result.recipe = dataclasses.replace(result.recipe, learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match="fold 1 of the cross-validation"):
        cross_validate(result, texts, 3)


def test_the_artifact_has_predictions_and_estimate(texts, model_folder, tmp_path):
    result = fine_tune(texts, recipe(model_folder), cv=3, progress=False)
    result.save(tmp_path / "model")
    found = read_out_of_fold(tmp_path / "model")
    np.testing.assert_array_equal(found.outputs["vote"], result.out_of_fold.outputs["vote"])
    info = load(tmp_path / "model").info
    assert info["cross_validation"] == json.loads(json.dumps(result.added["cross_validation"]))


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_kept_models_of_the_folds_predict_as_they_were_measured(texts, model_folder, tmp_path, tuning):
    plan = recipe(model_folder, "delayed_ensemble", tuning, settings=FORK)
    result = fine_tune(texts, plan, cv=3, cv_seeds=2, keep_folds=True, progress=False)
    classifier = load(result.save(tmp_path / "model"), "cpu")
    assert FOLDS in classifier.info["files"]
    conformal = classifier.conformal(0.8)
    votes, found = conformal.votes(texts.texts), result.out_of_fold  # (6, N, C)
    for model, (division, fold) in enumerate(np.ndindex(2, 3)):
        left_out = found.folds[division] == fold
        np.testing.assert_allclose(votes[model][left_out], found.outputs["vote"][division, left_out], atol=1e-6)
    assert (conformal.models, conformal.texts, conformal.guarantee) == (6, 18, pytest.approx(0.6))
    assert [each[0] in result.labels for each in conformal(["where is it"])] == [True]


def test_models_of_folds_that_are_not_asked_for_are_not_kept(texts, model_folder, tmp_path):
    result = fine_tune(texts, recipe(model_folder, epochs=1), cv=3, progress=False)
    classifier = load(result.save(tmp_path / "model"), "cpu")
    assert result.folds is None
    assert FOLDS not in classifier.info["files"]
    with pytest.raises(InputError, match="or train it with --cv 5 --keep-folds"):
        classifier.conformal(0.8)


def test_models_that_cannot_share_a_batch_are_not_kept_with_a_warning(texts, model_folder, monkeypatch):
    train = training.Packs.train

    def one_by_one(packs, planned, *rest):
        if len(planned) > 1:
            raise SettingError("they do not fit")
        return train(packs, planned, *rest)

    monkeypatch.setattr(training.Packs, "train", one_by_one)
    with pytest.warns(InputWarning, match="the models of the folds are not kept: they do not fit"):
        result = fine_tune(texts, recipe(model_folder, epochs=1), cv=3, keep_folds=True, progress=False)
    assert result.folds is None
