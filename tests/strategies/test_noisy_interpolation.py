import pytest

from deni.randomness import Sources
from deni.strategies import NoisyInterpolation
from tests.helpers.members import STEPS, Member, apart, trained


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_noisy_copies_are_trained_and_averaged_back_twice(tmp_path, engine):
    one = Member(Sources(42))
    one.train(0, 12)
    for fork, start in ((1, 12), (2, 20)):
        members = one.copies(3, variance=0.15 / start, fork=fork)
        for each in members:
            each.train(start, start + 4)
        one.become_the_mean_of(members)
        one.train(start + 4, start + 8)
    one.train(28, STEPS)
    assert apart(trained(tmp_path, NoisyInterpolation(members=3, variance=0.15), engine), [one]) < 1e-10
