"""The interval of a score over other test texts."""

import numpy as np
import pytest

from deni.errors import InputError
from deni.measures import macro_f1, other_texts, resampling


def share(weights):
    return weights[:, 1] / weights.sum(1)


def test_the_interval_of_a_share_is_as_wide_as_the_binomial_one():
    low, high = other_texts(share, [300, 700], generator=np.random.default_rng(0), resamples=20_000)
    wide = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert (low, high) == pytest.approx((0.7 - wide, 0.7 + wide), abs=0.002)


def test_a_smaller_confidence_gives_a_narrower_interval():
    wide, narrow = (
        other_texts(share, [30, 70], generator=np.random.default_rng(0), confidence=level) for level in (0.95, 0.5)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_kinds_of_texts_give_the_interval_of_texts_one_by_one():
    draw = np.random.default_rng(1)
    gold = draw.integers(4, size=400)
    said = np.where(draw.random(400) < 0.7, gold, draw.integers(4, size=400))
    cells, counts = np.unique(np.stack([gold, said]), axis=1, return_counts=True)

    def of(right, chosen):
        return lambda weights: macro_f1(chosen[None], right, weights)[:, 0]

    options = {"generator": np.random.default_rng(2), "resamples": 10_000}
    one_by_one = other_texts(of(gold, said), np.ones(400), **options)
    assert other_texts(of(*cells), counts, **options) == pytest.approx(one_by_one, abs=0.003)


def test_the_generator_alone_decides_also_where_few_are_drawn_at_a_time(monkeypatch):
    def drawn():
        return other_texts(share, [30, 70], generator=np.random.default_rng(5), resamples=500)

    whole = drawn()
    monkeypatch.setattr(resampling, "_MOST", 20)
    assert drawn() == whole


@pytest.mark.parametrize("counts", [[], [0, 0], [1.5], [-1, 3]])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(InputError, match="counts"):
        other_texts(share, counts, generator=np.random.default_rng(0))
