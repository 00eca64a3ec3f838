"""The task of generated answers: the vote on likelihoods, and the metrics of tokens and answers."""

import importlib.util

import numpy as np
import pytest
import torch

from deni.tasks import answers as measured
from deni.tasks import find_task
from deni.tasks.answers import chrf, exact_match, rouge_l, scores_of

generation = find_task("generation")
needs_packages = pytest.mark.skipif(
    importlib.util.find_spec("rouge_score") is None or importlib.util.find_spec("sacrebleu") is None,
    reason="needs the extra generation",
)


def test_the_vote_is_the_mean_of_the_members_probabilities():
    likely = torch.tensor([[0.5, 0.1], [0.25, 0.3]], dtype=torch.float64)  # of two members, two tokens
    ones = torch.ones_like(likely)
    outputs = torch.stack([likely.log(), torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double(), ones], -1)[
        None
    ]  # (1, 2, 2, 3)
    vote = generation.vote(outputs)
    assert vote[0, :, 0].exp().tolist() == pytest.approx([0.375, 0.2], rel=1e-12)
    assert vote[0, :, 1:].tolist() == [[0.5, 1.0], [0.0, 1.0]]
    assert generation.vote(outputs, "parent").equal(outputs[:, 0])
    found = generation.scores((), vote.numpy())
    assert found == pytest.approx({"token_accuracy": 0.25, "perplexity": (0.375 * 0.2) ** -0.5}, rel=1e-12)


def test_tokens_that_do_not_count_and_padding_are_no_part_of_the_scores():
    votes = np.array([[[-1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [-100.0, -100.0, -100.0]]])
    assert generation.scores((), votes) == pytest.approx({"token_accuracy": 1.0, "perplexity": np.e})
    assert np.isnan(list(generation.scores((), votes[:, 1:]).values())).all()


def test_exact_match_leaves_white_space_at_the_ends_out():
    assert exact_match(["5", " 5\n", "5 5", "6"], ["5", "5", "55", "5"]) == 0.5


@needs_packages
def test_rouge_and_chrf_are_those_of_the_literature():
    assert rouge_l(["the cat sat", "a"], ["the cat", "a"]) == pytest.approx((0.8 + 1) / 2)  # 2 of 3, 2 of 2 words
    assert chrf(["abcd", "x y"], ["abcd", "x y"]) == 1
    assert chrf(["abcd"], ["vwyz"]) == 0
    # One of two characters is right, of two-grams none; the F score with beta 2 of equal precision and recall is these.
    assert chrf(["ab"], ["ax"]) == pytest.approx((0.5 + 0) / 2)


@needs_packages
def test_a_function_of_the_users_own_is_asked_too():
    found = scores_of(["5", "6"], ["5", "7"], lambda answers, right: {"longest": max(map(len, answers + right))})
    assert found == pytest.approx({"exact_match": 0.5, "rouge_l": 0.5, "chrf": found["chrf"], "longest": 1})


def test_without_the_packages_their_metrics_are_left_out(monkeypatch):
    monkeypatch.setattr(measured, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match=r"rouge_l and chrf left out: pip install \"deni\[generation\]\""):
        assert scores_of(["5"], ["5"]) == {"exact_match": 1.0}
