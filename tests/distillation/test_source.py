"""Pools of the same and of another source, on the vectors of a tiny encoder."""

import dataclasses
import warnings

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from deni.data import Texts
from deni.distillation import distil
from deni.distillation.source import check_source, share_far
from deni.distillation.teaching import teach
from deni.errors import InputWarning
from deni.models.features import FrozenEncoder
from deni.recipe import Recipe
from tests.distillation.conftest import toy_texts

SAID = r"pool.csv: \d+\.\d% of its texts are farther from the labeled texts than half of these are"
OTHER = Texts([f"{number} - {number + 7} : {number % 3}" for number in range(40)], None, "pool.csv", None)


@pytest.fixture
def recipe(model_folder):
    return Recipe.of(None, "default", "full", model=model_folder, epochs=1, max_length=20)


def unlabeled(texts):
    return dataclasses.replace(texts, labels=None, source="pool.csv")


def test_the_share_is_that_of_a_loop_that_leaves_each_labeled_text_out(recipe):
    labeled, pool = toy_texts("single_label", 20), unlabeled(toy_texts("single_label", 12, seed=5))
    encoder = FrozenEncoder(recipe.model, normalize=True, max_length=20)
    known, new = encoder(labeled.texts), encoder(pool.texts)
    shrinkage = LedoitWolf().fit(known).shrinkage_
    ridge = shrinkage * known.var(0).mean() * np.eye(known.shape[1])

    def distances(others, given):
        covariance = (1 - shrinkage) * np.cov(others.T, bias=True) + ridge
        off = given - others.mean(0)
        return np.einsum("nd,de,ne->n", off, np.linalg.inv(covariance), off)

    left_out = [distances(np.delete(known, row, 0), known[[row]])[0] for row in range(len(known))]
    expected = (distances(known, new) > np.median(left_out)).mean()
    for each in (recipe, dataclasses.replace(recipe, pooling="cls"), dataclasses.replace(recipe, pooling="mean")):
        assert share_far(labeled, pool, each) == pytest.approx(expected, abs=1e-9)


def test_a_pool_of_another_source_is_told_before_the_training(recipe, monkeypatch, taught):
    labeled, same = toy_texts("single_label", 20), unlabeled(toy_texts("single_label", 20, seed=5))
    assert share_far(labeled, same, recipe) < 0.7
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        check_source(labeled, same, recipe)
    monkeypatch.setattr("deni.distillation.teaching._trained_teacher", stop)
    monkeypatch.setattr("deni.distillation.training.train_student", stop)
    quiet = {"progress": False, "device": "cpu"}
    with pytest.raises(Stopped), pytest.warns(InputWarning, match=SAID):
        teach(labeled, OTHER, recipe, **quiet)
    with pytest.raises(Stopped), pytest.warns(InputWarning, match=SAID):
        distil(taught().classifier(), OTHER, labeled=labeled, **quiet)


class Stopped(Exception):
    """Nothing is to be trained."""


def stop(*given, **more):
    raise Stopped


def test_it_is_not_known_of_few_labels_of_words_and_where_there_is_no_vector(recipe, monkeypatch):
    labeled = toy_texts("single_label", 20)
    assert share_far(labeled.select(range(49)), OTHER, recipe) is None
    assert share_far(labeled.select(range(50)), OTHER, recipe) is not None
    words = toy_texts("token", 20)
    assert share_far(words, unlabeled(words), dataclasses.replace(recipe, task="token")) is None
    monkeypatch.setattr(FrozenEncoder, "__call__", lambda *given: np.ones((len(given[1]), 4)))  # all alike
    assert share_far(labeled, OTHER, recipe) is None
