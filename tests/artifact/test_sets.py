"""Prediction sets of an artifact: which models they ask, what they are calibrated on, what is refused."""

import shutil

import numpy as np
import pytest

from deni.artifact import FOLDS, OUT_OF_FOLD, Classifier, OutOfFold, as_bytes, digests_of, load, members_as_bytes
from deni.data import read_texts
from deni.errors import ArtifactError, InputError
from deni.finetune import fine_tune
from deni.models.tokenizing import encode
from deni.recipe import Recipe

TEXTS = ["invoice money charged", "parcel late courier the box", "why"]
FOLD_OF = np.arange(36) % 3


def labeled(classifier, texts):
    """Predictions of a model for labeled texts, as `--calibration FILE` gives them."""
    outputs = classifier.combined(classifier.members(texts.texts), calibrated=False)[None]
    gold = encode(texts, classifier.labels)
    return OutOfFold(
        {"vote": outputs}, np.zeros(outputs.shape[:2], int), gold, digests_of(texts.texts), classifier.labels
    )


def by_hand(scores, new, alpha, labels):
    """Sets from the scores of K folds and those of each class by the K models, by their definition."""
    for text in range(new.shape[1]):
        values = [
            np.mean(
                [(1 + sum(fold >= own[text, label])) / (len(fold) + 1) for fold, own in zip(scores, new, strict=True)]
            )
            for label in range(len(labels))
        ]
        yield {labels[at] for at, value in enumerate(values) if value > alpha + 1e-9 or value == max(values)}


@pytest.fixture(scope="module")
def folded(fitted, tickets, model_folder, tmp_path_factory):
    """An artifact with the models of 3 folds, two members each, and what each predicts for the texts of its fold."""
    texts = read_texts(tickets)
    recipe = Recipe.of(None, "ensemble", "full", {"members": 2}, None, model=model_folder, epochs=1)
    pack = fine_tune(texts, recipe, seeds=[5, 6, 7], progress=False)
    population = pack.trainer.population
    models = [
        Classifier(population, pack.tokenizer, pack.labels, pack.info(), voters=[2 * fold, 2 * fold + 1])
        for fold in range(3)
    ]
    outputs = np.stack([model.votes(texts.texts) for model in models])[FOLD_OF, np.arange(36)][None]
    gold = encode(texts, pack.labels)
    result = fitted(strategy="ensemble", members=2)
    found = OutOfFold({"vote": outputs}, FOLD_OF[None], gold, digests_of(texts.texts), pack.labels)
    files = {FOLDS: members_as_bytes(population), OUT_OF_FOLD: as_bytes(found)}
    folder = result.save(tmp_path_factory.mktemp("folded") / "model", extra_files=files)
    return folder, models, found


def test_sets_by_labeled_texts_are_split_conformal(fitted, tickets):
    classifier, texts = fitted().classifier(), read_texts(tickets)
    known = 1 - np.exp(classifier.votes(texts.texts).astype(float))[np.arange(36), encode(texts, classifier.labels)]
    new = 1 - np.exp(classifier.votes(TEXTS).astype(float))
    conformal = classifier.conformal(0.9, labeled(classifier, texts))
    found = conformal(TEXTS)
    assert list(map(set, found)) == list(by_hand([known], new[None], 0.1, classifier.labels))
    assert [each[0] for each in found] == classifier.predict(TEXTS)  # the likeliest is first, and always there
    assert (conformal.guarantee, conformal.models, conformal.texts) == (0.9, 1, 36)
    assert "at least 0.9 (split conformal, 36 labeled texts)" in conformal.sentence()
    assert conformal([]) == []


@pytest.mark.parametrize("level", [0.5, 0.7, 0.9])
def test_sets_by_folds_ask_the_model_of_each_fold(folded, level):
    folder, models, found = folded
    scores = 1 - np.exp(found.outputs["vote"][0].astype(float))[np.arange(36), found.gold]
    new = np.stack([1 - np.exp(model.votes(TEXTS).astype(float)) for model in models])
    conformal = load(folder, "cpu").conformal(level)
    expected = by_hand([scores[fold == FOLD_OF] for fold in range(3)], new, 1 - level, found.labels)
    assert list(map(set, conformal(TEXTS))) == list(expected)
    assert conformal.guarantee == pytest.approx(1 - 2 * (1 - level))
    assert (conformal.models, conformal.texts) == (3, 36)
    assert "cross-conformal, 3 folds of 36 labeled texts" in conformal.sentence()


def test_too_few_texts_are_refused_with_the_number_that_would_do(folded, fitted, tickets):
    folder, _, _ = folded
    with pytest.raises(InputError, match=r"sets at 0.95 need at least 57 labeled texts in 3 folds, and there are 36: "):
        load(folder, "cpu").conformal(0.95)
    classifier = fitted().classifier()
    with pytest.raises(InputError, match=r"sets at 0.99 need at least 99 labeled texts, and there are 36: label more"):
        classifier.conformal(0.99, labeled(classifier, read_texts(tickets)))
    classifier.conformal(0.97, labeled(classifier, read_texts(tickets)))  # 33 are enough


def test_what_nothing_calibrates_is_refused(fitted, folded, tmp_path):
    with pytest.raises(InputError, match="nothing that prediction sets could be calibrated on: give labeled texts"):
        fitted().classifier().conformal(0.9)
    with pytest.raises(InputError, match=r"must be between 0 and 1, such as 0.9, not 90"):
        fitted().classifier().conformal(90)
    gone = shutil.copytree(folded[0], tmp_path / "model")
    (gone / FOLDS).unlink()
    with pytest.raises(ArtifactError, match=r"folds.safetensors is missing"):
        load(gone, "cpu").conformal(0.9)


@pytest.mark.parametrize(("task", "why"), [("token", "words of one text"), ("multi_label", "a text has any number")])
def test_tasks_without_sets_are_refused(fitted, task, why):
    trained = fitted()
    info = {**trained.info(), "task": task}
    classifier = Classifier(trained.trainer.population, trained.tokenizer, trained.labels, info)
    with pytest.raises(InputError, match=f"a model of {task} has no prediction sets: {why}"):
        classifier.conformal(0.9)


def test_numbers_have_intervals(fitted):
    trained = fitted()
    info = {**trained.info(), "task": "regression"}
    classifier = Classifier(trained.trainer.population, trained.tokenizer, ["value"], info)
    classifier.members = lambda texts: np.array([[[float(len(text))]] for text in texts])  # (N, 1, 1)
    outputs, gold = np.arange(9.0).reshape(1, 9, 1), [1.5, 0, 2, 3, 4, 5, 6, 7, 8.25]
    known = OutOfFold({"vote": outputs}, np.zeros((1, 9), int), gold, [], ["value"])
    assert classifier.conformal(0.9, known)(["four", "fives"]) == [(2.5, 5.5), (3.5, 6.5)]
    several = Classifier(trained.trainer.population, trained.tokenizer, ["one", "two"], info)
    with pytest.raises(InputError, match="a text has several numbers, and an interval is of one"):
        several.conformal(0.9, known)
