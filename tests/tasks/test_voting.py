"""How members vote, against a few lines of NumPy."""

import numpy as np
import pytest
import torch

from deni.tasks import TASKS
from deni.tasks.voting import vote


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


def test_labels_are_voted_on_one_by_one():
    odds = torch.tensor([[[2.0, 1.0, -3.0], [-1.0, 1.0, -0.5], [0.5, -4.0, 9.0]]], dtype=torch.float64)
    share = (1 / (1 + np.exp(-odds.numpy()))).mean(1)
    np.testing.assert_allclose(vote(odds, "soft", "multi_label").numpy(), np.log(share / (1 - share)), rtol=1e-12)
    np.testing.assert_allclose(vote(odds, "hard", "multi_label").sigmoid().numpy(), [[2 / 3, 2 / 3, 1 / 3]], rtol=1e-12)
    assert torch.equal(vote(odds, "parent", "multi_label"), odds[:, 0])


def test_a_tie_leaves_a_label_out_and_agreement_is_certain():
    odds = torch.tensor([[[5.0, 1.0, -1.0], [-0.1, 2.0, -2.0]]])
    assert vote(odds, "hard", "multi_label").tolist() == [[0.0, float("inf"), float("-inf")]]
    assert (vote(odds, "hard", "multi_label") > 0).tolist() == [[False, True, False]]


def test_numbers_are_averaged_or_their_median_is_taken():
    numbers = torch.tensor([[[1.0], [2.0], [9.0], [4.0]], [[0.0], [0.0], [-8.0], [4.0]]])
    assert vote(numbers, "soft", "regression").tolist() == [[4.0], [-1.0]]
    assert vote(numbers, "hard", "regression").tolist() == [[3.0], [0.0]]
    assert vote(numbers[:, :3], "hard", "regression").tolist() == [[2.0], [0.0]]
    assert vote(numbers, "parent", "regression").tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_large_numbers_and_odds_stay_finite(task):
    large = torch.tensor([[[300.0], [-300.0], [300.0]]])
    expected = 100.0 if task == "regression" else float(np.log(2))
    assert float(vote(large, "soft", task)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_what_members_say_is_at_least_float32(task):
    logits = torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16)
    assert TASKS[task].outputs(logits).dtype == torch.float32
    assert TASKS[task].outputs(logits).tolist() == [[1.5, -2.0]]
