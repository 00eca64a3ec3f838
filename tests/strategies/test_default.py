from deni.randomness import Sources
from deni.strategies import Default
from tests.helpers.members import STEPS, Member, apart, trained


def test_it_is_plain_fine_tuning(tmp_path):
    alone = Member(Sources(42))
    alone.train(0, STEPS)
    assert apart(trained(tmp_path, Default()), [alone]) < 1e-10
