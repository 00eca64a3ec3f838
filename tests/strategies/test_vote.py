"""How members vote, against a few lines of NumPy."""

import numpy as np
import pytest
import torch

from deni.strategies.vote import vote


@pytest.fixture
def log_probabilities():
    draw = torch.Generator().manual_seed(3)
    return torch.randn(50, 4, 5, generator=draw, dtype=torch.float64).log_softmax(-1)


def test_a_soft_vote_is_the_mean_probability(log_probabilities):
    expected = np.log(np.exp(log_probabilities.numpy()).mean(1))
    np.testing.assert_allclose(vote(log_probabilities, "soft").numpy(), expected, rtol=1e-12)


def test_a_hard_vote_is_the_share_of_the_members(log_probabilities):
    choices = log_probabilities.numpy().argmax(-1)
    expected = np.stack([(choices == label).mean(1) for label in range(5)], axis=1)
    np.testing.assert_allclose(vote(log_probabilities, "hard").exp().numpy(), expected, atol=1e-12)


def test_a_tie_goes_to_the_lowest_class():
    tied = torch.tensor([[[0.1, 0.2, 0.7], [0.1, 0.7, 0.2]]]).log()
    assert vote(tied, "hard").argmax(-1).tolist() == [1]
    assert vote(tied.flip(1), "hard").argmax(-1).tolist() == [1]


def test_the_parent_alone_is_the_first_member(log_probabilities):
    assert torch.equal(vote(log_probabilities, "parent"), log_probabilities[:, 0])


@pytest.mark.parametrize("combine", ["soft", "parent"])
def test_equal_members_vote_as_one(log_probabilities, combine):
    one = log_probabilities[:, :1]
    torch.testing.assert_close(vote(one.expand(-1, 7, -1), combine), one[:, 0], rtol=1e-12, atol=1e-12)


def test_an_unknown_vote_is_refused(log_probabilities):
    with pytest.raises(ValueError, match="'loud'"):
        vote(log_probabilities, "loud")
