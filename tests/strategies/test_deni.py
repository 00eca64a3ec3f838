import pytest

from deni.randomness import Sources
from deni.strategies import DENI
from tests.helpers.members import STEPS, Member, apart, trained


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_it_interpolates_twice_and_then_forks_once_more(tmp_path, engine):
    one = Member(Sources(42))
    one.train(0, 12)
    for fork, start in ((1, 12), (2, 20)):
        members = one.copies(3, variance=0.15 / start, fork=fork)
        for each in members:
            each.train(start, start + 4)
        one.become_the_mean_of(members)
        one.train(start + 4, 20 if fork == 1 else 36)
    members = one.copies(3, variance=0.15, fork=3)
    for each in members:
        each.train(36, STEPS)
    assert apart(trained(tmp_path, DENI(members=3, variance=0.15), engine), members) < 1e-10
