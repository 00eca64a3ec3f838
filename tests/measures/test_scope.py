"""Mahalanobis distances, against scikit-learn and by leaving each text out in turn."""

import numpy as np
import pytest
from scipy.stats import percentileofscore
from sklearn.covariance import LedoitWolf

from deni.errors import InputError
from deni.measures import fit_gaussian, mahalanobis, percentiles

LABELED, NEW = np.random.default_rng(0).normal(size=(40, 6)) ** 3, np.random.default_rng(1).normal(size=(25, 6))


def test_distances_are_those_of_scikit_learn():
    known = fit_gaussian(LABELED)
    reference = LedoitWolf().fit(LABELED)
    np.testing.assert_allclose(mahalanobis(known.mean, known.root, NEW), reference.mahalanobis(NEW))


@pytest.mark.parametrize("texts", [5, 40])  # with fewer texts than dimensions, too
def test_each_labeled_text_is_left_out_of_mean_and_covariance(texts):
    """Against the inverse without its outer product, in turn; the shrinkage is that of all texts."""
    labeled = LABELED[:texts]
    known, reference = fit_gaussian(labeled), LedoitWolf().fit(labeled)
    shrinkage, off = reference.shrinkage_, labeled - labeled.mean(0)
    for left in range(texts):
        covariance = reference.covariance_ - (1 - shrinkage) / texts * np.outer(off[left], off[left])
        away = labeled[left] - np.delete(labeled, left, 0).mean(0)
        assert known.distances[left] == pytest.approx(away @ np.linalg.inv(covariance) @ away)


def test_percentiles_are_those_of_scipy():
    known, values = np.round(LABELED[:, 0], 1), np.round(NEW[:, 0], 1)
    expected = [percentileofscore(known, value, "strict") for value in values]
    np.testing.assert_allclose(percentiles(known, values), expected)


def test_new_texts_like_the_labeled_ones_are_in_all_percentiles_alike():
    """Over draws of labeled texts, in fewer or more dimensions than texts, 10 % of the new ones are at 90 or above."""
    generator = np.random.default_rng(0)
    for dimensions in (4, 60):
        above = []
        for _ in range(60):
            labeled, new = generator.normal(size=(50, dimensions)), generator.normal(size=(50, dimensions))
            known = fit_gaussian(labeled + 1)
            above.append((percentiles(known.distances, mahalanobis(known.mean, known.root, new + 1)) >= 90).mean())
        assert np.mean(above) == pytest.approx(0.1, abs=0.03)


def test_vectors_that_are_all_alike_are_refused():
    with pytest.raises(InputError, match="1 vectors that are all alike"):
        fit_gaussian(LABELED[:1])
    with pytest.raises(InputError, match="3 vectors that are all alike"):
        fit_gaussian(np.ones((3, 2)))


def test_a_direction_without_variance_is_no_obstacle():
    flat = np.column_stack([LABELED[:, 0], np.ones(40)])
    known = fit_gaussian(flat)
    assert np.isfinite(mahalanobis(known.mean, known.root, [[0.0, 1.0], [0.0, 5.0]])).all()


def test_vectors_of_another_encoder_are_refused():
    known = fit_gaussian(LABELED[:, :5])
    with pytest.raises(InputError, match="features have 6 dimensions, those of labeled texts 5"):
        mahalanobis(known.mean, known.root, NEW)
