"""DENI on labelled and augmented texts."""

import pytest

from deni.strategies import DENI, Augmentation, Denials
from tests.helpers.plain import same, values


@pytest.mark.parametrize("steps", [20, 100, 1250])
def test_the_schedule_of_denials_is_that_of_deni(steps):
    assert Denials().schedule(steps) == DENI().schedule(steps)
    assert Denials(members=3).schedule(steps) == DENI(members=3).schedule(steps)


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_denials_is_deni_on_one_augmented_text_for_each(build, augmented, engine):
    mine = build(Denials(members=2, augmented=augmented), engine=engine)
    rows = mine.train_dataset
    assert len(rows) == 8
    mine.train()
    assert mine.state.global_step == 10 * 8 // 2
    plain = build(DENI(members=2), train=rows, args={"num_train_epochs": 10}, engine=engine)
    plain.train()
    assert same(values(mine), values(plain))
    both = build(Augmentation(1, augmented, epochs=10) + DENI(members=2), engine=engine)
    both.train()
    assert same(values(mine), values(both))
    assert mine.population.size == 2
