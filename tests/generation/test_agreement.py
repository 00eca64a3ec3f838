"""Agreement along an answer, against SciPy and plain models one after another."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from deni.generation import agreement
from deni.generation.agreement import answer_log_probabilities, token_agreement
from deni.generation.voting import SeparateGenerator
from tests.helpers.generating import PROMPTS, copies, language_model, members_of, next_log_probabilities

ANSWER = [7, 30, 7, 2]


@torch.no_grad()
def each_member(models, answer):
    """Log-probabilities `(T, M, V)` of each model at each token of an answer."""
    steps = [
        [next_log_probabilities([model], PROMPTS[0], answer[:at]) for model in models] for at in range(len(answer))
    ]
    return torch.stack([torch.stack(step) for step in steps])


@pytest.mark.parametrize(("name", "engine"), [("llama", "stacked"), ("gpt2", "loop"), ("bart", "stacked")])
def test_disagreement_and_divergence_are_those_of_the_members_alone(name, engine, monkeypatch):
    monkeypatch.setattr(agreement, "PART", 100)  # a token or two at a time
    population = members_of(language_model(name, "lora"), members=2, engine=engine)
    expected = each_member(copies(population), ANSWER)
    answer = [int(expected[0, 0].argmax()), *ANSWER]
    expected = each_member(copies(population), answer)  # (T, M, V)
    members = SeparateGenerator(population).eval()
    found = token_agreement(members, torch.tensor(PROMPTS[0]), torch.tensor(answer))
    wrong = [[int(row.argmax()) != token for row in step] for step, token in zip(expected, answer, strict=True)]
    assert found.disagreement.tolist() == np.mean(wrong, axis=1).tolist()
    assert found.disagreement[0] < 1
    divergence = [jensenshannon(*step.exp().numpy()) ** 2 for step in expected]
    np.testing.assert_allclose(found.divergence, divergence, atol=1e-9)
    vote = [np.log(step.exp().mean(0)[token].item()) for step, token in zip(expected, answer, strict=True)]
    np.testing.assert_allclose(found.log_probability, vote, atol=1e-9)


def test_equal_members_agree():
    members = SeparateGenerator(members_of(language_model("llama"), variance=0.0)).eval()
    found = token_agreement(members, torch.tensor(PROMPTS[0]), torch.tensor(ANSWER))
    assert set(found.disagreement) <= {0.0, 1.0}
    np.testing.assert_allclose(found.divergence, 0, atol=1e-12)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_each_answer_is_scored_by_its_own_member(name):
    population = members_of(language_model(name, "lora"))
    answers = [ANSWER, ANSWER[:2], [9]]
    expected = []
    for model, answer in zip(copies(population), answers, strict=True):
        steps = each_member([model], answer)[:, 0]
        expected.append(sum(float(step[token]) for step, token in zip(steps, answer, strict=True)))
    members = SeparateGenerator(population).eval()
    found = answer_log_probabilities(members, torch.tensor(PROMPTS[0]), [torch.tensor(answer) for answer in answers])
    np.testing.assert_allclose(found, expected, atol=1e-9)
